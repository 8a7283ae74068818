"""A training as two processes on this machine, as `torchrun` starts it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import torch

from places import ROOT
from portrait4d.train.checkpoint import list_states, restore_state, trainer_tensors
from portrait4d.train.config_file import plain_values
from portrait4d.train.trainer import Trainer


def train_in_two(command: list[str], config: Any, folder: Path) -> str:
    """Trains in `folder / "run"` and returns what was said.

    Args:
        command: module of a command line and its words, up to `train`.
        config: of the training.
        folder: of a test.
    """
    recipe = folder / "recipe.yaml"
    recipe.write_text(json.dumps(plain_values(config)))
    start = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--rdzv-backend=c10d"]
    words = ["--rdzv-endpoint=localhost:0", "-m", *command, "--config", str(recipe), "-o", str(folder / "run")]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [*start, *words],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    try:
        return process.communicate(timeout=540)[0]
    finally:
        if process.poll() is None:
            for each in (*psutil.Process(process.pid).children(recursive=True), process):
                each.kill()


def assert_same_training(one: Trainer, other: Trainer, folder: Path) -> None:
    """The last checkpoint of `train_in_two` holds the tensors of a trainer, to 1e-5.

    Adam's moments to 1e-4: one of 128 numbers of EG3D's was once 1.3e-5 off, in one run of several. Why is not known.

    Args:
        one: after its last step.
        other: of the same configuration; it is overwritten.
        folder: as of `train_in_two`.
    """
    restore_state(list_states(folder / "run" / "checkpoints")[-1], other)
    assert one.images_seen == other.images_seen
    found = trainer_tensors(other)
    for name, value in trainer_tensors(one).items():
        atol = 1e-4 if name.startswith("adam.") else 1e-5
        torch.testing.assert_close(found[name], value, atol=atol, rtol=1e-5, msg=lambda text, at=name: f"{at}: {text}")
