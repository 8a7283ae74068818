"""The reconstructor's training in its released size on samples made in memory, for `gpu.py`: no data, no weights.

It is `configs/portrait4d/portrait4d.yaml`. Pictures are noise; LPIPS and the face recogniser are networks of their
sizes with random weights, and motion codes are random numbers: the motion encoder's time is not in it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from flame.geometry.camera import Camera
from loss_networks import FaceVectors, VggDistance
from portrait4d.gan.discriminator import DualDiscriminatorConfig
from portrait4d.reconstructor.canonicaliser import CanonicaliserConfig
from portrait4d.reconstructor.config import ReconstructorConfig
from portrait4d.reconstructor.encoders import EncoderConfig
from portrait4d.reconstructor.training.samples import HeadSample, Moves
from portrait4d.reconstructor.training.stream import SampleStream
from portrait4d.reconstructor.training.task import ReconstructorTask, ReconstructorTraining
from portrait4d.stylegan.superresolution import SuperResolutionConfig
from portrait4d.train.config import OptimiserConfig, Precision, RunConfig

_NUM_EXPRESSION = 100
_NUM_SAMPLES = 8
"""Made of numbers of their own; further ones are the same again."""


@dataclass(frozen=True)
class MadeReconstruction:
    """A configuration whose samples are made; a `portrait4d.jobs.train.Training`."""

    config: ReconstructorTraining

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

    def make_task(self, device: torch.device) -> ReconstructorTask:
        """Networks at their start, and samples for any batch."""
        size = self.config.network.canonicaliser.motion_dim

        def read(pictures: Tensor, landmarks: Tensor) -> Tensor:
            del landmarks
            return torch.randn(len(pictures), size, generator=torch.Generator().manual_seed(0)).to(pictures)

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            distance, faces = VggDistance().to(device), FaceVectors().to(device)
        return ReconstructorTask(
            self.config,
            device,
            read=read,
            samples=MadeSamples(self.config.network, self.train.batch_size),
            perceptual=distance,
            embed=faces,
        )


def made_reconstruction(
    *, recomputes: bool, precision: Precision, batch_size: int, is_tiny: bool
) -> MadeReconstruction:
    """The training.

    Args:
        recomputes: `train.recompute`.
        precision: of the run.
        batch_size: samples of a step, all at once.
        is_tiny: a network of the same parts for two CPU cores instead.
    """
    config = _tiny() if is_tiny else ReconstructorTraining()
    run = replace(config.train, batch_size=batch_size, precision=precision, recompute=recomputes)
    return MadeReconstruction(replace(config, train=run))


class MadeSamples(SampleStream):
    """Noise with all that is known of synthesised subjects but their volumes, which do not count at a run's end."""

    def __init__(self, network: ReconstructorConfig, count: int) -> None:
        self._count, self.digest = count, "made"
        random = np.random.default_rng(0)
        self._samples = [_made_sample(random, network, is_moved=bool(index % 2)) for index in range(_NUM_SAMPLES)]

    @property
    def num_samples(self) -> int:
        """See `SampleStream`."""
        return self._count

    def at(self, position: int) -> HeadSample:
        """See `SampleStream`."""
        return self._samples[position % _NUM_SAMPLES]

    def prefetch(self, positions: Sequence[int]) -> None:
        """All are here."""


def _made_sample(random: np.random.Generator, network: ReconstructorConfig, *, is_moved: bool) -> HeadSample:
    side, size = network.resolution, network.neural_resolution
    source, image = random.integers(0, 256, (2, side, side, 3), dtype=np.uint8)
    places = random.uniform(0.3 * side, 0.7 * side, (3, 70, 2)).astype(np.float32)
    moves = Moves(np.zeros(_NUM_EXPRESSION, np.float32), np.zeros(3, np.float32), np.zeros((2, 3), np.float32))
    camera = Camera.orbit(
        torch.zeros(1),
        torch.zeros(1),
        radius=network.camera_radius,
        target=torch.zeros(3),
        fov_degrees=network.camera_fov_degrees,
    )
    return HeadSample(
        source=source,
        source_moves=moves,
        driver=image,
        driver_moves=moves,
        is_moved=is_moved,
        image=image,
        mask=random.uniform(0, 1, (size, size)).astype(np.float32),
        label=camera.to_label25(axes="opengl")[0].numpy(),
        shape=np.zeros(1, np.float32),
        neck=np.zeros(3, np.float32),
        landmarks=places[0],
        source_landmarks=places[1],
        driver_landmarks=places[2],
        correspondence=random.uniform(-1, 1, (3, side, side)).astype(np.float16),
    )


def _tiny() -> ReconstructorTraining:
    network = ReconstructorConfig(
        encoder=EncoderConfig(width_divisor=8, num_blocks=(1, 1, 1, 1), rates=(1, 2)),
        source_resolution=32,
        canonicaliser=CanonicaliserConfig(
            dim=16, hidden_dim=16, motion_grid=2, num_heads=2, num_neutral_blocks=1, num_motion_blocks=1
        ),
        plane_decoder_dim=16,
        plane_channels=4,
        decoder_channels=8,
        style_dim=8,
        neural_resolution=32,
        render=replace(ReconstructorConfig().render, num_coarse=4, num_fine=4),
        superresolution=SuperResolutionConfig(kind="2x64"),
    )
    discriminator = DualDiscriminatorConfig(
        resolution=64,
        has_correspondence=True,
        has_mask=True,
        channel_base=512,
        channel_max=8,
        num_mapping_layers=2,
        num_half_resolutions=1,
        group_size=2,
        camera_axes="opengl",
    )
    return ReconstructorTraining(network=network, discriminator=discriminator)
