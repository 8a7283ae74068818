"""Matrix products in pieces so small that the BLAS does not start threads for them.

A fit multiplies thousands of matrices of some hundred rows. Threads gain nothing there, and on a busy machine, beside
the networks' own threads, waiting for them was measured to cost twenty times the product itself. OpenBLAS uses one
thread up to 2^18 multiplications; `torch` and `numpy` have no switch that would not change the caller's settings.
Measured on a clip of 5 s: 1.9 CPU seconds in pieces, 1.9 in whole products with the BLAS held to one thread (as
threadpoolctl does, for the whole process), 9 to 11 in whole products on two threads. Whole products also change
the last bits of motion files.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve

_BLOCK = 64
"""64^3 = 2^18."""


def gram(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """`rows^T rows` `[P, P]` of `[N, P]`."""
    count, width = rows.shape
    padded = np.zeros((-(-count // _BLOCK), _BLOCK, width), np.float32)
    padded.reshape(-1, width)[:count] = rows
    result = np.empty((width, width))
    for first in range(0, width, _BLOCK):
        left = np.ascontiguousarray(padded[:, :, first : first + _BLOCK].transpose(0, 2, 1))
        for second in range(first, width, _BLOCK):
            right = np.ascontiguousarray(padded[:, :, second : second + _BLOCK])
            block = np.matmul(left, right).sum(0, dtype=np.float64)
            result[first : first + _BLOCK, second : second + _BLOCK] = block
            result[second : second + _BLOCK, first : first + _BLOCK] = block.T
    return result


def product(left: NDArray, right: NDArray) -> NDArray:
    """`left @ right` of `[N, K]` and `[K, M]`."""
    step = max(1, 2**18 // max(1, left.shape[0] * left.shape[1]))
    pieces = [left @ right[:, start : start + step] for start in range(0, right.shape[1], step)]
    return np.concatenate(pieces, 1) if pieces else np.zeros((left.shape[0], 0), left.dtype)


def solve_columns(factor: tuple[NDArray, bool], right: NDArray) -> NDArray:
    """`scipy.linalg.cho_solve` for many right-hand sides `[N, M]`, sixteen at a time."""
    pieces = [cho_solve(factor, right[:, at : at + 16], check_finite=False) for at in range(0, right.shape[1], 16)]
    return np.concatenate(pieces, 1) if pieces else np.zeros_like(right)


def combine(basis: NDArray, coefficients: NDArray) -> NDArray:
    """`basis @ coefficients` of `[..., K]` and `[K]`."""
    return np.einsum("...k,k->...", basis, coefficients)
