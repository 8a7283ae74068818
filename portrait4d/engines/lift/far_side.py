"""The side that a turned head hides: the near side's mirror image, blended in as the head turns to show it.

The head model is symmetric, so each of its points has a mirror image whose pixels can stand in. Hair and ear of the
near side are mirrored at the plane between the head's halves. Where the photo sees the far side well, it stays.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from flame.errors import InputError
from flame.geometry.rotation import axis_angle_to_matrix, matrix_to_euler_degrees
from flame.heads.open_head import OpenHead
from flame.mesh.raster import interpolate, rasterize
from portrait4d.engines.lift.bind import patch_faces
from portrait4d.engines.lift.lighting import shading_ratio
from portrait4d.engines.lift.rig import Rig, smooth_normals
from portrait4d.engines.lift.tensor_fields import TensorFields, smoothstep
from portrait4d.engines.lift.view import SourceView

MOST_YAW_DEGREES = 55.0
"""Turn of a source beyond which too little of the face is left to make the rest of it."""

_LEAST_YAW_DEGREES = 8.0
"""Turn of a source under which both sides are seen alike."""
_REVEAL_DEGREES = (3.0, 14.0)
"""Turns towards the hidden side at which the mirror image begins to show, and shows fully."""
_SEEN_WELL, _SEEN_BADLY = 0.62, 0.38
"""Cosines between the far skin and the view at which the photo's pixels stay, and are replaced."""
_HIDDEN_BEHIND = 0.006
"""Metres behind the nearest surface from which a point counts as hidden."""
_FOLLOWS_HEAD = (0.75, 0.95)
"""Share of the head's motion from which hair and ear are mirrored, and mirrored fully."""
_ABOVE_CHIN = 0.02
"""Metres above the chin from which the sheet is mirrored fully; below the chin is what does not turn: collars."""


@dataclass(frozen=True)
class FarSide(TensorFields):
    """The mirrored surface. Its points are K far points of the face patch, then the mirror images of S sheet points.

    Attributes:
        far: [K] numbers of far patch points.
        near: [K] numbers of the patch points whose mirror images they are.
        sheet: [S] numbers of the rig's points that are mirrored.
        faces: [F, 3] in numbers of the K + S points; none if the source is frontal.
        swapped: [E] for each expression the number of that of the other side.
        texture: [H, W, 4] premultiplied canvas of the near side, transparent where it is not needed.
    """

    far: Tensor
    near: Tensor
    sheet: Tensor
    faces: Tensor
    swapped: Tensor
    texture: Tensor

    @staticmethod
    def empty(num_expression: int) -> FarSide:
        """That of a frontal source."""
        none = torch.zeros(0, dtype=torch.long)
        return FarSide(
            none, none, none, none.reshape(0, 3), torch.arange(num_expression), torch.zeros(1, 1, 4)
        )  # fmt: skip

    def uv(self, rig: Rig) -> Tensor:
        """Where the canvas shows the points, [K + S, 2]."""
        return torch.cat([rig.uv[self.near], rig.uv[self.sheet]])

    def strength(self, rig: Rig, rotation: Tensor) -> Tensor:
        """Share [B] of the mirror image under head rotations [B, 3]: 0 unless the head turns to show its far side."""
        if not len(self.faces):
            return rotation.new_zeros(len(rotation))
        own, yaw = (_yaw_degrees(item) for item in (rig.source_rotation[None], rotation))
        low, high = _REVEAL_DEGREES
        return smoothstep(((yaw - own) * -own.sign() - low) / (high - low))

    def points(self, rig: Rig, deformed: Tensor, expression: Tensor) -> Tensor:
        """Head-frame positions [B, K + S, 3].

        Args:
            rig: the source's rig.
            deformed: [B, V, 3] the rig's points under the expression.
            expression: [B, E].
        """
        basis = rig.expression_basis.reshape(len(rig.rest), 3, -1)[self.sheet]
        change = (expression - rig.source_expression)[:, self.swapped]
        mirrored = rig.rest[self.sheet] + torch.einsum("nie,be->bni", basis, change)
        return torch.cat([deformed[:, self.far], mirrored * mirrored.new_tensor([-1.0, 1.0, 1.0])], 1)

    def gain(self, rig: Rig, light: Tensor, normals: Tensor) -> Tensor:
        """Brightness factor [B, K + S]: the near skin's light is taken off, the far skin's put on.

        Args:
            rig: the source's rig.
            light: see `lighting.fit_light`.
            normals: [B, P, 3] of the patch under the driver's pose, camera space.
        """
        face = shading_ratio(light, rig.source_normals[self.near], normals[:, self.far])
        return torch.cat([face, face.mean(1, keepdim=True).expand(-1, len(self.sheet))], 1)


