"""What a page may say on its socket: each message is checked and becomes a dataclass, or is refused in one line."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

from flame.errors import InputError
from portrait4d.live.by_hand import ByHand
from portrait4d.live.key_line import KeyLine
from portrait4d.studio.limits import CAMERA_BYTES, LARGEST_NUMBER, TEXT_CHARACTERS

STAMP = struct.Struct("<d")
FRAME = struct.Struct("<dI4x")
"""Before the JPEG of a camera's picture: the stamp. Before that of a drawn frame: stamp, flags:
1 where the driver is not seen, 2 where the head stops at the limit of its turn."""

Order = Literal["hold_neutral", "new_driver", "cancel", "record", "stop", "sample"]
Export = Literal["mp4", "webm", "gif", "webp", "png", "motion", "avatar", "mesh", "head"]
Moves = Literal["hand", "keys", "clip"]
"""What moves the head of a file: what is set by hand alone, the line of keyframes, the loaded clip or motion."""

SIZES = (64, 1024)
"""Least and most pixels of a file's height."""

NAME_CHARACTERS = 40
"""Of the name that a page gives its files; all but letters, digits, hyphens and underscores is left out."""


@dataclass(frozen=True)
class SetHand:
    """The sliders' new state."""

    by_hand: ByHand


@dataclass(frozen=True)
class Draw:
    """One frame is wanted: of the loaded clip or motion (`index`), of the line of keyframes (`seconds`), or by hand."""

    stamp: float
    index: int | None
    seconds: float | None = None


@dataclass(frozen=True)
class SetKeys:
    """The line of keyframes as it is now; None without keyframes."""

    line: KeyLine | None


@dataclass(frozen=True)
class Settings:
    """Values of `RetargetOptions` by name."""

    values: Mapping[str, Any]


@dataclass(frozen=True)
class Do:
    """An order without more to it."""

    order: Order


@dataclass(frozen=True)
class ChooseFace:
    """The face of the photo to take, 0 is the largest."""

    index: int


@dataclass(frozen=True)
class WantFile:
    """A result as a file.

    Attributes:
        what: kind of file.
        of: what moves the head in it.
        is_transparent: whether it leaves out the background.
        is_side_by_side: whether photo and driver stand beside the result.
        size: height of a moving picture in pixels; None for that of the engine.
        name: what its name begins with; of harmless letters.
    """

    what: Export
    of: Moves
    is_transparent: bool
    is_side_by_side: bool
    size: int | None
    name: str


Said = SetHand | Draw | SetKeys | Settings | Do | ChooseFace | WantFile


def read_camera(data: bytes) -> tuple[float, bytes]:
    """Splits a camera's message into stamp and JPEG.

    Raises:
        InputError: it is too short or too long, or the stamp is no number.
    """
    if not STAMP.size < len(data) <= CAMERA_BYTES:
        raise InputError(f"expected a picture of at most {CAMERA_BYTES} bytes, got {len(data)}")
    return _finite(STAMP.unpack_from(data)[0], "stamp"), data[STAMP.size :]


def read_message(text: str) -> Said:
    """Reads a message.

    Raises:
        InputError: it is none that a page of this program sends.
    """
    if len(text) > TEXT_CHARACTERS:
        raise InputError(f"expected a message of at most {TEXT_CHARACTERS} characters, got {len(text)}")
    try:
        said = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError("expected a message in JSON") from error
    if not isinstance(said, dict):
        raise InputError("expected a message with a kind")
    match said.get("kind"):
        case "hand":
            return SetHand(_by_hand(said))
        case "draw":
            seconds = None if said.get("seconds") is None else _finite(said["seconds"], "seconds")
            index = _whole(said.get("index"), "index", is_optional=True)
            return Draw(_finite(said.get("stamp"), "stamp"), index, seconds)
        case "keys":
            return SetKeys(_line(said))
        case "settings":
            return Settings(_settings(said))
        case "face":
            return ChooseFace(_whole(said.get("index"), "index") or 0)
        case "export":
            return _wanted(said)
        case str(order) if order in get_args(Order):
            return Do(cast(Order, order))
        case other:
            raise InputError(
                f"expected a message that this version knows, got {str(other)[:40]!r}: load the page again"
            )


def _wanted(said: dict) -> WantFile:
    what, of, name = said.get("what"), said.get("of", "hand"), said.get("name")
    if not isinstance(what, str) or what not in get_args(Export):
        raise InputError(f"expected an export of {', '.join(get_args(Export))}, got {str(what)[:40]!r}")
    if not isinstance(of, str) or of not in get_args(Moves):
        raise InputError(f"expected a file of {', '.join(get_args(Moves))}, got {str(of)[:40]!r}")
    size = _whole(said.get("size"), "size", is_optional=True)
    if size is not None and not SIZES[0] <= size <= SIZES[1]:
        raise InputError(f"expected a size from {SIZES[0]} to {SIZES[1]}, got {size}")
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", name[:200]).strip("-")[:NAME_CHARACTERS] if isinstance(name, str) else ""
    return WantFile(
        cast(Export, what),
        cast(Moves, of),
        said.get("transparent") is True,
        said.get("side_by_side") is True,
        size,
        plain or "portrait4d",
    )


def _line(said: dict) -> KeyLine | None:
    keys = said.get("keys")
    if not isinstance(keys, list) or not all(isinstance(key, dict) for key in keys):
        raise InputError("expected a list of keyframes")
    if not keys:
        return None
    seconds = tuple(_finite(key.get("seconds"), "seconds") for key in keys)
    return KeyLine(seconds, tuple(map(_by_hand, keys)), _finite(said.get("duration"), "duration"))


def _by_hand(said: dict) -> ByHand:
    expression = said.get("expression", {})
    gaze = said.get("gaze", [0, 0])
    if not isinstance(expression, dict) or not isinstance(gaze, list) or len(gaze) != 2:
        raise InputError("expected expressions by name and a gaze of two numbers")
    degrees = {f"{name}_degrees": _finite(said.get(name, 0), name) for name in ("yaw", "pitch", "roll")}
    values = {str(name): _finite(value, str(name)) for name, value in expression.items()}
    return ByHand(expression=values, gaze=(_finite(gaze[0], "gaze"), _finite(gaze[1], "gaze")), **degrees)


def hand_as_said(by_hand: ByHand) -> dict[str, Any]:
    """What is set by hand in the words of a page: the opposite of what is read from it."""
    angles = {name: getattr(by_hand, f"{name}_degrees") for name in ("yaw", "pitch", "roll")}
    return {
        "expression": {name: value for name, value in by_hand.expression.items() if value},
        "gaze": list(by_hand.gaze),
        **angles,
    }


def _settings(said: dict) -> dict[str, Any]:
    values: dict[str, Any] = {name: said[name] for name in ("mode", "gaze") if isinstance(said.get(name), str)}
    for name in ("expression_scale", "pose_scale", "yaw_limit"):
        if name in said:
            values[name] = _finite(said[name], name)
    return values


def _finite(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST_NUMBER:
        raise InputError(f"expected a number as {name[:60]}, got {str(value)[:40]!r}")
    return float(value)


def _whole(value: Any, name: str, *, is_optional: bool = False) -> int | None:
    if value is None and is_optional:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 10**6:
        raise InputError(f"expected a whole number from 0 on as {name}, got {str(value)[:40]!r}")
    return value
