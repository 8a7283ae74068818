"""`portrait4d eg3d`: pictures, videos and shapes of the heads that an EG3D network generates."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from portrait4d.cli.console import Telling, progress_bars, say, say_json
from portrait4d.cli.option_groups import Shown
from portrait4d.cli.seed_results import NetworkArgument, tell_samples
from portrait4d.cli.training import ConfigOption, RunOption, SettingsArgument, TrainOptions, run_training_command
from portrait4d.jobs.eg3d.options import SampleOptions, SeedShapeOptions, StyleVideoOptions
from portrait4d.runtime.device_options import DeviceOptions

SAMPLE = Shown(
    (
        *("seeds", "psi", "cutoff", "yaw_degrees", "pitch_degrees", "fov_degrees"),
        *("has_depth", "has_depth_array", "has_raw", "has_grid"),
    )
)
VIDEO = Shown(("seeds", "psi", "cutoff", "frames_per_seed", "path", "shown", "fps", "fov_degrees"))


def sample(
    network: NetworkArgument,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the pictures.")],
    options: Annotated[SampleOptions, SAMPLE],
    where: DeviceOptions,
    tell: Telling,
) -> None:
    """Render one picture per seed, its views side by side. Run it again to resume: finished seeds are kept."""
    from portrait4d.jobs.eg3d.samples import write_samples

    tell_samples(
        lambda progress, on_result: write_samples(
            network, output, options=options, device=where.device, progress=progress, on_result=on_result
        ),
        tell,
    )


def video(
    network: NetworkArgument,
    output: Annotated[Path, typer.Option("-o", "--output", help="Video to write (.mp4, .m4v, .mov, .mkv).")],
    options: Annotated[StyleVideoOptions, VIDEO],
    where: DeviceOptions,
    tell: Telling,
) -> None:
    """Render a loop through the heads of the seeds; with one seed, only the camera moves."""
    from portrait4d.jobs.eg3d.video import write_style_video

    with progress_bars(is_quiet=tell.is_quiet) as progress:
        report = write_style_video(network, output, options=options, device=where.device, progress=progress)
    if tell.as_json:
        return say_json(asdict(report))
    say(f"{report.output}: {report.num_frames} frames, {report.num_frames / options.fps:.2f} s")


def shape(
    network: NetworkArgument,
    output: Annotated[Path, typer.Option("-o", "--output", help="Mesh to write (.ply, .obj, .glb).")],
    options: SeedShapeOptions,
    where: DeviceOptions,
    tell: Telling,
) -> None:
    """Write the head of a seed as a closed mesh with vertex colours, in the network's world units (not metres)."""
    from portrait4d.jobs.eg3d.shape import write_seed_shape

    with progress_bars(is_quiet=tell.is_quiet) as progress:
        report = write_seed_shape(network, output, options=options, device=where.device, progress=progress)
    if tell.as_json:
        return say_json(asdict(report))
    size = " x ".join(f"{length:.3f}" for length in report.size)
    say(f"{report.output}: {report.num_vertices} vertices, {report.num_faces} triangles, {size} world units")
    low, high = report.density_range
    say(f"iso {report.iso:.4g}, densities {low:.4g} to {high:.4g}")


def train(
    settings: SettingsArgument = None,
    *,
    config: ConfigOption = None,
    output: RunOption = None,
    options: TrainOptions,
    tell: Telling,
) -> None:
    """Train EG3D on pictures with cameras; the same command resumes a run that was stopped.

    Several GPUs or machines: start it with torchrun, see docs/training.md.
    """
    from portrait4d.eg3d.training import EG3DTraining

    run_training_command(EG3DTraining, config, output, settings, options, tell)


COMMANDS = {"train": train, "sample": sample, "video": video, "shape": shape}
