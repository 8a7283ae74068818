"""Finds faces with the short-range BlazeFace detector, on the whole frame and then on overlapping tiles.

The network sees 128x128 pixels and is reliable for faces of at least about a quarter of that. Frames with smaller faces
are searched again in finer and finer tiles.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from preprocess.faces.networks.face_detector import FaceDetectorNetwork, anchor_centres
from preprocess.faces.networks.weights import load_network
from preprocess.faces.region import Square, sample_square

INPUT_SIZE = 128
SCORE_THRESHOLD = 0.5  # MediaPipe's
TILE_SCORE_THRESHOLD = 0.7  # many tiles are many chances of a false face
_SAME_FACE_IOU = 0.3  # intersection over union above which two boxes are one face
_SAME_FACE_SHARE = 0.6  # the same across windows: intersection over the smaller box
_TILE_LEVELS = (1, 2, 4)  # tile side = short side of the frame over this
_MIN_TILE_SIDE = 160  # pixels: smaller tiles would only add faces below 20 pixels
_LARGE_FACE = 0.25  # share of the window's side: finer windows would find no larger face
_MAX_TILES_PER_BATCH = 16


@dataclass(frozen=True)
class FaceBox:
    """A detected face.

    Attributes:
        x0: left edge in frame pixels; edges may lie beyond the frame.
        y0: top edge.
        x1: right edge.
        y1: bottom edge.
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
        """Area of the box in square frame pixels."""
        return (self.x1 - self.x0) * (self.y1 - self.y0)


class FaceDetector:
    """Finds faces in frames."""

    def __init__(self, device: str | torch.device = "cpu"):
        self.device = torch.device(device)
        self._network = load_network(FaceDetectorNetwork, "face_detector", device=device)
        self._anchors = anchor_centres().numpy()

    def __call__(self, frame: np.ndarray) -> list[FaceBox]:
        """Returns the faces of `frame` uint8 `[H, W, 3]` RGB, largest first.

        A face that fills a quarter of the frame takes one run of the network; small or missing faces take up to about
        twenty. `detect_batch` always takes one.
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
        """Returns the faces of each frame, largest first; whole frames only, no tiles."""
        if not frames:
            return []
        windows = [_whole(frame) for frame in frames]
        return [_by_area(rows) for rows in self._detect(frames, windows, SCORE_THRESHOLD)]

    def _detect(self, frames: Sequence[np.ndarray], windows: Sequence[Square], threshold: float) -> list[np.ndarray]:
        """Returns rows `[n, 17]` per window: x0, y0, x1, y1, six key points (frame pixels), score."""
        crops = [
            sample_square(frame, window, INPUT_SIZE, outside="black")
            for frame, window in zip(frames, windows, strict=True)
        ]
        batch = torch.from_numpy(np.stack(crops)).to(self.device).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
        with torch.inference_mode():
            raw, logits = self._network(batch)
            scores = torch.sigmoid(logits.clamp(-100, 100))
        found = []
        for values, score, window in zip(raw.cpu().numpy(), scores.cpu().numpy(), windows, strict=True):
            kept = score > threshold
            found.append(merge_boxes(_decode(values[kept], self._anchors[kept], score[kept], window)))
        return found


def _whole(frame: np.ndarray) -> Square:
    height, width = frame.shape[:2]
    return Square(width / 2, height / 2, max(height, width), 0.0)


def _tile_levels(height: int, width: int) -> list[list[Square]]:
    """Returns squares per level that cover the frame, each overlapping the next by at least half."""
    levels = []
    for level in _TILE_LEVELS:
        side = min(height, width) / level
        if side < _MIN_TILE_SIDE or side == max(height, width):  # too small, or the whole frame again
            continue
        rows, columns = (int(np.ceil((extent - side) / (side / 2))) + 1 for extent in (height, width))
        centres_y = np.linspace(side / 2, height - side / 2, rows)
        centres_x = np.linspace(side / 2, width - side / 2, columns)
        levels.append([Square(x, y, side, 0.0) for y in centres_y for x in centres_x])
    return levels


def _decode(values: np.ndarray, anchors: np.ndarray, scores: np.ndarray, window: Square) -> np.ndarray:
    """Converts raw predictions `[n, 16]` at anchors `[n, 2]` to rows `[n, 17]` in frame pixels."""
    points = values.reshape(-1, 8, 2) / INPUT_SIZE
    points[:, [0, 2, 3, 4, 5, 6, 7]] += anchors[:, None]
    half = points[:, 1] / 2
    placed = np.concatenate([points[:, :1] - half[:, None], points[:, :1] + half[:, None], points[:, 2:]], axis=1)
    placed = placed * window.side + window.corner.astype(np.float32)
    return np.concatenate([placed.reshape(-1, 16), scores[:, None]], axis=1)


def merge_boxes(rows: np.ndarray) -> np.ndarray:
    """Merges overlapping boxes by weighted non-maximum suppression: averages by scores and keeps the best score.

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
    """Keeps the view with the best score of each face that several windows show."""
    remaining = rows[np.argsort(-rows[:, 16], kind="stable")]
    best = []
    while len(remaining):
        best.append(remaining[0])
        shared, own, areas = _intersections(remaining[0], remaining)
        same = shared > _SAME_FACE_SHARE * np.minimum(own, areas)
        same[0] = True
        remaining = remaining[~same]
    return np.stack(best) if best else rows


def _drop_cut(rows: np.ndarray, tile: Square, frame: np.ndarray) -> np.ndarray:
    """Drops the faces that the tile cuts off inside the frame; a neighbouring tile shows them whole."""
    height, width = frame.shape[:2]
    low, high = tile.corner, tile.corner + tile.side
    is_inner_low, is_inner_high = low > 0.5, high < np.array([width, height]) - 0.5
    cut = ((rows[:, :2] < low) & is_inner_low) | ((rows[:, 2:4] > high) & is_inner_high)
    return rows[~cut.any(axis=1)]


def _intersections(box: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
    """Returns three areas: that shared by `box` and each of `boxes`, that of `box`, and those of `boxes`."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:4], boxes[:, 2:4])
    shared = np.prod(np.clip(high - low, 0, None), axis=1)
    areas = np.prod(np.clip(boxes[:, 2:4] - boxes[:, :2], 0, None), axis=1)
    return shared, float(np.prod(np.clip(box[2:4] - box[:2], 0, None))), areas


def _by_area(rows: np.ndarray) -> list[FaceBox]:
    boxes = []
    for row in rows:
        x0, y0, x1, y1 = row[:4].tolist()
        boxes.append(FaceBox(x0, y0, x1, y1, row[4:16].reshape(6, 2).astype(np.float32), float(row[16])))
    return sorted(boxes, key=lambda box: -box.area)
