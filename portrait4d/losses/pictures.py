"""How like two pictures of a head are: result, rendered picture, person alone and background (Portrait4D, section 3.2).

Deng et al. 2024: the sum of a perceptual distance and of mean absolute differences.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

Perceptual = Callable[[Tensor, Tensor], Tensor]
"""Perceptual distance `[B]` of two batches of pictures `[B, 3, H, W]` in [-1, 1], H any size: LPIPS, or a stand-in."""


@dataclass(frozen=True)
class ComparedPictures:
    """What of a head is compared, all in [-1, 1]; R is the side of the rendered picture.

    Attributes:
        image: `[B, 3, H, H]` the result.
        raw: `[B, 3, R, R]` as rendered.
        foreground: `[B, 3, R, R]` the person over black.
        background: `[B, 3, R, R]` what is behind the person.
    """

    image: Tensor
    raw: Tensor
    foreground: Tensor
    background: Tensor

    def pictures(self) -> list[Tensor]:
        """All four."""
        return [getattr(self, entry.name) for entry in fields(self)]


def picture_terms(made: ComparedPictures, true: ComparedPictures, perceptual: Perceptual) -> dict[str, Tensor]:
    """`perceptual` and `l1`: sums over the four pictures, means over the batch."""
    pairs = list(zip(made.pictures(), true.pictures(), strict=True))
    distances = torch.stack([perceptual(first, second).mean() for first, second in pairs])
    differences = torch.stack([(first - second).abs().mean() for first, second in pairs])
    return {"perceptual": distances.sum(), "l1": differences.sum()}


def over_black(picture: Tensor, share: Tensor) -> Tensor:
    """A picture `[B, C, H, W]` in [-1, 1] over black, where `[B, 1, H, W]` in [0, 1] is how much of it is left."""
    return (picture + 1) * share - 1