def build_far_side(model: OpenHead, rig: Rig, view: SourceView, person: Tensor, names: tuple[str, ...]) -> FarSide:
    """Mirrors the near side of one source.

    Args:
        model: the head model that the source was tracked with.
        rig: the source's rig.
        view: its camera.
        person: [H, W, 4] premultiplied canvas.
        names: [E] names of the expressions.

    Raises:
        InputError: the source shows its head from the side.
    """
    yaw = float(_yaw_degrees(rig.source_rotation[None]))
    if abs(yaw) > MOST_YAW_DEGREES:
        raise InputError(
            f"expected a head turned at most {MOST_YAW_DEGREES:.0f}° to the side, got {abs(yaw):.0f}°: half of the "
            "face is hidden, use a photo from further in front"
        )
    if abs(yaw) < _LEAST_YAW_DEGREES:
        return FarSide.empty(len(names))
    screen = view.to_canvas(rig.rest)
    depth = rasterize(screen, rig.faces, height=person.shape[0], width=person.shape[1]).depth
    far_side = -1.0 if yaw < 0 else 1.0  # of the head's x axis, which points to the subject's left
    patch = _Half.of_patch(model, rig, view, depth, far_side)
    sheet = _mirrored_sheet(rig, view, depth, person[..., 3], far_side)
    far = patch.far
    number = torch.full((len(rig.rest),), -1, dtype=torch.long)
    number[sheet.points] = torch.arange(len(sheet.points)) + len(far)
    faces = torch.cat([patch.faces, number[sheet.faces].flip(1)])
    weight = torch.cat([patch.weight, sheet.weight])
    uv = torch.cat([rig.uv[patch.near], rig.uv[sheet.points]])
    mask = _paint(uv, faces, weight, person.shape[0])
    colour = _colour_factor(person, rig, patch)
    texture = person * mask[..., None]
    texture[..., :3] *= colour
    return FarSide(far, patch.near, sheet.points, faces, _swapped(names), texture)


@dataclass(frozen=True)
class _Half:
    """Far points of the patch and their mirror images [K], triangles [F, 3] in their numbers, weight [K] in [0, 1]."""

    far: Tensor
    near: Tensor
    faces: Tensor
    weight: Tensor

    @classmethod
    def of_patch(cls, model: OpenHead, rig: Rig, view: SourceView, depth: Tensor, far_side: float) -> _Half:
        patch, renumber = rig.patch_vertices, torch.full((len(model.template),), -1, dtype=torch.long)
        renumber[patch] = torch.arange(len(patch))
        image = renumber[model.mirror[patch]]
        all_faces = renumber[patch_faces(model)]
        neutral = model.template[patch, 0] * far_side
        chosen = (neutral > -0.004) & (image >= 0)
        faces = all_faces[chosen[all_faces].all(1)]
        far, compact = torch.unique(faces, return_inverse=True)
        near = image[far]
        normals = smooth_normals(rig.rest[None, : rig.num_patch], all_faces)[0] @ view.rotation.T
        towards = -torch.nn.functional.normalize(view.to_camera(rig.rest[: rig.num_patch]), dim=-1)
        facing = (normals * towards).sum(-1)
        seen = facing[far] * (~_hidden(view.to_canvas(rig.rest[far]), depth)).float()
        weight = ((_SEEN_WELL - seen) / (_SEEN_WELL - _SEEN_BADLY)).clamp(0, 1)
        weight = weight * ((facing[near] - seen - 0.1) / 0.2).clamp(0, 1) * (neutral[far] / 0.008).clamp(0, 1)
        return cls(far, near, compact, _smoothed(weight, compact, 3))


