"""Linear blend skinning over a small tree of joints.

SMPL (Loper et al. 2015), eqs. 2-4, without the pose correctives, which the head model adds.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def chain_transforms(rotations: Tensor, joints: Tensor, parents: Sequence[int]) -> Tensor:
    """Returns the rest-to-posed transform of each joint.

    Args:
        rotations: `[B, J, 3, 3]` rotation of each joint in its parent's frame.
        joints: `[B, J, 3]` positions at rest.
        parents: length J, a parent before its children, -1 for the root.

    Returns:
        `[B, J, 4, 4]`; a rest point `x` rigidly bound to joint j moves to `T_j x`.
    """
    frames = []
    for index, parent in enumerate(parents):
        rest, rotation = joints[:, index], rotations[:, index]
        if parent < 0:
            frames.append((rotation, rest))
            continue
        parent_rotation, parent_position = frames[parent]
        position = parent_position + _apply(parent_rotation, rest - joints[:, parent])
        frames.append((parent_rotation @ rotation, position))
    rotation = torch.stack([frame[0] for frame in frames], 1)
    position = torch.stack([frame[1] for frame in frames], 1)
    translation = position - _apply(rotation, joints)
    top = torch.cat([rotation, translation[..., None]], -1)
    bottom = top.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(*top.shape[:2], 1, 4)
    return torch.cat([top, bottom], 2)


def blend_skin(vertices: Tensor, transforms: Tensor, weights: Tensor) -> Tensor:
    """Moves each vertex by the weighted mean of the joint transforms.

    Args:
        vertices: `[B, V, 3]` at rest.
        transforms: `[B, J, 4, 4]` rest to posed.
        weights: `[V, J]`, rows sum to one.

    Returns:
        `[B, V, 3]` posed.
    """
    batch, num_joints = transforms.shape[:2]
    blended = weights @ transforms[:, :, :3].reshape(batch, num_joints, 12)  # [B, V, 12]
    blended = blended.reshape(batch, -1, 3, 4)
    return _apply(blended[..., :3], vertices) + blended[..., 3]


def _apply(matrix: Tensor, vector: Tensor) -> Tensor:
    return (matrix * vector[..., None, :]).sum(-1)  # batched matmul of 3x3 is several times slower on the CPU
