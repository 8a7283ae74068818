"""Renders frames of an avatar: the rig is deformed, posed before the camera, and drawn from back to front."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from flame.geometry.rotation import axis_angle_to_matrix
from portrait4d.engines.base import Drive, Rendering
from portrait4d.engines.lift.avatar import LiftAvatar
from portrait4d.engines.lift.draw import bounding_box, draw_surface, put_over, soften_edges
from portrait4d.engines.lift.following import crookedness
from portrait4d.engines.lift.lids import OVERLAP
from portrait4d.engines.lift.lighting import fold_ratio, shading_ratio
from portrait4d.engines.lift.mouth_draw import MouthFrame, draw_closing_lips, draw_mouth, draw_tongue_out, mouth_frames
from portrait4d.engines.lift.rig import smooth_normals
from portrait4d.engines.lift.tensor_fields import smoothstep
from portrait4d.engines.lift.view import project_points

SHUT_FROM, SHUT_AT = 0.42, 0.6
"""How far the driver's lids are closed, in [0, 1], when the avatar's begin to be shut fully, and when they are shut.

The tracker measures some opening in shut eyes, and a blink shape alone may leave a gap.
"""

WIDENS_FROM, WIDENED_AT = 1.05, 1.4
"""How far the lids are open, 1 as in the source, when the photo's eye gives way to the one without lashes."""


def draw_frames(avatar: LiftAvatar, drive: Drive, expression_names: tuple[str, ...]) -> Rendering:
    """Draws B frames of an avatar.

    Args:
        avatar: on the device of the drive.
        drive: B frames.
        expression_names: [E] names of the head model's expressions.

    Returns:
        Image [B, 3, S, S] in [-1, 1] and alpha [B, 1, S, S] in [0, 1].
    """
    rig = avatar.rig
    size = avatar.background.shape[0]
    expression = _shut_lids(avatar, drive, expression_names)
    points = rig.deform(expression, drive.residual)
    openness = _set_lids(avatar, points, expression, expression_names)
    crooked = crookedness(drive.head.expression - rig.source_expression, expression_names)
    screen = rig.project(rig.pose(points, drive.pose, crooked, drive.residual), size)
    rotation = axis_angle_to_matrix(drive.pose.rotation)
    gain, normals = _shading(avatar, points, rotation)

    def on_screen(rest: Tensor) -> Tensor:
        return project_points(rest @ rotation.mT + drive.pose.translation[:, None], rig.focal_px, size)

    layers = _Layers(
        screen=screen,
        gain=gain,
        mouth=mouth_frames(avatar, points, screen, gain, expression, expression_names, on_screen),
        eyes=[_place_eye(avatar, index, points, drive.head.eyes[:, index], on_screen) for index in range(2)],
        openness=openness,
        lashes=[
            on_screen(lid.lash_strip(points, openness[:, index]))
            for index, lid in enumerate((avatar.left_lid, avatar.right_lid))
        ],
        lid_strength=torch.stack(
            [avatar.left_lid.strength(openness[:, 0]), avatar.right_lid.strength(openness[:, 1])], 1
        ),
        far_strength=avatar.far_side.strength(rig, drive.pose.rotation),
        far=on_screen(avatar.far_side.points(rig, points, expression)),
        far_gain=avatar.far_side.gain(rig, avatar.light, normals),
    )
    picture = avatar.background.new_zeros(len(drive), size, size, 4)
    for index in range(len(drive)):
        _draw(avatar, layers, index, picture[index])
    image = picture[..., :3].mul(2).sub_(1).clamp_(-1, 1)  # a copy: three of four channels in place take longer
    return Rendering(image.permute(0, 3, 1, 2), picture.permute(0, 3, 1, 2)[:, 3:])


