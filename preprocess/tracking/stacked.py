"""Frames that were tracked one by one, as one motion."""

import dataclasses
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from preprocess.tracking.motion import Motion

_PER_CLIP = ("shape", "crop_matrix")
"""Arrays of a motion that have no axis of time."""


def stack_motions(motions: Sequence[Motion], *, frame_rate: Fraction | None = None) -> Motion:
    """Returns the frames of motions of one person and one crop, in order; what is of the clip is taken from the last.

    Args:
        motions: at least one.
        frame_rate: of the result, whose seconds then count from 0 at that rate; None keeps rate and seconds.
    """
    last = motions[-1]
    arrays = {
        item.name: np.concatenate([getattr(motion, item.name) for motion in motions])
        for item in dataclasses.fields(last)
        if isinstance(getattr(last, item.name), np.ndarray) and item.name not in _PER_CLIP
    }
    if frame_rate is not None:
        arrays["seconds"] = np.arange(len(arrays["seconds"])) / float(frame_rate)
    return dataclasses.replace(last, **arrays, **({} if frame_rate is None else {"frame_rate": frame_rate}))
