"""What the parts of a network cost: wall and CPU seconds of each, and the peak memory of a process that runs it whole.

A benchmark starts itself again as a child for every number of threads, so that nothing is warm from another run. CPU
seconds of one thread hardly depend on what else the machine does; wall seconds do.
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lift import processor, run_measured
from material import table


def time_stages(stages: dict[str, Callable[[], Any]], *, repeats: int, device: str = "cpu") -> dict[str, dict]:
    """Median wall and CPU seconds of each stage, after one run to warm up."""
    import torch

    def settle() -> None:
        if device != "cpu":
            torch.cuda.synchronize()

    result = {}
    for name, stage in stages.items():
        walls, cpus = [], []
        for run in range(repeats + 1):
            settle()
            wall, cpu = time.perf_counter(), time.process_time()
            stage()
            settle()
            if run:
                walls.append(time.perf_counter() - wall)
                cpus.append(time.process_time() - cpu)
        result[name] = {"wall": statistics.median(walls), "cpu": statistics.median(cpus)}
    return result


def run_child(script: str, *arguments: str) -> dict[str, Any]:
    """The last line that a benchmark prints as a child, with what its process took."""
    measured = run_measured([sys.executable, str(Path(script).resolve()), "--child", *arguments])
    return {**measured, "output": json.loads(measured["output"].splitlines()[-1])}


def stage_table(one: dict[str, dict], two: dict[str, dict]) -> str:
    """Stages with one thread and with two."""
    rows = [[name, cost["cpu"], cost["wall"], two[name]["wall"], two[name]["cpu"]] for name, cost in one.items()]
    header = ["part", "CPU s, one thread", "wall s, one thread", "wall s, two threads", "CPU s, two threads"]
    return table(header, rows, digits=2)


def machine() -> str:
    """What the numbers were measured on."""
    return f"{processor()}, {os.cpu_count()} cores, load average before {os.getloadavg()[0]:.1f}"