@dataclass(frozen=True)
class _Layers:
    """Everything to be drawn for a batch.

    `screen` and each of `lashes` are screen positions [B, V, 3] of a surface; `gain` [B, V] is a brightness factor,
    `eyes` the positions and the lids' shadow of each eye, `openness` [B, 2] that of the lids, 1 as in the source,
    `lid_strength` [B, 2] the share of the shut eyes' picture, `mouth` has B elements.
    `far` [B, K + S, 3], `far_gain` [B, K + S] and `far_strength` [B] are those of the mirrored side.
    """

    screen: Tensor
    gain: Tensor
    mouth: list[MouthFrame]
    eyes: list[tuple[Tensor, Tensor]]
    openness: Tensor
    lashes: list[Tensor]
    lid_strength: Tensor
    far_strength: Tensor
    far: Tensor
    far_gain: Tensor


def _shut_lids(avatar: LiftAvatar, drive: Drive, expression_names: tuple[str, ...]) -> Tensor:
    """Expressions [B, E] with the blinks raised until the lids meet on this face where the driver's are shut.

    The lid gap is linear in the blink coefficient, so the missing amount is the remaining gap over its slope.
    """
    rig = avatar.rig
    expression = drive.head.expression.clone()
    points = rig.deform_some(avatar.lids.flatten(), expression, drive.residual).unflatten(1, (2, 2))
    basis = rig.expression_basis.reshape(-1, 3, len(expression_names))
    for index, side in enumerate(("Left", "Right")):
        upper, lower = avatar.lids[index].tolist()
        column = expression_names.index(f"eyeBlink{side}")
        slope = basis[lower, 1, column] - basis[upper, 1, column]
        gap = points[:, index, 0, 1] - points[:, index, 1, 1]
        share = smoothstep((drive.eye_closed[:, index] - SHUT_FROM) / (SHUT_AT - SHUT_FROM))
        expression[:, column] += share * ((gap + OVERLAP) / slope.clamp(min=1e-4)).clamp(0, 1.5)
    return expression


def _set_lids(avatar: LiftAvatar, points: Tensor, expression: Tensor, expression_names: tuple[str, ...]) -> Tensor:
    """Sets the lid edges of `points` [B, V, 3], in place; returns how open the eyes are [B, 2], 1 as in the source."""
    columns = [expression_names.index(f"eyeBlink{side}") for side in ("Left", "Right")]
    blinks = (expression - avatar.rig.source_expression)[:, columns].unbind(1)
    patch = points[:, : avatar.rig.num_patch]
    gaps = points[:, avatar.lids[:, 0]] - points[:, avatar.lids[:, 1]]
    lids = (avatar.left_lid, avatar.right_lid)
    openness = [lid.openness(gaps[:, index]) for index, lid in enumerate(lids)]
    moved = [lid.set_edges(patch, *state) for lid, *state in zip(lids, openness, blinks, strict=True)]
    patch += moved[0] + moved[1]
    return torch.stack(openness, 1)


