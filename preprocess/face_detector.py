"""Where the faces are: the short-range BlazeFace detector on the whole frame, then on overlapping tiles.

The network sees 128x128 pixels and is sure of faces from about a third of that on. Frames with smaller
faces are searched again in tiles, finer and finer.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from preprocess.networks.face_detector import FaceDetectorNetwork, anchor_centres
from preprocess.networks.weights import load_network

INPUT_SIZE = 128
SCORE_THRESHOLD = 0.5  # MediaPipe's
TILE_SCORE_THRESHOLD = 0.7  # tiles are many windows, and so many chances of a false face
_SAME_FACE_IOU = 0.3  # intersection over union above which two boxes are one face
_SAME_FACE_SHARE = 0.6  # the same across windows: intersection over the smaller box
_TILE_LEVELS = (1, 2, 4)  # tile side = short side of the frame over this
_MIN_TILE_SIDE = 160  # pixels: in smaller tiles only faces below 20 pixels would be new
_LARGE_FACE = 0.3  # of the side of the window: finer windows would show nothing larger
_MAX_TILES_PER_BATCH = 16


@dataclass(frozen=True)
class FaceBox:
    """A detected face.

    Attributes:
        x0, y0, x1, y1: frame pixels; may reach beyond the frame.
        keypoints: `[6, 2]` frame pixels: subject's right eye, left eye, nose, mouth, right ear, left ear.
        score: 0 ... 1.
    """

    x0: float
    y0: float
    x1: float
    y1: float
    keypoints: np.ndarray
    score: float

    @property
    def area(self) -> float:
        return (self.x1 - self.x0) * (self.y1 - self.y0)


@dataclass(frozen=True)
class _Window:
    """A square of the frame that is shown to the network."""

    x0: float
    y0: float
    side: float


class FaceDetector:
    """Finds faces in frames."""

    def __init__(self, device: str | torch.device = "cpu"):
        self.device = torch.device(device)
        self._network = load_network(FaceDetectorNetwork, "face_detector", device=device)
        self._anchors = anchor_centres().numpy()

    def __call__(self, frame: np.ndarray) -> list[FaceBox]:
        """Faces of `frame` uint8 `[H, W, 3]` RGB, largest first.

        A face that fills a third of the frame takes one run of the network; small or missing faces take up to
        about twenty. `detect_batch` always takes one.
        """
        rows = self._detect([frame], [_whole(frame)], SCORE_THRESHOLD)[0]
        window_side = max(frame.shape[:2])
        for tiles in _tile_levels(*frame.shape[:2]):
            if len(rows) and (rows[:, 2] - rows[:, 0]).max() >= _LARGE_FACE * window_side:
                break
            for start in range(0, len(tiles), _MAX_TILES_PER_BATCH):
                part = tiles[start : start + _MAX_TILES_PER_BATCH]
                found = self._detect([frame] * len(part), part, TILE_SCORE_THRESHOLD)
                whole = [_drop_cut(faces, tile, frame) for faces, tile in zip(found, part, strict=True)]
                rows = np.concatenate([rows, *whole])
            rows = _best_views(rows)
            window_side = tiles[0].side
        return _by_area(rows)

    def detect_batch(self, frames: Sequence[np.ndarray]) -> list[list[FaceBox]]:
        """Faces of each frame, largest first; whole frames only, no tiles."""
        if not frames:
            return []
        windows = [_whole(frame) for frame in frames]
        return [_by_area(rows) for rows in self._detect(frames, windows, SCORE_THRESHOLD)]

    def _detect(self, frames: Sequence[np.ndarray], windows: Sequence[_Window], threshold: float) -> list[np.ndarray]:
        """Per window, rows `[n, 17]`: x0, y0, x1, y1, six key points (frame pixels), score."""
        images = np.stack([_sample_window(frame, window) for frame, window in zip(frames, windows, strict=True)])
        batch = torch.from_numpy(images).to(self.device).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
        with torch.inference_mode():
            raw, logits = self._network(batch)
            scores = torch.sigmoid(logits.clamp(-100, 100))
        found = []
        for values, score, window in zip(raw.cpu().numpy(), scores.cpu().numpy(), windows, strict=True):
            kept = score > threshold
            found.append(merge_boxes(_decode(values[kept], self._anchors[kept], score[kept], window)))
        return found


def _whole(frame: np.ndarray) -> _Window:
    height, width = frame.shape[:2]
    side = max(height, width)
    return _Window((width - side) / 2, (height - side) / 2, side)


def _tile_levels(height: int, width: int) -> list[list[_Window]]:
    """Per level, squares that cover the frame, each overlapping the next by at least half."""
    levels = []
    for level in _TILE_LEVELS:
        side = min(height, width) / level
        if side < _MIN_TILE_SIDE or side == max(height, width):  # too small, or the whole frame again
            continue
        rows, columns = (int(np.ceil((extent - side) / (side / 2))) + 1 for extent in (height, width))
        corners = [
            (x0, y0) for y0 in np.linspace(0, height - side, rows) for x0 in np.linspace(0, width - side, columns)
        ]
        levels.append([_Window(x0, y0, side) for x0, y0 in corners])
    return levels


def _sample_window(frame: np.ndarray, window: _Window) -> np.ndarray:
    """The window as uint8 `[128, 128, 3]`, black outside the frame."""
    height, width = frame.shape[:2]
    scale = INPUT_SIZE / window.side
    left, top = max(window.x0, 0), max(window.y0, 0)
    right, bottom = min(window.x0 + window.side, width), min(window.y0 + window.side, height)
    part = frame[int(round(top)) : max(int(round(bottom)), 1), int(round(left)) : max(int(round(right)), 1)]
    columns, rows = (max(1, int(round(extent * scale))) for extent in (right - left, bottom - top))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    image = np.zeros((INPUT_SIZE, INPUT_SIZE, 3), np.uint8)
    x0, y0 = int(round((left - window.x0) * scale)), int(round((top - window.y0) * scale))
    resized = cv2.resize(part, (columns, rows), interpolation=interpolation)
    target = image[y0 : y0 + rows, x0 : x0 + columns]
    target[:] = resized[: target.shape[0], : target.shape[1]]
    return image


def _decode(values: np.ndarray, anchors: np.ndarray, scores: np.ndarray, window: _Window) -> np.ndarray:
    """Raw predictions `[n, 16]` of anchors `[n, 2]` to rows `[n, 17]` in frame pixels."""
    points = values.reshape(-1, 8, 2) / INPUT_SIZE
    points[:, [0, 2, 3, 4, 5, 6, 7]] += anchors[:, None]
    half = points[:, 1] / 2
    placed = np.concatenate([points[:, :1] - half[:, None], points[:, :1] + half[:, None], points[:, 2:]], axis=1)
    placed = placed * window.side + np.array([window.x0, window.y0], np.float32)
    return np.concatenate([placed.reshape(-1, 16), scores[:, None]], axis=1)


def merge_boxes(rows: np.ndarray) -> np.ndarray:
    """Weighted non-maximum suppression: overlapping boxes are averaged by their scores, the best score stays.

    Args:
        rows: `[n, 17]`, any order.

    Returns:
        `[m, 17]`, best score first.
    """
    remaining = rows[np.argsort(-rows[:, 16], kind="stable")]
    merged = []
    while len(remaining):
        shared, own, areas = _intersections(remaining[0], remaining)
        overlaps = shared > _SAME_FACE_IOU * (own + areas - shared)
        overlaps[0] = True  # an empty box overlaps nothing, not even itself
        group = remaining[overlaps]
        weights = group[:, 16:] / group[:, 16].sum()
        merged.append(np.append((group[:, :16] * weights).sum(axis=0), group[0, 16]))
        remaining = remaining[~overlaps]
    return np.stack(merged) if merged else np.zeros((0, 17), np.float32)


def _best_views(rows: np.ndarray) -> np.ndarray:
    """Of the same face seen in several windows, the view with the best score."""
    remaining = rows[np.argsort(-rows[:, 16], kind="stable")]
    best = []
    while len(remaining):
        best.append(remaining[0])
        shared, own, areas = _intersections(remaining[0], remaining)
        same = shared > _SAME_FACE_SHARE * np.minimum(own, areas)
        same[0] = True
        remaining = remaining[~same]
    return np.stack(best) if best else rows


def _drop_cut(rows: np.ndarray, tile: _Window, frame: np.ndarray) -> np.ndarray:
    """Without the faces that reach out of the tile where the frame goes on; a neighbouring tile has them whole."""
    height, width = frame.shape[:2]
    low, high = np.array([tile.x0, tile.y0]), np.array([tile.x0, tile.y0]) + tile.side
    is_inner_low, is_inner_high = low > 0.5, high < np.array([width, height]) - 0.5
    cut = ((rows[:, :2] < low) & is_inner_low) | ((rows[:, 2:4] > high) & is_inner_high)
    return rows[~cut.any(axis=1)]


def _intersections(box: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
    """Areas: shared by `box` and each of `boxes`, of `box`, of `boxes`."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:4], boxes[:, 2:4])
    shared = np.prod(np.clip(high - low, 0, None), axis=1)
    areas = np.prod(np.clip(boxes[:, 2:4] - boxes[:, :2], 0, None), axis=1)
    return shared, float(np.prod(np.clip(box[2:4] - box[:2], 0, None))), areas


def _by_area(rows: np.ndarray) -> list[FaceBox]:
    boxes = [
        FaceBox(*(float(value) for value in row[:4]), row[4:16].reshape(6, 2).astype(np.float32), float(row[16]))
        for row in rows
    ]
    return sorted(boxes, key=lambda box: -box.area)
