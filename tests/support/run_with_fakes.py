"""`portrait4d` with the fakes in place of the models: `python tests/support/run_with_fakes.py batch ...`."""

import signal
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

import portrait4d.jobs.batch  # noqa: E402
import portrait4d.jobs.views  # noqa: E402
import portrait4d.pipeline  # noqa: E402
from fakes_engine import fake_models  # noqa: E402
from portrait4d.cli.main import main  # noqa: E402

for module in (portrait4d.jobs.batch, portrait4d.pipeline, portrait4d.jobs.views):
    module.load_models = fake_models

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs begin with it ignored
main()
