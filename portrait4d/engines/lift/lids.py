"""Lids: how their edges meet, and where the picture of the shut eye lies on them.

The head model's blink was made for its own wide eyes: on another face the upper lid stops short of the lower one or
runs past it, and the edge between them becomes a zigzag. So while an eye shuts, the edge is set: the opening keeps the
shape it has in the source and only its height shrinks, until both edges lie on one line. The skin above follows as far
as the blink moves it, the lower lid rises a little.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from flame.heads.head_model import HeadModel
from portrait4d.engines.lift.eyes import flat_patch, interpolation
from portrait4d.engines.lift.rig import Rig
from portrait4d.engines.lift.tensor_fields import TensorFields, smoothstep
from portrait4d.engines.lift.view import SourceView

LID_WIDTH = 0.013
"""Distance from the lid edge, in metres, within which skin belongs to the lids."""

PAINTED_WIDTH = 0.024
"""Likewise for the triangles on which the picture of the shut eye is drawn, which fades out within them."""

RISE = 0.12
"""Share of the opening by which the lower lid rises until the eye is shut."""

SINKS = 1.12
"""How far lids sink for each share of their gap that the head model closes: it is behind people's."""

OVERLAP = 0.0008
"""Metres by which shut lids overlap, so that no line of eye is left between them."""

LASH_ROOTS = 0.2
"""How far the strip with the lashes reaches above the lid edge, in lengths of the lashes."""

EDGE_SET_AT = 0.3
"""Share of the source's lid gap that is closed when the edge follows the source's own shape alone."""

CLOSES_FROM, CLOSES_AT = 0.05, 0.4
"""Share of the source's lid gap that is closed when the shut eye's picture begins to show, and when it is all there."""


@dataclass(frozen=True)
class Lid(TensorFields):
    """Both lids of one eye; U points of the upper edge, from corner to corner, and W of the lower one.

    Attributes:
        faces: [F, 3] of the rig's patch points.
        gain: [P] brightness factor of the rig's patch points under the picture of the shut eye.
        gap: [] the source's lid gap in metres.
        shut_uv: [P, 2] where the patch points lie in the picture of the shut eye, canvas pixels.
        upper: [U] patch points of the upper edge.
        lower: [W] patch points of the lower edge.
        below: [U, W] weights that make of the lower edge the points below those of the upper edge.
        opening: [U, 3] from the lower to the upper edge in the source, metres, head frame.
        follow: [P, U] how far patch points go with those of the upper edge.
        rise: [P, U] by which share of the opening patch points of the lower lid rise.
        held: [P, 3] what the head model's blink would do to the lower lid and the corners, metres per unit.
        lash_length: [] metres of the lashes of a shut eye.
        lashes: [h, w, 4] premultiplied, the upper lashes of the shut eye hanging from its edge, see `shut_eyes`.
    """

    faces: Tensor
    gain: Tensor
    gap: Tensor
    shut_uv: Tensor
    upper: Tensor
    lower: Tensor
    below: Tensor
    opening: Tensor
    follow: Tensor
    rise: Tensor
    held: Tensor
    lash_length: Tensor
    lashes: Tensor

    def openness(self, gap: Tensor) -> Tensor:
        """Lid gaps [B, 3] in metres, from the lower to the upper lid, as shares [B] of the source's, at least 0."""
        share = gap.norm(dim=-1) * (gap[:, 1] > 0) / self.gap.clamp(min=1e-4)
        return torch.where(share < 1, 1 - SINKS * (1 - share), share).clamp(min=0)

    def strength(self, openness: Tensor) -> Tensor:
        """How far the picture of the shut eye replaces the photo, [B] in [0, 1]."""
        return smoothstep((1 - openness - CLOSES_FROM) / (CLOSES_AT - CLOSES_FROM))

    def set_edges(self, points: Tensor, openness: Tensor, blink: Tensor) -> Tensor:
        """What to add to patch points [B, P, 3], head frame, so that the edges lie as they should; none from 1 up.

        Args:
            points: as the expression moved them.
            openness: [B] see `openness`.
            blink: [B] how far the expression's blink exceeds the source's.
        """
        closed = (1 - openness).clamp(0, 1)[:, None, None]
        share = smoothstep(closed / EDGE_SET_AT)
        held = share * blink[:, None, None] * self.held
        height = self.opening[:, 1].abs()
        wanted = self.below @ (points - held)[:, self.lower] + (1 - (1 - RISE) * closed) * self.opening
        overlap = OVERLAP * closed[..., 0]
        wanted[..., 2] += overlap
        wanted[..., 1] -= overlap * height / (height.sum() / max(len(height), 1)).clamp(min=1e-6)
        moved = share * (wanted - points[:, self.upper])
        return self.follow @ moved + self.rise @ (closed * self.opening) - held

    def lash_strip(self, points: Tensor, openness: Tensor) -> Tensor:
        """The lashes [B, 2 U, 3] at patch points [B, P, 3], head frame: a strip that hangs from the upper edge."""
        edge = points[:, self.upper]
        down = torch.zeros_like(edge)
        down[..., 1] = -self.lash_length
        hanging = (1 - openness).clamp(0, 1)[:, None, None]
        return torch.cat([edge - LASH_ROOTS * down, edge + hanging * down], 1)

    @cached_property
    def lash_grid(self) -> tuple[Tensor, Tensor]:
        """Texture positions [2 U, 2] of the strip in pixels of `lashes`, and its faces [F, 3]."""
        height, width = self.lashes.shape[:2]
        uv, faces = flat_patch(np.zeros(2), np.array([width, height]), rows=2, columns=max(len(self.upper), 1))
        return uv.to(self.lashes), faces.to(self.lashes.device)


