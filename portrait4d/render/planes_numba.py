"""Bilinear reading of three planes at points in one pass, compiled by numba at first use; zeros outside."""

import numpy as np

from flame.compiled import compiled


@compiled(fastmath={"contract"}, error_model="numpy")
def mean_of_planes(planes, places, found, begin, stop):
    """Writes the mean of the three planes' features at points `begin` to `stop`.

    Args:
        planes: `[3, H, W, C]`.
        places: `[3, N, 2]`, (horizontal, vertical), -1 and 1 at the planes' outer edges.
        found: written, `[N, C]`.
        begin: first point.
        stop: one after the last point.
    """
    _, height, width, channels = planes.shape
    third = np.float32(1) / np.float32(3)
    for point in range(begin, stop):
        for channel in range(channels):
            found[point, channel] = 0
        for plane in range(3):
            x = ((places[plane, point, 0] + np.float32(1)) * np.float32(width) - np.float32(1)) * np.float32(0.5)
            y = ((places[plane, point, 1] + np.float32(1)) * np.float32(height) - np.float32(1)) * np.float32(0.5)
            if np.isnan(x + y):  # NaN must come out where NaN came in, as in torch
                found[point] = np.nan
                break
            if not (x > -1 and x < width and y > -1 and y < height):
                continue
            left, top = int(np.floor(x)), int(np.floor(y))
            for corner in range(4):
                column, row = left + (corner & 1), top + (corner >> 1)
                if column < 0 or column >= width or row < 0 or row >= height:
                    continue
                share = third * (np.float32(1) - abs(x - np.float32(column)))
                share *= np.float32(1) - abs(y - np.float32(row))
                for channel in range(channels):
                    found[point, channel] += share * planes[plane, row, column, channel]
