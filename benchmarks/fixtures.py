"""How near the networks come to the reference tensors of the official code: one table of all fixtures.

    python benchmarks/fixtures.py [--publish]

Runs the tests that compare with them, at full size, too, and lists the largest error of each output. The tests are what
passes or fails; this only shows by how much.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from material import ROOT, conclude, table

TESTS = tuple(
    f"tests/portrait4d/test_{name}.py" for name in ("eg3d_golden", "gan_golden", "eg3d_cameras", "reconstructor_golden")
)
TESTS += ("tests/preprocess/test_motion_encoder.py", "tests/preprocess/test_frame_parameters.py")

NOTE = """Errors are the largest over all stored places, in fp32 on a CPU; beside them divided by the output's largest
absolute value and by its standard deviation.
What lies behind the pose field (`p4d_deform_onlyhead`, `p4d_render_small_deform`, pictures of `p4d_recon_*`) starts
from vertices in the reference's own order of float32 operations: which of two triangles at an edge is nearest hangs on
the last bit of the vertices. From our own vertices, 1e-7 away, points move by up to 1.4e-3 (median below 5e-5)."""


def measure() -> list[dict[str, Any]]:
    """Runs the tests, those marked slow among them, and collects what they compared."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "errors.json"
        command = [sys.executable, "-m", "pytest", "-m", "", *TESTS]
        environment = {**os.environ, "PORTRAIT4D_FIXTURE_ERRORS": str(target)}
        result = subprocess.run(command, cwd=ROOT, env=environment)
        if result.returncode:
            raise SystemExit("a fixture is not reproduced: see above")
        return json.loads(target.read_text())


def main() -> None:
    """Makes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--publish", action="store_true")
    options = parser.parse_args()
    worst: dict[tuple[str, str], dict[str, Any]] = {}
    for entry in measure():
        key = entry["fixture"], entry["output"]
        if key not in worst or entry["error"] < worst[key]["error"]:  # some are compared in several ways on purpose
            worst[key] = entry
    rows = []
    for (fixture, output), entry in sorted(worst.items()):
        relative = f"{entry['error'] / entry['std']:.1e}" if entry["std"] > 1e-12 else "-"
        of_scale = f"{entry['error'] / entry['scale']:.1e}"
        rows.append([fixture, output, f"{entry['error']:.1e}", of_scale, relative])
    header = ["fixture", "output", "max error", "of the largest value", "of the spread"]
    text = "\n\n".join(["## Reference tensors", NOTE, table(header, rows)])
    conclude("fixtures", text, rows, is_published=options.publish)


if __name__ == "__main__":
    main()
