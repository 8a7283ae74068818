"""Learns `portrait4d/assets/teeth.npz`, how teeth and gums look, from a folder of portraits, many of them smiling.

    python scripts/learn_teeth.py FOLDER [OUTPUT]

The shipped file was learned from 384 official portraits in the public domain. It holds a mean and a few principal
components over all smiles and their mirror images: nobody's picture can be got back from it.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from flame.errors import InputError
from flame.heads.open_head import load_open_head
from flame.landmarks.groups import INNER_LIPS, OUTER_LIPS
from portrait4d.engines.lift.canvas import MARGIN, cut_canvas, fill
from portrait4d.engines.lift.mouth_photo import skin_around, teeth_colour, unlit_mouth
from portrait4d.engines.lift.teeth import (
    COLUMNS,
    ROWS,
    TEXEL,
    Shift,
    match_teeth,
    sample_strip,
    strip_grid,
    tooth_colour,
    usual_placement,
)
from portrait4d.engines.lift.view import SourceView
from preprocess.files.atomic import atomic_path
from preprocess.media.image import read_image
from preprocess.tracking.tracker import Tracker

NUM_COMPONENTS, NUM_ROUNDS = 6, 5

CROWN_WIDTHS = (0.0086, 0.0066, 0.0076, 0.0070, 0.0068)
"""Metres, from the midline: mean widths of upper teeth (Wheeler's Dental Anatomy), for the first round."""


def main() -> None:
    """Reads the portraits, lays their teeth over each other, writes the model."""
    folder = Path(sys.argv[1])
    output = Path(sys.argv[2] if len(sys.argv) > 2 else "portrait4d/assets/teeth.npz")
    strips, skins = read_smiles(folder)
    print(f"{len(strips)} of the portraits show teeth")
    shifts, scores = align(strips)
    good = scores > np.quantile(scores, 0.2)
    aligned = np.stack([shift.warp(strip) for shift, strip in zip(shifts, strips, strict=True)])[good]
    colours = np.stack([tooth_colour(strip) for strip in aligned])
    mean, components = principal_components(aligned, colours)
    edge = biting_edge(mean)
    mean, components = (continue_down(picture, edge) for picture in (sharpened(mean), components))
    with atomic_path(output) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            mean=mean.astype(np.float16),
            components=components.astype(np.float16),
            edge=edge.astype(np.float32),
            tooth_colour=colours.mean(0).astype(np.float32),
            skin_colour=np.stack(skins).mean(0).astype(np.float32),
        )
    print(f"{output}: {output.stat().st_size // 1000} kB")


def read_smiles(folder: Path) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The strips [h, w, 4] of all portraits that show teeth, and the colours [3] of the skin around those mouths."""
    tracker = Tracker(head_model=load_open_head())
    strips, skins = [], []
    for path in sorted(folder.glob("*.jpg")):
        try:
            source = tracker.track_image(read_image(path))
        except InputError:
            continue
        photo, _ = cut_canvas(source.image, source.crop)
        landmarks = source.motion.landmarks[0, :, :2] + MARGIN
        inner = landmarks[list(INNER_LIPS)]
        if teeth_colour(photo, inner) is None:
            continue
        place = usual_placement(tracker.head_model, source.motion.params(tracker.head_model, 0).shape)
        view = SourceView.of(source.motion)
        strips.append(sample_strip(unlit_mouth(photo, inner, view, place), view, place))
        skins.append(skin_around(photo, landmarks[list(OUTER_LIPS)]))
    return strips, skins


def first_guess() -> np.ndarray:
    """Brightness [ROWS, COLUMNS] of a drawn row of teeth, which says what place on the strip is which tooth's."""
    along, height = strip_grid()
    edges = np.concatenate([[0], np.cumsum(CROWN_WIDTHS)])
    gap = np.abs(np.abs(along)[..., None] - edges).min(-1)
    brightness = 0.8 - 0.28 * np.exp(-((gap / 0.0007) ** 2))
    brightness[height < 0.0008 * np.exp(-((gap / 0.0012) ** 2))] = 0.2
    brightness[height > 0.0095] = 0.5
    return brightness


