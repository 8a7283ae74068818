"""Pictures of fixed samples that show how a training comes on: persons, views, expressions."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flame.geometry.camera import Camera
from flame.heads.head_model import HeadParams
from genhead.config import GenHeadConfig
from genhead.generator import GenHeadGenerator, condition_label
from portrait4d.runtime.random import derive_seed
from preprocess.dataset.reading.head_table import HeadTable
from preprocess.media.contact_sheet import draw_contact_sheet
from preprocess.media.image import to_uint8

NUM_PERSONS = 8
_SIDE_DEGREES = 35.0
_JAW_RADIANS = 0.3
_GAZE_RADIANS = 0.3
_CELL_PX = 128
_SEEN = ("as in the data", "frontal", "left", "right", "jaw", "smile", "blink", "gaze")


@dataclass(frozen=True)
class GridSamples:
    """Persons by latent code, as the data has them: a camera, a shape, an expression each.

    Attributes:
        latent: `[P, Z]`.
        label: `[P, 25]`.
        params: of P heads.
    """

    latent: Tensor
    label: Tensor
    params: HeadParams

    @classmethod
    def draw(cls, table: HeadTable, latent_dim: int, *, seed: int, count: int = NUM_PERSONS) -> "GridSamples":
        """Samples by a run's seed."""
        rows = [derive_seed(seed, "grid", index) % len(table) for index in range(count)]
        generator = torch.Generator().manual_seed(derive_seed(seed, "grid latents"))
        latent = torch.randn(count, latent_dim, generator=generator)
        return cls(latent, torch.from_numpy(table.label[rows]), table.params(rows))

    @classmethod
    def from_state(cls, state: dict[str, Tensor]) -> "GridSamples":
        """The inverse of `state`."""
        names = ("shape", "expression", "neck", "jaw", "eyes")
        params = HeadParams(*(state[f"grid.{name}"] for name in names))
        return cls(state["grid.latent"], state["grid.label"], params)

    def state(self) -> dict[str, Tensor]:
        """As named tensors."""
        names = ("shape", "expression", "neck", "jaw", "eyes")
        params = {f"grid.{name}": value for name, value in zip(names, self.params.arrays(), strict=True)}
        return {"grid.latent": self.latent, "grid.label": self.label, **params}


@torch.no_grad()
def draw_grid(generator: GenHeadGenerator, samples: GridSamples) -> NDArray[np.uint8]:
    """A row for each person: as in the data; then from the front and both sides, and with known expressions."""
    device = next(generator.parameters()).device
    rows = []
    for index in range(len(samples.latent)):
        latent = samples.latent[index : index + 1].to(device)
        params = samples.params.map(lambda value, at=index: value[at : at + 1].to(device))
        camera = Camera.from_label25(samples.label[index : index + 1], axes="opengl").to(device)
        condition = condition_label(frontal_camera(generator.config), params.shape.cpu()).to(device)
        volume = generator.sample(latent, condition)
        rows.append([
            to_uint8(generator.render(volume, view.to(device), generator.head.pose(shown)).image)[0]
            for view, shown in _views(generator, camera, params)
        ])  # fmt: skip
    return draw_contact_sheet(rows, cell_height=_CELL_PX)


@torch.no_grad()
def draw_codes(generator: GenHeadGenerator, samples: GridSamples, latent: Tensor) -> Tensor:
    """Rendered heads `[N, 3, h, h]` of codes `[N, Z]` over grey, from the front, with the first person's parameters."""
    camera = frontal_camera(generator.config).to(latent.device)
    params = samples.params.map(lambda value: value[:1].to(latent.device))
    condition = condition_label(camera, params.shape)
    prepared = generator.prepare(camera, generator.head.pose(params))
    seen = []
    for code in latent.split(1):
        volume = generator.sample(code, condition)
        grey = torch.full_like(volume.background, 0.5)  # backgrounds of many codes differ when heads do not
        seen.append(generator.render(replace(volume, background=grey), camera, prepared).image_raw)
    return torch.cat(seen)


def frontal_camera(config: GenHeadConfig, *, yaw_degrees: float = 0.0) -> Camera:
    """A camera on the training cameras' circle around the origin, at rest in front; OpenGL axes, `[1]`.

    Args:
        config: says how far, and the lens.
        yaw_degrees: of the camera, positive to the world's +x.
    """
    yaw = torch.tensor(np.radians(yaw_degrees), dtype=torch.float32)
    cam2world = torch.eye(4)[None].clone()
    cam2world[0, 0, 0] = cam2world[0, 2, 2] = yaw.cos()
    cam2world[0, 0, 2], cam2world[0, 2, 0] = yaw.sin(), -yaw.sin()
    cam2world[0, :3, 3] = config.camera_radius * cam2world[0, :3, 2]
    focal = 0.5 / np.tan(np.radians(config.camera_fov_degrees / 2))
    intrinsics = torch.tensor([[[focal, 0.0, 0.5], [0.0, focal, 0.5], [0.0, 0.0, 1.0]]], dtype=torch.float32)
    return Camera(cam2world, intrinsics)


def _views(generator: GenHeadGenerator, camera: Camera, params: HeadParams) -> list[tuple[Camera, HeadParams]]:
    config, model = generator.config, generator.head.model
    still = params.replace(
        expression=torch.zeros_like(params.expression),
        jaw=torch.zeros_like(params.jaw),
        eyes=torch.zeros_like(params.eyes),
    )
    front = frontal_camera(config)
    sides = [frontal_camera(config, yaw_degrees=degrees) for degrees in (-_SIDE_DEGREES, _SIDE_DEGREES)]
    jaw, eyes = still.jaw.clone(), still.eyes.clone()
    jaw[:, 0], eyes[:, :, 1] = _JAW_RADIANS, _GAZE_RADIANS
    shown = [still.replace(jaw=jaw)]
    for words in (("smile",), ("blink",)):
        columns = [i for i, name in enumerate(model.expression_names) if any(word in name.lower() for word in words)]
        if columns:
            expression = still.expression.clone()
            expression[:, columns] = 1.0
            shown.append(still.replace(expression=expression))
    shown.append(still.replace(eyes=eyes))
    return [(camera, params), (front, still), *((side, still) for side in sides), *((front, each) for each in shown)]
