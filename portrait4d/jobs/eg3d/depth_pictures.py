"""Depth as a grey picture, in which near is bright."""

import numpy as np


def depth_limits(depth: np.ndarray, alpha: np.ndarray) -> tuple[float, float]:
    """The smallest and largest distance where the opacity is over one half; (0, 1) if it is nowhere.

    Args:
        depth: distances, an array of any shape.
        alpha: opacity in [0, 1], of the same shape.
    """
    seen = depth[np.isfinite(depth) & (alpha > 0.5)]
    return (float(seen.min()), float(seen.max())) if seen.size else (0.0, 1.0)


def depth_to_grey(depth: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """Maps distances to uint8 of the same shape: 255 up to the first limit, 0 from the second on and at infinity."""
    near, far = limits
    nearness = (far - depth.astype(np.float64)) / max(far - near, 1e-12)
    return np.rint(np.clip(nearness, 0, 1) * 255).astype(np.uint8)