def build_lid(model: HeadModel, side: str, rig: Rig, view: SourceView, gap: float) -> Lid:
    """Builds the lids of the subject's left or right eye.

    Args:
        model: the head model.
        side: "left" or "right".
        rig: the bound source.
        view: its camera.
        gap: the source's lid gap in metres.
    """
    points = model.template[rig.patch_vertices]
    numbers = torch.full((len(model.template),), -1, dtype=torch.long)
    numbers[rig.patch_vertices] = torch.arange(rig.num_patch)
    loop = numbers[model.loops[f"eye_{side}_loop"]]
    loop = loop[loop >= 0]
    loop = loop[points[loop, 0].argsort()]
    corners = points[loop[[0, -1]]]
    slope = (corners[1, 1] - corners[0, 1]) / (corners[1, 0] - corners[0, 0])
    is_upper = points[:, 1] > corners[0, 1] + slope * (points[:, 0] - corners[0, 0])
    is_corner = (loop == loop[0]) | (loop == loop[-1])
    upper, lower = loop[is_upper[loop] | is_corner], loop[~is_upper[loop] | is_corner]
    below = interpolation(points[upper, 0], points[lower, 0])
    distance = torch.cdist(points, points[loop]).min(1).values
    is_lid, is_painted = distance < LID_WIDTH, distance < PAINTED_WIDTH
    at = interpolation(points[:, 0], points[upper, 0])
    blink = model.expression_basis[rig.patch_vertices, :, model.expression_names.index(f"eyeBlink{side.title()}")]
    reach = blink.norm(dim=-1)
    with_edge = (reach / (at @ reach[upper]).clamp(min=1e-4)).clamp(0, 1) * (is_lid & is_upper)
    with_edge[upper] = 1
    with_edge[loop[[0, -1]]] = 1
    near = smoothstep(1 - distance / LID_WIDTH)
    rises = near * ~is_upper
    rises[loop[[0, -1]]] = 0
    gain = torch.ones(rig.num_patch)
    edges = {
        "upper": upper,
        "lower": lower,
        "below": below,
        "opening": rig.rest[upper] - below @ rig.rest[lower],
        "follow": with_edge[:, None] * at,
        "rise": RISE * rises[:, None] * at,
        "held": blink * (near * ~is_upper)[:, None],
    }
    lid = Lid(
        faces=rig.patch_faces[is_painted[rig.patch_faces].all(1)],
        gain=gain,
        gap=torch.tensor(float(gap)),
        **{**plain_lid(rig.uv, gain), **edges},
    )
    rest = rig.rest[None, : rig.num_patch]
    shut = rest + lid.set_edges(rest, torch.zeros(1), torch.zeros(1))
    return replace(lid, shut_uv=view.to_canvas(shut[0])[:, :2].contiguous())


def plain_lid(uv: Tensor, gain: Tensor) -> dict[str, Tensor]:
    """The arrays of a lid that shuts by the head model's blink alone, over a picture of the open eye: as it once was.

    Args:
        uv: [V, 2] that of the rig.
        gain: [P] that of the lid.
    """
    points = len(gain)
    return {
        "shut_uv": uv[:points],
        "upper": torch.zeros(0, dtype=torch.long),
        "lower": torch.zeros(0, dtype=torch.long),
        "below": torch.zeros(0, 0),
        "opening": torch.zeros(0, 3),
        "follow": torch.zeros(points, 0),
        "rise": torch.zeros(points, 0),
        "held": torch.zeros(points, 3),
        "lash_length": torch.tensor(0.0),
        "lashes": torch.zeros(1, 1, 4),
    }
