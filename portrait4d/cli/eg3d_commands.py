"""`portrait4d eg3d`: pictures, videos and shapes of the heads that an EG3D network invents."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from portrait4d.cli.choices import DeviceOption, JsonOption, QuietOption, parse_angles, parse_iso, parse_seeds
from portrait4d.cli.console import progress_bars, say, say_json
from portrait4d.jobs.eg3d.options import CameraPath, SampleOptions, Shown, StyleOptions, StyleVideoOptions

HELP = """Heads that an EG3D network invents, by seed: pictures, videos, shapes.

NETWORK is a name from `portrait4d weights list`, a checkpoint folder, or an official .pkl.
"""

NetworkArgument = Annotated[str, typer.Argument(help="Name of released weights, checkpoint folder, or official .pkl.")]
SeedsOption = Annotated[str, typer.Option(help="Numbers and ranges: 0-7,12. A seed means the authors' head.")]
PsiOption = Annotated[float, typer.Option(help="Truncation: 1 none, 0.7 calmer heads, 0 the mean head.")]
CutoffOption = Annotated[int | None, typer.Option(help="Truncate only the first so many layers. Default: all.")]
FovOption = Annotated[
    float | None, typer.Option(help="Field of view in true degrees. Default: the network's, 13.37 for faces.")
]


def build_eg3d_app() -> typer.Typer:
    """The commands below `portrait4d eg3d`."""
    from portrait4d.cli.console import interruptible

    app = typer.Typer(help=HELP, no_args_is_help=True, rich_markup_mode=None)
    for command in (sample, video, shape):
        app.command()(interruptible(command))
    return app


def sample(
    network: NetworkArgument,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the pictures.")],
    seeds: SeedsOption = "0-3",
    psi: PsiOption = 1.0,
    cutoff: CutoffOption = None,
    yaw: Annotated[
        str, typer.Option(help="Views in degrees, > 0 nose to the viewer's right; write --yaw=-23,0,23.")
    ] = "-23,0,23",
    pitch: Annotated[str, typer.Option(help="Degrees, > 0 looks up; one for all views, or one each.")] = "-7.3",
    fov: FovOption = None,
    depth: Annotated[bool, typer.Option("--depth", help="Also seedN_depth.png: grey, near is bright.")] = False,
    depth_array: Annotated[
        bool, typer.Option("--depth-array", help="Also seedN_depth.npy: float32 [views, h, w] in world units.")
    ] = False,
    raw: Annotated[bool, typer.Option("--raw", help="Also seedN_raw.png: before super-resolution.")] = False,
    grid: Annotated[bool, typer.Option("--grid", help="Also grid.png: all seeds below each other.")] = False,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """One picture a seed, several views side by side. Run it again to go on: finished seeds are kept."""
    options = SampleOptions(
        seeds=parse_seeds(seeds), style=StyleOptions(psi, cutoff), yaw_degrees=parse_angles(yaw),
        pitch_degrees=parse_angles(pitch), fov_degrees=fov, has_depth=depth, has_depth_array=depth_array, has_raw=raw,
        has_grid=grid,
    )  # fmt: skip
    from portrait4d.jobs.eg3d.samples import SeedResult, write_samples

    def on_result(result: SeedResult) -> None:
        if not as_json:
            say(result.files[0] + ("  finished earlier" if result.state == "kept" else ""))

    with progress_bars(is_quiet=quiet) as progress:
        report = write_samples(network, output, options=options, device=device, progress=progress, on_result=on_result)
    if as_json:
        return say_json(report.to_dict())
    if report.grid:
        say(report.grid)


def video(
    network: NetworkArgument,
    output: Annotated[Path, typer.Option("-o", "--output", help="Video to write (.mp4, .m4v, .mov, .mkv).")],
    seeds: SeedsOption = "0-3",
    psi: PsiOption = 1.0,
    cutoff: CutoffOption = None,
    frames_per_seed: Annotated[int, typer.Option(help="Frames from one head to the next.")] = 120,
    path: Annotated[
        CameraPath, typer.Option(help="Way of the camera, once around: original is that of the authors' videos.")
    ] = "original",
    show: Annotated[
        Shown, typer.Option(help="The picture, its depth, or the picture before super-resolution.")
    ] = "image",
    fps: Annotated[float, typer.Option(help="Frames per second.")] = 60.0,
    fov: FovOption = None,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """A loop through the heads of the seeds; with one seed the head stays and the camera moves."""
    options = StyleVideoOptions(
        seeds=parse_seeds(seeds), style=StyleOptions(psi, cutoff), frames_per_seed=frames_per_seed, path=path,
        shown=show, fps=fps, fov_degrees=fov,
    )  # fmt: skip
    from portrait4d.jobs.eg3d.video import write_style_video

    with progress_bars(is_quiet=quiet) as progress:
        report = write_style_video(network, output, options=options, device=device, progress=progress)
    if as_json:
        return say_json(asdict(report))
    say(f"{report.output}: {report.num_frames} frames, {report.num_frames / options.fps:.2f} s")


def shape(
    network: NetworkArgument,
    output: Annotated[Path, typer.Option("-o", "--output", help="Mesh to write (.ply, .obj, .glb).")],
    seed: Annotated[int, typer.Option(help="Which head.")] = 0,
    psi: PsiOption = 1.0,
    cutoff: CutoffOption = None,
    resolution: Annotated[int, typer.Option(help="Samples along each side; time and memory grow with its cube.")] = 256,
    iso: Annotated[str, typer.Option(help="Raw density of the surface, or auto. The authors take 10.")] = "auto",
    margin: Annotated[
        float | None, typer.Option(help="Part of the cube left out at each border. Default: the authors' 0.117.")
    ] = None,
    all_parts: Annotated[bool, typer.Option("--all-parts", help="Keep loose parts too.")] = False,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """The head of a seed as a closed mesh with vertex colours, in the network's world units (not metres)."""
    level = parse_iso(iso)
    from portrait4d.jobs.eg3d.shape import ORIGINAL_MARGIN, SeedShapeOptions, write_seed_shape
    from portrait4d.render.shape import ShapeConfig

    margin = ORIGINAL_MARGIN if margin is None else margin
    config = ShapeConfig(resolution=resolution, iso=level, margin=margin, is_largest_only=not all_parts)
    options = SeedShapeOptions(seed, StyleOptions(psi, cutoff), config)
    with progress_bars(is_quiet=quiet) as progress:
        report = write_seed_shape(network, output, options=options, device=device, progress=progress)
    if as_json:
        return say_json(asdict(report))
    size = " x ".join(f"{length:.3f}" for length in report.size)
    say(f"{report.output}: {report.num_vertices} vertices, {report.num_faces} triangles, {size} world units")
    low, high = report.density_range
    say(f"iso {report.iso:.4g}, densities {low:.4g} to {high:.4g}")
