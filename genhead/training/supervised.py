"""Pictures learned by heart, each person by one latent code: alone at the start, then beside an adversary.

Not in the paper; with few pictures and small networks it saves most of the time until faces look like faces, and keeps
the adversarial phase from losing them.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from genhead.generator import GenHeadGenerator
from genhead.training.losses import RealHeads
from genhead.volume import HeadImages
from portrait4d.headparts.head import MAP_SCALE
from portrait4d.ops.resample import resize
from portrait4d.runtime.checks import check_range

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

    final_share: float = 0.5
    """Share of generated heads that are persons of the data afterwards, if they have a weight."""

    feature_weight: float = 4.0
    """Eyes, brows and mouth count so many times more than other pixels."""

    depth_weight: float = 0.0
    """Weight of the mean distance, in world units, between the rendered face and the fitted head's, beside the error of
    pixels. For photos that are all taken from the front, which do not tell how deep a face is."""

    discriminator_ahead: int = 0
    """Images before the end of the start from which the discriminator learns already."""

    def __post_init__(self) -> None:
        check_range("supervised.images", self.images, 0, None)
        check_range("supervised.weight", self.weight, 0.0, 1e6)
        check_range("supervised.final_weight", self.final_weight, 0.0, 1e6)
        check_range("supervised.final_share", self.final_share, 0.0, 1.0)
        check_range("supervised.depth_weight", self.depth_weight, 0.0, 1e6)
        check_range("supervised.feature_weight", self.feature_weight, 0.0, 1e6)
        check_range("supervised.discriminator_ahead", self.discriminator_ahead, 0, None)


def pixel_terms(
    generator: GenHeadGenerator, images: HeadImages, real: RealHeads, *, feature_weight: float, counted: Tensor
) -> dict[str, Tensor]:
    """What a generator that knows its pictures by heart minimises: `l1` of the result, `l1_raw`, `l1_mask`.

    Args:
        generator: knows where eyes and mouth are.
        images: generated.
        real: the pictures.
        feature_weight: eyes, brows and mouth count so many times more than other pixels.
        counted: `[B]` weight of each picture; the terms are means over all B.
    """
    size = images.image_raw.shape[-1]
    weight = counted[:, None, None, None] * (1 + feature_weight * feature_map(generator, real.correspondence))
    small, mask, small_weight = (resize(value, height=size, width=size) for value in (real.image, real.mask, weight))
    errors = (2 * images.alpha - 1 - mask).abs().mean((1, 2, 3))
    return {
        "l1": (weight * (images.image - real.image).abs()).mean(),
        "l1_raw": (small_weight * (images.image_raw - small).abs()).mean(),
        "l1_mask": (counted * errors).mean(),
    }


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
