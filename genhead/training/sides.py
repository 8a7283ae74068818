"""Finds out whether pictures were mirrored and their cameras and heads were not."""

import cv2
import numpy as np
from numpy.typing import NDArray

from flame.errors import InputError
from genhead.training.heads import TrainingHeads
from portrait4d.headparts.head import PartHead
from portrait4d.headparts.masks import rasterise_masks
from preprocess.dataset.reading.balance import yaw_degrees

_MOST_PICTURES, _FEWEST_PICTURES = 24, 6
_YAW_DEGREES = 10.0
"""Heads turned less look the same in the mirror."""
_SIDE = 64
_MAJORITY = 0.75


def check_sides(heads: TrainingHeads, head: PartHead) -> None:
    """Compares the outlines of fitted heads, turned ones, with their masks and with the mirrored masks.

    A few pictures of the dataset are looked at; too few turned heads tell nothing.

    Raises:
        InputError: the mirrored masks agree better, in a clear majority.
    """
    turned = np.flatnonzero(np.abs(yaw_degrees(heads.table.label[: heads.num_own])) > _YAW_DEGREES)
    rows = turned[np.unique(np.linspace(0, len(turned) - 1, min(len(turned), _MOST_PICTURES)).astype(int))].tolist()
    if len(rows) < _FEWEST_PICTURES:
        return
    posed, camera = head.pose(heads.table.params(rows)), heads.table.camera(rows)
    outlines = rasterise_masks(head, posed, camera, size=_SIDE, mask_resolution=_SIDE).head_sharp[:, 0].numpy() > 0
    masks = np.stack([cv2.resize(heads[row].mask, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA) for row in rows]) > 127
    is_mirrored = _overlap(outlines, masks[:, :, ::-1]) > _overlap(outlines, masks)
    if is_mirrored.mean() >= _MAJORITY:
        raise InputError(
            f"{heads.where}: {is_mirrored.sum()} of {len(rows)} turned heads fit the mirror images of their pictures: "
            "pictures were mirrored without their cameras and heads. Mirror all, build the dataset of the mirrored "
            "photos again, or leave mirroring to data.mirror"
        )


def _overlap(outlines: NDArray[np.bool_], masks: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Share of each outline `[N, S, S]` that lies in the mask; hair and shoulders around it do not count."""
    return (outlines & masks).sum((1, 2)) / np.maximum(outlines.sum((1, 2)), 1)
