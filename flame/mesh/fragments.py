"""The result of every rasteriser: the triangle that each pixel sees, the place on it, and its depth."""

from dataclasses import dataclass

from torch import Tensor

NEAR = 1e-6
"""Triangles with a corner at this depth or nearer are dropped."""


@dataclass(frozen=True)
class Fragments:
    """What each pixel sees; shapes begin with `[B, H, W]` if the points had a batch.

    Attributes:
        face_id: `[H, W]` int64, -1 where nothing was hit.
        barycentric: `[H, W, 3]` perspective-correct weights of the triangle's corners, zero where nothing was hit.
        depth: `[H, W]` in the unit of the points' depth, inf where nothing was hit.
    """

    face_id: Tensor
    barycentric: Tensor
    depth: Tensor
