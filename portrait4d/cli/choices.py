"""Options that several commands share, described once."""

from typing import Annotated

import typer

from flame.errors import InputError
from portrait4d.engines.modes import Gaze, Placement, RetargetMode

MOST_SEEDS = 100_000

EngineOption = Annotated[
    str,
    typer.Option(
        help="lift, portrait4d, portrait4d-static, portrait4d-v2, or auto: the best one present. Or the weights "
        "themselves: a checkpoint folder or an official file."
    ),
]
ModeOption = Annotated[
    RetargetMode,
    typer.Option(
        help="relative: the driver's change since its neutral frame; absolute: the driver's very pose and face."
    ),
]
CropOption = Annotated[
    bool,
    typer.Option(
        "--crop/--paste-back", help="Write the 512 x 512 head crop, or the whole picture with the head in place."
    ),
]
SideBySideOption = Annotated[
    bool, typer.Option("--side-by-side", help="Write source, driver and result beside each other.")
]
FpsOption = Annotated[float | None, typer.Option(help="Frames per second of the result. Default: the driver's.")]
StartOption = Annotated[float, typer.Option(help="Seconds of the driver to skip.")]
DurationOption = Annotated[float | None, typer.Option(help="Seconds of the driver to use. Default: all.")]
YawLimitOption = Annotated[
    str, typer.Option("--yaw-limit", help="Largest head turn shown, in degrees; 'none' lifts the limit.")
]
GazeOption = Annotated[Gaze, typer.Option(help="Eyes follow the driver, look at the camera, or stay as in the source.")]
PlacementOption = Annotated[
    Placement,
    typer.Option(
        help="tracked: the head where it was tracked; canonical: always in the middle, only the neck turns it, as in "
        "the released demonstrations (engines portrait4d... only)."
    ),
]
JitterOption = Annotated[
    int | None,
    typer.Option(
        help="Seed of the released code's sampling noise, for comparison with it; frames flicker. Default: fixed "
        "samples (engines portrait4d... only).",
        show_default=False,
        metavar="SEED",
    ),
]
FlameOption = Annotated[
    str | None,
    typer.Option(
        help="FLAME file (.pkl, .npz) instead of the one that the weights hold (engines portrait4d... only).",
        show_default=False,
        metavar="FILE",
    ),
]
ExpressionScaleOption = Annotated[float, typer.Option(help="Multiplies the transferred expression.")]
PoseScaleOption = Annotated[float, typer.Option(help="Multiplies the transferred head motion.")]
SmoothOption = Annotated[float, typer.Option(help="Strength of the tracker's smoothing; 0 switches it off.")]
FaceOption = Annotated[int, typer.Option(help="Which face of the source if there are several; 0 is the largest.")]
DriverFaceOption = Annotated[
    int, typer.Option(help="Which face of the driver, counted where the first one appears; 0 is the largest.")
]
TrackedFaceOption = Annotated[
    int,
    typer.Option("--face", "--driver-face", help="Which face, counted where the first one appears; 0 is the largest."),
]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda, cuda:1.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the report as JSON on stdout.")]
QuietOption = Annotated[bool, typer.Option("--quiet", help="No progress on stderr.")]


def yaw_limit(text: str) -> float | None:
    """The value of --yaw-limit: degrees, or None for "none"."""
    if text.strip().lower() == "none":
        return None
    try:
        return float(text)
    except ValueError as error:
        raise InputError(f"expected --yaw-limit in degrees or 'none', got {text!r}") from error


def parse_angles(text: str) -> tuple[float, ...]:
    """Comma-separated degrees."""
    try:
        return tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise InputError(f"expected degrees like -20,0,20, got {text!r}") from error


def parse_seeds(text: str) -> tuple[int, ...]:
    """Seeds of a text such as `0-7,12`: numbers and ranges, ends included."""
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
    """The value of --iso: a density, or None for "auto"."""
    if text.strip().lower() == "auto":
        return None
    try:
        return float(text)
    except ValueError as error:
        raise InputError(f"expected --iso as a density or 'auto', got {text!r}") from error
