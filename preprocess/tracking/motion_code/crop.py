"""Crops the square that the motion encoder reads out of a picture, by 68 landmarks.

The crop is that of PD-FGC (Wang et al. 2023): a similarity transform (Umeyama 1991) takes the centres of both eyes and
of the inner lips to fixed places of a square, the middle part of which is enlarged.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from flame.landmarks.sets import IBUG_EYES_AND_INNER_LIPS
from preprocess.faces.alignment import face_matrices, warp
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

    Args:
        landmarks: `[B, 68, 2]` as for `crop_faces`.

    Raises:
        InputError: the three points coincide.
    """
    points = [landmarks[:, part].cpu().double().mean(1) for part in IBUG_EYES_AND_INNER_LIPS]
    return face_matrices(torch.stack(points, 1), np.array(_PLACES), what="the eyes and the mouth")
