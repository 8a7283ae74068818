"""The released motion encoder (PD-FGC) as the reconstructor's training reads pictures with it."""

from collections.abc import Callable

import torch
from torch import Tensor

from portrait4d.weights.store import fetch
from preprocess.tracking.motion_code.encoder import MotionEncoder

MOTION_MODEL = "motion-model"
"""Name of its released weights."""

ReadMotion = Callable[[Tensor, Tensor], Tensor]
"""Motion codes `[B, M]` of pictures `[B, 3, H, W]` in [-1, 1] with landmarks `[B, 70, 2]`, px from the first pixel's
centre."""


def load_motion_reader(device: torch.device) -> ReadMotion:
    """Loads the encoder, which is fetched if it is not on this machine.

    Raises:
        InputError: it is not here and cannot be fetched.
    """
    kept = fetch(MOTION_MODEL)
    encoder = MotionEncoder.load(kept.folder, device=device, weights=kept.config.identity)
    return lambda pictures, landmarks: encoder(pictures, landmarks[:, :68]).clone()  # not of inference mode
