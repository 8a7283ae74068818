"""The loops along single rays in `shares.py`, compiled by numba at first use."""

import numpy as np

from flame.compiled import compiled


@compiled(error_model="numpy")
def sort_samples(depths, densities, order, ascending, lengths, means, begin, stop):
    """Sorts the samples of the rays `begin` to `stop` by depth, equal ones as they come.

    Args:
        depths: `[N, K]`.
        densities: `[N, K]`, raw.
        order: written, `[N, K]` which sample comes next.
        ascending: written, `[N, K]` depths.
        lengths: written, `[N, K - 1]` of the intervals between samples.
        means: written, `[N, K - 1]` of the densities at an interval's ends, less one.
        begin: first ray.
        stop: one after the last ray.
    """
    for ray in range(begin, stop):
        depth, density, line, which = depths[ray], densities[ray], ascending[ray], order[ray]
        for index in range(len(depth)):  # insertion: most samples come in order
            value, place = depth[index], index
            while place > 0 and line[place - 1] > value:
                line[place], which[place] = line[place - 1], which[place - 1]
                place -= 1
            line[place], which[place] = value, index
        for index in range(len(depth) - 1):
            lengths[ray, index] = line[index + 1] - line[index]
            mean = np.float32(0.5) * (density[which[index]] + density[which[index + 1]])
            means[ray, index] = mean - np.float32(1)


@compiled(error_model="numpy")
def share_out(passed, order, floor, weights, shares, begin, stop):
    """Writes weights of intervals `[N, K - 1]` and shares of samples `[N, K]`, of `passed` `[N, K - 1]`."""
    for ray in range(begin, stop):
        left, before = np.float32(1), np.float32(0)
        for index in range(passed.shape[1]):
            alpha = np.float32(1) - passed[ray, index]
            weight = alpha * left
            weights[ray, index] = weight
            shares[ray, order[ray, index]] = np.float32(0.5) * (before + weight)
            left *= np.float32(1) - alpha + floor
            before = weight
        shares[ray, order[ray, passed.shape[1]]] = np.float32(0.5) * before


@compiled(error_model="numpy")
def share_out_backward(passed, slopes, order, floor, of_weights, of_shares, of_densities, begin, stop):
    """Writes the gradients of densities `[N, K]` for those of weights and shares.

    Args:
        passed: `[N, K - 1]`.
        slopes: `[N, K - 1]` how much alpha grows with an interval's mean density.
        order: `[N, K]`.
        floor: added to what an interval lets through.
        of_weights: `[N, K - 1]`.
        of_shares: `[N, K]`.
        of_densities: written.
        begin: first ray.
        stop: one after the last ray.
    """
    count = passed.shape[1]
    lefts = np.empty(count, np.float32)
    for ray in range(begin, stop):
        left = np.float32(1)
        for index in range(count):
            lefts[index] = left
            left *= np.float32(1) - (np.float32(1) - passed[ray, index]) + floor
        behind, after = np.float32(0), np.float32(0)  # what one unit of light past the interval is worth
        for index in range(count - 1, -1, -1):
            first, second = order[ray, index], order[ray, index + 1]
            alpha = np.float32(1) - passed[ray, index]
            given = of_weights[ray, index] + np.float32(0.5) * (of_shares[ray, first] + of_shares[ray, second])
            half = np.float32(0.5) * lefts[index] * (given - behind) * slopes[ray, index]
            of_densities[ray, second] = after + half
            after = half
            behind = given * alpha + (np.float32(1) - alpha + floor) * behind
        of_densities[ray, order[ray, 0]] = after
