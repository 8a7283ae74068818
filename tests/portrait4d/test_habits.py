"""What people try first: -h, python -m, a log level, and commands that do not send them in a circle."""

import logging
import subprocess
import sys

import pytest

from flame.errors import InputError
from portrait4d.cli.main import run
from portrait4d.weights.store import fetch, how_to_get, resolve_weights
from portrait4d.weights.table import released_files


def test_python_m_shows_the_version_and_the_short_help():
    for words, expected in ((["--version"], "portrait4d "), (["reenact", "-h"], "Usage: portrait4d reenact")):
        done = subprocess.run([sys.executable, "-m", "portrait4d", *words], capture_output=True, text=True)
        assert done.returncode == 0 and done.stdout.startswith(expected), (done.stdout, done.stderr)


@pytest.mark.parametrize("words", [["-h"], ["render", "-h"], ["eg3d", "-h"], ["eg3d", "sample", "-h"]])
def test_short_help_everywhere(capsys, words):
    assert run(words) == 0
    assert "Usage: portrait4d" in capsys.readouterr().out


def test_log_level_shows_what_packages_tell(capsys):
    logger = logging.getLogger("preprocess.media.test")
    try:
        run(["--log-level", "info", "weights", "list"])
        logger.info("looked at %s", "a\nb")
        logger.debug("not this")
        logging.getLogger("numba").info("nor other libraries")
        told = capsys.readouterr().err
        assert "info: preprocess.media.test: looked at a" in told and len(told.splitlines()) == 1
    finally:
        run(["--log-level", "warning", "weights", "list"])
    capsys.readouterr()
    logger.info("silent again")
    assert capsys.readouterr().err == ""
    assert run(["--log-level", "loud", "doctor"]) == 2


def test_missing_weights_are_not_sought_in_a_circle(tmp_path, monkeypatch):
    """What a command says about missing weights must not be a command that says the same."""
    monkeypatch.setenv("PORTRAIT4D_HOME", str(tmp_path))
    for file in released_files():
        with pytest.raises(InputError) as error:
            resolve_weights(file.name)
        assert how_to_get(file.name) in str(error.value)
        if "weights fetch" in str(error.value):
            assert file.origin != "page"
        else:
            with pytest.raises(InputError, match="by hand, then run `portrait4d weights convert"):
                fetch(file.name)
