"""Seeds of the sampling noise: one of each frame, by its number alone, however frames are parted among threads or runs.

The released code draws its noise from one generator, frame after frame; what a frame gets then hangs on all before it.
"""

import numpy as np
import torch
from torch import Tensor


def frame_seed(jitter: int, frame: int) -> int:
    """32 bits, all that torch's CPU generator reads, that neighbouring seeds and frames do not share."""
    return int(np.random.SeedSequence((jitter, frame)).generate_state(1)[0])


def frame_seeds(jitter: int | None, frames: range) -> Tensor:
    """Seeds `[T, 1]` int64 of frames with these numbers; `[T, 0]` where there is no jitter."""
    if jitter is None:
        return torch.zeros(len(frames), 0, dtype=torch.int64)
    return torch.tensor([[frame_seed(jitter, frame)] for frame in frames], dtype=torch.int64)


def frame_generator(seeds: Tensor, device: torch.device | str) -> torch.Generator | None:
    """The generator of one frame's seeds `[1, 1]`, None of `[1, 0]`; other devices draw other numbers."""
    return torch.Generator(device).manual_seed(int(seeds)) if seeds.numel() else None
