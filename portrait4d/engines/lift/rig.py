"""The rig: every drawn point of a source, and how each one follows expression, landmarks and head pose.

A point lies at `rest` in the head frame of the source. An expression change `de` and a landmark displacement `r`
(metres, head frame) move it to `x = rest + expression_basis de + residual_basis r`, and the head pose `R, t` to
`w (R x + t) + (1 - w) (R0 x + t0 + d)` in camera space: `w` is its share of the head's motion, `R0, t0` the source's
pose and `d` the shift of the torso. Around the face `R, t` passes into the pose of the skull (`following.py`).
Its texture coordinate is where the photo shows it, so that the source's pose draws the photo itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from flame.geometry.rotation import axis_angle_to_matrix
from flame.heads.head_pose import HeadPose
from portrait4d.engines.lift.following import THROAT, skull_pose, skull_shares, torso_shift
from portrait4d.engines.lift.tensor_fields import TensorFields
from portrait4d.engines.lift.view import project_points


@dataclass(frozen=True)
class Rig(TensorFields):
    """The drawn points of a source. Points 0..P-1, the patch, are vertices of the head model.

    Attributes:
        rest: [V, 3] metres.
        uv: [V, 2] canvas pixels.
        faces: [F, 3].
        expression_basis: [V * 3, E] metres per unit of expression.
        residual_basis: [P, 478] how far each landmark's displacement moves each patch point.
        head_weight: [V] share of the head's motion that a point follows, in [0, 1].
        light_weight: [P] share of relighting of the patch points, fading out at the rim of the patch.
        patch_vertices: [P] numbers of the patch points in the head model.
        source_expression: [E] the source's own expression.
        source_rotation: [3] the source's head in camera space, axis-angle.
        source_translation: [3] the same, metres.
        source_residual: [478, 3] the source's landmark displacement, metres in the head frame.
        focal_px: [] focal length of the crop's camera in crop pixels.
    """

    rest: Tensor
    uv: Tensor
    faces: Tensor
    expression_basis: Tensor
    residual_basis: Tensor
    head_weight: Tensor
    light_weight: Tensor
    patch_vertices: Tensor
    source_expression: Tensor
    source_rotation: Tensor
    source_translation: Tensor
    source_residual: Tensor
    focal_px: Tensor

    @property
    def num_patch(self) -> int:
        """Number of points of the face patch, which come first."""
        return len(self.patch_vertices)

    @cached_property
    def patch_faces(self) -> Tensor:
        """Triangles of the face patch [F, 3], which come first."""
        return self.faces[: int((self.faces < self.num_patch).all(1).sum())]

    @cached_property
    def source_normals(self) -> Tensor:
        """Smoothed normals of the patch points in the source's pose, [P, 3] in camera space."""
        normals = smooth_normals(self.rest[None, : self.num_patch], self.patch_faces)[0]
        return normals @ axis_angle_to_matrix(self.source_rotation).T

    @cached_property
    def skull_shares(self) -> Tensor:
        """Share [V] of the points that follows the skull rather than the face."""
        return skull_shares(self.rest, self.uv, self.light_weight)

    @cached_property
    def skull_centre(self) -> Tensor:
        """Middle [3] of the patch points that follow the skull, head frame, metres."""
        share = self.skull_shares[: self.num_patch, None]
        return (share * self.rest[: self.num_patch]).sum(0) / share.sum().clamp(min=1e-6)

    def deform(self, expression: Tensor, residual: Tensor) -> Tensor:
        """Head-frame positions [B, V, 3] for expressions [B, E] and landmark displacements [B, 478, 3], in metres."""
        batch, count = expression.shape[0], self.rest.shape[0]
        moved = (expression - self.source_expression) @ self.expression_basis.T
        moved = moved.reshape(batch, count, 3) + self.rest
        moved[:, : self.num_patch] += self.residual_basis @ (residual - self.source_residual)
        return moved

    def deform_some(self, chosen: Tensor, expression: Tensor, residual: Tensor) -> Tensor:
        """What `deform` gives, for the chosen patch points [N] only: [B, N, 3]."""
        basis = self.expression_basis.reshape(len(self.rest), 3, -1)[chosen]
        moved = torch.einsum("nie,be->bni", basis, expression - self.source_expression) + self.rest[chosen]
        return moved + self.residual_basis[chosen] @ (residual - self.source_residual)

    def pose(self, points: Tensor, head: HeadPose, crooked: Tensor, residual: Tensor) -> Tensor:
        """Takes head-frame points [B, V, 3] to camera space, [B, V, 3] metres.

        Args:
            points: what `deform` gave.
            head: B poses of the face.
            crooked: [B, 1], see `following.crookedness`.
            residual: [B, 478, 3], as in `deform`.
        """
        turned = points @ axis_angle_to_matrix(head.rotation).mT + head.translation[:, None]
        rotation, translation = skull_pose(
            head.rotation,
            head.translation,
            source_rotation=self.source_rotation,
            source_translation=self.source_translation,
            centre=self.skull_centre,
            crooked=crooked,
            residual_change=residual - self.source_residual,
        )
        share = self.skull_shares[:, None]
        turned = turned + share * (points @ rotation.mT + translation[:, None] - turned)
        source = axis_angle_to_matrix(self.source_rotation)
        throat = points.new_tensor(THROAT)
        shift = torso_shift((rotation - source) @ throat + translation - self.source_translation)
        still = points @ source.mT + self.source_translation + shift[:, None]
        return still + self.head_weight[:, None] * (turned - still)

    def project(self, camera_points: Tensor, size: int) -> Tensor:
        """Projects camera-space points [B, V, 3] to crop pixels and depth [B, V, 3] of a crop of side `size`."""
        return project_points(camera_points, self.focal_px, size)


def vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Area-weighted unit normals [B, V, 3] of vertices [B, V, 3] and triangles [F, 3]; zero where no triangle is."""
    corners = vertices[:, faces]
    normal = torch.linalg.cross(corners[:, :, 1] - corners[:, :, 0], corners[:, :, 2] - corners[:, :, 0])
    total = torch.zeros_like(vertices)
    for corner in range(3):
        total.index_add_(1, faces[:, corner], normal)
    return torch.nn.functional.normalize(total, dim=-1)


def smooth_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Vertex normals [B, V, 3] that are averaged over their neighbourhood twice.

    Creases are shaded softly, and single triangles do not show.
    """
    normals = vertex_normals(vertices, faces)
    for _ in range(2):
        mean = normals[:, faces].sum(2)
        total = torch.zeros_like(normals)
        for corner in range(3):
            total.index_add_(1, faces[:, corner], mean)
        normals = torch.nn.functional.normalize(total, dim=-1)
    return normals
