"""The command `portrait4d fit-scene`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from portrait4d.cli.choices import DeviceOption, JsonOption, QuietOption
from portrait4d.cli.console import progress_bars, say, say_json


def fit_scene(
    data: Annotated[
        Path, typer.Argument(help="Folder of posed pictures: EG3D dataset.json or NeRF transforms.json, or train/test.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the scene and its pictures.")],
    label_format: Annotated[
        Literal["auto", "eg3d", "nerf"], typer.Option("--format", help="Which labels to read if the folder has both.")
    ] = "auto",
    background: Annotated[
        Literal["auto", "white", "black"],
        typer.Option(help="Of empty space. auto: white if transparent, else as borders."),
    ] = "auto",
    size: Annotated[int, typer.Option(help="Larger pictures are scaled down to this side, in pixels.")] = 128,
    hold_out: Annotated[int, typer.Option(help="Hold out every so many views if the folder has no test views.")] = 8,
    box: Annotated[
        float | None, typer.Option(help="Side of the fitted cube in the cameras' unit. Default: what they all look at.")
    ] = None,
    steps: Annotated[int, typer.Option(help="Steps of the optimiser.")] = 1200,
    planes: Annotated[int, typer.Option(help="Texels of a plane's side.")] = 128,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Fit tri-planes to pictures of one scene with known cameras; run it again to go on where it was stopped.

    OUTPUT gets the scene (scene.safetensors, config.json), test_views.png with truth, fit and error of the views held
    out, orbit.mp4, metrics.json, and checkpoint.safetensors from which the same command goes on.
    """
    from dataclasses import asdict

    from portrait4d.jobs.fit_scene import COMPARISON, VIDEO, SceneOptions
    from portrait4d.jobs.fit_scene import fit_scene as run

    options = SceneOptions(
        format=label_format, background=background, size=size, hold_out=hold_out, box=box, steps=steps, planes=planes,
        seed=seed, device=device,
    )  # fmt: skip
    with progress_bars(is_quiet=quiet) as progress:
        report = run(data, output, options=options, progress=progress)
    if as_json:
        return say_json(asdict(report))
    for note in report.notes:
        say(note)
    if report.resumed_at:
        say(f"went on from step {report.resumed_at}")
    seen = f"{len(report.psnr)} views held out: {report.mean_psnr:.2f} dB, worst {min(report.psnr.values()):.2f} dB"
    cost = f"{report.wall_seconds:.0f} s ({report.cpu_seconds:.0f} CPU seconds)"
    say(f"{report.num_train} views ({report.format} labels) fitted in {cost}")
    say(f"{seen}; see {output / COMPARISON} and {output / VIDEO}")
