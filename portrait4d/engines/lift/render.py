"""Renders frames of an avatar: the rig is deformed, posed before the camera, and drawn from back to front."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from flame.geometry.rotation import axis_angle_to_matrix
from portrait4d.engines.base import Drive, Rendering
from portrait4d.engines.lift.avatar import LiftAvatar
from portrait4d.engines.lift.draw import blur, bounding_box, draw_surface, put_over, soften_edges
from portrait4d.engines.lift.lighting import shading_ratio
from portrait4d.engines.lift.rig import smooth_normals
from portrait4d.engines.lift.view import project_points

SHUT_FROM, SHUT_AT = 0.42, 0.6
"""How far the driver's lids are closed, in [0, 1], when the avatar's begin to be shut fully, and when they are shut.

The tracker measures some opening in shut eyes, and a blink shape alone may leave a gap.
"""

LID_OVERLAP = 0.0008
"""Metres by which shut lids overlap, so that no line of eye is left between them."""

WIDE_OPENING = 0.014
"""Lip gap in metres at which the inside of the mouth is fully lit."""


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
    screen = rig.project(rig.pose(points, drive.pose.rotation, drive.pose.translation), size)
    gain = _shading(avatar, points, drive.pose.rotation)
    rotation = axis_angle_to_matrix(drive.pose.rotation)

    def on_screen(rest: Tensor) -> Tensor:
        return project_points(rest @ rotation.mT + drive.pose.translation[:, None], rig.focal_px, size)

    gap = avatar.own_mouth.opening + (points - rig.rest)[:, avatar.lips, 1] @ points.new_tensor([1.0, -1.0])
    lid_gaps = (points[:, avatar.lids[:, 0]] - points[:, avatar.lids[:, 1]]).norm(dim=-1)
    jaw = points[:, avatar.lips[1]] - rig.rest[avatar.lips[1]]
    mouth = avatar.own_mouth.rest + avatar.own_mouth.with_jaw[:, None] * jaw[:, None]
    layers = _Layers(
        screen=screen,
        gain=gain,
        interior=on_screen(avatar.interior.deform(expression)),
        mouth=on_screen(mouth),
        eyes=[
            on_screen(avatar.left_eye.turned(drive.head.eyes[:, 0])),
            on_screen(avatar.right_eye.turned(drive.head.eyes[:, 1])),
        ],
        gap=gap,
        lid_strength=torch.stack(
            [avatar.left_lid.strength(lid_gaps[:, 0]), avatar.right_lid.strength(lid_gaps[:, 1])], 1
        ),
    )
    picture = avatar.background.new_zeros(len(drive), size, size, 4)
    for index in range(len(drive)):
        _draw(avatar, layers, index, picture[index])
    image = picture[..., :3].mul(2).sub_(1).clamp_(-1, 1)  # a copy: three of four channels in place take longer
    return Rendering(image.permute(0, 3, 1, 2), picture.permute(0, 3, 1, 2)[:, 3:])


@dataclass(frozen=True)
class _Layers:
    """Everything to be drawn for a batch.

    `screen`, `interior`, `mouth` and each of `eyes` are screen positions [B, V, 3] of a surface; `gain` [B, V] is a
    brightness factor, `gap` [B] that of the lips in metres, `lid_strength` [B, 2] the share of the lid textures.
    """

    screen: Tensor
    gain: Tensor
    interior: Tensor
    mouth: Tensor
    eyes: list[Tensor]
    gap: Tensor
    lid_strength: Tensor


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
        share = ((drive.eye_closed[:, index] - SHUT_FROM) / (SHUT_AT - SHUT_FROM)).clamp(0, 1)
        share = share * share * (3 - 2 * share)
        expression[:, column] += share * ((gap + LID_OVERLAP) / slope.clamp(min=1e-4)).clamp(0, 1.5)
    return expression


def _shading(avatar: LiftAvatar, points: Tensor, rotation: Tensor) -> Tensor:
    """Brightness factor [B, V] under a light that stays in place while the face turns and folds.

    The sheet around the face keeps the photo's brightness.
    """
    rig = avatar.rig
    after = smooth_normals(points[:, : rig.num_patch], rig.patch_faces) @ axis_angle_to_matrix(rotation).mT
    gain = points.new_ones(points.shape[:2])
    gain[:, : rig.num_patch] += rig.light_weight * (shading_ratio(avatar.light, rig.source_normals, after) - 1)
    return gain


def _draw(avatar: LiftAvatar, layers: _Layers, index: int, target: Tensor) -> None:
    """Draws one frame into an empty target [S, S, 4]: colour in [0, 1] and alpha."""
    size = avatar.background.shape[0]
    target[..., :3] = avatar.background
    _draw_mouth(avatar, layers, index, target)
    for eye, screen in zip((avatar.left_eye, avatar.right_eye), layers.eyes, strict=True):
        _put(target, screen[index], eye.faces, eye.uv, screen.new_ones(screen.shape[1]), avatar.under)
    rig, screen = avatar.rig, layers.screen[index]
    layer, depth = draw_surface(screen, rig.faces, rig.uv, layers.gain[index], avatar.person, box=(0, 0, size, size))
    for side, lid in enumerate((avatar.left_lid, avatar.right_lid)):
        strength = float(layers.lid_strength[index, side])
        if strength > 0:
            patch = screen[: rig.num_patch]
            _put(
                layer,
                patch,
                lid.faces,
                rig.uv[: rig.num_patch],
                lid.gain,
                avatar.changed,
                strength=strength,
                is_blurred=True,
            )
    moved = (screen[: rig.num_patch, :2] - _source_screen(avatar)).abs().mean()
    put_over(target, soften_edges(layer, depth, float((2 * moved).clamp(0, 1))))


def _source_screen(avatar: LiftAvatar) -> Tensor:
    """Positions of patch points in the unmoved picture, [V, 2] crop pixels."""
    margin = (avatar.person.shape[0] - avatar.background.shape[0]) / 2
    return avatar.rig.uv[: avatar.rig.num_patch] - margin


def _draw_mouth(avatar: LiftAvatar, layers: _Layers, index: int, target: Tensor) -> None:
    """Draws the mouth from back to front.

    Teeth, tongue and cavity come first, then the photo's own teeth if they show, then its whole mouth until it opens
    further.
    """
    interior, own = avatar.interior, avatar.own_mouth
    light = 0.55 + 0.45 * (layers.gap[index] / WIDE_OPENING).clamp(0, 1)
    box = bounding_box(layers.mouth[index], *target.shape[:2], pad=target.shape[0] // 8)
    if box is None:
        return
    top, left, bottom, right = box
    gain = interior.occlusion * light
    layer, depth = draw_surface(layers.interior[index], interior.faces, interior.uv, gain, interior.atlas, box=box)
    put_over(target[top:bottom, left:right], soften_edges(layer, depth, 1.0, step=0.001))
    opened = float(((layers.gap[index] - own.opening - 0.001) / 0.003).clamp(0, 1))
    ones = target.new_ones(len(own.uv))
    for texture, strength in ((avatar.changed, float(own.shows_teeth)), (avatar.under, 1 - opened)):
        if strength > 0:
            _put(target, layers.mouth[index], own.faces, own.uv, ones, texture, strength=strength)


def _put(
    target: Tensor,
    screen: Tensor,
    faces: Tensor,
    uv: Tensor,
    gain: Tensor,
    texture: Tensor,
    *,
    strength: float = 1.0,
    is_blurred: bool = False,
) -> None:
    """Draws a surface over the picture, in place."""
    box = bounding_box(screen[faces.unique()], *target.shape[:2])  # lids are a few triangles of a whole face
    if box is None:
        return
    top, left, bottom, right = box
    layer, _ = draw_surface(screen, faces, uv, gain, texture, box=box)
    layer = blur(layer) if is_blurred else layer
    put_over(target[top:bottom, left:right], layer if strength == 1 else strength * layer)
