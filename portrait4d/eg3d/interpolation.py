"""Latent codes by seed, and a smooth loop of styles through several of them."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

WRAPS = 2
"""Repetitions of the keys before and behind, as in the authors' script; the speed at the loop's ends depends on it."""


def seed_latents(seeds: Sequence[int], dim: int) -> Tensor:
    """Latent codes float32 `[len(seeds), dim]`, drawn as in the authors' scripts: a seed means the same head."""
    rows = [np.random.RandomState(seed).randn(1, dim) for seed in seeds]
    return torch.from_numpy(np.concatenate(rows)).float()


class StyleLoop:
    """A cubic spline through styles, evenly timed, that returns to the first.

    Args:
        keys: `[K, num_styles, style_dim]`.
        wraps: see `WRAPS`.
    """

    def __init__(self, keys: Tensor, *, wraps: int = WRAPS) -> None:
        if keys.ndim != 3 or len(keys) == 0:
            raise ValueError(f"keys must be [K, num_styles, style_dim], K > 0, got {tuple(keys.shape)}")
        from scipy.interpolate import make_interp_spline

        self._keys = keys
        count = len(keys)
        places = np.arange(-wraps * count, (wraps + 1) * count)
        values = keys.detach().double().cpu().numpy()
        self._spline = None if count == 1 else make_interp_spline(places, np.tile(values, (2 * wraps + 1, 1, 1)), k=3)

    def __len__(self) -> int:
        return len(self._keys)

    def __call__(self, place: float) -> Tensor:
        """The styles `[1, num_styles, style_dim]` at a place in [0, K]: key 0 at 0, key 1 at 1, key 0 again at K."""
        if not 0 <= place <= len(self._keys):
            raise ValueError(f"the place in the loop must be in [0, {len(self._keys)}], got {place:g}")
        if self._spline is None:
            return self._keys
        return torch.from_numpy(self._spline(place)[None]).to(self._keys)
