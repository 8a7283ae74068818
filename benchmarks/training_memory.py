"""What training the reconstructor holds in memory, found on torch's device meta: sizes without numbers.

Every phase of the real training runs with its networks, and the storages that live are counted, see `live_memory.py`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Literal
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flame.geometry.camera import Camera
from live_memory import LiveMemory, drop_gradients, tensors_of
from loss_networks import FaceVectors, VggDistance
from portrait4d.gan.discriminator import DualDiscriminator
from portrait4d.reconstructor.network import Reconstructor
from portrait4d.reconstructor.training.losses import (
    TrueHeads,
    TrueVolume,
    WantedHeads,
    density_terms,
    discriminator_terms,
    generator_terms,
    r1_terms,
)
from portrait4d.reconstructor.training.task import ReconstructorTraining
from portrait4d.stylegan.half import set_half_dtype
from preprocess.tracking.motion_code.network import MotionEncoderNetwork
from reconstructor_parts import named_parts, within

Phase = Literal["reconstructor", "density", "discriminator", "r1"]


@dataclass(frozen=True)
class Held:
    """What is held all the time, bytes.

    Attributes:
        weights: of both networks that learn.
        gradients: of both; each network's stay until its next phase.
        moments: Adam's two of both.
        average: the averaged reconstructor.
        fixed: networks of the losses and of the motion code.
        pictures: of one whole batch, which its phases share.
    """

    weights: int
    gradients: int
    moments: int
    average: int
    fixed: int
    pictures: int

    @property
    def total(self) -> int:
        """All of it."""
        return sum(asdict(self).values())


@dataclass(frozen=True)
class PhaseMemory:
    """What a phase needs beside what is held, bytes.

    Attributes:
        kept: by the forward pass for the backward pass, by part.
        peak: the most at any time of both passes, gradients in the making included.
    """

    kept: dict[str, int]
    peak: int


@dataclass(frozen=True)
class Networks:
    """All networks of a training, on the device meta."""

    reconstructor: Reconstructor
    discriminator: DualDiscriminator
    perceptual: VggDistance
    identity: FaceVectors
    motion: MotionEncoderNetwork

    @classmethod
    def of(cls, config: ReconstructorTraining) -> "Networks":
        """The networks of a configuration."""
        with torch.device("meta"):
            made = cls(
                Reconstructor(config.network),
                DualDiscriminator(config.discriminator),
                VggDistance(),
                FaceVectors(),
                MotionEncoderNetwork(),
            )
        for network in (made.reconstructor, made.discriminator):
            set_half_dtype(network, torch.bfloat16)  # as large as fp16, which needs a device of CUDA's
            drop_gradients(network)
        made.reconstructor.recomputes = config.train.recompute
        return made

    def all(self) -> list[nn.Module]:
        """In their order."""
        return [value for value in vars(self).values() if isinstance(value, nn.Module)]


class NoNumbers:
    """A source of random numbers for the device meta."""

    def uniform(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """As large as they would be."""
        return like.new_empty(tuple(shape))

    normal = uniform


def images_seen(config: ReconstructorTraining, size: int) -> int:
    """When the recipe renders pictures of this size."""
    return config.train.total_images if size > config.loss.resolution_initial else config.loss.resolution_start - 1


def measure_phase(config: ReconstructorTraining, phase: Phase, *, batch: int, size: int) -> PhaseMemory:
    """Runs a phase over one round of `batch` samples."""
    networks, seen = Networks.of(config), images_seen(config, size)
    wanted, true = made_batch(config, batch)
    learning = networks.reconstructor if phase in ("reconstructor", "density") else networks.discriminator
    for network in (networks.reconstructor, networks.discriminator):
        network.requires_grad_(network is learning)
    memory = LiveMemory([*tensors_of(networks.all()), *tensors_in(wanted), *tensors_in(true)])
    judge = within(networks.discriminator, memory.part, "discriminator")
    with _attention_of_cuda(), named_parts(networks.reconstructor, memory.part), memory:
        match phase:
            case "reconstructor":
                terms = generator_terms(
                    networks.reconstructor,
                    judge,
                    wanted,
                    true,
                    config.loss,
                    images_seen=seen,
                    perceptual=within(networks.perceptual, memory.part, "perceptual"),
                    embed=within(networks.identity, memory.part, "identity"),
                    random=NoNumbers(),
                )
            case "density":
                terms = density_terms(networks.reconstructor, wanted, config.loss, random=NoNumbers())
            case "discriminator":
                terms = discriminator_terms(
                    networks.reconstructor, judge, wanted, true, config.loss, images_seen=seen, random=NoNumbers()
                )
            case "r1":
                terms = r1_terms(judge, wanted, true, config.loss, size=size)
        kept = memory.by_part()
        if terms:
            torch.stack(list(terms.values())).sum().backward()
    return PhaseMemory(kept, memory.peak)


def measure_held(config: ReconstructorTraining, *, batch_size: int) -> Held:
    """What a training holds all the time, whatever its rounds."""
    networks = Networks.of(config)
    reconstructor, discriminator = (
        sum(4 * value.numel() for value in network.parameters())
        for network in (networks.reconstructor, networks.discriminator)
    )
    learned = reconstructor + discriminator
    fixed = tensors_of([networks.perceptual, networks.identity, networks.motion])
    wanted, true = made_batch(config, batch_size)
    return Held(
        weights=learned,
        gradients=learned,
        moments=2 * learned,
        average=reconstructor,
        fixed=sum(value.nbytes for value in fixed),
        pictures=sum(value.nbytes for value in (*tensors_in(wanted), *tensors_in(true))),
    )


def made_batch(config: ReconstructorTraining, batch: int) -> tuple[WantedHeads, TrueHeads]:
    """Samples without numbers, of synthesised subjects."""
    network, points = config.network, config.data.plane_points
    side, small, channels = network.resolution, network.neural_resolution, network.plane_channels

    def empty(*shape: int) -> Tensor:
        return torch.empty(batch, *shape, device="meta")

    wanted = WantedHeads(
        source=empty(3, side, side),
        source_motion=empty(network.canonicaliser.motion_dim),
        driver_motion=empty(network.canonicaliser.motion_dim),
        motion_scale=empty(1, 1),
        camera=Camera(empty(4, 4), empty(3, 3)),
        pose=None,
        label=empty(25),
        correspondence=empty(3, side, side),
        landmarks=side * torch.rand(batch, 70, 2, generator=torch.Generator().manual_seed(0)),  # faces are cut by them
    )
    volume = TrueVolume(
        depth=empty(1, small, small),
        features=empty(channels, small, small),
        background=empty(channels, small, small),
        points=empty(points, 3),
        plane_features=empty(points, channels),
    )
    return wanted, TrueHeads(empty(3, side, side), empty(1, small, small), volume)


def tensors_in(value: object) -> list[Tensor]:
    """Of a dataclass and those in it."""
    if isinstance(value, Tensor):
        return [value]
    return (
        [tensor for each in vars(value).values() for tensor in tensors_in(each)] if hasattr(value, "__dict__") else []
    )


@contextmanager
def _attention_of_cuda() -> Iterator[None]:
    """The kernel that CUDA takes in fp32; the device meta would keep whole matrices of shares."""

    def attend(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        return torch.ops.aten._scaled_dot_product_efficient_attention(queries, keys, values, None, True)[0]

    with patch.object(F, "scaled_dot_product_attention", attend):
        yield