def align(strips: list[np.ndarray]) -> tuple[list[Shift], np.ndarray]:
    """Moves all strips until they look like their mean, round by round; returns the changes and their scores."""
    target, weight = first_guess(), np.ones((ROWS, COLUMNS))
    shifts: list[Shift] = []
    scores = np.zeros(len(strips))
    for count in range(NUM_ROUNDS):
        starts: Sequence[Shift | None] = [None] * len(strips) if count < 2 else shifts
        found = [match_teeth(strip, target, weight, start) for strip, start in zip(strips, starts, strict=True)]
        scores, shifts = np.array([score for score, _ in found]), [shift for _, shift in found]
        aligned = np.stack([shift.warp(strip) for (_, shift), strip in zip(found, strips, strict=True)])
        known = aligned[..., 3] * (scores > np.quantile(scores, 0.2))[:, None, None]
        brightness = (
            aligned[..., :3].mean(-1) / np.array([tooth_colour(strip).mean() for strip in aligned])[:, None, None]
        )
        known, brightness = with_mirrored(known), with_mirrored(brightness)
        target = (known * brightness).sum(0) / np.maximum(known.sum(0), 1e-3)
        weight = np.clip(known.sum(0) / 20, 0, 1)
        print(f"round {count + 1}: mean score {scores.mean():.3f}", flush=True)
    return shifts, scores


def with_mirrored(pictures: np.ndarray) -> np.ndarray:
    """Pictures [N, H, W, ...] and their mirror images, [2 N, H, W, ...]."""
    return np.concatenate([pictures, pictures[:, :, ::-1]])


def principal_components(aligned: np.ndarray, colours: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and components, by alternating least squares over the texels that are known in each [N, H, W, 4]."""
    pictures = with_mirrored(aligned)
    known = (pictures[..., 3:] > 0.9).astype(np.float64)
    relative = pictures[..., :3] / np.concatenate([colours, colours])[:, None, None]
    mean = (relative * known).sum(0) / np.maximum(known.sum(0), 1)
    count = known.sum(0)
    mean = fill(mean.astype(np.float32), count[..., 0] >= 20).astype(np.float64)
    centred = ((relative - mean) * known).reshape(len(pictures), -1)
    mask = np.broadcast_to(known, relative.shape).reshape(len(pictures), -1)
    basis = np.linalg.svd(centred, full_matrices=False)[2][:NUM_COMPONENTS]
    weights = np.zeros((len(pictures), NUM_COMPONENTS))
    for _ in range(15):
        for index, (row, shown) in enumerate(zip(centred, mask, strict=True)):
            own = basis * shown
            weights[index] = np.linalg.solve(own @ basis.T + 1e-2 * np.eye(NUM_COMPONENTS), own @ row)
        products = (weights[:, :, None] * weights[:, None]).reshape(len(weights), -1)
        squares = (mask.T @ products).reshape(-1, NUM_COMPONENTS, NUM_COMPONENTS)
        squares += 3.0 * weights.var(0).mean() * np.eye(NUM_COMPONENTS)
        basis = np.linalg.solve(squares, (centred.T @ weights)[..., None])[..., 0].T
        turn, size, basis = np.linalg.svd(basis, full_matrices=False)
        weights = weights @ (turn * size)
    _, axes = np.linalg.eigh(weights.T @ weights)
    basis, weights = (axes.T @ basis)[::-1], (weights @ axes)[:, ::-1]
    components = (basis * weights.std(0)[:, None]).reshape(NUM_COMPONENTS, ROWS, COLUMNS, 3)
    certain = cv2.GaussianBlur(np.clip(count / 40, 0, 1), (0, 0), 2.0)  # hardly anyone shows the rest
    return mean, components * certain[..., None]


def biting_edge(mean: np.ndarray) -> np.ndarray:
    """Height [COLUMNS] in metres of the teeth's edge: where brightness falls most, near the strip's zero.

    Towards the back, where lips are in the way, the height of the last sure columns is kept.
    """
    along, height = strip_grid()
    fall = np.gradient(cv2.GaussianBlur(mean.mean(-1), (0, 0), 1.0), axis=0)
    fall[(height > 0.0018) | (height < -0.0018)] = 0
    edge = height[np.argmin(fall, axis=0), 0]
    edge = np.median(np.stack([np.roll(edge, step) for step in range(-2, 3)]), axis=0)
    sure = np.abs(along[0]) < 0.017
    edge = np.interp(np.arange(COLUMNS), np.flatnonzero(sure), edge[sure])
    edge = (edge + edge[::-1]) / 2
    return cv2.GaussianBlur(edge[None], (0, 0), 2.0)[0]


def sharpened(mean: np.ndarray) -> np.ndarray:
    """Undoes some of the blur that averaging brings."""
    return mean + 0.7 * (mean - cv2.GaussianBlur(mean, (0, 0), 2.5))


def continue_down(pictures: np.ndarray, edge: np.ndarray) -> np.ndarray:
    """Replaces what lies below the biting edge of pictures [..., H, W, 3] by the teeth above it."""
    _, height = strip_grid()
    last = np.clip(np.argmax(height < edge + 2.5 * TEXEL, axis=0), 1, ROWS) - 1
    rows = np.minimum(np.arange(ROWS)[:, None], last)
    return pictures[..., rows, np.arange(COLUMNS), :]


if __name__ == "__main__":
    main()
