"""The two transforms of `winograd.py`, compiled by numba at first use; they work on pictures with channels last."""

import numpy as np

from flame.compiled import compiled

LANES = 16
"""Channels that are transformed together: one AVX-512 register; their tile stays in the first-level cache."""

NEAR, FAR = np.float32(5 / 8), np.float32(3 / 2)
"""Points at which tiles and kernels are evaluated as polynomials, beside 0, the negatives and infinity.

Lavin and Gray's 1 and 2 round twice as much, at most four times as much (on the choice of points: Alam et al. 2022).
These are exact in binary.
"""

NEAR_2, NEAR_3, FAR_2, FAR_3 = NEAR**2, NEAR**3, FAR**2, FAR**3
SUM, PRODUCT = NEAR_2 + FAR_2, NEAR_2 * FAR_2


@compiled(fastmath={"contract"}, error_model="numpy")
def to_tiles(picture, spread, first_row, begin, stop):
    """Writes `B^T d B` of the tiles `begin` to `stop` of a strip.

    Args:
        picture: `[H, W, C]`.
        spread: written, `[36, tiles of the strip, C]`.
        first_row: row of tiles at which the strip starts.
        begin: first tile.
        stop: one after the last tile.
    """
    height, width, channels = picture.shape
    across = (width + 3) // 4
    for index in range(begin, stop):
        top, left = 4 * (first_row + index // across) - 1, 4 * (index % across) - 1
        tile = np.zeros((6, 6, LANES), np.float32)
        half = np.empty((6, 6, LANES), np.float32)
        for start in range(0, channels, LANES):
            for row in range(6):
                y = top + row
                if y < 0 or y >= height:
                    continue
                for column in range(6):
                    x = left + column
                    if x < 0 or x >= width:
                        continue
                    for lane in range(LANES):
                        tile[row, column, lane] = picture[y, x, start + lane]
            for column in range(6):
                for lane in range(LANES):
                    a, b, c = tile[0, column, lane], tile[1, column, lane], tile[2, column, lane]
                    d, e, f = tile[3, column, lane], tile[4, column, lane], tile[5, column, lane]
                    half[0, column, lane] = PRODUCT * a - SUM * c + e
                    half[1, column, lane] = (e - FAR_2 * c) + NEAR * (d - FAR_2 * b)
                    half[2, column, lane] = (e - FAR_2 * c) - NEAR * (d - FAR_2 * b)
                    half[3, column, lane] = (e - NEAR_2 * c) + FAR * (d - NEAR_2 * b)
                    half[4, column, lane] = (e - NEAR_2 * c) - FAR * (d - NEAR_2 * b)
                    half[5, column, lane] = PRODUCT * b - SUM * d + f
            for row in range(6):
                for lane in range(LANES):
                    a, b, c = half[row, 0, lane], half[row, 1, lane], half[row, 2, lane]
                    d, e, f = half[row, 3, lane], half[row, 4, lane], half[row, 5, lane]
                    place = start + lane
                    spread[6 * row, index, place] = PRODUCT * a - SUM * c + e
                    spread[6 * row + 1, index, place] = (e - FAR_2 * c) + NEAR * (d - FAR_2 * b)
                    spread[6 * row + 2, index, place] = (e - FAR_2 * c) - NEAR * (d - FAR_2 * b)
                    spread[6 * row + 3, index, place] = (e - NEAR_2 * c) + FAR * (d - NEAR_2 * b)
                    spread[6 * row + 4, index, place] = (e - NEAR_2 * c) - FAR * (d - NEAR_2 * b)
                    spread[6 * row + 5, index, place] = PRODUCT * b - SUM * d + f


@compiled(fastmath={"contract"}, error_model="numpy")
def from_tiles(spread, bias, picture, first_row, begin, stop):
    """Writes `A^T m A + bias` of the same tiles.

    Args:
        spread: `[36, tiles of the strip, D]`.
        bias: `[D]`.
        picture: written, `[H, W, D]`.
        first_row: row of tiles at which the strip starts.
        begin: first tile.
        stop: one after the last tile.
    """
    height, width, channels = picture.shape
    across = (width + 3) // 4
    for index in range(begin, stop):
        top, left = 4 * (first_row + index // across), 4 * (index % across)
        half = np.empty((4, 6, LANES), np.float32)
        whole = np.empty((4, 4, LANES), np.float32)
        for start in range(0, channels, LANES):
            for column in range(6):
                for lane in range(LANES):
                    place = start + lane
                    a, b = spread[column, index, place], spread[6 + column, index, place]
                    c, d = spread[12 + column, index, place], spread[18 + column, index, place]
                    e, f = spread[24 + column, index, place], spread[30 + column, index, place]
                    half[0, column, lane] = a + (b + c) + (d + e)
                    half[1, column, lane] = NEAR * (b - c) + FAR * (d - e)
                    half[2, column, lane] = NEAR_2 * (b + c) + FAR_2 * (d + e)
                    half[3, column, lane] = NEAR_3 * (b - c) + FAR_3 * (d - e) + f
            for row in range(4):
                for lane in range(LANES):
                    a, b, c = half[row, 0, lane], half[row, 1, lane], half[row, 2, lane]
                    d, e, f = half[row, 3, lane], half[row, 4, lane], half[row, 5, lane]
                    offset = bias[start + lane]
                    whole[row, 0, lane] = a + (b + c) + (d + e) + offset
                    whole[row, 1, lane] = NEAR * (b - c) + FAR * (d - e) + offset
                    whole[row, 2, lane] = NEAR_2 * (b + c) + FAR_2 * (d + e) + offset
                    whole[row, 3, lane] = NEAR_3 * (b - c) + FAR_3 * (d - e) + f + offset
            for row in range(min(4, height - top)):
                for column in range(min(4, width - left)):
                    for lane in range(LANES):
                        picture[top + row, left + column, start + lane] = whole[row, column, lane]


def kernel_points() -> np.ndarray:
    """G of Lavin and Gray's section 4.3 for these points, float32 `[6, 3]`: a kernel's polynomial at each of them."""
    points = np.array([0, NEAR, -NEAR, FAR, -FAR], np.float64)
    others = [np.prod(point - np.delete(points, index)) for index, point in enumerate(points)]
    powers = points[:, None] ** np.arange(3) / np.array(others)[:, None]
    return np.vstack([powers, [0, 0, 1]]).astype(np.float32)
