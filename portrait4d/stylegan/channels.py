"""How wide a StyleGAN2 network is at each resolution, and which of its blocks compute in fp16."""

import math


def num_channels(resolution: int, *, channel_base: int = 32768, channel_max: int = 512) -> int:
    """Channels at a resolution: `channel_base / resolution`, at most `channel_max`."""
    return min(channel_base // resolution, channel_max)


def block_resolutions(resolution: int) -> list[int]:
    """Resolutions of the blocks: 4, 8, ... up to `resolution`.

    Raises:
        ValueError: `resolution` is not a power of two of at least 4.
    """
    steps = int(math.log2(resolution)) if resolution > 0 else 0
    if resolution < 4 or 2**steps != resolution:
        raise ValueError(f"resolution must be a power of two of at least 4, got {resolution}")
    return [2**step for step in range(2, steps + 1)]


def is_half_block(block_resolution: int, *, resolution: int, num_half_resolutions: int) -> bool:
    """Whether a block is among the `num_half_resolutions` finest, which compute in fp16 on CUDA; never below 8."""
    first = max(2 ** (int(math.log2(resolution)) + 1 - num_half_resolutions), 8)
    return block_resolution >= first
