"""Trainings of the released size on pictures made in memory, for `gpu.py`: no data set and no licence is needed.

They are `configs/genhead/ffhq512.yaml`, with the open head in the place of FLAME, and `configs/eg3d/ffhq512-64.yaml`,
both past the start of a run, where pictures are blurred. Pictures are noise, cameras and parameters plausible.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from flame.geometry.camera import Axes, Camera
from flame.heads.head_model import HeadModel
from genhead.config import OPEN_HEAD_FOV_DEGREES, GenHeadConfig
from genhead.generator import open_part_head
from genhead.training.heads import HeadDataConfig, HeadPicture, TrainingHeads
from genhead.training.losses import GenHeadLossConfig
from genhead.training.task import GenHeadTask, GenHeadTraining
from portrait4d.eg3d.losses import EG3DLossConfig
from portrait4d.eg3d.training import EG3DTask, EG3DTraining
from portrait4d.eg3d.training_pictures import LabelledPicture, TrainingPictures
from portrait4d.gan.discriminator import DualDiscriminatorConfig
from portrait4d.headparts.head import OPEN_HEAD_ORIGIN
from portrait4d.render.renderer import RenderConfig
from portrait4d.stylegan.superresolution import SuperResolutionConfig
from portrait4d.train.config import OptimiserConfig, Precision, RunConfig
from portrait4d.train.task import Task
from portrait4d.weights.eg3d_config import EG3DConfig
from preprocess.dataset.reading.head_table import HeadTable

Model = Literal["genhead", "eg3d"]

_MOST_YAW_DEGREES, _MOST_PITCH_DEGREES = 35.0, 15.0
_MOST_EXPRESSION, _SHAPE_SPREAD, _MOST_GAZE_RADIANS = 0.3, 0.5, 0.2
_NUM_IMAGES = 8
"""Pictures of noise, which all records share."""


@dataclass(frozen=True)
class MadeTraining:
    """A configuration whose pictures are made; a `portrait4d.jobs.train.Training`."""

    config: GenHeadTraining | EG3DTraining

    @property
    def train(self) -> RunConfig:
        """How long and in which steps."""
        return self.config.train

    @property
    def inputs(self) -> tuple[Path, ...]:
        """Nothing is read."""
        return ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """Those of the configuration."""
        return self.config.warnings

    def optimisers(self) -> dict[str, OptimiserConfig]:
        """Adam's settings by network."""
        return self.config.optimisers()

    def make_task(self, device: torch.device) -> Task:
        """Networks at their start, and pictures for two batches."""
        del device
        count = 2 * self.train.batch_size
        if isinstance(self.config, EG3DTraining):
            return EG3DTask(self.config, pictures=MadePictures(self.config.generator, count))
        head = open_part_head(self.config.generator)
        assert head is not None
        return GenHeadTask(self.config, head=head, heads=MadeHeads(self.config.generator, head.model, count))


def made_training(model: Model, *, precision: Precision, batch_size: int, is_tiny: bool) -> MadeTraining:
    """The training of a model.

    Args:
        model: which.
        precision: of the run.
        batch_size: pictures of a step, all at once.
        is_tiny: a network of the same parts for two CPU cores instead.
    """
    train = RunConfig(batch_size=batch_size, precision=precision)
    match model:
        case "genhead":
            config = _tiny_genhead() if is_tiny else _genhead()
        case "eg3d":
            config = _tiny_eg3d() if is_tiny else _eg3d()
        case _:
            raise ValueError(f"expected genhead or eg3d, got {model!r}")
    return MadeTraining(replace(config, train=train))


def _genhead() -> GenHeadTraining:
    generator = GenHeadConfig(
        head="open", head_origin=OPEN_HEAD_ORIGIN, camera_fov_degrees=OPEN_HEAD_FOV_DEGREES
    )  # the shape of both heads has 300 numbers
    loss = GenHeadLossConfig(blur_images=0, swap_images=0)
    return GenHeadTraining(generator=generator, loss=loss, data=HeadDataConfig(mirror=False))


def _eg3d() -> EG3DTraining:
    loss = EG3DLossConfig(blur_images=0, swap_images=0)
    return EG3DTraining(generator=EG3DConfig(neural_resolution=64), loss=loss)


