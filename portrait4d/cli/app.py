"""The application: its commands, and those about the program itself. Each imports what it needs when it runs."""

from pathlib import Path
from typing import Annotated

import typer

from portrait4d.cli.avatar_commands import avatar, render, track
from portrait4d.cli.choices import DeviceOption, DurationOption, EngineOption, FlameOption, JsonOption, QuietOption
from portrait4d.cli.console import interruptible, progress_bars, say, say_json, say_speed
from portrait4d.cli.data_commands import build_data_app
from portrait4d.cli.eg3d_commands import build_eg3d_app
from portrait4d.cli.option_groups import with_groups
from portrait4d.cli.reenact_commands import batch, reenact
from portrait4d.cli.scene_command import fit_scene
from portrait4d.cli.weights_command import build_weights_app

HELP = """One photo of a face becomes a 4D head that any video can drive. Works offline on a CPU.

Start with:  portrait4d demo
"""


def build_app() -> typer.Typer:
    """The typer application."""
    app = typer.Typer(
        help=HELP, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
    )
    app.callback()(top)
    for command in (demo, reenact, batch, track, avatar, render, fit_scene, doctor, selfcheck):
        app.command()(interruptible(with_groups(command)))
    app.add_typer(build_data_app(), name="data")
    app.add_typer(build_eg3d_app(), name="eg3d")
    app.add_typer(build_weights_app(), name="weights")
    return app


def _show_version(is_wanted: bool) -> None:
    if is_wanted:
        from portrait4d.runtime.version import version

        say(f"portrait4d {version()}")
        raise typer.Exit


def top(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks; may stand anywhere.")] = False,
) -> None:
    """Options before the command."""


def demo(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the results.")] = Path("portrait4d-demo"),
    engine: EngineOption = "auto",
    duration: DurationOption = None,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Move a bundled public-domain portrait with a bundled motion; writes a video and a contact sheet."""
    from dataclasses import asdict

    from portrait4d.jobs.demo import run_demo
    from portrait4d.options import ReenactOptions

    options = ReenactOptions(engine=engine, duration=duration, device=device)
    with progress_bars(is_quiet=quiet) as progress:
        report = run_demo(output, options=options, progress=progress)
    if as_json:
        return say_json(asdict(report))
    say(f"video          {Path(report.video).resolve()}")
    say(f"contact sheet  {Path(report.sheet).resolve()}")
    say_speed(report.reenactment)


def doctor(as_json: JsonOption = False) -> None:
    """Check the installation: what is there, what is missing, how to get it."""
    from portrait4d.cli.single_commands import run_doctor

    raise typer.Exit(run_doctor(as_json=as_json))


def selfcheck(
    engine: Annotated[str, typer.Argument(help="portrait4d, portrait4d-static, portrait4d-v2, lift, or weights.")],
    photo: Annotated[Path | None, typer.Argument(help="Photo of a face. Default: a bundled portrait.")] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Picture to write (.png): photo and result.")
    ] = None,
    flame: FlameOption = None,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Check that an engine's weights work: a photo drives itself, and the result is measured."""
    from portrait4d.cli.selfcheck_command import run_selfcheck_command

    raise typer.Exit(run_selfcheck_command(engine, photo, output, flame=flame, device=device, as_json=as_json))
