"""Brings points of a face to fixed places: the best similarity transform (Umeyama 1991), and the warp by it.

Pixels are counted from the centre of the first one, half a pixel less than by the convention of `docs/conventions.md`.
"""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from flame.errors import InputError

ARCFACE_SIDE = 112
ARCFACE_PLACES = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
"""`[5, 2]` px of a face of 112 px, as ArcFace (Deng et al. 2019) was trained: the points of `FIVE_POINTS`."""


def fit_similarity(points: NDArray, places: NDArray) -> NDArray[np.float64]:
    """Turns, scales and shifts `[..., 2, 3]` that carry points nearest to places; never a mirror.

    In the plane such a transform is a product of complex numbers, and Umeyama's solution is linear least squares.

    Args:
        points: `[..., N, 2]`.
        places: `[..., N, 2]`, or `[N, 2]` for all.

    Raises:
        ValueError: the points coincide.
    """
    points, places = np.asarray(points, np.float64), np.asarray(places, np.float64)
    middle, goal = points.mean(-2), places.mean(-2)
    (x, y), (u, v) = (np.moveaxis(each - each.mean(-2, keepdims=True), -1, 0) for each in (points, places))
    length = (x * x + y * y).sum(-1)
    if not (length > 1e-6).all():
        raise ValueError(f"expected points [N, 2] that differ, got {points.shape[-2]} at one place")
    real, imaginary = (x * u + y * v).sum(-1) / length, (x * v - y * u).sum(-1) / length
    linear = np.stack([np.stack([real, -imaginary], -1), np.stack([imaginary, real], -1)], -2)
    shift = goal - (linear @ middle[..., None])[..., 0]
    return np.concatenate([linear, shift[..., None]], -1)


def face_matrices(points: Tensor, places: NDArray, *, what: str) -> Tensor:
    """`fit_similarity` of the points `[B, N, 2]` of faces, `[B, 2, 3]` float64 on the CPU, without gradients.

    Args:
        points: px, x right, y down.
        places: `[N, 2]` px of the result.
        what: the points are, for the error.

    Raises:
        InputError: all points of a face coincide.
    """
    try:
        return torch.from_numpy(fit_similarity(points.detach().cpu().numpy(), places))
    except ValueError:
        raise InputError(f"{what} of a face coincide: expected landmarks of a face in pixels") from None


def warp(images: Tensor, matrix: Tensor, *, side: int) -> Tensor:
    """Warps pictures `[B, C, H, W]` by affine maps, bilinearly and with zeros outside, to `[B, C, side, side]`.

    Args:
        images: `[B, C, H, W]`.
        matrix: `[B, 2, 3]` picture px to result px, pixel centres at integers.
        side: of the result, px.
    """
    height, width = images.shape[2:]
    matrix = matrix.cpu().double()  # some devices have no float64
    to_picture = torch.linalg.inv(matrix[:, :, :2])
    unit = 2 / matrix.new_tensor([width - 1, height - 1])  # the sampler's coordinates go from -1 to 1
    linear = to_picture * unit[:, None]
    shift = -(linear @ matrix[:, :, 2:])[..., 0] - 1
    ruler = torch.arange(side, dtype=images.dtype, device=images.device)
    places = torch.stack(torch.meshgrid(ruler, ruler, indexing="xy"), -1)  # [side, side, 2], x first
    seen = places @ linear.to(images)[:, None].transpose(-1, -2) + shift.to(images)[:, None, None]
    return F.grid_sample(images, seen, mode="bilinear", padding_mode="zeros", align_corners=True)
