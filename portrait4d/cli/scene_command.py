"""The command `portrait4d fit-scene`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from portrait4d.cli.console import Telling, progress_bars, say, say_json
from portrait4d.cli.option_groups import Shown
from portrait4d.jobs.scene_options import SceneOptions

SCENE = Shown(("format", "background", "size", "hold_out", "box", "steps", "planes", "seed", "device"))


def fit_scene(
    data: Annotated[
        Path, typer.Argument(help="Folder of posed pictures: EG3D dataset.json or NeRF transforms.json, or train/test.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the scene and its pictures.")],
    options: Annotated[SceneOptions, SCENE],
    tell: Telling,
) -> None:
    """Fit tri-planes to pictures of one scene with known cameras; run it again to resume where it was stopped.

    OUTPUT gets the scene (scene.safetensors, config.json), test_views.png with truth, fit and error of the held-out
    views, orbit.mp4, metrics.json, and the files of a training, from which the same command resumes.
    """
    from portrait4d.jobs.fit_scene import COMPARISON, VIDEO
    from portrait4d.jobs.fit_scene import fit_scene as run

    with progress_bars(is_quiet=tell.is_quiet) as progress:
        report = run(data, output, options=options, progress=progress)
    if tell.as_json:
        return say_json(asdict(report))
    for note in report.notes:
        say(note)
    if report.resumed_at:
        say(f"resumed at step {report.resumed_at}")
    seen = f"{len(report.psnr)} views held out: {report.mean_psnr:.2f} dB, worst {min(report.psnr.values()):.2f} dB"
    cost = f"{report.wall_seconds:.0f} s ({report.cpu_seconds:.0f} CPU seconds)"
    say(f"{report.num_train} views ({report.format} labels) fitted in {cost}")
    say(f"{seen}; see {output / COMPARISON} and {output / VIDEO}")
