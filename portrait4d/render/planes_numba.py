"""Bilinear reading of three planes at points in one pass, and its gradient, compiled by numba at first use.

Zeros lie outside of the planes.
"""

import numba
import numpy as np

from flame.compiled import compiled

_OPTIONS = {"fastmath": {"contract"}, "error_model": "numpy"}

ZERO, ONE, HALF, THIRD = np.float32(0), np.float32(1), np.float32(0.5), np.float32(1) / np.float32(3)


@numba.njit(**_OPTIONS)
def _neighbours(place, size):
    """Both pixels beside a place, and their shares; a pixel outside has no share and is replaced by one inside.

    Args:
        place: from -1 to 1 between the outer edges; pixels' centres are whole numbers.
        size: pixels of the axis.
    """
    pixel = ((place + ONE) * np.float32(size) - ONE) * HALF
    if not (pixel > -1 and pixel < size):
        return 0, 0, ZERO, ZERO
    low = int(np.floor(pixel))
    share, next_share = ONE - (pixel - np.float32(low)), ONE - (np.float32(low + 1) - pixel)
    if low < 0:
        return 0, 0, ZERO, next_share
    if low + 1 == size:
        return low, low, share, ZERO
    return low, low + 1, share, next_share


@compiled(**_OPTIONS)
def mean_of_planes(planes, axes, points, found, begin, stop):
    """Writes the mean of the three planes' features at points `begin` to `stop`.

    Args:
        planes: `[3, H, W, C]`.
        axes: `[3, 2]` the coordinates, (horizontal, vertical), that span each plane.
        points: `[N, 3]`, -1 and 1 at the planes' outer edges.
        found: written, `[N, C]`.
        begin: first point.
        stop: one after the last point.
    """
    _, height, width, channels = planes.shape
    for index in range(begin, stop):
        point, row = points[index], found[index]
        if np.isnan(point[0]) or np.isnan(point[1]) or np.isnan(point[2]):  # as in torch
            row[:] = np.nan
            continue
        row[:] = ZERO
        for plane in range(3):
            left, right, left_share, right_share = _neighbours(point[axes[plane, 0]], width)
            top, bottom, top_share, bottom_share = _neighbours(point[axes[plane, 1]], height)
            left_share, right_share = THIRD * left_share, THIRD * right_share
            a, b = planes[plane, top, left], planes[plane, top, right]
            c, d = planes[plane, bottom, left], planes[plane, bottom, right]
            of_a, of_b = top_share * left_share, top_share * right_share
            of_c, of_d = bottom_share * left_share, bottom_share * right_share
            for channel in range(channels):
                total = row[channel] + of_a * a[channel]  # in this order, for contracted products to be those of torch
                total += of_b * b[channel]
                total += of_c * c[channel]
                row[channel] = total + of_d * d[channel]


@compiled(**_OPTIONS)
def spread_to_planes(planes, axes, points, given, begin, stop):
    """Adds to planes `begin` to `stop` what the loss's gradient at the mean of all three gives them.

    Args:
        planes: added to, `[3, H, W, C]`.
        axes: `[3, 2]` as in `mean_of_planes`.
        points: `[N, 3]`, -1 and 1 at the planes' outer edges.
        given: `[N, C]` the gradient at each point's features.
        begin: first plane.
        stop: one after the last plane.
    """
    _, height, width, channels = planes.shape
    for plane in range(begin, stop):
        for index in range(len(points)):
            left, right, left_share, right_share = _neighbours(points[index, axes[plane, 0]], width)
            top, bottom, top_share, bottom_share = _neighbours(points[index, axes[plane, 1]], height)
            left_share, right_share = THIRD * left_share, THIRD * right_share
            a, b = planes[plane, top, left], planes[plane, top, right]
            c, d = planes[plane, bottom, left], planes[plane, bottom, right]
            of_a, of_b = top_share * left_share, top_share * right_share
            of_c, of_d = bottom_share * left_share, bottom_share * right_share
            row = given[index]
            for channel in range(channels):
                value = row[channel]
                a[channel] += of_a * value
                b[channel] += of_b * value
                c[channel] += of_c * value
                d[channel] += of_d * value
