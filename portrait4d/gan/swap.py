"""Conditions of the generator that may be another picture's camera, so that heads cannot all face their camera.

EG3D, Chan et al. 2022, section 4.4, "generator pose conditioning".
"""

import torch
from torch import Tensor

from portrait4d.runtime.random import RandomSource, uniform


def swap_probability(num_images: int, *, final: float = 0.5, fade_images: int = 1_000_000) -> float:
    """Probability of another picture's camera after `num_images` images: linear from 1 to `final` at `fade_images`."""
    progress = min(num_images / fade_images, 1.0) if fade_images > 0 else 1.0
    return 1.0 + progress * (final - 1.0)


def swap_conditions(condition: Tensor, predecessor: Tensor, probability: float, *, generator: RandomSource) -> Tensor:
    """Replaces labels at random, each on its own.

    Args:
        condition: labels `[B, C]`.
        predecessor: `[B, C]` the label of the sample before each in the whole batch, the last one's for the first;
            `condition.roll(1, 0)` where the batch is not split.
        probability: 0 keeps all, 1 replaces all.
        generator: source of the choices.
    """
    _check(probability)
    drawn = uniform(generator, (len(condition), 1), condition)
    return torch.where(drawn < probability, predecessor, condition)


def is_batch_swapped(probability: float, *, generator: torch.Generator) -> bool:
    """One choice for a whole batch, as regularisers make it.

    Args:
        probability: of the predecessors' labels for all.
        generator: on the CPU, the same in every process.
    """
    _check(probability)
    return float(torch.rand((), generator=generator)) < probability


def _check(probability: float) -> None:
    if not 0.0 <= probability <= 1.0:
        raise ValueError(f"probability must be in [0, 1], got {probability}")
