"""The network inside the package: small, found by its name, and its heads do what they are told."""

import json

import pytest
import torch
from torch import Tensor

from flame.geometry.camera import Camera
from flame.heads.head_model import HeadParams, expression_index
from genhead.generator import GenHeadGenerator, condition_label
from genhead.training.grid import frontal_camera
from portrait4d.cli.main import run
from portrait4d.weights.folder import embedded_weights
from portrait4d.weights.own_format import read_checkpoint

NAME = "genhead-toy64"


def test_it_is_small_and_listed(capsys: pytest.CaptureFixture[str]) -> None:
    folder = embedded_weights()[NAME]
    assert sum(path.stat().st_size for path in folder.iterdir()) < 2e6
    config, tensors = read_checkpoint(folder)
    assert config.licence == "Apache License 2.0, as this package"
    assert {value.dtype for value in tensors.values()} == {torch.float16}
    assert run(["weights", "list", "--json"]) == 0
    row = next(row for row in json.loads(capsys.readouterr().out)["embedded"] if row["name"] == NAME)
    assert row["family"] == "genhead" and "make_toy_faces" in row["about"]


@torch.no_grad()
def test_its_heads_open_their_mouths_and_turn() -> None:
    generator = GenHeadGenerator.from_pretrained(NAME)
    model = generator.head.model
    latent = torch.randn(4, generator.config.latent_dim, generator=torch.Generator().manual_seed(0))
    rest = HeadParams.zeros(model, 4)
    opened = rest.replace(expression=rest.expression.clone())
    opened.expression[:, expression_index(model, ("jawOpen",))] = 0.8
    each = [frontal_camera(generator.config, yaw_degrees=yaw) for yaw in (0.0, 30.0)]
    front, side = (Camera(one.cam2world.expand(4, 4, 4), one.intrinsics.expand(4, 3, 3)) for one in each)
    volume = generator.sample(latent, condition_label(front, rest.shape))

    def pictures(camera: Camera, params: HeadParams) -> Tensor:
        return generator.render(volume, camera, generator.head.pose(params)).image

    still = pictures(front, rest)
    moved = (pictures(front, opened) - still).abs().mean((0, 1))
    assert moved[36:56, 22:42].mean() > 5 * moved[:28].mean()  # around the mouth, and above the nose
    assert (pictures(side, rest) - still).abs().mean() > 0.03
    between = (still - still.roll(1, 0)).abs().mean((1, 2, 3))
    assert between.min() > 0.05  # four persons
