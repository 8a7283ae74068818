"""Weights averaged over training, which make better pictures (Karras et al. 2018, progressive GAN, appendix A.1)."""

import copy
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class AverageConfig:
    """How long weights are remembered; the defaults are EG3D's at a batch of 32.

    Attributes:
        half_life_images: images after which a weight counts half.
        ramp_up: the half-life is at most this share of the images seen so far; None for runs that resume.
    """

    half_life_images: float = 10_000.0
    ramp_up: float | None = 0.05


class WeightAverage(Generic[Network]):
    """Exponential moving average of a network's parameters, beside copies of its buffers.

    `network` is the averaged one: in evaluation mode, without gradients; only `update` changes it.
    """

    def __init__(self, network: Network, config: AverageConfig | None = None) -> None:
        self.config = config or AverageConfig()
        self.network: Network = copy.deepcopy(network).eval().requires_grad_(False)

    def decay(self, *, num_images: int, batch_size: int) -> float:
        """Share of the old average that a step over `batch_size` images keeps, after `num_images` before it."""
        half_life = self.config.half_life_images
        if self.config.ramp_up is not None:
            half_life = min(half_life, num_images * self.config.ramp_up)
        return 0.5 ** (batch_size / half_life) if half_life > 0 else 0.0

    @torch.no_grad()
    def update(self, network: nn.Module, *, num_images: int, batch_size: int) -> None:
        """Moves towards `network`; called after each of its steps.

        Args:
            network: the one in training.
            num_images: images seen before this step.
            batch_size: images seen in this step.
        """
        decay = self.decay(num_images=num_images, batch_size=batch_size)
        for average, value in _pairs(dict(self.network.named_parameters()), dict(network.named_parameters())):
            torch.lerp(value, average, decay, out=average)
        for average, value in _pairs(dict(self.network.named_buffers()), dict(network.named_buffers())):
            average.copy_(value)

    def state_dict(self) -> dict[str, Tensor]:
        """Everything to save; the training loop keeps the number of images seen."""
        return self.network.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restores what `state_dict` gave; names must match exactly."""
        self.network.load_state_dict(state, strict=True)


def _pairs(averages: dict[str, Tensor], values: dict[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
    ours = {(name, value.shape) for name, value in averages.items()}
    theirs = {(name, value.shape) for name, value in values.items()}
    if ours != theirs:
        different = ", ".join(f"{name} {list(shape)}" for name, shape in sorted(ours ^ theirs)[:4])
        raise ValueError(f"expected the network that is averaged; only one of both has {different}")
    return [(averages[name], values[name]) for name in averages]
