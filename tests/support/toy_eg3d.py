"""An EG3D training of seconds: coloured discs, a small generator, a small discriminator."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from flame.geometry.camera import Camera
from portrait4d.eg3d.losses import EG3DLossConfig
from portrait4d.eg3d.training import EG3DTraining
from portrait4d.eg3d.training_pictures import DataConfig
from portrait4d.gan.discriminator import DualDiscriminatorConfig
from portrait4d.render.renderer import RenderConfig
from portrait4d.stylegan.superresolution import SuperResolutionConfig
from portrait4d.train.average import AverageConfig
from portrait4d.train.config import RunConfig
from portrait4d.weights.eg3d_config import EG3DConfig
from preprocess.dataset.formats.eg3d_format import write_eg3d

SIDE, RAW, BATCH = 128, 8, 2
GENERATOR = EG3DConfig(
    latent_dim=8,
    style_dim=16,
    plane_resolution=16,
    plane_channels=4,
    channel_max=8,
    plane_layout="orthogonal",
    neural_resolution=RAW,
    render=RenderConfig(num_coarse=6, num_fine=6),
    superresolution=SuperResolutionConfig(kind="2X"),
)
DISCRIMINATOR = DualDiscriminatorConfig(
    resolution=SIDE, channel_base=512, channel_max=8, num_mapping_layers=2, group_size=2
)


def disc_labels(count: int) -> np.ndarray:
    """Cameras `[N, 25]` at EG3D's distance, in its axes and lens, turned a little to each side."""
    yaw = torch.from_numpy(np.random.default_rng(4).uniform(-0.3, 0.3, count)).float()
    cam2world = torch.eye(4).repeat(count, 1, 1)
    cam2world[:, 0, 0] = cam2world[:, 2, 2] = yaw.cos()
    cam2world[:, 0, 2], cam2world[:, 2, 0] = yaw.sin(), -yaw.sin()
    cam2world[:, :3, 3] = 2.7 * cam2world[:, :3, 2]
    lens = torch.tensor([[4.26, 0.0, 0.5], [0.0, 4.26, 0.5], [0.0, 0.0, 1.0]]).expand(count, 3, 3)
    return Camera(cam2world, lens).to_label25(axes="opencv").numpy()


def discs(count: int, side: int = SIDE) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pictures and labels."""
    random = np.random.default_rng(3)
    axis = np.linspace(-1, 1, side)
    disc = (axis[:, None] ** 2 + (axis[None, :] - 0.1) ** 2 < 0.4).astype(float)[..., None]
    for label in disc_labels(count):
        yield (disc * random.uniform(60, 255, 3)).astype(np.uint8), label


def make_discs(path: Path, count: int = 6, side: int = SIDE) -> Path:
    """Writes them as EG3D's tools do."""
    write_eg3d(path, discs(count, side))
    return path


def toy_training(data: Path, **changes: object) -> EG3DTraining:
    """The configuration of a run of three steps."""
    settings = {
        "train": RunConfig(
            total_images=3 * BATCH,
            batch_size=BATCH,
            report_images=BATCH,
            checkpoint_images=BATCH,
            grid_images=0,
            average=AverageConfig(half_life_images=8.0, ramp_up=None),
        ),
        "generator": GENERATOR,
        "discriminator": DISCRIMINATOR,
        "loss": EG3DLossConfig(
            blur_sigma=2.0, blur_images=2 * BATCH, swap_images=100, density_interval=2, r1_interval=2
        ),
        "data": DataConfig(paths=(str(data),)),
    }
    return EG3DTraining(**(settings | changes))  # pyright: ignore[reportArgumentType]
