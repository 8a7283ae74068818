"""How options and their values are written on the command line, where it differs from Python.

Defaults and help are in the dataclasses of the options, never here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flame.errors import InputError
from preprocess.dataset.building.build_options import Part

MOST_SEEDS = 100_000


@dataclass(frozen=True)
class Spelling:
    """How a field of a dataclass is written as an option.

    Attributes:
        flags: names of the option; by default `--` and the field's name without `has_`, `is_`, `as_`, `num_` and unit.
        type: type that typer reads; by default the field's.
        parse: turns what typer read into the field's value; not called for None.
        write: turns the default into what typer would read.
        metavar: what the help shows for the value; by default the type.
        has_shown_default: whether the help shows the default.
    """

    flags: tuple[str, ...] = ()
    type: Any = None
    parse: Callable[[Any], Any] | None = None
    write: Callable[[Any], Any] | None = None
    metavar: str | None = None
    has_shown_default: bool = True

    def read(self, value: Any) -> Any:
        """Turns what typer read into the field's value."""
        return value if value is None or self.parse is None else self.parse(value)


def parse_yaw_limit(text: str) -> float | None:
    """Reads --yaw-limit: degrees, or None for "none"."""
    if text.strip().lower() == "none":
        return None
    try:
        return float(text)
    except ValueError as error:
        raise InputError(f"expected --yaw-limit in degrees or 'none', got {text!r}") from error


def parse_angles(text: str) -> tuple[float, ...]:
    """Reads comma-separated degrees."""
    try:
        return tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise InputError(f"expected degrees like -20,0,20, got {text!r}") from error


def parse_gaze(text: str) -> tuple[float, float]:
    """Reads --gaze: two numbers."""
    try:
        right, up = (float(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(f"expected --gaze as two numbers like 0.2,0 (right, up), got {text!r}") from error
    return right, up


def parse_settings(texts: Sequence[str]) -> tuple[tuple[str, float], ...]:
    """Reads what --set repeats: NAME=VALUE."""
    found = []
    for text in texts:
        name, _, value = text.partition("=")
        try:
            found.append((name.strip(), float(value)))
        except ValueError as error:
            raise InputError(f"expected --set NAME=VALUE like jawOpen=0.3, got {text!r}") from error
    return tuple(found)


def parse_seeds(text: str) -> tuple[int, ...]:
    """Reads seeds such as `0-7,12`: numbers and ranges, ends included."""
    seeds: list[int] = []
    for part in (part.strip() for part in text.split(",")):
        first, dash, last = part.partition("-")
        if not (first.isdecimal() and first.isascii() and (not dash or (last.isdecimal() and last.isascii()))):
            raise InputError(f"expected seeds like 0-7,12 (whole numbers from 0 on), got {text!r}")
        begin, end = int(first), int(last) if dash else int(first)
        if end < begin:
            raise InputError(f"expected a range of seeds from small to large, got {part}: write {end}-{begin}")
        if end - begin >= MOST_SEEDS - len(seeds):
            raise InputError(f"expected at most {MOST_SEEDS} seeds, got {text!r}: run them in parts")
        seeds.extend(range(begin, end + 1))
    return tuple(seeds)


def parse_iso(text: str) -> float | None:
    """Reads --iso: a density, or None for "auto"."""
    if text.strip().lower() == "auto":
        return None
    try:
        return float(text)
    except ValueError as error:
        raise InputError(f"expected --iso as a density or 'auto', got {text!r}") from error


def write_angles(angles: Sequence[float]) -> str:
    """The inverse of `parse_angles`."""
    return ",".join(f"{angle:g}" for angle in angles)


def write_seeds(seeds: Sequence[int]) -> str:
    """The inverse of `parse_seeds`."""
    is_range = len(seeds) > 1 and list(seeds) == list(range(seeds[0], seeds[-1] + 1))
    return f"{seeds[0]}-{seeds[-1]}" if is_range else ",".join(map(str, seeds))


def _number_or(word: str) -> Callable[[float | None], str]:
    return lambda value: word if value is None else f"{value:g}"


_ANGLES = Spelling(type=str, parse=parse_angles, write=write_angles)
_FILE = Spelling(type=Path | None, parse=str)

SPELLINGS = {
    "flame": Spelling(metavar="FILE", has_shown_default=False),
    "head_model": _FILE,
    "is_agreed": Spelling(("--yes", "-y")),
    "iso": Spelling(type=str, parse=parse_iso, write=_number_or("auto")),
    "item_seconds": Spelling(("--item-timeout",)),
    "jitter": Spelling(metavar="SEED", has_shown_default=False),
    "keeps_all_parts": Spelling(("--all-parts",)),
    "margin": Spelling(has_shown_default=False),
    "mesh_resolution": Spelling(has_shown_default=False),
    "message": Spelling(has_shown_default=False),
    "min_eye_open": Spelling(("--min-eyes",)),
    "motion_codes": _FILE,
    "parameters": _FILE,
    "part": Spelling(("--shard",), str, Part.parse, lambda part: f"{part.index}/{part.count}"),
    "pitch_degrees": _ANGLES,
    "seeds": Spelling(type=str, parse=parse_seeds, write=write_seeds),
    "shown": Spelling(("--show",)),
    "yaw_degrees": _ANGLES,
    "audio": Spelling(metavar="FILE", has_shown_default=False),
    "quality": Spelling(has_shown_default=False),
    "size": Spelling(has_shown_default=False),
    "yaw_limit": Spelling(type=str, parse=parse_yaw_limit, write=_number_or("none")),
}
"""By name of the field; a command's `Shown` may replace them."""
