"""Closed lids: skin without lashes, shown while an eye shuts.

An open eye shows its upper lid as a few rows of pixels with lashes in front. Stretched over the closing eye they
would become stripes, so a second texture
holds the skin around the eye continued over it, and the lash line is drawn as a dark edge.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from flame.head_model import HeadModel
from portrait4d.lift.canvas import fill
from portrait4d.lift.eyes import polygon_mask

LASH_GAIN, LASH_WIDTH = 0.4, 0.003
"""Brightness at the lid edge, and the distance in metres at which it is that of skin."""

LID_WIDTH = 0.013
"""Skin within this distance of the lid edge, metres, can be replaced."""

CLOSES_FROM, CLOSES_AT = 0.15, 0.6
"""Share of the source's lid gap that has gone when the lid texture begins to show, and when it has replaced the
photo."""


@dataclass(frozen=True)
class Lid:
    """Both lids of one eye. `faces` [F, 3] and `gain` [P] refer to the rig's patch points; `gap` the source's lid gap
    in metres."""

    faces: Tensor
    gain: Tensor
    gap: Tensor

    def to(self, device: torch.device | str) -> Lid:
        """The same lids on another device."""
        return Lid(self.faces.to(device), self.gain.to(device), self.gap.to(device))

    def strength(self, gap: Tensor) -> Tensor:
        """How far the lid texture replaces the photo [B] at lid gaps [B] in metres."""
        share = (1 - gap / self.gap.clamp(min=1e-4) - CLOSES_FROM) / (CLOSES_AT - CLOSES_FROM)
        share = share.clamp(0, 1)
        return share * share * (3 - 2 * share)


def build_lid(model: HeadModel, side: str, patch_vertices: Tensor, patch_faces: Tensor, gap: float) -> Lid:
    """Lids of the subject's left or right eye.

    Args:
        model: the head model.
        side: left or right.
        patch_vertices: [P] numbers of the patch points in the head model.
        patch_faces: [F, 3] in patch numbers.
        gap: of the source, metres.
    """
    edge = model.template[model.loops[f"eye_{side}_loop"]]
    distance = torch.cdist(model.template[patch_vertices], edge).min(1).values
    is_lid = distance < LID_WIDTH
    gain = LASH_GAIN + (1 - LASH_GAIN) * (distance / LASH_WIDTH).clamp(0, 1)
    return Lid(patch_faces[is_lid[patch_faces].all(1)], gain, torch.tensor(float(gap)))


def lid_texture(photo: np.ndarray, eyes: list[np.ndarray]) -> np.ndarray:
    """Skin over both eyes, premultiplied float32 [H, W, 4]: solid over the lids, fading into the skin around them.

    Args:
        photo: float32 [H, W, 3].
        eyes: lid edges [16, 2] in canvas pixels.
    """
    side = photo.shape[0]
    hidden = np.zeros((side, side), np.float32)
    alpha = np.zeros((side, side), np.float32)
    for lids in eyes:
        width = float(np.ptp(lids[:, 0]))
        hidden = np.maximum(hidden, polygon_mask(lids, side, grow=max(3, 0.15 * width)))
        solid = polygon_mask(lids, side, grow=max(4, 0.2 * width))
        alpha = np.maximum(alpha, cv2.GaussianBlur(solid, (0, 0), max(1.0, 0.08 * width)))
    around = (alpha > 0.02) & (hidden < 0.5)
    luminance = photo.mean(-1)
    bright = luminance > 0.85 * np.median(luminance[around]) if around.any() else np.ones_like(around)
    skin = fill(photo, (hidden < 0.5) & bright)  # brows and lashes are no lid skin
    return np.concatenate([skin * alpha[..., None], alpha[..., None]], -1).astype(np.float32)
