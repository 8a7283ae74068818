"""Draws the inside of the mouth, before the face is drawn over it, and the lips that close over it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from flame.mesh.raster import cover
from portrait4d.engines.lift.avatar import LiftAvatar
from portrait4d.engines.lift.draw import Box, blur, bounding_box, draw_surface, put_over, soften_edges
from portrait4d.engines.lift.mouth import CAVITY, LOWER_TEETH, TONGUE, UPPER_TEETH
from portrait4d.engines.lift.mouth_light import opening_light

SAME_FROM, SAME_TO = 0.001, 0.004
"""Change of the lip gap in metres from which the photo's own inside fades out, and at which it is gone."""

CLOSES_FROM, CLOSES_AT = 0.1, 0.7
"""Share of the photo's lip gap that is closed when the lips begin to lose what lay between them, and when they have."""

LEAST_GAP = 0.001
"""Lip gap in metres below which a photo's mouth counts as shut."""

TEETH_PART_AT = 0.12
"""`jawOpen` at which upper and lower teeth part; what is tracked below it is mostly the lips' doing."""

TONGUE_ON_LIP, TONGUE_OVER_LIP, TONGUE_HANGS = 0.004, 0.003, 0.8
"""Metres around the lower lip's edge where a tongue that is out lies, and above it; how steeply it hangs beyond."""

_AROUND = 12
"""Pixels around the lip opening in which its inside is drawn."""

TONGUE_OUT = 0.3
"""How far the tongue is out, in [0, 1], when it begins to lie over the lower teeth."""


@dataclass(frozen=True)
class MouthFrame:
    """The mouth in one frame.

    Attributes:
        interior: [V, 3] screen positions of the interior.
        own: [O, 3] screen positions of the photo's own inside.
        lips: [P, 3] screen positions of the patch points.
        gain: [P] brightness factors of the patch points.
        change: of the lip gap since the photo, metres.
        tongue_out: how far the tongue is out, in [0, 1].
    """

    interior: Tensor
    own: Tensor
    lips: Tensor
    gain: Tensor
    change: float
    tongue_out: float


def mouth_frames(
    avatar: LiftAvatar,
    points: Tensor,
    screen: Tensor,
    gain: Tensor,
    expression: Tensor,
    expression_names: tuple[str, ...],
    on_screen: Callable[[Tensor], Tensor],
) -> list[MouthFrame]:
    """The mouths of B frames.

    Args:
        avatar: the avatar.
        points: [B, V, 3] the rig's points in the head frame.
        screen: [B, V, 3] the same on the screen.
        gain: [B, V] brightness factors of the rig's points.
        expression: [B, E].
        expression_names: [E] names of the head model's expressions.
        on_screen: takes head-frame points [V, 3] or [B, V, 3] to the screen, [B, V, 3].
    """
    rig, own = avatar.rig, avatar.own_mouth
    moved = (points - rig.rest)[:, avatar.lips]
    change = moved[:, 0, 1] - moved[:, 1, 1]
    tongue_out = expression[:, expression_names.index("tongueOut")]
    inside = avatar.interior.deform(_with_slow_teeth(expression, expression_names))
    interior = on_screen(_hung_tongue(avatar, inside, points[:, avatar.lips[1]]) if tongue_out.any() else inside)
    mouth = on_screen(own.rest + own.with_jaw[:, None] * moved[:, 1:])
    patch = slice(0, rig.num_patch)
    rows = zip(interior, mouth, screen[:, patch], gain[:, patch], change.tolist(), tongue_out.tolist(), strict=True)
    return [MouthFrame(*row) for row in rows]


def _with_slow_teeth(expression: Tensor, expression_names: tuple[str, ...]) -> Tensor:
    """Expressions [B, E] for the inside of the mouth: lips part before teeth do."""
    jaw = expression_names.index("jawOpen")
    slowed = expression.clone()
    slowed[:, jaw] = (expression[:, jaw] - TEETH_PART_AT).clamp(min=0) / (1 - TEETH_PART_AT)
    return slowed


def _hung_tongue(avatar: LiftAvatar, inside: Tensor, lip: Tensor) -> Tensor:
    """Points [B, V, 3] of the interior whose tongue, where it is out, lies on the lower lip `lip` [B, 3] and hangs."""
    tongue = torch.unique(avatar.interior.faces_by_layer[TONGUE])
    if not len(tongue):
        return inside
    points = inside[:, tongue]
    out = points[..., 2] - lip[:, None, 2]
    on_lip = torch.where(out.abs() < TONGUE_ON_LIP, points[..., 1], -torch.inf).amax(1)
    is_out = torch.isfinite(on_lip)
    raised = torch.where(is_out, (lip[:, 1] + TONGUE_OVER_LIP - on_lip).clamp(min=0), torch.zeros_like(on_lip))
    points[..., 1] += raised[:, None] - TONGUE_HANGS * out.clamp(min=0)
    return inside.index_copy(1, tongue, points)


