"""What a page shows to who has no photo at hand: a free portrait, and a motion that moves it at once."""

from __future__ import annotations

import shutil
from pathlib import Path

from flame.heads.open_head import OpenHead
from portrait4d.engines.base import Engine
from portrait4d.jobs.demo import MOTION_FILE, demo_photo
from preprocess.media.image import write_png


def write_sample(photo: Path, motion: Path, engine: Engine) -> bool:
    """Writes the portrait (`.png`) and, where the engine can follow it, the motion (`.npz`); returns whether it can."""
    write_png(photo, demo_photo(), is_synthetic=False)
    follows = engine.head_model.name == OpenHead.name and engine.motion_encoder is None
    if follows:
        shutil.copyfile(MOTION_FILE, motion)
    return follows
