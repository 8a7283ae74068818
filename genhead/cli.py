"""The command `genhead`: train, and look at what was trained."""

from collections.abc import Collection

import typer

from portrait4d.cli.app import add_commands, top
from portrait4d.cli.console import Telling
from portrait4d.cli.main import start
from portrait4d.cli.training import ConfigOption, RunOption, SettingsArgument, TrainOptions, run_training_command

HELP = """GenHead: heads that a network invents, moved by a head model's expression, jaw, eyes and neck.

Start with:  genhead train --config configs/genhead/toy64.yaml --help
"""


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


COMMANDS = {"train": train}


def build_app(words: Collection[str] | None = None) -> typer.Typer:
    """The typer application; see `portrait4d.cli.app.build_app`."""
    app = typer.Typer(
        help=HELP, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
    )
    app.callback()(top)
    add_commands(app, COMMANDS, words)
    return app


def main() -> None:
    """Runs the command line of this process."""
    start("genhead", "genhead.cli")


if __name__ == "__main__":  # for torchrun -m
    main()
