"""The processes that build data: what becomes of them when the program that started them is gone."""

import signal
import subprocess
import sys
import time
from pathlib import Path

PROGRAM = """
import sys, time
from functools import partial
from pathlib import Path
from preprocess.dataset.building.plan import Item
from preprocess.dataset.building.workers import run_workers

def work(path, item):
    while True:
        with open(path, "a") as file:
            file.write(".")
        time.sleep(0.02)

def make_work(path):
    return partial(work, path)

if __name__ == "__main__":
    list(run_workers(partial(make_work, sys.argv[1]), [Item("one", "one.jpg")], num_workers=1))
"""


def test_workers_end_with_a_program_that_was_killed(tmp_path: Path) -> None:
    """In the middle of an item: it writes a sign of life for as long as it runs."""
    program, life = tmp_path / "program.py", tmp_path / "life"
    program.write_text(PROGRAM)
    parent = subprocess.Popen([sys.executable, str(program), str(life)])
    try:
        _wait_until(life.is_file)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    _wait_until(lambda: _is_still(life))


def _is_still(life: Path) -> bool:
    before = life.stat().st_size
    time.sleep(0.5)
    return life.stat().st_size == before


def _wait_until(is_so) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline, "expected it within a minute"
        time.sleep(0.05)