def _place_eye(
    avatar: LiftAvatar, index: int, points: Tensor, gaze: Tensor, on_screen: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Screen positions [B, V, 3] of one eye and the brightness [B, V] that the upper lid's shadow leaves it.

    Args:
        avatar: as in `draw_frames`.
        index: 0 for the subject's left eye.
        points: [B, V, 3] rig points, head frame, metres.
        gaze: [B, 3] the eyeball's rotation, axis-angle.
        on_screen: takes head-frame points to the screen.
    """
    eye, lid = ((avatar.left_eye, avatar.left_lid), (avatar.right_eye, avatar.right_lid))[index]
    upper, lower = avatar.lids[index]
    if len(lid.upper):
        highest = points[:, upper, 1].maximum(avatar.rig.rest[upper, 1])
        lowest = points[:, lower, 1].minimum(avatar.rig.rest[lower, 1])
        gaze = eye.within_lids(gaze, lowest, highest)
    turned = eye.turned(gaze)
    return on_screen(turned), eye.shadow(turned, points[:, lid.upper])


def _shading(avatar: LiftAvatar, points: Tensor, rotation: Tensor) -> tuple[Tensor, Tensor]:
    """Brightness factor [B, V] under a light that stays in place while the face turns and folds, and normals [B, P, 3].

    The sheet around the face keeps the photo's brightness. `rotation` is that of the head, [B, 3, 3].
    """
    rig = avatar.rig
    after = smooth_normals(points[:, : rig.num_patch], rig.patch_faces) @ rotation.mT
    turned = rig.source_normals @ (rotation @ axis_angle_to_matrix(rig.source_rotation).mT).mT
    folds = fold_ratio(avatar.light, turned, after, avatar.fold_shares)
    ratio = shading_ratio(avatar.light, rig.source_normals, turned) * folds
    gain = points.new_ones(points.shape[:2])
    gain[:, : rig.num_patch] += rig.light_weight * (ratio - 1)
    return gain, after


def _draw(avatar: LiftAvatar, layers: _Layers, index: int, target: Tensor) -> None:
    """Draws one frame into an empty target [S, S, 4]: colour in [0, 1] and alpha."""
    size = avatar.background.shape[0]
    target[..., :3] = avatar.background
    draw_mouth(avatar, layers.mouth[index], target)
    for side, eye in enumerate((avatar.left_eye, avatar.right_eye)):
        at, shadow = (values[index] for values in layers.eyes[side])
        _put(target, at, eye.faces, eye.uv, shadow / avatar.lid_shadows[side], avatar.under)
        widened = float(((layers.openness[index, side] - WIDENS_FROM) / (WIDENED_AT - WIDENS_FROM)).clamp(0, 1))
        if widened > 0:
            _put(target, at, eye.faces, eye.uv - eye.picture_at, shadow, eye.picture, strength=widened)
    rig, screen = avatar.rig, layers.screen[index]
    layer, depth = draw_surface(screen, rig.faces, rig.uv, layers.gain[index], avatar.person, box=(0, 0, size, size))
    if (strength := float(layers.far_strength[index])) > 0:
        far = avatar.far_side
        _put(layer, layers.far[index], far.faces, far.uv(rig), layers.far_gain[index], far.texture, strength=strength)
    for side, lid in enumerate((avatar.left_lid, avatar.right_lid)):
        strength = float(layers.lid_strength[index, side])
        if strength > 0:
            patch, gain = screen[: rig.num_patch], lid.gain * layers.gain[index, : rig.num_patch]
            _put(layer, patch, lid.faces, lid.shut_uv, gain, avatar.changed, strength=strength)
            lashes, (uv, faces) = layers.lashes[side][index], lid.lash_grid
            if len(faces):
                _put(layer, lashes, faces, uv, lashes.new_ones(len(uv)), lid.lashes, strength=strength)
    draw_closing_lips(avatar, layers.mouth[index], layer)
    draw_tongue_out(avatar, layers.mouth[index], layer)
    moved = (screen[: rig.num_patch, :2] - _source_screen(avatar)).abs().mean()
    put_over(target, soften_edges(layer, depth, float((2 * moved).clamp(0, 1))))


def _source_screen(avatar: LiftAvatar) -> Tensor:
    """Positions of patch points in the unmoved picture, [V, 2] crop pixels."""
    margin = (avatar.person.shape[0] - avatar.background.shape[0]) / 2
    return avatar.rig.uv[: avatar.rig.num_patch] - margin


def _put(
    target: Tensor,
    screen: Tensor,
    faces: Tensor,
    uv: Tensor,
    gain: Tensor,
    texture: Tensor,
    *,
    strength: float = 1.0,
) -> None:
    """Draws a surface over the picture, in place."""
    box = bounding_box(screen[faces.unique()], *target.shape[:2])  # lids are a few triangles of a whole face
    if box is None:
        return
    top, left, bottom, right = box
    layer, _ = draw_surface(screen, faces, uv, gain, texture, box=box)
    put_over(target[top:bottom, left:right], layer if strength == 1 else strength * layer)
