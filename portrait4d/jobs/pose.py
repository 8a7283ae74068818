"""One picture of a photo or avatar with another expression, gaze or head pose, by name."""

from dataclasses import dataclass, replace
from pathlib import Path

from flame.heads.expression_names import ANGLES
from portrait4d.engines.abilities import check_follows
from portrait4d.engines.base import Avatar, is_avatar
from portrait4d.engines.choose import choose_engine, named_files
from portrait4d.engines.own_drive import edited_drive
from portrait4d.options import PoseOptions
from portrait4d.pipeline import build_source
from portrait4d.reenactment.head_crops import render_drive
from portrait4d.reenactment.models import Models, check_models, load_models
from portrait4d.runtime.paths import check_output, require_file
from portrait4d.runtime.streams import one_torch_thread
from preprocess.files.file_check import check_not_input
from preprocess.media.image import write_png
from preprocess.tracking.edit import checked_values


@dataclass(frozen=True)
class PoseReport:
    """The written picture, the name of the engine, its warnings about the source, and the values that were set."""

    output: str
    engine: str
    changes: dict[str, float | tuple[float, float]]
    warnings: tuple[str, ...]


def with_engine(options: PoseOptions) -> PoseOptions:
    """The options with an engine that can follow, where `auto` leaves the choice.

    Raises:
        InputError: There is no engine of that name.
    """
    chosen = choose_engine(options.engine)
    follows = not chosen.abilities.expressions or not _of_the_face(options)
    return options if options.engine != "auto" or follows else replace(options, engine="lift")


def _of_the_face(options: PoseOptions) -> list[str]:
    """The names that are set besides those of the head's pose."""
    return [name for name in options.changes if name not in ANGLES]


@one_torch_thread()
def pose_avatar(
    source: str | Path | Avatar, output: str | Path, *, options: PoseOptions | None = None, models: Models | None = None
) -> PoseReport:
    """Draws a photo, an avatar file or an avatar posed by name, as a `.png`.

    Raises:
        InputError: A file cannot be used, a name or value is wrong, the engine cannot follow, or the models do not fit
            the options.
    """
    options = options or (PoseOptions() if models is None else PoseOptions(device=models.device))
    output = Path(output)
    source = source if is_avatar(source) else require_file(Path(source), "photo or avatar file")
    check_output(output, frozenset({".png"}))
    check_not_input(output, None if is_avatar(source) else source, options.flame, *named_files(options.engine))
    changes, faces = options.changes, _of_the_face(options)
    for name, value in changes.items():
        checked_values(name, value, 1)  # before anything is loaded
    options = with_engine(options) if models is None else options
    check_follows(choose_engine(options.engine) if models is None else models.engine, faces)
    models = load_models(options) if models is None else check_models(models, options)
    avatar = build_source(source, models=models, face=options.face).avatar
    motion = avatar.motion.edit(changes, model=models.head_model)
    drive = edited_drive(avatar, motion, models.head_model, jitter=options.jitter)
    write_png(output, render_drive(avatar, drive, models=models)[0])
    return PoseReport(str(output), avatar.engine, changes, tuple(avatar.warnings))
