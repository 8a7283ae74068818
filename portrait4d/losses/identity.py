"""Whether two pictures show one person (Portrait4D, Deng et al. 2024, section 3.2), by ArcFace (Deng et al. 2019)."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from flame.landmarks.sets import FIVE_POINTS
from preprocess.faces.alignment import ARCFACE_PLACES, ARCFACE_SIDE, face_matrices, warp

Embedder = Callable[[Tensor], Tensor]
"""Vectors `[B, D]` of aligned faces `[B, 3, 112, 112]` RGB in [-1, 1], of any length: ArcFace, or a stand-in."""


def align_faces(pictures: Tensor, landmarks: Tensor) -> Tensor:
    """Faces `[B, 3, 112, 112]` as ArcFace reads them; zeros, a middle grey, beyond the pictures.

    Args:
        pictures: `[B, 3, H, W]` in [-1, 1].
        landmarks: `[B, 70, 2]` px, counted from the centre of the first pixel.

    Raises:
        InputError: the landmarks of a face coincide.
    """
    return warp(pictures, five_point_matrix(landmarks), side=ARCFACE_SIDE)


def five_point_matrix(landmarks: Tensor) -> Tensor:
    """The similarity transforms `[B, 2, 3]` float64 from a picture's px to the aligned face's, see `align_faces`."""
    points = torch.stack([landmarks[:, list(averaged)].mean(1) for averaged in FIVE_POINTS[70]], 1)
    return face_matrices(points, ARCFACE_PLACES, what="pupils, nose and mouth")


def identity_term(embed: Embedder, made: Tensor, true: Tensor, landmarks: Tensor) -> Tensor:
    """One minus the cosine of both faces' vectors, in [0, 2], the mean over the batch.

    Args:
        embed: the face recogniser; its weights are fixed.
        made: `[B, 3, H, W]` in [-1, 1], beyond which it is cut off.
        true: `[B, 3, H, W]`.
        landmarks: `[B, 70, 2]` of both, see `align_faces`.
    """
    with torch.no_grad():
        wanted = embed(align_faces(true.clamp(-1, 1), landmarks))
    found = embed(align_faces(made.clamp(-1, 1), landmarks))
    return (1 - F.cosine_similarity(found, wanted)).mean()
