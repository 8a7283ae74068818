"""How two ways of stating the pose of heads differ, when each has its own idea of which way a resting head looks."""

import torch
from torch import Tensor

from flame.geometry.rotation import axis_angle_to_matrix


def turn_degrees(rotation: Tensor) -> Tensor:
    """By how much rotations `[..., 3, 3]` turn."""
    # From the sine's side too: the arc cosine alone loses small angles.
    skewed = rotation - rotation.mT
    sine = torch.stack([skewed[..., 2, 1], skewed[..., 0, 2], skewed[..., 1, 0]], -1).norm(dim=-1) / 2
    cosine = (rotation.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2
    return torch.rad2deg(torch.atan2(sine, cosine))


def mean_rotation(rotations: Tensor) -> Tensor:
    """The nearest rotation `[3, 3]` to the mean of `[N, 3, 3]`: the chordal mean of Hartley et al. 2013."""
    left, _, right = torch.linalg.svd(rotations.sum(0))
    signs = torch.ones(3).to(rotations)
    signs[2] = torch.linalg.det(left @ right).sign()
    return (left * signs) @ right


def pose_offset(ours: Tensor, reference: Tensor) -> Tensor:
    """The turn C `[3, 3]` from our resting head to the reference's: `ours = reference C` (axis-angle `[N, 3]` each)."""
    return mean_rotation(_between(ours, reference))


def rotation_difference(ours: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Degrees `[N]` between head rotations (axis-angle `[N, 3]` each), as they are and without the constant offset.

    The offset of each is that of all the others, so that none hides its own error; of fewer than two it is unknown.
    """
    between = _between(ours, reference)
    rest = []
    for index in range(len(between)):
        others = torch.cat([between[:index], between[index + 1 :]])
        rest.append(
            turn_degrees(between[index] @ mean_rotation(others).mT) if len(others) else between.new_tensor(torch.nan)
        )
    return turn_degrees(between), torch.stack(rest)


def _between(ours: Tensor, reference: Tensor) -> Tensor:
    return axis_angle_to_matrix(reference.double()).mT @ axis_angle_to_matrix(ours.double())
