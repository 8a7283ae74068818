"""What a page may say on its socket: each message is checked and becomes a dataclass, or is refused in one line."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

from flame.errors import InputError
from portrait4d.live.by_hand import ByHand
from portrait4d.studio.limits import CAMERA_BYTES, LARGEST_NUMBER, TEXT_CHARACTERS

STAMP = struct.Struct("<d")
FRAME = struct.Struct("<dI4x")
"""Before the JPEG of a camera's picture: the stamp. Before that of a drawn frame: stamp, flags:
1 where the driver is not seen, 2 where the head stops at the limit of its turn."""

Order = Literal["hold_neutral", "new_driver", "cancel", "record", "stop"]
Export = Literal["png", "video", "motion", "avatar", "mesh"]


@dataclass(frozen=True)
class SetHand:
    """The sliders' new state."""

    by_hand: ByHand


@dataclass(frozen=True)
class Draw:
    """One frame is wanted: of the loaded clip or motion (`index`), or of the head by hand alone (None)."""

    stamp: float
    index: int | None


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
    """A result as a file; `is_transparent` counts for a picture, `is_side_by_side` for a video."""

    what: Export
    is_transparent: bool
    is_side_by_side: bool


Said = SetHand | Draw | Settings | Do | ChooseFace | WantFile


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
            return Draw(_finite(said.get("stamp"), "stamp"), _whole(said.get("index"), "index", is_optional=True))
        case "settings":
            return Settings(_settings(said))
        case "face":
            return ChooseFace(_whole(said.get("index"), "index") or 0)
        case "export":
            what = said.get("what")
            if not isinstance(what, str) or what not in get_args(Export):
                raise InputError(f"expected an export of {', '.join(get_args(Export))}, got {str(what)[:40]!r}")
            return WantFile(cast(Export, what), said.get("transparent") is True, said.get("side_by_side") is True)
        case str(order) if order in get_args(Order):
            return Do(cast(Order, order))
        case other:
            raise InputError(
                f"expected a message that this version knows, got {str(other)[:40]!r}: load the page again"
            )


def _by_hand(said: dict) -> ByHand:
    expression = said.get("expression", {})
    gaze = said.get("gaze", [0, 0])
    if not isinstance(expression, dict) or not isinstance(gaze, list) or len(gaze) != 2:
        raise InputError("expected expressions by name and a gaze of two numbers")
    degrees = {f"{name}_degrees": _finite(said.get(name, 0), name) for name in ("yaw", "pitch", "roll")}
    values = {str(name): _finite(value, str(name)) for name, value in expression.items()}
    return ByHand(expression=values, gaze=(_finite(gaze[0], "gaze"), _finite(gaze[1], "gaze")), **degrees)


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
