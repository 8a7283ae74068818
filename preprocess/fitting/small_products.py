"""Matrix products in pieces so small that the BLAS does not start threads for them.

A fit multiplies thousands of matrices of a few hundred rows. Threads gain nothing there, and on a busy machine, beside
the threads of the networks, waiting for them costs several times the whole fit. OpenBLAS uses one thread up to 2^18
multiplications; the switches of `torch` and `numpy` would change the caller's settings, too.

Measured against plain `@` on `portrait4d track` of a 2 s clip (50 frames; two cores, three runs each):

    these pieces, one or two BLAS threads   1.8 to 2.0 s of CPU, 2.0 to 2.1 s by the clock
    `@`, one thread by environment          1.7 to 1.8 s of CPU, 1.8 to 2.0 s by the clock
    `@`, one thread by threadpoolctl        1.8 to 1.9 s of CPU, 1.8 to 2.1 s by the clock
    `@`, two threads                        5.3 to 14.9 s of CPU, 3.3 to 14.9 s by the clock

The pieces are kept, because they give the same bits for every number of threads, and the same as in the motion files
written so far; those of `@` are others and depend on the threads. A limit by threadpoolctl applies to the whole process
while the fit runs, also to the caller's threads, and would be one more dependency.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve

_BLOCK = 64
"""Side of a block: 64^3 = 2^18 multiplications."""


def gram(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """Returns `rows^T rows` `[P, P]` of `[N, P]`, summed over blocks in float64."""
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
    """Returns `left @ right` of `[N, K]` and `[K, M]`."""
    step = max(1, 2**18 // max(1, left.shape[0] * left.shape[1]))
    pieces = [left @ right[:, start : start + step] for start in range(0, right.shape[1], step)]
    return np.concatenate(pieces, 1) if pieces else np.zeros((left.shape[0], 0), left.dtype)


def solve_columns(factor: tuple[NDArray, bool], right: NDArray) -> NDArray:
    """Calls `scipy.linalg.cho_solve` for many right-hand sides `[N, M]`, sixteen at a time."""
    pieces = [cho_solve(factor, right[:, at : at + 16], check_finite=False) for at in range(0, right.shape[1], 16)]
    return np.concatenate(pieces, 1) if pieces else np.zeros_like(right)


def combine(basis: NDArray, coefficients: NDArray) -> NDArray:
    """Returns `basis @ coefficients` of `[..., K]` and `[K]`."""
    return np.einsum("...k,k->...", basis, coefficients)
