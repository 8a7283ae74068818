"""Exponential and logarithm for compiled loops, of the few operations that vector registers have; float32.

The library's own functions are called lane by lane, which takes five times as long.
"""

import numba
import numpy as np
from llvmlite import ir
from numba.extending import intrinsic

_OPTIONS = {"fastmath": {"contract", "reassoc", "nsz", "arcp"}, "error_model": "numpy"}

LOWEST = np.float32(-87)
"""Below, the result would not be a normal number."""

LOG2_E = np.float32(1.4426950408889634)
LN2_HIGH, LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
"""ln 2 in two parts: few digits, so that its multiples are exact, and the rest."""

ONE, TWO = np.float32(1), np.float32(2)
BIAS, SHIFT = np.int32(127), np.int32(23)
"""Of a float's exponent."""

E2, E3, E4, E5, E6, E7 = (np.float32(1 / factor) for factor in (2, 6, 24, 120, 720, 5040))
"""Taylor's series of exp."""

L3, L5, L7, L9, L11, L13 = (np.float32(1 / factor) for factor in (3, 5, 7, 9, 11, 13))
"""Taylor's series of artanh."""


@intrinsic
def _as_float(typing_context, bits):
    """The float32 that has these 32 bits."""

    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.FloatType())

    return numba.float32(numba.int32), generate


@numba.njit(error_model="numpy", fastmath={"contract"})
def exp_of_negative(x):
    """`exp(x)` of x <= 0: a power of two times the series of what is left, at most ln(2) / 2."""
    x = max(x, LOWEST)
    count = np.rint(x * LOG2_E)
    rest = (x - count * LN2_HIGH) - count * LN2_LOW
    series = ONE + rest * (ONE + rest * (E2 + rest * (E3 + rest * (E4 + rest * (E5 + rest * (E6 + rest * E7))))))
    return series * _as_float((np.int32(count) + BIAS) << SHIFT)  # pyright: ignore[reportCallIssue]  (numba's own argument)


@numba.njit(error_model="numpy", fastmath={"contract"})
def log_of_one_plus(x):
    """`log(1 + x)` of x in [0, 1], which is `2 artanh(x / (2 + x))`."""
    half = x / (TWO + x)
    square = half * half
    series = ONE + square * (L3 + square * (L5 + square * (L7 + square * (L9 + square * (L11 + square * L13)))))
    return TWO * half * series
