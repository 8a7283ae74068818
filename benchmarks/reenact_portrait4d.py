"""What `portrait4d reenact --engine portrait4d-v2` costs as a whole, and whether it goes on after a kill.

    python benchmarks/reenact_portrait4d.py [--quick] [--publish]

At full size on a real photo and a real driver, with generated weights: the pictures are noise, all else is as with the
released ones. A short and a longer run part what a frame costs from what starting up and building the source cost.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from costs import machine
from lift import run_measured
from material import ROOT, conclude, find, output_folder, shared_folder, table
from synthetic_flame import write_synthetic_flame

sys.path.insert(0, str(ROOT))

from generated_weights import install_generated
from portrait4d.reconstructor.config import ReconstructorConfig
from preprocess.media.video import read_frames

GOALS = """Goal: at most 12 CPU seconds per driving frame in fp32 (the original: 25 to 32, and 3.3 GB): tracking,
motion codes, drawing and writing. A killed run goes on and ends with the same video."""

ENGINE = "portrait4d-v2"
FRAME_RATE = 25


def install(home: Path) -> None:
    """Generated weights of the released size, and a FLAME-shaped head, where released ones are kept."""
    flame = home / "flame"
    write_synthetic_flame(flame)
    install_generated(home, shared_folder(), flame, engine=ENGINE, config=ReconstructorConfig())


def command(output: Path, *, num_frames: int) -> list[str]:
    """The command line of a run."""
    inputs = [str(find("s02")), str(find("d02")), "-o", str(output), "--duration", str(num_frames / FRAME_RATE)]
    return [sys.executable, "-m", "portrait4d.cli.main", "reenact", *inputs, "--engine", ENGINE, "--json", "--quiet"]


def kill_with_frames(output: Path, *, num_frames: int, num_kept: int) -> None:
    """Starts a run and kills it as soon as so many frames are kept."""
    with subprocess.Popen(command(output, num_frames=num_frames), stdout=subprocess.DEVNULL) as process:
        while len(list(output.parent.glob(f".{output.name}.*.frames/*.png"))) < num_kept:
            if process.poll() is not None:
                raise SystemExit(f"{output.name} ended before {num_kept} frames were kept")
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)


def is_same_video(one: Path, other: Path) -> bool:
    """Whether all decoded frames are equal."""
    frames, others = ([frame.image.tobytes() for frame in read_frames(path)] for path in (one, other))
    return frames == others


def measure(folder: Path, *, few: int, many: int) -> dict[str, Any]:
    """Both runs, and one that is killed and goes on."""
    runs = {}
    for number in (few, many):
        measured = run_measured(command(folder / f"{number}.mp4", num_frames=number))
        runs[number] = {**measured, "output": json.loads(measured["output"])}
    frames = {number: run["output"]["num_frames"] for number, run in runs.items()}
    extra = frames[many] - frames[few]
    kill_with_frames(folder / "killed.mp4", num_frames=many, num_kept=many // 2)
    resumed = run_measured(command(folder / "killed.mp4", num_frames=many))
    return {
        "machine": machine(),
        "num_frames": frames[many],
        "cpu_per_frame": (runs[many]["cpu"] - runs[few]["cpu"]) / extra,
        "wall_per_frame": (runs[many]["wall"] - runs[few]["wall"]) / extra,
        "cpu_start": runs[few]["cpu"] - frames[few] * (runs[many]["cpu"] - runs[few]["cpu"]) / extra,
        "peak_mb": runs[many]["peak_mb"],
        "cpu_resumed": resumed["cpu"],
        "num_kept_frames": json.loads(resumed["output"])["num_kept_frames"],
        "is_same": is_same_video(folder / "killed.mp4", folder / f"{many}.mp4"),
    }


def main() -> None:
    """Runs it and makes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="8 frames instead of 12")
    parser.add_argument("--publish", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=output_folder("reenact-portrait4d")) as name:
        folder = Path(name)
        os.environ["PORTRAIT4D_HOME"] = str(folder / "home")
        install(folder / "home")
        measured = measure(folder, few=4, many=8 if options.quick else 12)  # four keep both workers busy
    rows = [
        ["CPU seconds of a further frame", f"{measured['cpu_per_frame']:.2f}"],
        ["wall seconds of a further frame", f"{measured['wall_per_frame']:.2f}"],
        ["CPU seconds of start-up, weights and source", f"{measured['cpu_start']:.1f}"],
        ["peak memory", f"{measured['peak_mb']:.0f} MB"],
        ["frames taken over after a kill", f"{measured['num_kept_frames']} of {measured['num_frames']}"],
        ["its video is the uninterrupted one", "yes" if measured["is_same"] else "NO"],
    ]
    head = f"## `portrait4d reenact --engine {ENGINE}`, whole"
    text = "\n\n".join([head, GOALS, measured["machine"], table(["", "measured"], rows)])
    conclude("reenact-portrait4d", text, measured, is_published=options.publish)


if __name__ == "__main__":
    main()
