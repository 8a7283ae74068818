"""Stages without networks, for tests of the build: quick, and with files that kill their process."""

import hashlib
import os
import signal
import time
from pathlib import Path

import numpy as np

from flame.errors import InputError
from flame.heads.head_model import HeadParams
from preprocess.dataset.building.plan import Item
from preprocess.dataset.building.stage_options import Outcome, StageOptions
from preprocess.dataset.records.record import Record

NUM_SHAPE, NUM_EXPRESSION = 4, 3

LOADING_SECONDS = 4.0
"""How long `SlowlyLoadedStages` take to load."""


class FakeStages:
    """Records that depend on the file's content alone; `bad`, `bug`, `kill` and `hang` at its start go wrong.

    After `PORTRAIT4D_FAKE_ITEMS` items, if it is set, they wait to be killed.
    """

    def __init__(self, options: StageOptions) -> None:
        self.num_records = 2 if options.kind == "clip" else 1
        self._num_left = float(os.environ.get("PORTRAIT4D_FAKE_ITEMS", "inf"))

    def __call__(self, path: Path, item: Item) -> Outcome:
        if self._num_left <= 0:
            time.sleep(3600)
        self._num_left -= 1
        content = path.read_bytes()
        if content.startswith(b"bad"):
            raise InputError(f"{path}: no face found")
        if content.startswith(b"bug"):
            raise ZeroDivisionError("by nothing")
        if content.startswith(b"kill"):
            os.kill(os.getpid(), signal.SIGSEGV)
        if content.startswith(b"hang"):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(3600)
        if content.startswith(b"slow"):
            time.sleep(0.05)
        seed = int.from_bytes(hashlib.sha256(content).digest()[:4], "big")
        return Outcome(tuple(fake_record(item, seed, index) for index in range(self.num_records)))


class SlowlyLoadedStages(FakeStages):
    """Models that take longer than an item may."""

    def __init__(self, options: StageOptions) -> None:
        time.sleep(LOADING_SECONDS)
        super().__init__(options)


class FailingStages:
    """Models that cannot be loaded."""

    def __init__(self, options: StageOptions) -> None:
        raise InputError("no such head model")

    def __call__(self, path: Path, item: Item) -> Outcome:
        raise AssertionError("never reached")


def fake_record(item: Item, seed: int, index: int) -> Record:
    """One record of random numbers with a coarse picture."""
    random = np.random.default_rng([seed, index])
    image = np.kron(random.integers(0, 256, (8, 8, 3)), np.ones((64, 64, 1))).astype(np.uint8)
    names = (
        "sharpness",
        "yaw_degrees",
        "pitch_degrees",
        "roll_degrees",
        "occlusion",
        "outside",
        "eye_open",
        "face_px",
        "fit_error",
    )
    return Record(
        key=item.key if index == 0 else f"{item.key}-{index:06d}",
        source=item.name,
        image=image,
        mask=image[..., 0].copy(),
        crop_matrix=np.eye(3),
        source_size=(512, 512),
        landmarks=random.uniform(0, 512, (478, 3)).astype(np.float32),
        camera=random.normal(size=25).astype(np.float32),
        head=HeadParams(
            shape=random.normal(size=NUM_SHAPE).astype(np.float32),
            expression=random.normal(size=NUM_EXPRESSION).astype(np.float32),
            neck=np.zeros(3, np.float32),
            jaw=np.zeros(3, np.float32),
            eyes=np.zeros((2, 3), np.float32),
        ),
        quality={name: float(random.uniform(0, 0.1)) for name in names},
    )
