"""The two layers of `decoder.py` and their gradients, compiled by numba at first use.

Points are taken in blocks whose values lie side by side, so that every inner loop has a constant length and runs over
the lanes of vector registers. The hidden layer is computed again for the gradients, which costs less than keeping it.
"""

import numba
import numpy as np

from flame.compiled import compiled
from portrait4d.ops.exponential_numba import exp_of_negative, log_of_one_plus

LANES = 128
"""Points of a block."""

_OPTIONS = {"fastmath": {"contract", "reassoc", "nsz", "arcp"}, "error_model": "numpy"}

ZERO, ONE = np.float32(0), np.float32(1)


@numba.njit(**_OPTIONS)
def _read(values, start, size, block):
    """Writes rows from `start` on, `[N, C]`, as columns of `[C, LANES]`; what is beyond `size` becomes zero."""
    for channel in range(values.shape[1]):
        for lane in range(size):
            block[channel, lane] = values[start + lane, channel]
        for lane in range(size, LANES):
            block[channel, lane] = ZERO


@numba.njit(**_OPTIONS)
def _add_product(weights, block, total):
    """Adds weights `[K]` times `[K, LANES]` to `[LANES]`; K is a multiple of 4."""
    for k in range(0, len(weights), 4):
        a, b, c, d = weights[k], weights[k + 1], weights[k + 2], weights[k + 3]
        for lane in range(LANES):
            total[lane] += a * block[k, lane] + b * block[k + 1, lane] + c * block[k + 2, lane] + d * block[k + 3, lane]


@numba.njit(**_OPTIONS)
def _add_sums(block, line, sums):
    """Adds the products of `[K, LANES]` with `[LANES]`, summed over the lanes, to `[K]`; K is a multiple of 4."""
    for k in range(0, len(sums), 4):
        a, b, c, d = ZERO, ZERO, ZERO, ZERO
        for lane in range(LANES):
            value = line[lane]
            a += block[k, lane] * value
            b += block[k + 1, lane] * value
            c += block[k + 2, lane] * value
            d += block[k + 3, lane] * value
        sums[k] += a
        sums[k + 1] += b
        sums[k + 2] += c
        sums[k + 3] += d


@compiled(**_OPTIONS)
def decode(rows, first, first_bias, last, last_bias, widening, density, colours, begin, stop):
    """Writes density and colours of the rows `begin` to `stop`.

    Args:
        rows: `[N, C]`, C a multiple of 4.
        first: `[H, C]`, H a multiple of 4.
        first_bias: `[H]`.
        last: `[1 + D, H]`.
        last_bias: `[1 + D]`.
        widening: of the sigmoid.
        density: written, `[N]`.
        colours: written, `[N, D]`.
        begin: first row.
        stop: one after the last row.
    """
    x = np.empty((rows.shape[1], LANES), np.float32)
    hidden = np.empty((len(first), LANES), np.float32)
    y = np.empty(LANES, np.float32)
    for start in range(begin, stop, LANES):
        size = min(LANES, stop - start)
        _read(rows, start, size, x)
        for unit in range(len(first)):
            y[:] = first_bias[unit]
            _add_product(first[unit], x, y)
            for lane in range(LANES):
                hidden[unit, lane] = max(y[lane], ZERO) + log_of_one_plus(exp_of_negative(-abs(y[lane])))
        for row in range(len(last)):
            y[:] = last_bias[row]
            _add_product(last[row], hidden, y)
            if row == 0:
                density[start : start + size] = y[:size]
                continue
            for lane in range(LANES):
                power = exp_of_negative(-abs(y[lane]))
                share = (ONE if y[lane] > 0 else power) / (ONE + power)
                y[lane] = share * (ONE + 2 * widening) - widening
            for lane in range(size):
                colours[start + lane, row - 1] = y[lane]


@compiled(**_OPTIONS)
def decode_backward(
    rows, first, first_bias, last, found, rows_found, first_found, first_bias_found, last_found, begin, stop
):
    """Adds the gradients of the weights over the rows `begin` to `stop`, and writes those of the rows.

    Args:
        rows: `[N, C]`.
        first: `[H, C]`.
        first_bias: `[H]`.
        last: `[K, H]`, K a multiple of 4: rows of zeros at the end.
        found: `[N, K]` the loss's gradient at the last layer, before the sigmoid.
        rows_found: written, `[N, C]`.
        first_found: added to, `[H, C]`.
        first_bias_found: added to, `[H]`.
        last_found: added to, `[H, K]`.
        begin: first row.
        stop: one after the last row.
    """
    x = np.empty((rows.shape[1], LANES), np.float32)
    given = np.empty((len(last), LANES), np.float32)
    slope = np.empty((len(first), LANES), np.float32)
    hidden, y = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    first_columns, last_columns = first.T.copy(), last.T.copy()
    for start in range(begin, stop, LANES):
        size = min(LANES, stop - start)
        _read(rows, start, size, x)
        _read(found, start, size, given)
        for unit in range(len(first)):
            y[:] = first_bias[unit]
            _add_product(first[unit], x, y)
            for lane in range(LANES):
                power = exp_of_negative(-abs(y[lane]))
                hidden[lane] = max(y[lane], ZERO) + log_of_one_plus(power)
                slope[unit, lane] = (ONE if y[lane] > 0 else power) / (ONE + power)
            _add_sums(given, hidden, last_found[unit])
            y[:] = ZERO
            _add_product(last_columns[unit], given, y)
            total = ZERO
            for lane in range(LANES):
                slope[unit, lane] *= y[lane]
                total += slope[unit, lane]
            first_bias_found[unit] += total
            _add_sums(x, slope[unit], first_found[unit])
        for channel in range(len(x)):
            y[:] = ZERO
            _add_product(first_columns[channel], slope, y)
            for lane in range(size):
                rows_found[start + lane, channel] = y[lane]
