"""Completes a picture behind a hole with patches of itself, so that edges, patterns and grain go on.

After Barnes, Shechtman, Finkelstein, Goldman, "PatchMatch" (2009), for the search, and Wexler, Shechtman, Irani,
"Space-Time Completion of Video" (2007), for the alternation of search and vote from coarse to fine. Different here: a
patch may come from nearby only, a pixel counts less the deeper it lies in the hole, and the finest level is voted for
without a search of its own.
"""

from __future__ import annotations

import cv2
import numpy as np

from flame.compiled import compiled

RADIUS = 3
"""Patches are 7 x 7 pixels of their level."""

REACH = 90
"""Distance in pixels of half the picture's size over which a patch may be fetched."""

COARSEST = 80
"""Side in pixels below which no coarser level is made."""

ROUNDS = (1, 2, 4)
"""Searches and votes per level, from fine to coarse; the last number holds for all coarser ones."""

GUESSED, FADES_PX = 0.25, 24
"""Trust in a guessed pixel at the edge of the hole, next to 1 for a known one, and the pixels over which it fades."""

NEARNESS = 0.004
"""Cost of a patch from as far as `REACH`, in squared colour; the nearer of two that fit alike is taken."""


def complete(picture: np.ndarray, known: np.ndarray, wanted: np.ndarray, guess: np.ndarray) -> np.ndarray:
    """Fills the unknown pixels of a picture, float32 [H, W, 3].

    Args:
        picture: float32 [H, W, 3] in [0, 1], H and W at least 64.
        known: bool [H, W], pixels that patches are taken from.
        wanted: bool [H, W], unknown pixels to be filled; what is neither known nor wanted keeps the guess.
        guess: float32 [H, W, 3], a first filling, smooth.
    """
    start = np.where(known[..., None], picture, guess).astype(np.float32)
    distance = cv2.distanceTransform((~known).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
    wanted = wanted & ~known
    if not wanted.any() or not _inside(known).any():
        return start
    levels = [(start, known, wanted, distance)]
    while min(levels[-1][0].shape[:2]) >= 2 * COARSEST:
        levels.append(_half(*levels[-1]))
    image, field = levels[-1][0], None
    for number in range(len(levels) - 1, -1, -1):
        level_start, level_known, level_wanted, level_distance = levels[number]
        usable = _inside(level_known)
        if not usable.any() or not level_wanted.any():
            continue
        if field is None:
            field = _nearest(usable)
            nearest = level_start[field[..., 0], field[..., 1]]
            image = np.where(level_wanted[..., None], nearest, level_start)
        else:
            size = (level_start.shape[1], level_start.shape[0])
            image = np.where(level_wanted[..., None], cv2.resize(image, size), level_start)
            field = _finer(field, usable)
        targets = cv2.dilate(level_wanted.astype(np.uint8), np.ones((2 * RADIUS + 1,) * 2, np.uint8)) > 0
        trust = np.exp(-level_distance * (2**number / FADES_PX)).astype(np.float32)
        trust[~level_known] *= GUESSED
        cost = np.full(field.shape[:2], np.inf, np.float32)
        for turn in range(ROUNDS[min(number, len(ROUNDS) - 1)]):
            reach = max(REACH >> (number - 1), 4) if number else 0
            far = np.float32(NEARNESS * (2**number / (2 * REACH)) ** 2)
            _search(image, targets, usable, trust, field, cost, reach, far, turn + 17 * number)
            chosen = cost[targets & np.isfinite(cost)]
            spread = float(np.percentile(chosen, 60)) + 1e-5 if chosen.size else 1.0
            image = _vote(image, level_wanted, targets, trust, field, cost, spread)
    return image


def _half(
    image: np.ndarray, known: np.ndarray, wanted: np.ndarray, distance: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The next coarser level; known only where all of a pixel was, wanted where any of it was."""
    size = (image.shape[1] // 2, image.shape[0] // 2)

    def area(values: np.ndarray) -> np.ndarray:
        return cv2.resize(values.astype(np.float32), size, interpolation=cv2.INTER_AREA)

    smaller = area(known) > 0.99
    return area(image), smaller, (area(wanted) > 0) & ~smaller, area(distance) / 2


def _inside(known: np.ndarray) -> np.ndarray:
    """Middles [H, W] of patches that are known as a whole."""
    kernel = np.ones((2 * RADIUS + 1,) * 2, np.uint8)
    return cv2.erode(known.astype(np.uint8), kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0) > 0


def _nearest(usable: np.ndarray) -> np.ndarray:
    """Place (row, column) [H, W, 2] of the nearest usable pixel."""
    _, labels = cv2.distanceTransformWithLabels(
        (~usable).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    labels = np.asarray(labels, np.int64)
    rows, columns = np.nonzero(usable)
    places = np.zeros((int(labels.max()) + 1, 2), np.int32)
    places[labels[rows, columns]] = np.stack([rows, columns], -1)
    return places[labels]


def _finer(field: np.ndarray, usable: np.ndarray) -> np.ndarray:
    """The field of a level twice as large; what is not usable there goes to the nearest usable place."""
    height, width = usable.shape
    row, column = (
        np.minimum(np.arange(height) // 2, len(field) - 1),
        np.minimum(np.arange(width) // 2, field.shape[1] - 1),
    )
    larger = 2 * field[row[:, None], column[None]]
    larger[..., 0] += (np.arange(height) % 2)[:, None]
    larger[..., 1] += (np.arange(width) % 2)[None]
    larger = np.clip(larger, 0, [height - 1, width - 1]).astype(np.int32)
    return np.where(usable[larger[..., 0], larger[..., 1]][..., None], larger, _nearest(usable))


@compiled(fastmath=True)
def _search(image, targets, usable, trust, field, cost, reach, far, seed):
    """One sweep over all targets, in place; forwards for even seeds, backwards for odd ones.

    Each target keeps the best of its own place, those that its two neighbours propose, and random ones around it. With
    a reach of 0 it keeps its own. `far` is the cost of distance, per squared pixel. `cost` is the mean squared
    difference, weighted by the trust in the target's pixels.
    """
    height, width = targets.shape
    state = np.uint32(seed * 7919 + 1)
    step = 1 if seed % 2 == 0 else -1
    for i in range(height):
        row = i if step > 0 else height - 1 - i
        top, bottom = max(-RADIUS, -row), min(RADIUS, height - 1 - row)
        for j in range(width):
            column = j if step > 0 else width - 1 - j
            if not targets[row, column]:
                continue
            left, right = max(-RADIUS, -column), min(RADIUS, width - 1 - column)
            weight = np.float32(1e-6)
            for y in range(top, bottom + 1):
                for x in range(left, right + 1):
                    weight += trust[row + y, column + x]
            best_row, best_column = field[row, column, 0], field[row, column, 1]
            limit, radius, attempt = np.float32(np.inf), reach, 0
            while attempt < 3 or radius >= 1:
                if attempt == 0:
                    new_row, new_column = best_row, best_column
                elif attempt < 3:
                    near_row, near_column = row - step * (attempt == 1), column - step * (attempt == 2)
                    if reach == 0 or not (0 <= near_row < height and 0 <= near_column < width):
                        attempt += 1
                        continue
                    new_row = field[near_row, near_column, 0] + row - near_row
                    new_column = field[near_row, near_column, 1] + column - near_column
                else:
                    state = state * np.uint32(1664525) + np.uint32(1013904223)
                    new_row = best_row + np.int64(state >> np.uint32(8)) % (2 * radius + 1) - radius
                    state = state * np.uint32(1664525) + np.uint32(1013904223)
                    new_column = best_column + np.int64(state >> np.uint32(8)) % (2 * radius + 1) - radius
                    radius //= 2
                attempt += 1
                if not (0 <= new_row < height and 0 <= new_column < width) or not usable[new_row, new_column]:
                    continue
                if attempt > 3 and max(abs(new_row - row), abs(new_column - column)) > reach:
                    continue
                away = (new_row - row) * (new_row - row) + (new_column - column) * (new_column - column)
                total = far * weight * np.float32(away)
                if total >= limit:
                    continue
                for y in range(top, bottom + 1):
                    for x in range(left, right + 1):
                        a, b, c, d = row + y, column + x, new_row + y, new_column + x
                        red = image[a, b, 0] - image[c, d, 0]
                        green = image[a, b, 1] - image[c, d, 1]
                        blue = image[a, b, 2] - image[c, d, 2]
                        total += trust[a, b] * (red * red + green * green + blue * blue)
                    if total >= limit:
                        break
                if total < limit:
                    limit, best_row, best_column = total, new_row, new_column
            field[row, column, 0], field[row, column, 1] = best_row, best_column
            cost[row, column] = limit / weight


@compiled(fastmath=True)
def _vote(image, wanted, targets, trust, field, cost, spread):
    """The picture whose wanted pixels are means of what the patches over them say."""
    height, width = wanted.shape
    result = image.copy()
    for row in range(height):
        for column in range(width):
            if not wanted[row, column]:
                continue
            total, red, green, blue = np.float32(1e-12), np.float32(0), np.float32(0), np.float32(0)
            for y in range(max(0, row - RADIUS), min(height, row + RADIUS + 1)):
                for x in range(max(0, column - RADIUS), min(width, column + RADIUS + 1)):
                    if not targets[y, x]:
                        continue
                    a, b = field[y, x, 0] + row - y, field[y, x, 1] + column - x
                    near = np.float32(1) / (1 + (row - y) * (row - y) + (column - x) * (column - x))
                    weight = near * trust[y, x] * np.exp(-cost[y, x] / spread)
                    total += weight
                    red += weight * image[a, b, 0]
                    green += weight * image[a, b, 1]
                    blue += weight * image[a, b, 2]
            if total > 1e-11:
                result[row, column, 0] = red / total
                result[row, column, 1] = green / total
                result[row, column, 2] = blue / total
    return result
