"""Brings points of a face to fixed places: the best similarity transform (Umeyama 1991), and the warp by it.

Pixels are counted from the centre of the first one, half a pixel less than by the convention of `docs/conventions.md`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from flame.errors import InputError


def fit_similarity(points: Tensor, places: Tensor, *, what: str) -> Tensor:
    """The similarity transforms `[B, 2, 3]` float64, on the CPU, that bring points nearest to places.

    In the plane a similarity transform is a product of complex numbers, and Umeyama's solution is linear least squares.

    Args:
        points: `[B, N, 2]` px, x right, y down.
        places: `[N, 2]` px of the result.
        what: the points are, for the error.

    Raises:
        InputError: all points of a face coincide.
    """
    points = points.cpu().double()
    places = places.cpu().double().expand_as(points)
    middle, target = points.mean(1), places.mean(1)
    x, y = (points - middle[:, None]).unbind(-1)
    u, v = (places - target[:, None]).unbind(-1)
    length = (x * x + y * y).sum(-1)
    if not (length > 1e-6).all():
        raise InputError(f"{what} of a face coincide: expected landmarks of a face in pixels")
    real, imaginary = (x * u + y * v).sum(-1) / length, (x * v - y * u).sum(-1) / length
    linear = torch.stack([real, -imaginary, imaginary, real], -1).unflatten(-1, (2, 2))
    shift = target - (linear @ middle[..., None])[..., 0]
    return torch.cat([linear, shift[..., None]], 2)


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
