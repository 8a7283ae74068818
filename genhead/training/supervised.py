"""A start of the training without an adversary: pictures are learned by heart, each person by one latent code.

Not in the paper; with few pictures and small networks it saves most of the time until faces look like faces.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from genhead.generator import GenHeadGenerator
from genhead.head import MAP_SCALE
from genhead.training.losses import GenHeadLossConfig, RealHeads, WantedHeads, generate, part_terms
from portrait4d.gan.training import Fades
from portrait4d.ops.resample import resize
from portrait4d.runtime.checks import check_range
from portrait4d.runtime.random import RandomSource

_FEATURE_RADIUS = 0.3
"""Of the area around an eye or the mouth, in distances between the eyes."""


@dataclass(frozen=True, kw_only=True)
class SupervisedConfig:
    """Learning pictures by heart at the start: each person has one latent code, and the error of pixels counts."""

    images: int = 0
    """Images of the start that are learned so and not adversarially; 0 leaves it out."""

    weight: float = 1.0
    """Weight of the mean absolute error while it counts alone."""

    final_weight: float = 0.0
    """Weight afterwards, beside the adversarial loss."""

    feature_weight: float = 4.0
    """Eyes, brows and mouth count so many times more than other pixels."""

    discriminator_ahead: int = 0
    """Images before the end of the start from which the discriminator learns already."""

    def __post_init__(self) -> None:
        check_range("supervised.images", self.images, 0, None)
        check_range("supervised.weight", self.weight, 0.0, 1e6)
        check_range("supervised.final_weight", self.final_weight, 0.0, 1e6)
        check_range("supervised.feature_weight", self.feature_weight, 0.0, 1e6)
        check_range("supervised.discriminator_ahead", self.discriminator_ahead, 0, None)


def supervised_terms(
    generator: GenHeadGenerator,
    wanted: WantedHeads,
    real: RealHeads,
    config: GenHeadLossConfig,
    *,
    feature_weight: float,
    random: RandomSource,
) -> dict[str, Tensor]:
    """What a generator that knows its pictures by heart minimises: `l1` of the result, `l1_raw`, `l1_mask`.

    With what keeps the parts in their planes.

    Args:
        generator: makes the pictures.
        wanted: the heads of the pictures, each with the latent code of its person.
        real: the pictures.
        config: of the other terms.
        feature_weight: eyes, brows and mouth count so many times more than other pixels.
        random: source of all noise.
    """
    made = generate(generator, wanted, Fades(0.0, 0.0), random=random, keeps_samples=True)
    size = made.images.image_raw.shape[-1]
    weight = 1 + feature_weight * feature_map(generator, real.correspondence)
    small, mask, small_weight = (resize(value, height=size, width=size) for value in (real.image, real.mask, weight))
    alpha = 2 * made.images.alpha - 1
    terms = {
        "l1": (weight * (made.images.image - real.image).abs()).mean(),
        "l1_raw": (small_weight * (made.images.image_raw - small).abs()).mean(),
        "l1_mask": (alpha - mask).abs().mean(),
    }
    return terms | part_terms(made.images, config)


@torch.no_grad()
def feature_map(generator: GenHeadGenerator, correspondence: Tensor) -> Tensor:
    """Where eyes, brows and mouth are, `[B, 1, H, H]` in [0, 1], from a correspondence map `[B, 3, H, H]`."""
    head, regions = generator.head, generator.head.regions
    places = head.canonical / MAP_SCALE
    centres = torch.stack([places[part].mean(0) for part in (regions.left_eye, regions.right_eye, regions.lips)])
    radius = (centres[0] - centres[1]).norm() * _FEATURE_RADIUS
    squared = (correspondence[:, None, :2] - centres[None, :, :2, None, None]).square().sum(2)
    is_face = (correspondence != 0).any(1, keepdim=True)
    return torch.exp(-squared / (2 * radius.square())).amax(1, keepdim=True) * is_face