@dataclass(frozen=True)
class _MirroredSheet:
    """Numbers of the rig's points [S], triangles [F, 3] in the rig's numbers, weight [S] in [0, 1]."""

    points: Tensor
    faces: Tensor
    weight: Tensor


def _mirrored_sheet(rig: Rig, view: SourceView, depth: Tensor, alpha: Tensor, far_side: float) -> _MirroredSheet:
    faces = rig.faces[len(rig.patch_faces) :]
    near = (rig.rest[:, 0] * far_side < -0.01) & (rig.head_weight > _FOLLOWS_HEAD[0])
    faces = faces[near[faces].all(1)]
    points, compact = torch.unique(faces, return_inverse=True)
    screen = view.to_canvas(rig.rest[points] * rig.rest.new_tensor([-1.0, 1.0, 1.0]))
    column, row = (screen[:, axis].long().clamp(0, len(alpha) - 1) for axis in (0, 1))
    hidden = _hidden(screen, depth) | (alpha[row, column] < 0.5)
    low, high = _FOLLOWS_HEAD
    follows = ((rig.head_weight[points] - low) / (high - low)).clamp(0, 1)
    chin = rig.rest[: rig.num_patch, 1].min()
    weight = _smoothed(hidden.float(), compact, 2) * follows * ((rig.rest[points, 1] - chin) / _ABOVE_CHIN).clamp(0, 1)
    return _MirroredSheet(points, faces, weight)


def _hidden(screen: Tensor, depth: Tensor) -> Tensor:
    """Which points [N, 3] on the canvas lie behind the nearest surface, `depth` [H, W] metres."""
    column, row = (screen[:, axis].long().clamp(0, len(depth) - 1) for axis in (0, 1))
    return screen[:, 2] > depth[row, column] + _HIDDEN_BEHIND


def _smoothed(values: Tensor, faces: Tensor, rounds: int) -> Tensor:
    """Values [N] averaged over the triangles around each point, so that no single point stands out."""
    for _ in range(rounds):
        total, count = torch.zeros_like(values), torch.zeros_like(values)
        mean = values[faces].mean(1)
        for corner in range(3):
            total.index_add_(0, faces[:, corner], mean)
            count.index_add_(0, faces[:, corner], torch.ones_like(mean))
        values = torch.where(count > 0, total / count.clamp(min=1), values)
    return values


def _paint(uv: Tensor, faces: Tensor, weight: Tensor, side: int) -> Tensor:
    """Weights of points painted on the canvas, [side, side], a little softened."""
    flat = torch.cat([uv, torch.ones(len(uv), 1)], 1)
    mask = interpolate(rasterize(flat, faces, height=side, width=side), faces, weight[:, None])[..., 0]
    grown = cv2.dilate(mask.numpy(), np.ones((3, 3), np.uint8))  # no gap where surfaces meet
    return torch.from_numpy(cv2.GaussianBlur(grown, (0, 0), 2))


def _colour_factor(person: Tensor, rig: Rig, patch: _Half) -> Tensor:
    """Far colour over near colour [3] where both are seen, so that no seam is left; within 0.7 and 1.4."""
    both = (patch.weight > 0.02) & (patch.weight < 0.6)
    if int(both.sum()) < 12:
        return torch.ones(3)
    colours = []
    for points in (patch.far[both], patch.near[both]):
        column, row = rig.uv[points].long().clamp(0, len(person) - 1).T
        colours.append(person[row, column, :3].clamp(min=0.02))
    return (colours[0] / colours[1]).median(0).values.clamp(0.7, 1.4)


def _swapped(names: tuple[str, ...]) -> Tensor:
    """For each expression the number of that of the other side of the face, or its own."""
    other = {"Left": "Right", "Right": "Left", "-left-": "-right-", "-right-": "-left-"}
    images = []
    for name in names:
        for side, opposite in other.items():
            if side in name and name.replace(side, opposite) in names:
                images.append(names.index(name.replace(side, opposite)))
                break
        else:
            images.append(names.index(name))
    return torch.tensor(images)


def _yaw_degrees(rotation: Tensor) -> Tensor:
    """Yaw [B] of head rotations [B, 3], axis-angle."""
    return torch.as_tensor(matrix_to_euler_degrees(axis_angle_to_matrix(rotation))[0])
