"""How like two pictures of a head are: result, rendered picture, person alone and background (Portrait4D, section 3.2).

Deng et al. 2024: the sum of a perceptual distance and of mean absolute differences.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from flame.landmarks.sets import IBUG_LEFT_EYE, IBUG_MOUTH, IBUG_RIGHT_EYE
from portrait4d.ops.resample import resize

_REGION_WIDTH = 0.3
"""Standard deviation of the bells, in distances between the eyes."""

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


def picture_terms(
    made: ComparedPictures, true: ComparedPictures, perceptual: Perceptual, *, weight: Tensor | None = None
) -> dict[str, Tensor]:
    """`perceptual` and `l1`: sums over the four pictures, means over the batch.

    Args:
        made: by the reconstructor.
        true: as it should be.
        perceptual: the distance.
        weight: `[B, 1, H, H]` of pixels in `l1`, the background's aside; None weighs all by one.
    """
    pairs = list(zip(made.pictures(), true.pictures(), strict=True))
    distances = torch.stack([perceptual(first, second).mean() for first, second in pairs])
    differences = [(first - second).abs() for first, second in pairs]
    if weight is not None:
        *shown, behind = differences
        sides = [each.shape[-1] for each in shown]
        shown = [each * resize(weight, height=side, width=side) for each, side in zip(shown, sides, strict=True)]
        differences = [*shown, behind]
    return {"perceptual": distances.sum(), "l1": torch.stack([each.mean() for each in differences]).sum()}


def region_map(landmarks: Tensor, *, size: int, side: float) -> Tensor:
    """Where eyes and mouth are, `[B, 1, size, size]` in [0, 1]: a bell around each, wide as the feature.

    Args:
        landmarks: `[B, 70 or 68, 2]` px of a picture, counted from the centre of the first pixel.
        size: of the map.
        side: of that picture, px.
    """
    points = (landmarks + 0.5) / side
    eyes = [points[:, list(eye)].mean(1) for eye in (IBUG_RIGHT_EYE, IBUG_LEFT_EYE)]
    centres = torch.stack([*eyes, points[:, list(IBUG_MOUTH)].mean(1)], 1)
    width = (eyes[0] - eyes[1]).norm(dim=-1).clamp(min=1e-3) * _REGION_WIDTH
    steps = (torch.arange(size, device=points.device, dtype=points.dtype) + 0.5) / size
    across, down = steps - centres[..., :1], steps - centres[..., 1:]
    squared = across[:, :, None, :].square() + down[:, :, :, None].square()
    return torch.exp(-squared / (2 * width[:, None, None, None].square())).amax(1, keepdim=True)


def over_black(picture: Tensor, share: Tensor) -> Tensor:
    """A picture `[B, C, H, W]` in [-1, 1] over black, where `[B, 1, H, W]` in [0, 1] is how much of it is left."""
    return (picture + 1) * share - 1
