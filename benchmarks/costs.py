"""What the parts of a network cost: wall and CPU seconds of each, and the peak memory of a process that runs it whole.

A benchmark starts itself again as a child for every number of threads, so that nothing is warm from another run. CPU
seconds of one thread hardly depend on what else the machine does; wall seconds do.
"""

import argparse
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
    """Median wall and CPU seconds of each stage, after one run to warm up; with 0 repeats, of that run."""
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
            if run or not repeats:
                walls.append(time.perf_counter() - wall)
                cpus.append(time.process_time() - cpu)
        result[name] = {"wall": statistics.median(walls), "cpu": statistics.median(cpus)}
    return result


def run_child(script: str, *arguments: str) -> dict[str, Any]:
    """The last line that a benchmark prints as a child, with what its process took."""
    measured = run_measured([sys.executable, str(Path(script).resolve()), "--child", *arguments])
    return {**measured, "output": json.loads(measured["output"].splitlines()[-1])}


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """What both benchmarks understand; the last three are for the children."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--publish", action="store_true")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--whole", action="store_true", help=argparse.SUPPRESS)
    return parser


def run_children(script: str, options: argparse.Namespace, *arguments: str) -> dict[str, Any]:
    """The stages with one and with two threads, and the peak of a process that does the whole."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command does, see portrait4d/cli/main.py
    shared = ["--device", options.device, *arguments, *(["--quick"] if options.quick else [])]
    whole = run_child(script, "--threads", "2", "--whole", *shared)
    return {
        "machine": machine(),
        "one": run_child(script, "--threads", "1", *shared)["output"],
        "two": run_child(script, "--threads", "2", *shared)["output"],
        "peak_mb": whole["peak_mb"],
        "device_peak_mb": whole["output"]["device_peak_mb"],
    }


def device_peak_mb(device: str) -> float | None:
    """The most memory that torch has held on a GPU; None on a CPU, whose processes are measured from outside."""
    import torch

    return torch.cuda.max_memory_allocated(device) / 2**20 if torch.device(device).type == "cuda" else None


def peak_memory(measured: dict[str, Any]) -> str:
    """What `run_children` found, in words."""
    host, device = measured["peak_mb"], measured["device_peak_mb"]
    return f"{host:.0f} MB" + ("" if device is None else f", and {device:.0f} MB on the device")


def stage_table(one: dict[str, dict], two: dict[str, dict]) -> str:
    """Stages with one thread and with two."""
    rows = [[name, cost["cpu"], cost["wall"], two[name]["wall"], two[name]["cpu"]] for name, cost in one.items()]
    header = ["part", "CPU s, one thread", "wall s, one thread", "wall s, two threads", "CPU s, two threads"]
    return table(header, rows, digits=2)


def machine() -> str:
    """What the numbers were measured on."""
    return f"{processor()}, {os.cpu_count()} cores, load average before {os.getloadavg()[0]:.1f}"
