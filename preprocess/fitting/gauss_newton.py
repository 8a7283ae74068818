"""Gauss-Newton steps under box constraints, for one frame or for several that share some of their unknowns."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from preprocess.fitting.small_products import product, solve_columns

_MAX_ACTIVE_SET_STEPS = 12


@dataclass(frozen=True)
class Normal:
    """A quadratic model of the cost around a point, `1/2 d^T hessian d + gradient^T d`, the frame's own unknowns first.

    Attributes:
        hessian: `[P + K, P + K]`, P the frame's own unknowns, K those shared with other frames.
        gradient: `[P + K]`.
        lower: `[P]` smallest step of the frame's own unknowns.
        upper: `[P]` largest step.
    """

    hessian: NDArray[np.float64]
    gradient: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]


def solve_box(
    hessian: NDArray[np.float64], gradient: NDArray[np.float64], lower: NDArray[np.float64], upper: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Minimises `1/2 d^T H d + g^T d` for `lower <= d <= upper` (which must allow 0) by projected Newton steps.

    Bertsekas 1982, "Projected Newton methods for optimization problems with simple constraints": unknowns at a bound
    whose cost falls outside it are held, the others take a Newton step that is shortened until the cost falls.

    Args:
        hessian: `[P, P]`, positive definite.
        gradient: `[P]`.
        lower: `[P]` smallest step.
        upper: `[P]` largest step.

    Returns:
        The step `[P]`, and which unknowns are free there, bool `[P]`.
    """
    step = np.zeros_like(gradient)
    slope = gradient.copy()
    free = ~(((step <= lower) & (slope > 0)) | ((step >= upper) & (slope < 0)))
    for _ in range(_MAX_ACTIVE_SET_STEPS):
        if not free.any():
            break
        direction = np.zeros_like(step)
        indices = np.flatnonzero(free)
        factor = cho_factor(hessian[np.ix_(indices, indices)], lower=True, check_finite=False)
        direction[indices] = -cho_solve(factor, slope[indices], check_finite=False)
        step, slope, moved = _search(hessian, step, slope, direction, lower, upper)
        held = ((step <= lower) & (slope > 0)) | ((step >= upper) & (slope < 0))
        is_settled = np.array_equal(~held, free) or moved < 1e-9
        free = ~held
        if is_settled:
            break
    return step, free


def _search(
    hessian: NDArray, step: NDArray, slope: NDArray, direction: NDArray, lower: NDArray, upper: NDArray
) -> tuple[NDArray, NDArray, float]:
    """Searches the projected path at 1, 1/2, 1/4, ... for the longest step that does not raise the cost.

    Returns:
        The step, the gradient there, and the largest change of an unknown.
    """
    length = 1.0
    for _ in range(8):
        moved = np.clip(step + length * direction, lower, upper) - step
        push = hessian @ moved
        if slope @ moved + 0.5 * moved @ push <= 0:
            return step + moved, slope + push, float(np.abs(moved).max())
        length *= 0.5
    return step, slope, 0.0


def solve_shared(
    frames: Sequence[Normal], shared_hessian: NDArray[np.float64], shared_gradient: NDArray[np.float64]
) -> tuple[NDArray[np.float64], list[NDArray[np.float64]]]:
    """Solves for one step of frames that share K unknowns, by the Schur complement of each frame's free unknowns.

    Args:
        frames: the quadratic models of the frames.
        shared_hessian: `[K, K]` of the prior of the shared unknowns.
        shared_gradient: `[K]` of that prior.

    Returns:
        The shared step `[K]` and each frame's own step `[P]`.
    """
    hessian, gradient = shared_hessian.copy(), shared_gradient.copy()
    for frame in frames:
        own = len(frame.lower)
        _, free = solve_box(frame.hessian[:own, :own], frame.gradient[:own], frame.lower, frame.upper)
        indices = np.flatnonzero(free)
        coupling = frame.hessian[np.ix_(indices, np.arange(own, len(frame.gradient)))]
        factor = cho_factor(frame.hessian[np.ix_(indices, indices)], lower=True, check_finite=False)
        hessian += frame.hessian[own:, own:] - product(coupling.T, solve_columns(factor, coupling))
        eliminated = cho_solve(factor, frame.gradient[indices], check_finite=False)
        gradient += frame.gradient[own:] - coupling.T @ eliminated
    shared = -cho_solve(cho_factor(hessian, lower=True, check_finite=False), gradient, check_finite=False)
    steps = []
    for frame in frames:
        own = len(frame.lower)
        pushed = frame.gradient[:own] + frame.hessian[:own, own:] @ shared
        steps.append(solve_box(frame.hessian[:own, :own], pushed, frame.lower, frame.upper)[0])
    return shared, steps
