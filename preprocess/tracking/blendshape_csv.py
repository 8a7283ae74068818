"""Tables of blendshapes: CSV files of the Live Link Face app, of MediaPipe's names, and of this program.

A first row names the columns; capitals and underscores do not matter. Columns are the 52 ARKit names (those that lack
are 0), and one that tells the time: `seconds`, `timestamp_ms`, `frame`, or the app's `Timecode`. `yaw_degrees`,
`pitch_degrees` and `roll_degrees` turn the head.
"""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from flame.errors import InputError, printable
from flame.heads.expression_names import ANGLES, ARKIT_NAMES, actions_of
from preprocess.files.atomic import atomic_path
from preprocess.tracking.edit import arkit_of, values_of
from preprocess.tracking.motion_fields import MotionFields

Layout = Literal["plain", "live-link-face"]

DEFAULT_RATE = Fraction(30)
"""Frames per second where a table tells no time."""

APP_RATE = 60
"""Frames per second that the Live Link Face app records by default; taken where time codes span less than a second."""

SLOWEST, FASTEST = 1, 240
"""Frames per second that the times of a table may mean."""

MOST_BYTES = 500_000_000
"""Largest table that is read: more than an hour."""

HEAD_NOT_READ = (
    "the head's rotation was not read: its columns HeadYaw, HeadPitch and HeadRoll have no fixed sign and unit; add "
    "yaw_degrees, pitch_degrees and roll_degrees, or edit the motion"
)

_COUNT = "BlendshapeCount"
_HEAD = ("HeadYaw", "HeadPitch", "HeadRoll")
_EYES = tuple(f"{side}Eye{angle}" for side in ("Left", "Right") for angle in ("Yaw", "Pitch", "Roll"))
_TIMES = ("seconds", "timestampms", "frame", "timecode")
_UNUSED = {"neutral", "blendshapecount", *(name.lower() for name in (*_HEAD, *_EYES))}
_TIMECODE = re.compile(r"(\d+):(\d+):(\d+):(\d+(?:\.\d+)?)")


@dataclass(frozen=True)
class Blendshapes:
    """What a table holds.

    Attributes:
        weights: the columns by ARKit name, `[T]` from 0 to 1.
        frame_rate: frames per second: that of the times, or `DEFAULT_RATE`.
        pose: `yaw_degrees`, `pitch_degrees`, `roll_degrees` where they are given, `[T]`.
        warnings: what was not read.
    """

    weights: dict[str, NDArray[np.float64]]
    frame_rate: Fraction
    pose: dict[str, NDArray[np.float64]]
    warnings: tuple[str, ...]


def read_blendshapes(path: Path) -> Blendshapes:
    """Reads a table.

    Raises:
        InputError: it is no such table, a column is unknown, or a number cannot be read.
    """
    names, rows = _rows(path)
    if not set(names) & _PLAIN_NAMES:
        raise InputError(
            f"expected columns with the names of blendshapes, such as jawOpen, in {path.name}, got "
            f"{printable(', '.join(names[:5]))}: give a CSV of Live Link Face or of MediaPipe's blendshapes"
        )
    columns = {name: [row[index] for row in rows] for index, name in enumerate(names)}
    weights, pose, warnings, seconds = {}, {}, [], None
    for name, texts in columns.items():
        if name in _TIMES:
            seconds = _seconds(name, texts, path) if seconds is None else seconds
        elif name in _PLAIN_ANGLES:
            pose[_PLAIN_ANGLES[name]] = _numbers(name, texts, path)
        elif name not in _UNUSED:
            (action,) = _action(name, path)
            values = _numbers(name, texts, path)
            weights[action] = values.clip(0, 1)
            warnings += _cut(action, values, path)
    has_turned_head = any(
        _numbers(name, columns[name], path).any() for name in map(str.lower, _HEAD) if name in columns
    )
    if has_turned_head and not pose:
        warnings.append(HEAD_NOT_READ)
    return Blendshapes(weights, _rate(seconds, path), pose, tuple(warnings))


def write_blendshapes(path: Path, motion: MotionFields, *, layout: Layout = "plain") -> None:
    """Writes the 52 expressions of a motion; see `Motion.save`.

    Raises:
        InputError: there is no such layout, or the motion's head model has no such expressions.
    """
    weights = np.stack(list(arkit_of(motion).values()), 1)
    if layout == "plain":
        header = ["seconds", *ARKIT_NAMES, *ANGLES]
        angles = np.stack([values_of(motion, name) for name in ANGLES], 1)
        times = [f"{moment:.6f}" for moment in motion.seconds]
        rows = [[time, *_texts(row)] for time, row in zip(times, np.concatenate([weights, angles], 1), strict=True)]
    elif layout == "live-link-face":
        header = ["Timecode", _COUNT, *(_capital(name) for name in _APP_ORDER), *_HEAD, *_EYES]
        order = [ARKIT_NAMES.index(name) for name in _APP_ORDER]
        turns = np.concatenate([np.zeros((len(motion), 3)), _eye_turns(motion)], 1)
        times = [_timecode(moment, motion.frame_rate) for moment in motion.seconds]
        count = str(len(_APP_ORDER) + turns.shape[1])
        numbers = np.concatenate([weights[:, order], turns], 1)
        rows = [[time, count, *_texts(row)] for time, row in zip(times, numbers, strict=True)]
    else:
        raise InputError(f"expected layout {' or '.join(get_args(Layout))}, got {layout!r}")
    with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


