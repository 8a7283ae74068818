"""Memory kept for the next frame."""

import subprocess
import sys

import pytest

COUNT_FAULTS = """
import resource, sys
from threading import Thread
import numpy as np
from portrait4d.runtime.memory import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory() and keep_freed_memory()


def count():
    np.ones(2**24, np.float32)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        np.ones(2**24, np.float32)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)


if sys.argv[2] == "thread":
    thread = Thread(target=count)
    thread.start()
    thread.join()
else:
    count()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's setting")
@pytest.mark.parametrize("where", ["main", "thread"])  # frames are drawn in threads
def test_large_blocks_are_taken_from_the_system_once(where: str) -> None:
    def num_faults(mode: str) -> int:
        command = [sys.executable, "-c", COUNT_FAULTS, mode, where]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        return int(run.stdout)

    assert num_faults("keep") < 50
    assert num_faults("leave") > 100  # else the test proves nothing
