"""Where the faces are: the short-range BlazeFace detector on the whole frame, then on overlapping tiles.

The network sees 128x128 pixels and finds faces from about a tenth of that on. Full-figure photos are
therefore searched again in tiles, finer and finer, until a face shows.
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
TILE_SCORE_THRESHOLD = 0.6  # tiles show many more windows, and so more chances of a false one
_OVERLAP_THRESHOLD = 0.3  # intersection over union above which two boxes are one face
_TILE_LEVELS = (1, 2, 4)  # tile side = short side of the frame over this
_TINY_FACE = 0.12  # of the long side of what the network saw: below, the position is poor
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
        """Faces of `frame` uint8 `[H, W, 3]` RGB, largest first."""
        faces = self.detect_batch([frame])[0]
        height, width = frame.shape[:2]
        if faces and faces[0].x1 - faces[0].x0 >= _TINY_FACE * max(height, width):
            return faces
        return self._search_tiles(frame, faces)

    def detect_batch(self, frames: Sequence[np.ndarray]) -> list[list[FaceBox]]:
        """Faces of each frame, largest first; whole frames only, no tiles."""
        windows = [_whole(frame) for frame in frames]
        found = self._detect(frames, windows, SCORE_THRESHOLD)
        return [_by_area(merge_boxes(rows)) for rows in found]

    def _search_tiles(self, frame: np.ndarray, faces: list[FaceBox]) -> list[FaceBox]:
        rows = np.stack([_to_row(face) for face in faces]) if faces else np.zeros((0, 17), np.float32)
        height, width = frame.shape[:2]
        for level in _TILE_LEVELS:
            side = min(height, width) / level
            if side < INPUT_SIZE / 2:
                break
            windows = _tiles(height, width, side)
            for start in range(0, len(windows), _MAX_TILES_PER_BATCH):
                part = windows[start : start + _MAX_TILES_PER_BATCH]
                rows = np.concatenate([rows, *self._detect([frame] * len(part), part, TILE_SCORE_THRESHOLD)])
            faces = _by_area(merge_boxes(rows))
            if faces and faces[0].x1 - faces[0].x0 >= _TINY_FACE * side:
                break
        return faces

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
            found.append(_decode(values[kept], self._anchors[kept], score[kept], window))
        return found


def _whole(frame: np.ndarray) -> _Window:
    height, width = frame.shape[:2]
    side = max(height, width)
    return _Window((width - side) / 2, (height - side) / 2, side)


def _tiles(height: int, width: int, side: float) -> list[_Window]:
    """Squares that cover the frame, each overlapping the next by at least half."""
    rows, columns = (int(np.ceil((extent - side) / (side / 2))) + 1 for extent in (height, width))
    return [
        _Window(x0, y0, side)
        for y0 in np.linspace(0, height - side, rows)
        for x0 in np.linspace(0, width - side, columns)
    ]


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
        overlaps = _overlap(remaining[0], remaining) > _OVERLAP_THRESHOLD
        overlaps[0] = True  # an empty box overlaps nothing, not even itself
        group = remaining[overlaps]
        weights = group[:, 16:] / group[:, 16].sum()
        merged.append(np.append((group[:, :16] * weights).sum(axis=0), group[0, 16]))
        remaining = remaining[~overlaps]
    return np.stack(merged) if merged else np.zeros((0, 17), np.float32)


def _overlap(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Intersection over union `[n]`."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:4], boxes[:, 2:4])
    shared = np.prod(np.clip(high - low, 0, None), axis=1)
    areas = np.prod(np.clip(boxes[:, 2:4] - boxes[:, :2], 0, None), axis=1)
    own = np.prod(np.clip(box[2:4] - box[:2], 0, None))
    return shared / np.maximum(areas + own - shared, 1e-9)


def _to_row(face: FaceBox) -> np.ndarray:
    return np.concatenate([[face.x0, face.y0, face.x1, face.y1], face.keypoints.reshape(-1), [face.score]])


def _by_area(rows: np.ndarray) -> list[FaceBox]:
    boxes = [
        FaceBox(*(float(value) for value in row[:4]), row[4:16].reshape(6, 2).astype(np.float32), float(row[16]))
        for row in rows
    ]
    return sorted(boxes, key=lambda box: -box.area)
