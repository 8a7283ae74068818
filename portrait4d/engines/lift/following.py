"""What follows the face, and how far: hair and ears follow the skull, shoulders the place of the neck.

The head's tracked pose is that of the face. A crooked grimace leaks into it as a turn that the skull does not make:
landmarks cannot tell them apart, but an outline that swings with every smirk is seen at once. The skull therefore makes
a small turn only in part, and the less, the more the expression became crooked. What is measured well is the place of
forehead, temples and bridge of the nose; the skull keeps it.

All of this is zero where nothing moves, and all but the torso fades out inside the face, which keeps the tracked pose.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from flame.geometry.rotation import axis_angle_to_matrix, matrix_to_axis_angle
from portrait4d.engines.lift.tensor_fields import smoothstep

SKULL_LANDMARKS = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 109, 67, 103, 54, 21, 162, 127, 234,
    168, 6, 197, 195, 33, 133, 362, 263, 151, 9, 8,
)  # fmt: skip
"""Forehead, temples, bridge of the nose and corners of the eyes."""

DOUBT_DEGREES, DOUBT_SIDEWAYS, DOUBT_DEPTH = (2.5, 14.0), (0.0008, 0.003), (0.06, 0.08)
"""Turn in degrees, and motions in metres, of which the skull makes half: always, and per unit of crookedness.

Measured on eight clips against the optical flow of hair, whose error falls from 0.95 to 0.51 of the hair's own motion.
"""

MOST_CROOKED = 0.5
"""Crookedness from which doubt grows no further."""

JAW_HEIGHT, BROW_HEIGHT = 0.085, 0.135
"""Heights above the neck in the head frame, metres, between which points pass from the face's pose to the skull's."""

THROAT = (0.0, 0.03, 0.03)
"""The point of the head frame, in metres, whose motion takes the shoulders along."""

TORSO_SHARE = (0.8, 0.4, 0.8)
TORSO_STAYS = (0.006, 0.006, 0.06)
"""Share of a large motion of the throat (x, y, z of the camera) that shoulders make, and the motion in metres of which
they make half of that share: a person who leans or walks takes the shoulders along, one who nods does not."""


def crookedness(expression_change: Tensor, names: tuple[str, ...]) -> Tensor:
    """How much more one side changed than the other [B, 1], of changes of expression [B, E]; a wink does not count."""
    left = [name for name in names if name.endswith("Left") and not name.startswith("eye")]
    pairs = [(names.index(name), names.index(name.removesuffix("Left") + "Right")) for name in left]
    first, second = torch.tensor(pairs, device=expression_change.device).T
    return (expression_change[:, first] - expression_change[:, second]).norm(dim=-1, keepdim=True) / math.sqrt(2)


def skull_shares(rest: Tensor, uv: Tensor, inside_face: Tensor) -> Tensor:
    """Share [V] of each point that follows the skull's pose rather than the face's, in [0, 1].

    Args:
        rest: [V, 3] points in the head frame, metres; those of the face patch come first.
        uv: [V, 2] where the photo shows them, in pixels.
        inside_face: [P] how far inside the face patch a patch point lies: 0 at its rim, 1 where only the face counts.
    """
    height = smoothstep((rest[:, 1] - JAW_HEIGHT) / (BROW_HEIGHT - JAW_HEIGHT))
    num_patch = len(inside_face)
    distance, nearest = torch.cdist(uv[num_patch:], uv[:num_patch]).min(1)
    covered = inside_face[nearest] * (1 - distance / 16).clamp(0, 1)
    return height * (1 - torch.cat([inside_face, covered]))


def skull_pose(
    rotation: Tensor,
    translation: Tensor,
    *,
    source_rotation: Tensor,
    source_translation: Tensor,
    centre: Tensor,
    crooked: Tensor,
    residual_change: Tensor,
) -> tuple[Tensor, Tensor]:
    """The pose of the skull: rotation matrices [B, 3, 3] and translations [B, 3] in camera space.

    Args:
        rotation: [B, 3] the tracked pose of the face, axis-angle.
        translation: [B, 3] the same, metres.
        source_rotation: [3] the source's.
        source_translation: [3] the same.
        centre: [3] middle of the skull's landmarks in the head frame, about which a part of the turn is left out.
        crooked: [B, 1], see `crookedness`.
        residual_change: [B, 478, 3] displacement of the landmarks from the source's, metres in the head frame.
    """
    turned, own = axis_angle_to_matrix(rotation), axis_angle_to_matrix(source_rotation)
    crooked = crooked.clamp(max=MOST_CROOKED)
    turn = _doubted(matrix_to_axis_angle(turned @ own.T), torch.deg2rad(_doubt(crooked, DOUBT_DEGREES)))
    kept = axis_angle_to_matrix(turn) @ own
    seen = centre + residual_change[:, list(SKULL_LANDMARKS)].mean(1)
    seen = torch.einsum("bij,bj->bi", turned, seen) + translation
    start = own @ centre + source_translation
    depth = start[2:] + _doubted(seen[:, 2:] - start[2:], _doubt(crooked, DOUBT_DEPTH))
    beside = start[:2] * (depth / start[2])  # where the start is seen at that depth
    sideways = beside + _doubted(seen[:, :2] * (depth / seen[:, 2:]) - beside, _doubt(crooked, DOUBT_SIDEWAYS))
    return kept, torch.cat([sideways, depth], 1) - kept @ centre


def _doubt(crooked: Tensor, limits: tuple[float, float]) -> Tensor:
    return limits[0] + limits[1] * crooked


def _doubted(motion: Tensor, doubt: Tensor) -> Tensor:
    """The part of motions [B, N] that is believed: half of one as long as `doubt` [B, 1], most of a longer one."""
    squared = motion.square().sum(-1, keepdim=True)
    return motion * (squared / (squared + doubt.square()).clamp(min=1e-20))


def torso_shift(throat_shift: Tensor) -> Tensor:
    """Displacement [B, 3] of the shoulders for one of the throat [B, 3], both in camera space, metres."""
    sideways = throat_shift[:, :2].square().sum(-1, keepdim=True).expand(-1, 2)
    squared = torch.cat([sideways, throat_shift[:, 2:].square()], -1)
    stays = throat_shift.new_tensor(TORSO_STAYS).square()
    return throat_shift * throat_shift.new_tensor(TORSO_SHARE) * squared / (squared + stays)
