"""How fast the embedded engine is, and how much memory it takes: stages, end to end, 5 s and 60 s of driver.

    python benchmarks/lift.py [--quick] [--device cpu] [--publish]

This process stays small (no torch), because a child's peak memory is at least its parent's.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from material import ROOT, conclude, find, table

GOALS = """Goals at 512 x 512 on 2 cores: at least 10 frames per second end to end (aim: 25), a source in 2 s once
models are loaded, peak memory below 1.5 GB and the same for both lengths."""

LOOP = """
import sys
from itertools import islice
from pathlib import Path
from preprocess.media.video import probe, read_frames
from preprocess.media.video_writer import VideoWriter
clip, target, seconds = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
info = probe(clip)
def endless():
    while True:
        for frame in read_frames(clip, frame_rate=info.frame_rate):
            yield frame.image
with VideoWriter(target, height=info.height, width=info.width, frame_rate=info.frame_rate) as writer:
    for image in islice(endless(), round(seconds * info.frame_rate)):
        writer.write(image)
"""


def environment() -> dict[str, str]:
    """The children find the checkout also where it is not installed."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": path}


def run_measured(command: list[str]) -> dict[str, Any]:
    """Runs a child to its end: `wall` and `cpu` seconds, `peak_mb` its largest resident size, `output`.

    Raises:
        SystemExit: it failed.
    """
    begin = time.perf_counter()
    with tempfile.TemporaryFile("w+") as output:
        child = subprocess.Popen(command, stdout=output, env=environment())
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.perf_counter() - begin
        child.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read()
    if child.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {child.returncode}")
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    return {"wall": wall, "cpu": usage.ru_utime + usage.ru_stime, "peak_mb": usage.ru_maxrss / unit, "output": text}


def time_stages(source: Path, driver: Path, device: str) -> dict[str, Any]:
    """Answer of stages.py in a fresh process."""
    script = str(Path(__file__).with_name("stages.py"))
    answer = run_measured([sys.executable, script, str(source), str(driver), "--device", device])
    return json.loads(answer["output"].splitlines()[-1])


def end_to_end(source: Path, clip: Path, seconds: float, folder: Path, device: str) -> dict[str, Any]:
    """The command line on a driver of the given length, made by looping a clip."""
    driver, result = folder / f"driver_{seconds:g}.mp4", folder / f"result_{seconds:g}.mp4"
    run_measured([sys.executable, "-c", LOOP, str(clip), str(driver), str(seconds)])
    command = [sys.executable, "-m", "portrait4d.cli.main", "reenact", str(source), str(driver), "-o", str(result)]
    measured = run_measured([*command, "--device", device, "--json", "--quiet"])
    report = json.loads(measured.pop("output"))
    frames = report["num_frames"]
    working = report["seconds"]["total"] - report["seconds"].get("load", 0.0)
    return {
        **measured,
        "driver_seconds": seconds,
        "num_frames": frames,
        "frames_per_second": frames / measured["wall"],
        "frames_per_second_loaded": frames / working,
        "cpu_per_frame": measured["cpu"] / frames,
        "stages": report["seconds"],
    }


def processor() -> str:
    """Name of the processor, as far as the system tells."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def report_text(stages: dict[str, Any], runs: list[dict[str, Any]], device: str) -> str:
    """Both tables."""
    rows = []
    for name, value in stages["times"].items():
        unit = "ms" if name.endswith("per frame") else "s"
        digits = 1 if unit == "ms" else 2
        rows.append([name, f"{value['wall']:.{digits}f} {unit}", f"{value['cpu']:.{digits}f} {unit}"])
    ends = [
        [
            f"{run['driver_seconds']:g} s, {run['num_frames']} frames",
            f"{run['wall']:.1f} s",
            f"{run['frames_per_second']:.1f}",
            f"{run['frames_per_second_loaded']:.1f}",
            f"{1000 * run['cpu_per_frame']:.0f} ms",
            f"{run['peak_mb']:.0f} MB",
        ]
        for run in runs
    ]
    header = ["driver", "whole command", "frames/s", "frames/s, models loaded", "CPU per frame", "peak memory"]
    machine = f"{processor()}, {os.cpu_count()} cores, device {device}, load average {stages['load_average']:.1f}"
    return "\n\n".join(
        [
            "## Speed and memory of `lift`",
            GOALS,
            f"Measured on {machine} (other work on the machine raises wall times; CPU seconds hardly change).",
            table(["stage", "wall", "CPU, all threads"], rows),
            "`portrait4d reenact` in a fresh process, start-up included:",
            table(header, ends),
        ]
    )


def main() -> None:
    """Runs the stages and both lengths."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="5 s of driver only")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--source", default="s02")
    parser.add_argument("--driver", default="d02")
    parser.add_argument("--publish", action="store_true", help="rewrite its page in docs/results")
    arguments = parser.parse_args()
    source, clip, device = find(arguments.source), find(arguments.driver), arguments.device
    time_stages(source, clip, device)  # fills the caches of compiled code and of the disk
    stages = time_stages(source, clip, device)
    with tempfile.TemporaryDirectory() as folder:
        lengths = (5.0,) if arguments.quick else (5.0, 60.0)
        runs = [end_to_end(source, clip, seconds, Path(folder), device) for seconds in lengths]
    conclude(
        "lift", report_text(stages, runs, device), {"stages": stages, "runs": runs}, is_published=arguments.publish
    )


if __name__ == "__main__":
    main()