def draw_mouth(avatar: LiftAvatar, frame: MouthFrame, target: Tensor) -> None:
    """Draws the inside of the mouth into a picture [S, S, 4], in place.

    Cavity, tongue and teeth come first, in the light of the opening, then what the photo itself shows, while the lips
    are about as far apart as in the photo.
    """
    own = avatar.own_mouth
    is_shaded = len(own.opening_faces) > 0
    opening = frame.lips[own.opening_faces.flatten()] if is_shaded else frame.own
    box = bounding_box(opening, *target.shape[:2], pad=_AROUND if is_shaded else target.shape[0] // 8)
    if box is None:
        return
    top, left, bottom, right = box
    inside = _draw_interior(avatar, frame, box)
    if is_shaded:
        inside[..., :3] *= opening_light(_opening(avatar, frame, box), _pixels_per_metre(avatar, frame))
    put_over(target[top:bottom, left:right], inside)
    changed = min(max((abs(frame.change) - SAME_FROM) / (SAME_TO - SAME_FROM), 0.0), 1.0)
    ones = target.new_ones(len(own.uv))
    for texture, strength in ((avatar.changed, float(own.shows_teeth)), (avatar.under, 1 - changed)):
        if strength > 0:
            layer, _ = draw_surface(frame.own, own.faces, own.uv, ones, texture, box=box)
            put_over(target[top:bottom, left:right], strength * layer)


def draw_closing_lips(avatar: LiftAvatar, frame: MouthFrame, face: Tensor) -> None:
    """Draws lips without the photo's teeth over the face's layer [S, S, 4], in place, as far as they close."""
    rig, own = avatar.rig, avatar.own_mouth
    upper, lower = rig.rest[avatar.lips, 1].tolist()
    gap = upper - lower
    if gap < LEAST_GAP or not len(own.lip_faces):
        return
    share = min(max((-frame.change / gap - CLOSES_FROM) / (CLOSES_AT - CLOSES_FROM), 0.0), 1.0)
    box = bounding_box(frame.lips[own.lip_faces.flatten()], *face.shape[:2])
    if share == 0 or box is None:
        return
    top, left, bottom, right = box
    uv = rig.uv[: rig.num_patch]
    layer, _ = draw_surface(frame.lips, own.lip_faces, uv, frame.gain, avatar.changed, box=box)
    put_over(face[top:bottom, left:right], share * share * (3 - 2 * share) * layer)


def draw_tongue_out(avatar: LiftAvatar, frame: MouthFrame, face: Tensor) -> None:
    """Draws what of the tongue is out over the face's layer [S, S, 4], in place."""
    interior = avatar.interior
    faces = interior.faces_by_layer[TONGUE]
    if frame.tongue_out <= TONGUE_OUT or not len(faces):
        return
    box = bounding_box(frame.interior[faces.flatten()], *face.shape[:2])
    if box is None:
        return
    top, left, bottom, right = box
    layer, near = draw_surface(frame.interior, faces, interior.uv, interior.occlusion, interior.atlas, box=box)
    is_out = near < frame.lips[avatar.lips[1], 2] + TONGUE_ON_LIP
    put_over(face[top:bottom, left:right], blur(layer * is_out[..., None]))


def _draw_interior(avatar: LiftAvatar, frame: MouthFrame, box: Box) -> Tensor:
    """The unlit interior [h, w, 4] of a box, premultiplied."""
    interior = avatar.interior
    top, left, bottom, right = box
    target = interior.atlas.new_zeros(bottom - top, right - left, 4)
    order = [CAVITY, TONGUE, LOWER_TEETH, UPPER_TEETH]
    if frame.tongue_out > TONGUE_OUT:
        order = [CAVITY, LOWER_TEETH, TONGUE, UPPER_TEETH]
    for number in order:
        faces = interior.faces_by_layer[number]
        if len(faces):
            layer, depth = draw_surface(frame.interior, faces, interior.uv, interior.occlusion, interior.atlas, box=box)
            has_soft_edges = number in (LOWER_TEETH, UPPER_TEETH)  # by the opacity of their texture
            put_over(target, layer if has_soft_edges else soften_edges(layer, depth, 1.0, step=0.001))
    return target


def _opening(avatar: LiftAvatar, frame: MouthFrame, box: Box) -> Tensor:
    """Mask [h, w] of a box: 1 between the lips."""
    top, left, bottom, right = box
    shifted = frame.lips - frame.lips.new_tensor([left, top, 0])
    faces, height, width = avatar.own_mouth.opening_faces, bottom - top, right - left
    return cover(shifted, faces, height=height, width=width, cull_backfaces=True).to(shifted.dtype)


def _pixels_per_metre(avatar: LiftAvatar, frame: MouthFrame) -> float:
    return float(avatar.rig.focal_px / frame.lips[avatar.lips, 2].mean())
