"""How well and how fast `portrait4d fit-scene` fits the synthetic scene of the open head.

    python benchmarks/fit_scene.py [--quick] [--publish]

Makes the scene (60 views to fit, 12 held out, 128 x 128) in a temporary folder and runs the command on it in a fresh
process. What the command writes is kept in `out/benchmarks/fit-scene/`. This process stays small (no torch), because a
child's peak memory is at least its parent's.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from lift import processor, run_measured
from material import ROOT, conclude, output_folder, table

GOALS = "Goals: held-out PSNR at least 28 dB, in under 10 minutes on 2 cores."


def measure(folder: Path, *, is_quick: bool) -> dict[str, Any]:
    """Makes the scene, fits it; the command's report and what its processes cost."""
    script, data, result = ROOT / "scripts" / "make_open_head_scene.py", folder / "data", folder / "result"
    made = run_measured([sys.executable, str(script), str(data)])
    command = [sys.executable, "-m", "portrait4d.cli.main", "fit-scene", str(data), "-o", str(result)]
    load_average = os.getloadavg()[0]
    fitted = run_measured([*command, "--json", "--quiet", *(["--steps", "100"] if is_quick else [])])
    report = json.loads(fitted.pop("output"))
    kept = output_folder("fit-scene")
    for path in result.iterdir():
        if path.is_file():
            shutil.copy(path, kept / path.name)
    costs = {"scene": {"wall": made["wall"], "cpu": made["cpu"]}, "command": fitted, "load_average": load_average}
    return {**costs, "report": {**report, "output": kept.name}}


def report_text(measured: dict[str, Any]) -> str:
    """Goals, cost, quality of each view and on the way."""
    report, command = measured["report"], measured["command"]
    scene, fitter = report["scene"], report["fitter"]
    steps = [
        ["making the scene", measured["scene"]["wall"], measured["scene"]["cpu"]],
        ["`fit-scene`: the steps alone", report["wall_seconds"], report["cpu_seconds"]],
        ["`fit-scene`: the whole command", command["wall"], command["cpu"]],
    ]
    quality = [["mean", report["mean_psnr"]], *sorted(report["psnr"].items())]
    setting = (
        f"{report['num_train']} views; planes 3 x {scene['plane_channels']} x {scene['plane_resolution']} x "
        f"{scene['plane_resolution']}, {fitter['num_steps']} steps of {fitter['num_rays']} rays with "
        f"{scene['num_coarse']} + {scene['num_fine']} samples, one thread. Peak memory {command['peak_mb']:.0f} MB."
    )
    machine = f"{processor()}, {os.cpu_count()} cores, load average before the fit {measured['load_average']:.1f}"
    way = [row for row in report["history"] if row["step"] % 200 == 0 or row["step"] == report["num_steps"]]
    return "\n\n".join(
        [
            "## `fit-scene` on the synthetic scene",
            GOALS,
            setting,
            f"Measured on {machine} (other work on the machine raises wall times; CPU seconds hardly change).",
            table(["", "wall seconds", "CPU seconds, all threads"], steps, digits=1),
            "![Truth, fit and error of views held out](../scene.png)",
            table(["view held out", "dB"], quality, digits=2),
            "On the way, over rays that meet the scene's cube:",
            table(
                ["step", "fitted rays, dB", "held-out rays, dB"],
                [[round(row["step"]), row["fitted_psnr"], row["held_out_psnr"]] for row in way],
                digits=2,
            ),
        ]
    )


def main() -> None:
    """Measures once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="100 steps: far from the goals, shows that it runs")
    parser.add_argument("--publish", action="store_true", help="rewrite its page in docs/results")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measured = measure(Path(folder), is_quick=arguments.quick)
    conclude("fit-scene", report_text(measured), measured, is_published=arguments.publish)


if __name__ == "__main__":
    main()
