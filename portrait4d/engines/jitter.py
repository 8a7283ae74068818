"""Seeds of the sampling noise: a frame's seed depends on its number alone, not on how threads or runs share the frames.

The released code draws its noise from one generator, frame after frame, so that a frame's depends on all before it.
"""

import numpy as np
import torch
from torch import Tensor


def frame_seed(jitter: int, frame: int) -> int:
    """Mixes the user's seed and the frame's number into 32 bits, which is all that torch's CPU generator reads."""
    return int(np.random.SeedSequence((jitter, frame)).generate_state(1)[0])


def frame_seeds(jitter: int | None, frames: range) -> Tensor:
    """Seeds int64 `[T, 1]` of the frames with the given numbers; `[T, 0]` without jitter."""
    if jitter is None:
        return torch.zeros(len(frames), 0, dtype=torch.int64)
    return torch.tensor([[frame_seed(jitter, frame)] for frame in frames], dtype=torch.int64)


def frame_generator(seeds: Tensor, device: torch.device | str) -> torch.Generator | None:
    """The generator for one frame's seeds `[1, 1]`; None for `[1, 0]`. Its numbers depend on the kind of device."""
    return torch.Generator(device).manual_seed(int(seeds)) if seeds.numel() else None
