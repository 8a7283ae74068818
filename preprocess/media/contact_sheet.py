"""Contact sheets: rows of pictures with labels in one PNG."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from preprocess.media.image import write_png

CAPTION_PX = 16
_GAP_PX = 4
_LABEL_PX = 22
_BACKGROUND = 255


def contact_sheet(
    rows: Sequence[Sequence[np.ndarray]],
    path: str | Path,
    labels: Sequence[str] | Sequence[Sequence[str]] | None = None,
    *,
    cell_height: int = 192,
) -> None:
    """Writes rows of pictures into one PNG.

    Args:
        rows: pictures `uint8 [H, W, 3]` of any size; each is scaled to `cell_height`.
        path: the PNG file.
        labels: one text per row, or one per picture.
        cell_height: height of every picture on the sheet, in pixels.
    """
    write_png(path, draw_contact_sheet(rows, labels, cell_height=cell_height))


def draw_contact_sheet(
    rows: Sequence[Sequence[np.ndarray]],
    labels: Sequence[str] | Sequence[Sequence[str]] | None = None,
    *,
    cell_height: int = 192,
) -> np.ndarray:
    """Returns the picture `uint8 [H, W, 3]` that `contact_sheet` writes."""
    if not any(len(row) for row in rows):
        raise ValueError("a contact sheet needs at least one picture")
    strips = []
    for index, row in enumerate(rows):
        label = labels[index] if labels is not None and index < len(labels) else ""
        cells = [_scale(image, cell_height) for image in row]
        if labels is not None:
            texts = [label] if isinstance(label, str) else list(label)
            cells = _add_labels(cells, texts)
        strips.append(_join(cells, axis=1))
    return _join(strips, axis=0)


def stack_pictures(images: Sequence[np.ndarray]) -> np.ndarray:
    """Returns pictures `uint8 [H, W, 3]` of any sizes below each other, with gaps; the narrower ones are padded."""
    return _join(list(images), axis=0)


def with_caption(picture: np.ndarray, text: str) -> np.ndarray:
    """Returns a picture `uint8 [H, W, 3]` with a line of small text below, `[H + CAPTION_PX, W, 3]`."""
    line = np.full((CAPTION_PX, picture.shape[1], 3), _BACKGROUND, np.uint8)
    cv2.putText(line, text, (3, CAPTION_PX - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.36, (40, 40, 40), 1, cv2.LINE_AA)
    return np.concatenate([picture, line])


def _scale(image: np.ndarray, height: int) -> np.ndarray:
    width = max(1, round(image.shape[1] * height / image.shape[0]))
    interpolation = cv2.INTER_AREA if height < image.shape[0] else cv2.INTER_CUBIC
    return cv2.resize(np.ascontiguousarray(image), (width, height), interpolation=interpolation)


def _add_labels(cells: list[np.ndarray], texts: list[str]) -> list[np.ndarray]:
    """Puts a bar with text above each picture; a single text gets one bar over the whole row."""
    if len(texts) == 1:
        cells = [_join(cells, axis=1)]
    labelled = []
    for index, cell in enumerate(cells):
        bar = np.full((_LABEL_PX, cell.shape[1], 3), _BACKGROUND, np.uint8)
        text = texts[index] if index < len(texts) else ""
        cv2.putText(bar, text, (2, _LABEL_PX - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
        labelled.append(np.concatenate([bar, cell]))
    return labelled


def _join(images: list[np.ndarray], *, axis: int) -> np.ndarray:
    """Joins pictures with gaps between them; the smaller ones are padded."""
    across = max((image.shape[1 - axis] for image in images), default=1)
    parts = []
    for image in images:
        padding = [(0, 0), (0, 0), (0, 0)]
        padding[1 - axis] = (0, across - image.shape[1 - axis])
        if parts:
            padding[axis] = (_GAP_PX, 0)
        parts.append(np.pad(image, padding, constant_values=_BACKGROUND))
    return np.concatenate(parts, axis=axis) if parts else np.full((1, 1, 3), _BACKGROUND, np.uint8)
