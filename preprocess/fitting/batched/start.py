"""The start of a batched fit: the landmarks of other sets as the 478, and the pose of the mean head at rest."""

import torch
from torch import Tensor

from flame.errors import InputError
from flame.landmarks.groups import NUM_LANDMARKS
from flame.landmarks.sets import IBUG_OF_98, IBUG_OF_478, NUM_CONTOUR, PUPILS_OF_98, PUPILS_OF_478
from preprocess.fitting.batched.residuals import BatchResiduals, BatchState, Target


def landmarks_of_set(points: Tensor) -> Tensor:
    """Converts 68, 70 or WFLW's 98 points `[B, L, 2]` (px) to landmarks `[B, 478, 3]`, NaN where unknown.

    Depth is unknown, and so is the contour: in these sets it lies on the outline of the face in the picture, which no
    point of the surface follows.

    Raises:
        InputError: another number of points.
    """
    of_98, of_478 = IBUG_OF_98 + PUPILS_OF_98, IBUG_OF_478 + PUPILS_OF_478
    count = points.shape[1] if points.ndim == 3 and points.shape[2] == 2 else 0
    sources = {68: tuple(range(68)), 70: tuple(range(70)), 98: of_98}
    if count not in sources:
        raise InputError(f"expected landmarks [B, 68, 70 or 98, 2], got {list(points.shape)}")
    source = sources[count]
    result = points.new_full((len(points), NUM_LANDMARKS, 3), torch.nan)
    result[:, of_478[NUM_CONTOUR : len(source)], :2] = points[:, source[NUM_CONTOUR:]]
    return result


def rigid_starts(residuals: BatchResiduals, target: Target, *, num_people: int) -> BatchState:
    """Estimates the pose of the mean head at rest by weak perspective, with depths where they are known."""
    mask = (target.weights > 0) & residuals.is_mesh
    has_depth = (target.depth_weights > 0).any(1)
    weights = mask.to(target.points)
    weights = (weights / weights.sum(1, keepdim=True))[..., None]
    measured = target.points * target.points.new_tensor([1.0, -1.0, -1.0])  # picture axes -> camera axes
    model_centre, centre = (weights * residuals.mean).sum(1), (weights * measured).sum(1)
    arms, measured_arms = residuals.mean - model_centre[:, None], measured - centre[:, None]
    rotation, scale = _similarity(arms, measured_arms, weights)
    flat_rotation, flat_scale = _weak_perspective(arms, measured_arms[..., :2], weights)
    rotation = torch.where(has_depth[:, None, None], rotation, flat_rotation)
    px_per_metre = torch.where(has_depth, scale, flat_scale)
    half = residuals.crop_size / 2
    place = torch.stack(
        [centre[:, 0] - half, centre[:, 1] + half, torch.full_like(px_per_metre, -residuals.focal_px)], 1
    )
    translation = place / px_per_metre[:, None] - (rotation @ model_centre[..., None])[..., 0]
    own = place.new_zeros(len(place), residuals.num_own)
    return BatchState(own, rotation, translation, place.new_zeros(num_people, residuals.num_shape))


def _similarity(arms: Tensor, measured: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Returns rotation `[B, 3, 3]` and scale `[B]` from points to points `[B, L, 3]` (Umeyama 1991, eqs. 40-42)."""
    left, singular, right = torch.linalg.svd((weights * measured).mT @ arms)
    signs = torch.ones_like(singular)
    signs[:, 2] = torch.linalg.det(left @ right).sign()
    scale = (singular * signs).sum(1) / (weights * arms**2).sum((1, 2))
    return (left * signs[:, None]) @ right, scale


def _weak_perspective(arms: Tensor, measured: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Returns rotation and scale from `[B, L, 3]` to picture points `[B, L, 2]`: those nearest to the affine map."""
    spread = (weights * arms).mT @ arms
    affine = torch.linalg.solve(spread, (weights * arms).mT @ measured).mT  # [B, 2, 3]
    left, singular, right = torch.linalg.svd(affine, full_matrices=False)
    rows = left @ right
    third = torch.linalg.cross(rows[:, 0], rows[:, 1])
    return torch.cat([rows, third[:, None]], 1), singular.mean(1)
