"""Values between keyframes: curves through every key that never leave the range of the two keys beside them.

Piecewise cubic and monotone between keys, after F. N. Fritsch and J. Butland, "A Method for Constructing Local Monotone
Piecewise Cubic Interpolants", 1984, as scipy has it. Before the first key and after the last, values are held; curves
leave and reach them at rest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from flame.errors import InputError
from flame.heads.expression_names import ANGLES, GAZE, LOOKS, actions_of
from preprocess.tracking.edit import Values, checked_values
from preprocess.tracking.rest import RATES

Keyframes: TypeAlias = "Mapping[float, Mapping[str, Values]]"
"""Poses by name, at seconds."""

LONGEST_SECONDS = 3600.0
"""Of what is made of keyframes."""

_LOOKS = frozenset(name for grows, falls, _, _ in LOOKS for name in (grows, falls))


def values_between(seconds: Sequence[float], values: NDArray, moments: NDArray) -> NDArray[np.float64]:
    """The values `[T, C]` at moments `[T]`, of K keys `[K, C]` at increasing `seconds`.

    Where two keys beside each other are equal, so is everything between them. Not differentiable in `seconds`.
    """
    times = np.asarray(seconds, np.float64)
    held = np.concatenate([[times[0] - 1], times, [times[-1] + 1]])  # flat there, so the curve begins and ends at rest
    rows = np.concatenate([values[:1], values, values[-1:]]).astype(np.float64)
    return PchipInterpolator(held, rows)(np.clip(moments, held[0], held[-1]))


def edits_of_keyframes(
    keyframes: Keyframes, *, frame_rate: float | Fraction, duration_seconds: float | None
) -> tuple[dict[str, NDArray[np.float64]], int]:
    """What `Motion.edit` takes, by name, for the frames of a line of keyframes, and their number.

    The arguments are those of `Motion.from_keyframes`.

    Raises:
        InputError: there is no keyframe, a time is not within the duration, a name or value is wrong, or gaze and
            eyeLook actions are both named.
    """
    poses = {_checked_time(time): _plain_pose(pose) for time, pose in keyframes.items()}
    if not poses:
        raise InputError("expected at least one keyframe, {seconds: {name: value}}, got none")
    times = sorted(poses)
    num_frames = _num_frames(times[-1], float(frame_rate), duration_seconds)
    names = list(dict.fromkeys(name for time in times for name in poses[time]))
    if GAZE in names and _LOOKS & set(names):
        raise InputError("expected gaze or eyeLook actions, got both: they turn the same eyes")
    moments = np.arange(num_frames) / float(frame_rate)
    edits = {}
    for name in names:
        rest = np.zeros(2 if name == GAZE else 1)
        keys = np.stack([np.reshape(poses[time].get(name, rest), -1) for time in times])
        found = values_between(times, keys, moments)
        edits[name] = found if name == GAZE else found[:, 0]
    return edits, num_frames


def _checked_time(time: float) -> float:
    if isinstance(time, bool) or not isinstance(time, int | float) or not 0 <= time <= LONGEST_SECONDS:
        raise InputError(f"expected the seconds of a keyframe from 0 to {LONGEST_SECONDS:g}, got {time!r}")
    return float(time)


def _plain_pose(pose: Mapping[str, Values]) -> dict[str, NDArray[np.float64]]:
    """Each action under its ARKit name, so that names of several keyframes are the same."""
    plain = {}
    for name, value in pose.items():
        checked = checked_values(name, value, 1)[0].astype(np.float64)
        for action in (name,) if name == GAZE or name in ANGLES else actions_of(name):
            plain[action] = checked
    return plain


def _num_frames(last: float, rate: float, duration: float | None) -> int:
    if not RATES[0] <= rate <= RATES[1]:
        raise InputError(f"expected frames at a rate from {RATES[0]:g} to {RATES[1]:g} a second, got {rate}")
    if duration is None:
        return math.floor(last * rate + 1e-6) + 1
    if not last <= duration <= LONGEST_SECONDS:
        raise InputError(
            f"expected duration_seconds from the last keyframe, {last:g}, to {LONGEST_SECONDS:g}, got {duration}"
        )
    return max(1, round(duration * rate))
