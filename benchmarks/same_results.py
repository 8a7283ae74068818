"""Whether two checkouts of the project make the same files, and what each takes: for changes that may change nothing.

    python benchmarks/same_results.py OTHER_CHECKOUT [--quick] [--pairs 5] [--publish]

Both run the same commands from their own sources, in one Python: the demo, a reenactment, a motion file, an avatar, a
shard of photos, a picture of an EG3D generator with the reference weights. Then they run in turn, and the ratio of each
pair is told: start-up (`--help`) and a reenactment.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from golden import Fixture
from lift import run_measured
from material import ROOT, conclude, find, output_folder, shared_folder, table

MOST_RATIO = 1.03
GOALS = f"""Goal: the same bytes from both, and no command slower than a ratio of {MOST_RATIO} (median of pairs)."""

TIMES = re.compile(rb'("(?:core_)?seconds(?:_per_record)?": ?|Seconds of one core per record: )[\d.]+')
"""What differs between two runs of one program in the reports that it writes."""


def write_eg3d(folder: Path) -> Path:
    """The reference weights of the released EG3D size, as a checkpoint folder that both checkouts read."""
    from portrait4d.eg3d.generator import EG3DGenerator
    from portrait4d.weights.config import CheckpointConfig
    from portrait4d.weights.eg3d_config import EG3DConfig
    from portrait4d.weights.own_format import write_checkpoint

    fixture = Fixture.load(shared_folder(), "eg3d_ffhq512")
    generator = EG3DGenerator(EG3DConfig.from_official(fixture.about["kwargs"]))
    fixture.fill(generator)
    config = CheckpointConfig(
        family="eg3d", network="generator", architecture=generator.config.to_dict(),
        plane_layout=generator.config.plane_layout, camera_axes=generator.config.camera_axes,
        box_warp=generator.config.render.box_warp,
    )  # fmt: skip
    write_checkpoint(folder, config, generator.state_dict())
    return folder


def jobs(work: Path, *, is_quick: bool) -> dict[str, list[str]]:
    """Command lines by name; each writes into the folder it is run in."""
    photos = work / "photos"
    photos.mkdir(exist_ok=True)
    for name in ("s01", "s02", "s03"):
        shutil.copy(find(name), photos)
    photo, clip = str(find("s02")), str(find("d02"))
    seconds = ["--duration", "1" if is_quick else "4"]
    listed = {
        "demo": ["demo", "-o", "demo", *seconds],
        "reenact": ["reenact", photo, clip, "-o", "result.mp4", *seconds],
        "track": ["track", clip, "-o", "motion.npz", *seconds],
        "avatar": ["avatar", photo, "-o", "avatar.safetensors"],
        "shard": ["data", "ffhq", str(photos), "-o", "shards", "--workers", "1"],
    }
    if not is_quick:
        weights = str(write_eg3d(work / "weights"))
        listed["eg3d"] = ["eg3d", "sample", weights, "-o", "samples", "--seeds", "0", "--yaw", "0"]
    return listed


def start(checkout: Path, arguments: Sequence[str]) -> list[str]:
    """The command of a checkout, whatever is installed."""
    code = f"import sys; sys.path.insert(0, {str(checkout)!r}); from portrait4d.cli.main import main; main()"
    return [sys.executable, "-c", code, *arguments]


def run(checkout: Path, arguments: Sequence[str], folder: Path) -> dict[str, str]:
    """Runs a command in an empty folder.

    Returns:
        sha256 of each file it wrote, by name; times in records are not counted.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    result = subprocess.run(start(checkout, arguments), cwd=folder, env=environment, capture_output=True, text=True)
    if result.returncode:
        raise SystemExit(f"{' '.join(arguments)} of {checkout} ended with {result.returncode}: {result.stderr[-800:]}")
    written = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): _digest(path) for path in written}


def _digest(path: Path) -> str:
    content = path.read_bytes()
    if path.suffix in (".json", ".html"):
        content = TIMES.sub(rb"\1", content)
    return hashlib.sha256(content).hexdigest()


def pair_ratios(first: Path, second: Path, arguments: Sequence[str], work: Path, *, count: int) -> dict[str, Any]:
    """Runs both in turn: the ratios second / first of CPU and wall seconds, and the seconds of the first."""
    runs: list[list[dict[str, Any]]] = []
    for index in range(count + 1):  # the first pair fills caches
        pair = []
        for checkout in (first, second) if index % 2 else (second, first):
            os.chdir(work)
            pair.append((checkout, run_measured(start(checkout, arguments))))
        if index:
            runs.append([measured for _, measured in sorted(pair, key=lambda item: item[0] != first)])
    cpu = [after["cpu"] / before["cpu"] for before, after in runs]
    wall = [after["wall"] / before["wall"] for before, after in runs]
    return {"cpu": cpu, "wall": wall, "seconds": statistics.median(before["wall"] for before, _ in runs)}


def main() -> None:
    """Compares files, then times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, help="checkout of the earlier state")
    parser.add_argument("--quick", action="store_true", help="short clips, no EG3D")
    parser.add_argument("--pairs", type=int, default=5, help="pairs of timed runs; 0 for none")
    parser.add_argument("--publish", action="store_true")
    options = parser.parse_args()
    other, work = options.other.resolve(), output_folder("same_results").resolve()
    listed = jobs(work, is_quick=options.quick)
    rows, data = [], {}
    for name, arguments in listed.items():
        before, after = (run(checkout, arguments, work / name) for checkout in (other, ROOT))
        differing = sorted(file for file in before.keys() | after.keys() if before.get(file) != after.get(file))
        rows.append([name, len(before), "yes" if not differing else f"no: {', '.join(differing)}"])
        data[name] = {"before": before, "after": after}
        print(rows[-1], flush=True)
    speed = []
    timed = {"--help": ["--help"], "reenact --help": ["reenact", "--help"], "reenact": listed["reenact"]}
    for name, arguments in timed.items() if options.pairs else ():
        ratios = pair_ratios(other, ROOT, arguments, work, count=options.pairs)
        data[f"time of {name}"] = ratios
        cells = [f"{statistics.median(ratios[kind]):.3f} ({min(ratios[kind]):.3f} to {max(ratios[kind]):.3f})"
                 for kind in ("cpu", "wall")]  # fmt: skip
        speed.append([name, f"{ratios['seconds']:.2f} s", *cells])
        print(speed[-1], flush=True)
    parts = ["## Same results as before", GOALS, table(["command", "files", "same bytes"], rows)]
    if speed:
        parts += [f"{options.pairs} pairs of whole processes in turn, after / before, median (range):",
                  table(["command", "before", "CPU ratio", "wall ratio"], speed)]  # fmt: skip
    conclude("same_results", "\n\n".join(parts), json.loads(json.dumps(data)), is_published=options.publish)
    if any(row[2] != "yes" for row in rows):
        raise SystemExit("results differ: see the table")


if __name__ == "__main__":
    main()
