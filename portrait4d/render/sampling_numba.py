"""The samples by weight of `sampling.py`, compiled by numba at first use."""

import numpy as np

from flame.compiled import compiled


@compiled(error_model="numpy")
def place_by_weight(depths, weights, quantiles, found, begin, stop):
    """Writes the distances at quantiles of the widened weights, for the rays `begin` to `stop`.

    Args:
        depths: `[N, K]`.
        weights: `[N, K - 1]` of the intervals between them.
        quantiles: `[N, M]`.
        found: written, `[N, M]`.
        begin: first ray.
        stop: one after the last ray.
    """
    count = depths.shape[1] - 3  # the outermost intervals have a neighbour on one side only
    cumulated, wide = np.zeros(count + 1, np.float32), np.empty(count, np.float32)
    for ray in range(begin, stop):
        weight, depth = weights[ray], depths[ray]
        total = 0.0
        for index in range(count):
            before, after = max(weight[index], weight[index + 1]), max(weight[index + 1], weight[index + 2])
            wide[index] = np.float32(0.5) * (before + after) + np.float32(0.01) + np.float32(1e-5)
            total += wide[index]
        shared = 0.0
        for index in range(count):
            shared += wide[index] / total
            cumulated[index + 1] = shared
        for place in range(quantiles.shape[1]):
            quantile = quantiles[ray, place]
            above = 0
            for index in range(count + 1):  # a few numbers: counting them takes less time than a search
                above += cumulated[index] <= quantile
            below, above = max(above - 1, 0), min(above, count)
            width = cumulated[above] - cumulated[below]
            width = np.float32(1) if width < np.float32(1e-5) else width
            left = np.float32(0.5) * (depth[below] + depth[below + 1])
            right = np.float32(0.5) * (depth[above] + depth[above + 1])
            found[ray, place] = left + (quantile - cumulated[below]) / width * (right - left)
