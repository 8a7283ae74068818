"""Crops the square that the motion encoder reads out of a picture, by 68 landmarks.

The crop is that of PD-FGC (Wang et al. 2023): a similarity transform (Umeyama 1991) takes the centres of both eyes and
of the inner lips to fixed places of a square, the middle part of which is enlarged.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from flame.errors import InputError
from flame.landmarks.sets import IBUG_EYES_AND_INNER_LIPS
from preprocess.tracking.motion_code.network import INPUT_SIZE

SQUARE = 224
_PLACES = ((87.0, 59.0), (137.0, 59.0), (112.0, 120.0))
_ROWS, _COLUMNS = slice(0, 192), slice(16, 208)


def crop_faces(images: Tensor, landmarks: Tensor) -> Tensor:
    """Returns the network's input for pictures, `[B, 3, 224, 224]` in [-1, 1].

    Args:
        images: `[B, 3, H, W]` in [-1, 1].
        landmarks: `[B, 68, 2]` iBUG in px, x right, y down, counted from the centre of the first pixel (half a pixel
            less than by the convention of `docs/conventions.md`).

    Raises:
        ValueError: the landmarks have another shape.
        InputError: the landmarks of a face coincide.
    """
    if landmarks.shape != (len(images), 68, 2):
        raise ValueError(f"landmarks must be [{len(images)}, 68, 2] like images, got {tuple(landmarks.shape)}")
    square = warp(images, face_similarity(landmarks), side=SQUARE)
    middle = square[..., _ROWS, _COLUMNS]
    enlarged = F.interpolate(middle, size=(INPUT_SIZE, INPUT_SIZE), mode="bilinear", align_corners=False)
    return enlarged.clamp(-1, 1)


def face_similarity(landmarks: Tensor) -> Tensor:
    """Returns the similarity transform `[B, 2, 3]` float64 from the picture's to the square's pixels.

    In the plane a similarity transform is a product of complex numbers, and Umeyama's solution is linear least squares.

    Args:
        landmarks: `[B, 68, 2]` as for `crop_faces`.

    Raises:
        InputError: the three points coincide.
    """
    points = torch.stack(
        [landmarks[:, part].cpu().double().mean(1) for part in IBUG_EYES_AND_INNER_LIPS], 1
    )  # [B, 3, 2]
    places = points.new_tensor(_PLACES).expand_as(points)
    middle, target = points.mean(1), places.mean(1)
    x, y = (points - middle[:, None]).unbind(-1)
    u, v = (places - target[:, None]).unbind(-1)
    length = (x * x + y * y).sum(-1)
    if not (length > 1e-6).all():
        raise InputError("the eyes and the mouth of a face coincide: expected 68 landmarks of a face in pixels")
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
