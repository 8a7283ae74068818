"""The application: all commands, and those about the program itself. Each imports what it needs when it runs."""

import importlib
from collections.abc import Callable, Collection
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from portrait4d.cli.avatar_commands import avatar, pose, render, track
from portrait4d.cli.console import Telling, fail, interruptible, progress_bars, say, say_json, say_speed
from portrait4d.cli.evaluate_command import evaluate
from portrait4d.cli.live_command import live
from portrait4d.cli.log_level import LogLevel, set_log_level
from portrait4d.cli.option_groups import Shown, with_groups
from portrait4d.cli.reenact_commands import batch, reenact
from portrait4d.cli.scene_command import fit_scene
from portrait4d.cli.studio_command import studio
from portrait4d.cli.train_command import train
from portrait4d.options import EngineOptions, FormatOptions, ReenactOptions
from portrait4d.reenactment.result_name import check_result

HELP = """One photo of a face becomes a 4D head that any video can drive. Works offline on a CPU.

Start with:  portrait4d demo
"""


HELP_NAMES = {"help_option_names": ["-h", "--help"]}

GROUPS = {
    "data": (
        "data_commands",
        """Training data from folders of photos or videos.

A file that cannot be used is rejected with the reason, and the others are built. After an interruption, run the same
command again to resume.
""",
    ),
    "eg3d": (
        "eg3d_commands",
        """Heads that an EG3D network generates from seeds: pictures, videos, shapes.

NETWORK is a name from `portrait4d weights list`, a checkpoint folder, or an official .pkl.
""",
    ),
    "metrics": (
        "metrics_commands",
        """How good pictures are: their distance from real ones, and whether they show the motion they should.

What the numbers mean, and which may be compared: docs/metrics.md.
""",
    ),
    "weights": (
        "weights_command",
        """Released networks: which exist, how to get them, what is in a file; trainings in their layout.

Files are read without running any code in them. Weights are kept in $PORTRAIT4D_HOME/weights, or in the user's cache
folder; PORTRAIT4D_OFFLINE=1 forbids the network.
""",
    ),
}
"""Groups of commands: the module in this package that holds them, and their help."""


def build_app(words: Collection[str] | None = None) -> typer.Typer:
    """Builds the typer application.

    Args:
        words: the words of the command line. Commands that are not among them get no options, and their modules are
            not loaded, because building all takes as long as the rest of `--help`. None builds all.
    """
    app = make_program(HELP, COMMANDS, words)
    for name, (file, text) in GROUPS.items():
        group = typer.Typer(help=text, no_args_is_help=True, rich_markup_mode=None, context_settings=HELP_NAMES)
        group.callback()(lambda: None)
        if words is None or name in words:
            _add_commands(group, importlib.import_module(f"portrait4d.cli.{file}").COMMANDS, words)
        app.add_typer(group, name=name)
    return app


def make_program(text: str, commands: dict[str, Callable[..., Any]], words: Collection[str] | None) -> typer.Typer:
    """A typer application with the options of every program of the project.

    Args:
        text: its help.
        commands: by name.
        words: see `build_app`.
    """
    app = typer.Typer(
        help=text,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings=HELP_NAMES,
    )
    app.callback()(top)
    _add_commands(app, commands, words)
    return app


def _add_commands(app: typer.Typer, commands: dict[str, Callable[..., Any]], words: Collection[str] | None) -> None:
    for name, command in commands.items():
        if words is None or name in words:
            app.command(name)(interruptible(with_groups(command)))
        else:
            app.command(name, help=command.__doc__)(lambda: None)


def _show_version(is_wanted: bool) -> None:
    if is_wanted:
        from portrait4d.runtime.version import version

        say(f"portrait4d {version()}")
        raise typer.Exit


def top(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks; may stand anywhere on the line.")] = False,
    log_level: Annotated[
        LogLevel, typer.Option(help="What the program tells of itself on stderr, and above.")
    ] = "warning",
) -> None:
    """Options before the command."""
    set_log_level(log_level)


def demo(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the results.")] = Path("portrait4d-demo"),
    *,
    options: Annotated[ReenactOptions, Shown(("engine", "size", "quality", "transparent", "duration", "device"))],
    kind: FormatOptions,
    tell: Telling,
) -> None:
    """Animate a bundled public-domain portrait with a bundled motion; writes a video and a contact sheet."""
    check_result(output / f"demo{kind.suffix}", options)
    from portrait4d.jobs.demo import run_demo

    with progress_bars(is_quiet=tell.is_quiet) as progress:
        report = run_demo(output, suffix=kind.suffix, options=options, progress=progress)
    if tell.as_json:
        return say_json(asdict(report))
    say(f"video          {Path(report.video).resolve()}")
    say(f"contact sheet  {Path(report.sheet).resolve()}")
    say_speed(report.reenactment)


def doctor(tell: Annotated[Telling, Shown(("as_json",))]) -> None:
    """Check the installation: what is present, what is missing, how to get it."""
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
    engine: Annotated[
        str, typer.Argument(help="portrait4d, portrait4d-static, portrait4d-v2, lift, toy, or a path of weights.")
    ],
    photo: Annotated[Path | None, typer.Argument(help="Photo of a face. Default: a bundled portrait.")] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Picture to write (.png): photo and result.")
    ] = None,
    *,
    options: Annotated[EngineOptions, Shown(("flame", "device"))],
    tell: Annotated[Telling, Shown(("as_json",))],
) -> None:
    """Check that an engine's weights work: a photo drives itself, and the result is measured."""
    from portrait4d.engines.choose import choose_engine, named_files
    from portrait4d.jobs.selfcheck import run_selfcheck
    from portrait4d.runtime.paths import check_output
    from preprocess.files.file_check import check_not_input
    from preprocess.media.image import write_png

    if output is not None:
        check_output(output, frozenset({".png"}))
        check_not_input(output, photo, options.flame, *named_files(engine))
    path = choose_engine(engine).weights
    check = run_selfcheck(engine, photo, flame=options.flame, device=options.device)
    weights = f"the weights of {check.engine}" if path is None else f"the weights at {path}"
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
        fail(f"{weights} do not do what they should: {', '.join(failed)}")
        raise typer.Exit(1)
    say(f"{weights} work")


COMMANDS = {
    "demo": demo,
    "reenact": reenact,
    "batch": batch,
    "evaluate": evaluate,
    "track": track,
    "avatar": avatar,
    "render": render,
    "pose": pose,
    "live": live,
    "studio": studio,
    "fit-scene": fit_scene,
    "train": train,
    "doctor": doctor,
    "selfcheck": selfcheck,
}
