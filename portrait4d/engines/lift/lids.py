"""Closed lids: skin without lashes, shown while an eye shuts.

An open eye shows its upper lid as a few rows of pixels with lashes in front. Stretched over the closing eye they
would become stripes, so a second texture holds the skin around the eye, continued over it, and the lash line is drawn
as a dark edge.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from flame.heads.head_model import HeadModel
from flame.landmarks.groups import LEFT_BROW, RIGHT_BROW
from portrait4d.engines.lift.canvas import fill
from portrait4d.engines.lift.eyes import LIDS, polygon_mask

BROWS = {"left": LEFT_BROW[:5] + LEFT_BROW[:4:-1], "right": RIGHT_BROW[:5] + RIGHT_BROW[:4:-1]}
"""Outline of a brow: the lower edge from outside to inside, the upper edge back."""

LASH_GAIN, LASH_WIDTH = 0.25, 0.005
"""Brightness factor at the upper lid's edge, and the distance in metres at which it reaches 1, that of skin."""

LID_WIDTH = 0.013
"""Distance from the lid edge, in metres, within which skin can be replaced."""

CLOSES_FROM, CLOSES_AT = 0.15, 0.6
"""Share of the source's lid gap that is closed when the lid texture begins to show, and when it is fully shown."""


@dataclass(frozen=True)
class Lid:
    """Both lids of one eye.

    Attributes:
        faces: [F, 3] of the rig's patch points.
        gain: [P] brightness factor of the rig's patch points.
        gap: [] the source's lid gap in metres.
    """

    faces: Tensor
    gain: Tensor
    gap: Tensor

    def to(self, device: torch.device | str) -> Lid:
        """The same lids on another device."""
        return Lid(self.faces.to(device), self.gain.to(device), self.gap.to(device))

    def strength(self, gap: Tensor) -> Tensor:
        """How far the lid texture replaces the photo, [B] in [0, 1], at lid gaps [B] in metres."""
        share = (1 - gap / self.gap.clamp(min=1e-4) - CLOSES_FROM) / (CLOSES_AT - CLOSES_FROM)
        share = share.clamp(0, 1)
        return share * share * (3 - 2 * share)


def build_lid(model: HeadModel, side: str, patch_vertices: Tensor, patch_faces: Tensor, gap: float) -> Lid:
    """Builds the lids of the subject's left or right eye.

    Args:
        model: the head model.
        side: "left" or "right".
        patch_vertices: [P] numbers of the patch points in the head model.
        patch_faces: [F, 3] in patch numbers.
        gap: the source's lid gap in metres.
    """
    edge = model.template[model.loops[f"eye_{side}_loop"]]
    corners = edge[[int(edge[:, 0].argmin()), int(edge[:, 0].argmax())]]
    along = ((edge[:, 0] - corners[0, 0]) / (corners[1, 0] - corners[0, 0]))[:, None]
    is_upper = edge[:, 1] > (corners[0] + along * (corners[1] - corners[0]))[:, 1]
    points = model.template[patch_vertices]
    is_lid = torch.cdist(points, edge).min(1).values < LID_WIDTH
    from_lashes = torch.cdist(points, edge[is_upper]).min(1).values
    gain = LASH_GAIN + (1 - LASH_GAIN) * (from_lashes / LASH_WIDTH).clamp(0, 1)
    return Lid(patch_faces[is_lid[patch_faces].all(1)], gain, torch.tensor(float(gap)))


def lid_texture(photo: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Skin over both eyes, premultiplied float32 [H, W, 4].

    It is solid over lids and lashes, fades into the skin around them, and never covers the brows.

    Args:
        photo: float32 [H, W, 3] in [0, 1].
        landmarks: [478, 2] canvas pixels.
    """
    side = photo.shape[0]
    hidden, alpha, brow = (np.zeros((side, side), np.float32) for _ in range(3))
    for name in ("left", "right"):
        lids = landmarks[list(LIDS[name])]
        width = float(np.ptp(lids[:, 0]))
        hidden = np.maximum(hidden, polygon_mask(lids, side, grow=max(3, 0.2 * width)))
        solid = polygon_mask(lids, side, grow=max(3, 0.23 * width))
        alpha = np.maximum(alpha, cv2.GaussianBlur(solid, (0, 0), max(1.0, 0.06 * width)))
        over = polygon_mask(landmarks[list(BROWS[name])], side, grow=max(2, 0.05 * width))
        brow = np.maximum(brow, cv2.GaussianBlur(over, (0, 0), max(1.0, 0.04 * width)))
    alpha = (alpha * (1 - brow))[..., None]
    around = (alpha[..., 0] > 0.02) & (hidden < 0.5)
    luminance = cv2.GaussianBlur(photo.mean(-1), (0, 0), 1.0)
    typical = np.median(luminance[around]) if around.any() else 0.5
    is_skin = np.clip((luminance / typical - 0.5) / 0.3, 0, 1)  # lashes are not lid skin
    skin = fill(photo, (1 - hidden) * (1 - brow) * is_skin)
    return np.concatenate([skin * alpha, alpha], -1).astype(np.float32)
