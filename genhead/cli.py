"""The command `genhead`: train, look at what was trained, and make training data with it."""

from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from genhead.jobs.options import HeadSampleOptions, HeadShapeOptions, HeadVideoOptions, SynthesizeOptions
from portrait4d.cli.app import make_program
from portrait4d.cli.console import Telling, progress_bars, say, say_json
from portrait4d.cli.main import start
from portrait4d.cli.option_groups import Shown
from portrait4d.cli.seed_results import NetworkArgument, tell_samples
from portrait4d.cli.spellings import Spelling
from portrait4d.cli.training import ConfigOption, RunOption, SettingsArgument, TrainOptions, run_training_command
from portrait4d.runtime.device_options import DeviceOptions

HELP = """GenHead: heads that a network invents, moved by a head model's expression, jaw, eyes and neck.

Start with:  genhead train --config genhead/toy64 --help
"""


def _parse_list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


_SPELLINGS = {
    "settings": Spelling(("--set",), list[str], tuple, list, metavar="NAME=VALUE", has_shown_default=False),
    "motion": Spelling(metavar="FILE"),
    "motions": Spelling(("--motions",), list[str], tuple, list, metavar="PATH", has_shown_default=False),
    "has_correspondence": Spelling(("--correspondence/--no-correspondence",)),
    "margin": Spelling(),
    "sweep": Spelling(type=str, parse=_parse_list, write=",".join, has_shown_default=False),
}

FACE = ("settings", "motion", "frame")
SAMPLE = Shown(
    (
        *("seeds", "psi", "cutoff", *FACE, "yaw_degrees", "pitch_degrees", "fov_degrees"),
        *("has_depth", "has_depth_array", "has_raw", "has_grid"),
    ),
    _SPELLINGS,
)
VIDEO = Shown(
    (
        *("seeds", "psi", "cutoff", "path", "sweep", "settings", "motion"),
        *("frames_per_step", "shown", "fps"),
    ),
    _SPELLINGS,
)

SHAPE = Shown(("seed", "psi", "cutoff", *FACE, "resolution", "iso", "margin", "keeps_all_parts"), _SPELLINGS)
SYNTHESIZE = Shown(
    (
        *("num_dynamic", "num_static", "seed", "motions", "num_workers", "sheet", "psi", "cutoff"),
        *("num_points", "has_correspondence", "subjects_per_shard"),
    ),
    _SPELLINGS,
)


def train(
    settings: SettingsArgument = None,
    *,
    config: ConfigOption = None,
    output: RunOption = None,
    options: TrainOptions,
    tell: Telling,
) -> None:
    """Train GenHead on pictures with fitted heads; the same command resumes a run that was stopped.

    Several GPUs or machines: start it with torchrun, see docs/training.md.
    """
    from genhead.training.task import GenHeadTraining

    run_training_command(GenHeadTraining, config, output, settings, options, tell)


def sample(
    network: NetworkArgument,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the pictures.")],
    options: Annotated[HeadSampleOptions, SAMPLE],
    where: DeviceOptions,
    tell: Telling,
) -> None:
    """Render one picture per seed, its views side by side. Run it again to resume: finished seeds are kept."""
    from genhead.jobs.samples import write_head_samples

    tell_samples(
        lambda progress, on_result: write_head_samples(
            network, output, options=options, device=where.device, progress=progress, on_result=on_result
        ),
        tell,
    )


def video(
    network: NetworkArgument,
    output: Annotated[Path, typer.Option("-o", "--output", help="Video to write (.mp4, .m4v, .mov, .mkv).")],
    options: Annotated[HeadVideoOptions, VIDEO],
    where: DeviceOptions,
    tell: Telling,
) -> None:
    """Render the heads of seeds beside each other: from all around, with expressions, or driven by a motion file."""
    from genhead.jobs.video import write_head_video

    with progress_bars(is_quiet=tell.is_quiet) as progress:
        report = write_head_video(network, output, options=options, device=where.device, progress=progress)
    if tell.as_json:
        return say_json(asdict(report))
    say(f"{report.output}: {report.num_frames} frames, {report.frame_rate} frames a second")
    if report.sweep:
        say(f"shown: {', '.join(report.sweep)}")


def shape(
    network: NetworkArgument,
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", help="Mesh to write (.ply, .obj, .glb); or a folder, for every frame of --motion."
        ),
    ],
    options: Annotated[HeadShapeOptions, SHAPE],
    where: DeviceOptions,
    tell: Telling,
) -> None:
    """Write the posed head of a seed as a closed mesh with vertex colours, in metres of the head model."""
    from genhead.jobs.shape import write_head_shapes

    with progress_bars(is_quiet=tell.is_quiet) as progress:
        reports = write_head_shapes(network, output, options=options, device=where.device, progress=progress)
    if tell.as_json:
        return say_json([asdict(report) for report in reports])
    for report in reports:
        size = " x ".join(f"{length:.3f}" for length in report.size)
        say(f"{report.output}: {report.num_vertices} vertices, {report.num_faces} triangles, {size} m")


def synthesize(
    network: NetworkArgument,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the subjects.")],
    options: Annotated[SynthesizeOptions, SYNTHESIZE],
    where: DeviceOptions,
    tell: Telling,
) -> None:
    """Make 4D training data: persons in three views each, with motions, cameras and all that is known of the pictures.

    Run it again to resume: finished files are kept. What a record holds: docs/genhead.md.
    """
    from genhead.jobs.synthesize import write_subjects

    with progress_bars(is_quiet=tell.is_quiet) as progress:
        report = write_subjects(network, output, options=options, device=where.device, progress=progress)
    if tell.as_json:
        return say_json(asdict(report))
    say(f"{report.output}: {report.num_subjects} subjects in {report.num_containers} files, {report.num_new} new")
    if options.sheet is not None:
        say(options.sheet)


COMMANDS = {"train": train, "sample": sample, "video": video, "shape": shape, "synthesize": synthesize}


def build_app(words: Collection[str] | None = None) -> typer.Typer:
    """The typer application; see `portrait4d.cli.app.build_app`."""
    return make_program(HELP, COMMANDS, words)


def main() -> None:
    """Runs the command line of this process."""
    start("genhead", "genhead.cli")


if __name__ == "__main__":  # for torchrun -m
    main()
