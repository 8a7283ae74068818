"""Whether a result can be written under its name, and holds what the options ask of it; loads no torch and no model."""

from pathlib import Path

from flame.errors import InputError
from portrait4d.options import OutputOptions, ReenactOptions
from portrait4d.runtime.paths import FOLDER, MESH_SUFFIXES, MOVING_SUFFIXES, check_output, require_file
from preprocess.files.file_check import check_not_input
from preprocess.media.encodings import ALPHA_SUFFIXES, QUALITY_SUFFIXES, SOUND_SUFFIXES

RESULT_SUFFIXES = MOVING_SUFFIXES | {".png"}


def check_result(output: Path, options: OutputOptions, *, also: frozenset[str] = frozenset()) -> None:
    """Refuses a result that cannot be written, before any work is done.

    Args:
        output: the suffix chooses the kind; a name without one is a folder of numbered pictures.
        options: what is asked of it.
        also: suffixes that are allowed besides those of pictures and clips.

    Raises:
        InputError: the name has another suffix, its folder cannot be written to, or its kind cannot hold what the
            options ask for.
    """
    check_output(output, RESULT_SUFFIXES | also)
    suffix = output.suffix.lower()
    if suffix in MESH_SUFFIXES:
        asked = [name for name in ("size", "quality", "transparent") if getattr(options, name) not in (None, False)]
        if asked:
            raise InputError(f"--{asked[0]} is for pictures and videos, got the mesh {output.name}: drop it")
        return
    if options.quality is not None and suffix not in QUALITY_SUFFIXES:
        _refuse("--quality", "is for files that lose some", output, QUALITY_SUFFIXES)
    if options.transparent and suffix not in ALPHA_SUFFIXES | {FOLDER}:
        _refuse("--transparent", "needs a file that holds opacity", output, ALPHA_SUFFIXES | {FOLDER})
    if isinstance(options, ReenactOptions):
        _check_reenactment(output, options)


def _check_reenactment(output: Path, options: ReenactOptions) -> None:
    if options.transparent and (options.side_by_side or not options.crop):
        other = "--side-by-side" if options.side_by_side else "--paste-back"
        raise InputError(f"--transparent leaves out the background, which {other} shows: drop one")
    if options.audio is None:
        return
    if output.suffix.lower() not in SOUND_SUFFIXES:
        _refuse("--audio", "needs a file that holds sound", output, SOUND_SUFFIXES)
    require_file(Path(options.audio), "sound")
    check_not_input(output, options.audio)


def _refuse(option: str, need: str, output: Path, suffixes: frozenset[str]) -> None:
    kinds = ", ".join(sorted(suffixes - {FOLDER}))
    folder = " or a folder of pictures (a name without a suffix)" if FOLDER in suffixes else ""
    raise InputError(f"{option} {need} ({kinds}{folder}), got {output.name}: rename it, or drop {option}")
