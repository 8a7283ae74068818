"""The application: its commands, and those about the program itself. Each imports what it needs when it runs."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from portrait4d.cli.avatar_commands import avatar, render, track
from portrait4d.cli.console import Telling, fail, interruptible, progress_bars, say, say_json, say_speed
from portrait4d.cli.data_commands import build_data_app
from portrait4d.cli.eg3d_commands import build_eg3d_app
from portrait4d.cli.option_groups import Shown, with_groups
from portrait4d.cli.reenact_commands import batch, reenact
from portrait4d.cli.scene_command import fit_scene
from portrait4d.cli.weights_command import build_weights_app
from portrait4d.options import EngineOptions, ReenactOptions

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
    *,
    options: Annotated[ReenactOptions, Shown(("engine", "duration", "device"))],
    tell: Telling,
) -> None:
    """Move a bundled public-domain portrait with a bundled motion; writes a video and a contact sheet."""
    from portrait4d.jobs.demo import run_demo

    with progress_bars(is_quiet=tell.is_quiet) as progress:
        report = run_demo(output, options=options, progress=progress)
    if tell.as_json:
        return say_json(asdict(report))
    say(f"video          {Path(report.video).resolve()}")
    say(f"contact sheet  {Path(report.sheet).resolve()}")
    say_speed(report.reenactment)


def doctor(tell: Annotated[Telling, Shown(("as_json",))]) -> None:
    """Check the installation: what is there, what is missing, how to get it."""
    from portrait4d.jobs.doctor import examine, is_healthy

    checks = examine()
    if tell.as_json:
        say_json({"healthy": is_healthy(checks), "checks": [asdict(check) for check in checks]})
        raise typer.Exit(0 if is_healthy(checks) else 1)
    marks = {"ok": "ok", "optional": "--", "missing": "MISSING"}
    width = max(len(check.name) for check in checks)
    for check in checks:
        say(f"{marks[check.state]:<8}{check.name.ljust(width)}  {check.detail}")
        if check.cure:
            say(f"{'':<8}{'':<{width}}  -> {check.cure}")
    missing = [check.name for check in checks if check.state == "missing"]
    say("")
    say(f"missing: {', '.join(missing)}" if missing else "everything needed is here")
    raise typer.Exit(1 if missing else 0)


def selfcheck(
    engine: Annotated[str, typer.Argument(help="portrait4d, portrait4d-static, portrait4d-v2 or lift.")],
    photo: Annotated[Path | None, typer.Argument(help="Photo of a face. Default: a bundled portrait.")] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Picture to write (.png): photo and result.")
    ] = None,
    *,
    options: Annotated[EngineOptions, Shown(("flame", "device"))],
    tell: Annotated[Telling, Shown(("as_json",))],
) -> None:
    """Check that an engine's weights work: a photo drives itself, and the result is measured."""
    from portrait4d.jobs.selfcheck import run_selfcheck
    from portrait4d.runtime.paths import check_output
    from preprocess.files.file_check import check_not_input
    from preprocess.media.image import write_png

    if output is not None:
        check_output(output, frozenset({".png"}))
        check_not_input(output, photo, options.flame)
    check = run_selfcheck(engine, photo, flame=options.flame, device=options.device)
    if output is not None:
        write_png(output, check.picture)
    if tell.as_json:
        findings = [asdict(finding) for finding in check.findings]
        say_json({"engine": check.engine, "passed": check.passed, "findings": findings})
        raise typer.Exit(0 if check.passed else 1)
    marks = {True: "ok", False: "FAILED", None: "--"}
    width = max(len(finding.name) for finding in check.findings)
    for finding in check.findings:
        basis = f" ({finding.basis})" if finding.basis else ""
        say(f"{marks[finding.passed]:<8}{finding.name:<{width}}  {finding.value}; expected {finding.expected}{basis}")
    failed = [finding.name for finding in check.findings if finding.passed is False]
    if failed:
        fail(f"the weights of {check.engine} do not do what they should: {', '.join(failed)}")
        raise typer.Exit(1)
    say(f"the weights of {check.engine} work")
