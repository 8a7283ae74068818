"""The two transforms of `winograd.py`, compiled by numba at first use; they work on pictures with channels last."""

import numpy as np

from flame.compiled import compiled

LANES = 16
"""Channels that go through a transform together: one AVX-512 register, and their tile stays in the first cache."""


@compiled(fastmath={"contract"}, error_model="numpy")
def to_tiles(picture, spread, first_row, begin, stop):  # noqa: ANN001, ANN201
    """`B^T d B` of tiles `begin` to `stop` of a strip that starts at tile row `first_row`.

    Args:
        picture: `[H, W, C]`.
        spread: written, `[36, tiles of the strip, C]`.
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
                    half[0, column, lane] = np.float32(4) * a - np.float32(5) * c + e
                    half[1, column, lane] = (e - np.float32(4) * c) + (d - np.float32(4) * b)
                    half[2, column, lane] = (e - np.float32(4) * c) - (d - np.float32(4) * b)
                    half[3, column, lane] = (e - c) + np.float32(2) * (d - b)
                    half[4, column, lane] = (e - c) - np.float32(2) * (d - b)
                    half[5, column, lane] = np.float32(4) * b - np.float32(5) * d + f
            for row in range(6):
                for lane in range(LANES):
                    a, b, c = half[row, 0, lane], half[row, 1, lane], half[row, 2, lane]
                    d, e, f = half[row, 3, lane], half[row, 4, lane], half[row, 5, lane]
                    place = start + lane
                    spread[6 * row, index, place] = np.float32(4) * a - np.float32(5) * c + e
                    spread[6 * row + 1, index, place] = (e - np.float32(4) * c) + (d - np.float32(4) * b)
                    spread[6 * row + 2, index, place] = (e - np.float32(4) * c) - (d - np.float32(4) * b)
                    spread[6 * row + 3, index, place] = (e - c) + np.float32(2) * (d - b)
                    spread[6 * row + 4, index, place] = (e - c) - np.float32(2) * (d - b)
                    spread[6 * row + 5, index, place] = np.float32(4) * b - np.float32(5) * d + f


@compiled(fastmath={"contract"}, error_model="numpy")
def from_tiles(spread, bias, picture, first_row, begin, stop):  # noqa: ANN001, ANN201
    """`A^T m A + bias` of the same tiles.

    Args:
        spread: `[36, tiles of the strip, D]`.
        bias: `[D]`.
        picture: written, `[H, W, D]`.
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
                    half[1, column, lane] = (b - c) + np.float32(2) * (d - e)
                    half[2, column, lane] = (b + c) + np.float32(4) * (d + e)
                    half[3, column, lane] = (b - c) + np.float32(8) * (d - e) + f
            for row in range(4):
                for lane in range(LANES):
                    a, b, c = half[row, 0, lane], half[row, 1, lane], half[row, 2, lane]
                    d, e, f = half[row, 3, lane], half[row, 4, lane], half[row, 5, lane]
                    offset = bias[start + lane]
                    whole[row, 0, lane] = a + (b + c) + (d + e) + offset
                    whole[row, 1, lane] = (b - c) + np.float32(2) * (d - e) + offset
                    whole[row, 2, lane] = (b + c) + np.float32(4) * (d + e) + offset
                    whole[row, 3, lane] = (b - c) + np.float32(8) * (d - e) + f + offset
            for row in range(min(4, height - top)):
                for column in range(min(4, width - left)):
                    for lane in range(LANES):
                        picture[top + row, left + column, start + lane] = whole[row, column, lane]
