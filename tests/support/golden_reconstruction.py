"""What the golden tests of both versions of the reconstructor's training share: stand-ins, inputs, comparisons."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flame.geometry.camera import Camera
from flame.heads.head_model import HeadParams
from golden import Fixture
from golden_steps import generated_weights
from portrait4d.gan.discriminator import DualDiscriminator, DualDiscriminatorConfig
from portrait4d.headparts.head import PartHead, PosedHead
from portrait4d.headparts.masks import correspondence_map
from portrait4d.losses.identity import Embedder
from portrait4d.reconstructor.config import ReconstructorConfig
from portrait4d.reconstructor.network import Reconstructor
from reference_flame import ReferenceFlame

SIDE, SIZE = 128, 32
"""Pixels of results and of rendered pictures."""

TERMS = {
    "perceptual": "lrecon_lpips",
    "l1": "lrecon_l1",
    "mask": "lrecon_seg",
    "depth": "lrecon_depth",
    "feature": "lrecon_feature",
    "plane": "lrecon_triplane",
    "identity": "l_id",
}
WEIGHTS = {"mask": 0.3, "plane": 0.1}


def make_networks(fixture: Fixture, *, size: int) -> tuple[Reconstructor, DualDiscriminator]:
    """Of a fixture, rendering `size` px in the end."""
    config = ReconstructorConfig.from_official(fixture.about["kwargs"]["G"], neural_rendering_resolution=size)
    return Reconstructor(config), DualDiscriminator(DualDiscriminatorConfig.from_official(fixture.about["kwargs"]["D"]))


def fill(network: nn.Module, shared: Path, steps: str, key: str, *, like: str | None = None) -> None:
    """Generated weights without gradients, in training."""
    weights = generated_weights(shared, steps, key, listed_in=steps, like=like)
    own = {name: value for name, value in weights.items() if not name.startswith("deformer.")}
    network.load_state_dict(own, strict=True)
    network.zero_grad(set_to_none=True)
    network.train()


def enlarged(picture: Tensor, side: int = SIDE) -> Tensor:
    """As the reference material makes its pictures of small ones."""
    return F.interpolate(picture, size=side, mode="bilinear", align_corners=False)


def head_params(fixture: Fixture) -> HeadParams:
    """The heads that are asked for."""
    neck, jaw = fixture.input("pose").split(3, 1)
    eyes = fixture.input("eye_pose").unflatten(1, (2, 3))
    return HeadParams(fixture.input("shape"), fixture.input("exp"), neck, jaw, eyes)


def correspondence(fixture: Fixture, flame: Path, camera: Camera) -> Tensor:
    """Their correspondence maps."""
    params, reference = head_params(fixture), ReferenceFlame(flame)
    intrinsics = camera.intrinsics.clone()
    intrinsics[:, 0, 0] = intrinsics[:, 1, 1] = 0.5 / math.tan(math.radians(6))  # labels round the focal length
    camera = replace(camera, intrinsics=intrinsics)
    plain = params.replace(expression=torch.zeros_like(params.expression), eyes=torch.zeros_like(params.eyes))
    posed = reference(params)
    seen = correspondence_map(
        PartHead.from_flame_files(flame), PosedHead(posed, posed, reference(plain)), camera, size=SIDE
    )
    assert fixture.absolute_error("real_uv_recon", seen) < 1e-4
    return seen


def from_below(landmarks: Tensor) -> Tensor:
    """Landmarks of the official code, which counts rows from below."""
    turned = landmarks.clone()
    turned[..., 1] = SIDE - 1 - turned[..., 1]
    return turned


def perceptual(first: Tensor, second: Tensor) -> Tensor:
    """The stand-in of the reference material."""
    distances = [(F.avg_pool2d(first, size) - F.avg_pool2d(second, size)).abs().mean((1, 2, 3)) for size in (4, 16)]
    return distances[0] + distances[1]


def make_embedder(shared: Path, steps: str) -> Embedder:
    """The face recogniser of the reference material."""
    layer = nn.Linear(192, 64)
    weights = generated_weights(shared, steps, "facenet", listed_in=steps)
    layer.load_state_dict({name.removeprefix("fc."): value for name, value in weights.items()})
    layer.requires_grad_(False)
    return lambda faces: F.normalize(layer.to(faces.dtype)(F.adaptive_avg_pool2d(faces, 8).flatten(1)))


def compare_terms(about: dict, terms: dict[str, Tensor]) -> None:
    """Means over the batch of what the official code reports."""
    for name, official in TERMS.items():
        if name in terms:
            (reported,) = about["reported_terms"][f"Loss/G/{official}"]
            expected = WEIGHTS.get(name, 1.0) * sum(reported) / len(reported)
            assert terms[name].item() == pytest.approx(expected, rel=3e-4, abs=1e-5), name
