"""The command `studio`: the page in the browser."""

import sys
from typing import Annotated

from portrait4d.cli.console import say, tell_engine
from portrait4d.cli.option_groups import Shown
from portrait4d.cli.spellings import Spelling
from portrait4d.studio.options import StudioOptions

STUDIO = Shown(
    ("host", "port", "allow_remote", "opens_browser", "engine", "flame", "device"),
    {
        "allow_remote": Spelling(("--allow-remote",)),
        "opens_browser": Spelling(("--browser/--no-browser",)),
    },
)


def studio(options: Annotated[StudioOptions, STUDIO]) -> None:
    """Open a page in your browser: a photo becomes a head that sliders, your camera or a clip drive.

    Everything stays on this machine; the page works offline. Ctrl-C ends it and removes its files.
    """
    from portrait4d.studio.server import run_studio

    tell_engine(options.engine, is_quiet=False)
    run_studio(options, told=_tell)


def _tell(address: str) -> None:
    say(f"{address}\nCtrl-C ends it")
    sys.stdout.flush()  # also where it is read by a program
