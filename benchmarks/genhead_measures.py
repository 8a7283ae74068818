"""What the measures of trained GenHeads share: samples like a dataset's, and heads with one parameter moved."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from flame.geometry.camera import Camera
from flame.heads.head_model import HeadModel, HeadParams, expression_index
from genhead.generator import GenHeadGenerator, condition_label
from genhead.training.grid import NUM_PERSONS, frontal_camera
from portrait4d.headparts.head import UNITS_PER_METRE
from preprocess.dataset.reading.dataset import Dataset
from preprocess.media.contact_sheet import contact_sheet
from preprocess.media.image import read_image, to_uint8

BATCH = 20
"""Heads that are rendered at once."""

CONTROLS: dict[str, tuple[tuple[str, ...], float]] = {
    "jaw": (("jawOpen",), 0.8),
    "smile": (("mouthSmileLeft", "mouthSmileRight"), 1.0),
    "blink": (("eyeBlinkLeft", "eyeBlinkRight"), 1.0),
    "brows": (("browInnerUp", "browOuterUpLeft", "browOuterUpRight"), 1.0),
}
"""Expressions that move together, and how far."""

GAZE = 0.35
"""Radians."""

GRID_GAP = 4
"""Pixels between the pictures of a run's grid."""

_HEAD = ("shape", "expression", "neck", "jaw", "eyes")


def sample_like(
    generator: GenHeadGenerator, dataset: Dataset, count: int
) -> tuple[NDArray[np.uint8], HeadParams, NDArray[np.int64]]:
    """Random heads with cameras, shapes and expressions of records.

    Returns:
        Pictures `[count, H, H, 3]`, the parameters they were made for, and the records' rows `[count]`.
    """
    latent, camera, params, rows = _draw_like(generator, dataset, count)
    return render(generator, latent, camera, params), params, rows


@torch.no_grad()
def sample_with_depth(
    generator: GenHeadGenerator, dataset: Dataset, count: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The first pictures of `sample_like`, and their depth `[count, h, h, 3]`, near is bright."""
    latent, camera, params, _ = _draw_like(generator, dataset, count)
    volume = generator.sample(latent, condition_label(camera, params.shape))
    images = generator.render(volume, camera, generator.head.pose(params))
    radius, reach = generator.config.camera_radius, 0.35
    near = ((radius + reach - images.depth) / (2 * reach)).clamp(0, 1) * images.alpha
    return to_uint8(images.image), to_uint8(2 * near.expand(-1, 3, -1, -1) - 1)


def show_grids_over_time(run: Path, path: Path, *, count: int = 6, column: int = 1) -> None:
    """A sheet: the persons of a run's grids from the front, a row a grid, each after about twice the images.

    Args:
        run: folder of the run.
        path: of the sheet.
        count: of rows at most.
        column: of the grids' pictures.
    """
    grids = {int(file.stem): file for file in sorted((run / "grids").glob("*.png")) if int(file.stem)}
    wanted = np.geomspace(min(grids), max(grids), count)
    chosen = sorted({min(grids, key=lambda images: abs(images - number)) for number in wanted})
    persons = []
    for images in chosen:
        grid = read_image(grids[images])
        cell = (len(grid) - (NUM_PERSONS - 1) * GRID_GAP) // NUM_PERSONS
        starts = [row * (cell + GRID_GAP) for row in range(NUM_PERSONS)]
        across = slice(starts[column], starts[column] + cell)
        persons.append([grid[start : start + cell, across] for start in starts])
    labels = [[f"{images:,} images", *[""] * (NUM_PERSONS - 1)] for images in chosen]
    contact_sheet(persons, path, labels, cell_height=96)


def _draw_like(
    generator: GenHeadGenerator, dataset: Dataset, count: int
) -> tuple[torch.Tensor, Camera, HeadParams, NDArray[np.int64]]:
    rows = np.random.default_rng(2).integers(0, len(dataset), count)
    latent = torch.randn(count, generator.config.latent_dim, generator=torch.Generator().manual_seed(3))
    records = [dataset[int(row)] for row in rows]
    heads = [torch.from_numpy(np.stack([getattr(record.head, name) for record in records])) for name in _HEAD]
    params = HeadParams(*heads).replace(neck=torch.zeros(count, 3))
    return latent, cameras_of(generator, [record.camera for record in records]), params, rows


def cameras_of(generator: GenHeadGenerator, labels: list[NDArray[np.float32]]) -> Camera:
    """Cameras of records, around the generator's origin."""
    camera = Camera.from_label25(torch.from_numpy(np.stack(labels)), axes="opengl")
    moved = camera.cam2world.clone()
    moved[:, :3, 3] -= torch.tensor(generator.config.head_origin) * UNITS_PER_METRE
    return replace(camera, cam2world=moved)


@torch.no_grad()
def render(
    generator: GenHeadGenerator,
    latent: torch.Tensor,
    camera: Camera,
    params: HeadParams,
    *,
    seen_as: Camera | None = None,
) -> NDArray[np.uint8]:
    """Pictures `[N, H, H, 3]` of N heads.

    Args:
        generator: makes them.
        latent: codes `[N, Z]`.
        camera: `[N]`.
        params: of N heads.
        seen_as: cameras that condition who is invented; None takes those of the pictures.
    """
    condition, pictures = condition_label(seen_as or camera, params.shape), []
    for start in range(0, len(latent), BATCH):
        part = slice(start, start + BATCH)
        volume = generator.sample(latent[part], condition[part])
        posed = generator.head.pose(params.map(lambda value, part=part: value[part]))
        view = replace(camera, cam2world=camera.cam2world[part], intrinsics=camera.intrinsics[part])
        pictures.append(to_uint8(generator.render(volume, view, posed).image))
    return np.concatenate(pictures)


def move_one(model: HeadModel, shape: torch.Tensor, name: str, strength: NDArray[np.float64]) -> HeadParams:
    """Heads of shapes `[N, S]` with one control, or `gaze`, at strengths in [-1, 1], everything else at rest."""
    params = HeadParams.zeros(model, len(shape)).replace(shape=shape)
    values = torch.from_numpy(strength.astype(np.float32))
    if name == "gaze":
        params.eyes[:, :, 1] = GAZE * values[:, None]
    elif name in CONTROLS:
        names, most = CONTROLS[name]
        params.expression[:, expression_index(model, names)] = most * values[:, None]
    return params


def frontal_cameras(generator: GenHeadGenerator, yaw_degrees: NDArray[np.float64]) -> Camera:
    """Cameras `[N]` on the training cameras' circle."""
    each = [frontal_camera(generator.config, yaw_degrees=float(angle)) for angle in yaw_degrees]
    return Camera(torch.cat([camera.cam2world for camera in each]), torch.cat([camera.intrinsics for camera in each]))
