"""How long `portrait4d --help` takes in a fresh process, goal 0.5 s: the best of ten, since the machine may be busy."""

import subprocess
import sys

from material import ROOT

GOAL_SECONDS = 0.5
PROGRAM = (
    "import time; begin = time.perf_counter(); from portrait4d.cli.main import run; run(['--help']);"
    "print(time.perf_counter() - begin)"
)

if __name__ == "__main__":
    runs = [
        subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True) for _ in range(10)
    ]
    best = min(float(run.stdout.splitlines()[-1]) for run in runs)
    print(f"portrait4d --help: {best:.2f} s, goal {GOAL_SECONDS} s")
    sys.exit(best > GOAL_SECONDS)