_APP_ORDER = (
    *(f"eye{action}{side}" for side in ("Left", "Right") for action in (
        "Blink", "LookDown", "LookIn", "LookOut", "LookUp", "Squint", "Wide"
    )),
    "jawForward", "jawRight", "jawLeft", "jawOpen", "mouthClose", "mouthFunnel", "mouthPucker", "mouthRight",
    "mouthLeft", "mouthSmileLeft", "mouthSmileRight", "mouthFrownLeft", "mouthFrownRight", "mouthDimpleLeft",
    "mouthDimpleRight", "mouthStretchLeft", "mouthStretchRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower",
    "mouthShrugUpper", "mouthPressLeft", "mouthPressRight", "mouthLowerDownLeft", "mouthLowerDownRight",
    "mouthUpperUpLeft", "mouthUpperUpRight", "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft",
    "browOuterUpRight", "cheekPuff", "cheekSquintLeft", "cheekSquintRight", "noseSneerLeft", "noseSneerRight",
    "tongueOut",
)  # fmt: skip
"""The order of the Live Link Face app."""

_PLAIN_NAMES = {name.lower() for name in ARKIT_NAMES}
_PLAIN_ANGLES = {name.replace("_", ""): name for name in ANGLES}


def _rows(path: Path) -> tuple[list[str], list[list[str]]]:
    """The plain column names and the rows of a table.

    Raises:
        InputError: it is too large or no text, has no rows, names a column twice, or a row has another length.
    """
    if path.stat().st_size > MOST_BYTES:
        raise InputError(f"expected a table of at most {MOST_BYTES / 1e6:.0f} MB, got more in {path.name}: cut it")
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            table = [row for row in csv.reader(file) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path.name} is not a readable CSV file ({printable(str(error))[:80]})") from error
    if len(table) < 2:
        raise InputError(f"expected a row of names and one for each frame in {path.name}, got {len(table)} rows")
    names = [re.sub(r"[_\-\s]", "", name).lower() for name in table[0]]
    if len(set(names)) < len(names):
        raise InputError(f"{path.name} names a column twice: remove one")
    for number, row in enumerate(table[1:], 2):
        if len(row) != len(names):
            raise InputError(f"expected {len(names)} values in line {number} of {path.name}, got {len(row)}")
    return names, table[1:]


def _action(name: str, path: Path) -> tuple[str, ...]:
    try:
        found = actions_of(name)
    except InputError as error:
        raise InputError(f"column of {path.name}: {error}") from error
    if name not in _PLAIN_NAMES:
        raise InputError(f"expected ARKit names as columns of {path.name}, got {name}: name {', '.join(found)}")
    return found


def _numbers(name: str, texts: Sequence[str], path: Path) -> NDArray[np.float64]:
    try:
        values = np.array([float(text) for text in texts])
    except ValueError as error:
        raise InputError(f"column {name} of {path.name}: {printable(str(error))[:80]}") from error
    if not np.isfinite(values).all():
        raise InputError(f"column {name} of {path.name} holds numbers that are not finite: correct them")
    return values


def _cut(action: str, values: NDArray[np.float64], path: Path) -> list[str]:
    """A warning where values are cut to 0 to 1 by more than a sensor's rounding.

    Raises:
        InputError: they are no shares at all, such as percent.
    """
    low, high = values.min(), values.max()
    if low < -1 or high > 2:
        raise InputError(
            f"expected {action} from 0 to 1 in {path.name}, got {low:g} to {high:g}: divide percent by 100"
        )
    is_far = low < -0.01 or high > 1.01
    return [f"{action} was cut to 0 to 1, the table has {low:.2f} to {high:.2f}"] if is_far else []


def _seconds(name: str, texts: Sequence[str], path: Path) -> NDArray[np.float64] | None:
    """The times of a column in seconds; None where it only counts the frames."""
    if name == "frame":
        return None
    if name != "timecode":
        return _numbers(name, texts, path) / (1000 if name == "timestampms" else 1)
    found = [_TIMECODE.fullmatch(text.strip()) for text in texts]
    if None in found:
        raise InputError(f"expected time codes like 10:59:05:25.089 in {path.name}, got others: correct them")
    parts = np.array([match.groups() for match in found if match], np.float64)
    whole, frames = parts[:, :3] @ [3600, 60, 1], parts[:, 3]
    # The app counts frames within each second: the largest count tells the rate, once a second has passed.
    is_long = whole.max() > whole.min()
    rate = next((rate for rate in (24, 25, 30, 60) if is_long and frames.max() < rate), APP_RATE)
    return whole + frames / rate


def _rate(seconds: NDArray[np.float64] | None, path: Path) -> Fraction:
    """The rate of times: one over their median distance, to a hundredth.

    Raises:
        InputError: the times do not grow, or are too far apart or too close to be seconds.
    """
    if seconds is None or len(seconds) < 2:
        return DEFAULT_RATE
    step = float(np.median(np.diff(seconds)))
    if not 1 / FASTEST <= step <= 1 / SLOWEST:
        raise InputError(
            f"expected times of {SLOWEST} to {FASTEST} frames a second in {path.name}, got steps of {step:g} seconds: "
            "name milliseconds timestamp_ms, or leave the column out for 30 a second"
        )
    return Fraction(round(100 / step), 100).limit_denominator(1001)


def _texts(row: NDArray) -> list[str]:
    return [f"{value:.6f}" for value in row]


def _capital(name: str) -> str:
    return name[0].upper() + name[1:]


def _eye_turns(motion: MotionFields) -> NDArray[np.float32]:
    """Yaw, pitch and roll `[T, 6]` of the left and the right eye, radians, > 0 to the viewer's right and down."""
    return motion.eyes[:, :, [1, 0, 2]].reshape(len(motion), 6)


def _timecode(moment: float, rate: Fraction) -> str:
    whole = int(moment)
    frames = (moment - whole) * float(rate)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}:{frames:06.3f}"