def _tiny_genhead() -> GenHeadTraining:
    generator = replace(GenHeadConfig.toy(num_samples=4), channel_max=8, plane_resolution=16, num_half_resolutions=1)
    discriminator = DualDiscriminatorConfig(
        resolution=generator.resolution,
        has_correspondence=True,
        has_mask=True,
        channel_base=512,
        channel_max=8,
        num_mapping_layers=2,
        num_half_resolutions=1,
        group_size=2,
        camera_axes="opengl",
    )
    return replace(_genhead(), generator=generator, discriminator=discriminator)


def _tiny_eg3d() -> EG3DTraining:
    generator = EG3DConfig(
        latent_dim=8,
        style_dim=16,
        plane_resolution=16,
        plane_channels=4,
        channel_max=8,
        neural_resolution=8,
        render=RenderConfig(num_coarse=4, num_fine=4),
        superresolution=SuperResolutionConfig(kind="2x64"),
    )
    discriminator = DualDiscriminatorConfig(
        resolution=64, channel_base=512, channel_max=8, num_mapping_layers=2, group_size=2
    )
    return replace(_eg3d(), generator=generator, discriminator=discriminator)


class MadePictures(TrainingPictures):
    """Noise seen by EG3D's cameras."""

    def __init__(self, config: EG3DConfig, count: int) -> None:
        random = np.random.default_rng(0)
        fov_degrees = 2 * math.degrees(math.atan(0.5 / config.camera_focal))
        self.side, self.digest = config.superresolution.resolution or config.neural_resolution, "made"
        self.labels = _labels(random, count, config.camera_radius, fov_degrees, config.camera_axes)
        self._images = _noise(random, self.side)

    def __getitem__(self, index: int) -> LabelledPicture:
        return LabelledPicture(self._images[index % _NUM_IMAGES], self.labels[index])

    def __copy__(self) -> "MadePictures":
        return self  # there is no file to share


class MadeHeads(TrainingHeads):
    """Noise with a round mask, cameras and parameters of the open head."""

    def __init__(self, config: GenHeadConfig, model: HeadModel, count: int) -> None:
        random = np.random.default_rng(0)
        self.side, self.num_own, self.digest = config.resolution, count, "made"
        self._keys = [f"{index:06d}" for index in range(count)]
        gaze = random.uniform(-_MOST_GAZE_RADIANS, _MOST_GAZE_RADIANS, (count, 1, 3)) * [1.0, 1.0, 0.0]
        self.table = HeadTable(
            _labels(random, count, config.camera_radius, config.camera_fov_degrees, "opengl"),
            random.normal(0, _SHAPE_SPREAD, (count, model.num_shape)).astype(np.float32),
            random.uniform(0, _MOST_EXPRESSION, (count, model.num_expression)).astype(np.float32),
            np.zeros((count, 3), np.float32),
            np.repeat(gaze, 2, axis=1).astype(np.float32),
        )
        self._images = _noise(random, self.side)
        axis = np.linspace(-1, 1, self.side)
        self._mask = np.where(axis[:, None] ** 2 + axis[None] ** 2 < 0.5, 255, 0).astype(np.uint8)

    def __getitem__(self, index: int) -> HeadPicture:
        return HeadPicture(self._images[index % _NUM_IMAGES], self._mask, index)

    def __copy__(self) -> "MadeHeads":
        return self  # there is no file to share


def _labels(
    random: np.random.Generator, count: int, radius: float, fov_degrees: float, axes: Axes
) -> NDArray[np.float32]:
    """Cameras `[N, 25]` around the origin of the network's world."""
    yaw, pitch = (
        torch.from_numpy(random.uniform(-most, most, count)).float()
        for most in (_MOST_YAW_DEGREES, _MOST_PITCH_DEGREES)
    )
    camera = Camera.orbit(yaw, pitch, radius=radius, target=torch.zeros(3), fov_degrees=fov_degrees)
    return camera.to_label25(axes=axes).numpy().astype(np.float32)


def _noise(random: np.random.Generator, side: int) -> NDArray[np.uint8]:
    return random.integers(0, 256, (_NUM_IMAGES, side, side, 3), dtype=np.uint8)
