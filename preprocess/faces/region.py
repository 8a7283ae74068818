"""Finds the square of a frame that holds a face, and samples it for a network."""

import math
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from flame.landmarks.groups import OUTER_EYE_CORNERS

REGION_SCALE = 1.5  # side of the square over the longer side of the face's box, as in MediaPipe


@dataclass(frozen=True)
class Square:
    """A square in the frame, upright or turned.

    Attributes:
        centre_x: in frame pixels.
        centre_y: likewise.
        side: likewise.
        roll_radians: angle of the square's x axis in the frame, x right, y down (clockwise is positive).
    """

    centre_x: float
    centre_y: float
    side: float
    roll_radians: float

    @property
    def corner(self) -> np.ndarray:
        """Top-left corner `[2]` (x, y) of an upright square."""
        return np.array([self.centre_x, self.centre_y]) - self.side / 2

    def to_frame(self, resolution: int) -> np.ndarray:
        """Returns the affine map `[2, 3]` from square px (0 ... resolution) to frame px; top-left corners at 0."""
        scale = self.side / resolution
        along_x, along_y = scale * math.cos(self.roll_radians), scale * math.sin(self.roll_radians)
        linear = np.array([[along_x, -along_y], [along_y, along_x]])
        origin = np.array([self.centre_x, self.centre_y]) - linear @ np.full(2, resolution / 2)
        return np.concatenate([linear, origin[:, None]], axis=1)


def square_from_keypoints(
    box: tuple[float, float, float, float], right_eye: np.ndarray, left_eye: np.ndarray
) -> Square:
    """Returns the square of a detection: its box x0, y0, x1, y1 and its eyes `[2]`, in frame pixels."""
    return _square(box, left_eye - right_eye)


def square_from_points(points: np.ndarray) -> Square:
    """Returns the square of known landmarks `[478, 2 or 3]`, in frame pixels."""
    low, high = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
    right, left = (points[corner, :2] for corner in OUTER_EYE_CORNERS)
    return _square((*low.tolist(), *high.tolist()), left - right)


def _square(box: tuple[float, float, float, float], along_eyes: np.ndarray) -> Square:
    x0, y0, x1, y1 = box
    side = REGION_SCALE * max(x1 - x0, y1 - y0)
    return Square((x0 + x1) / 2, (y0 + y1) / 2, side, math.atan2(along_eyes[1], along_eyes[0]))


def sample_square(
    frame: np.ndarray, square: Square, resolution: int, *, outside: Literal["edge", "black"] = "edge"
) -> np.ndarray:
    """Samples the square of `frame` uint8 `[H, W, 3]` as uint8 `[resolution, resolution, 3]`.

    Sampling is bilinear; outside the frame its edge is repeated, or black. A square larger than twice the resolution is
    first reduced by averaging, so that large photos do not alias.
    """
    to_frame = square.to_frame(resolution)
    reduction = int(square.side / resolution)
    if reduction >= 2:
        frame, offset = _reduce(frame, square, reduction)
        to_frame[:, 2] -= offset
        to_frame /= reduction
    # OpenCV counts from pixel centres: half a pixel is added before and taken away after the map
    to_frame[:, 2] += to_frame[:, :2] @ np.full(2, 0.5) - 0.5
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    border = cv2.BORDER_REPLICATE if outside == "edge" else cv2.BORDER_CONSTANT
    frame = np.ascontiguousarray(frame)
    return cv2.warpAffine(frame, to_frame, (resolution, resolution), flags=flags, borderMode=border)


def _reduce(frame: np.ndarray, square: Square, reduction: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the part of the frame around the square, `reduction` times smaller, and its corner `[2]` (x, y)."""
    height, width = frame.shape[:2]
    reach = square.side * (abs(math.cos(square.roll_radians)) + abs(math.sin(square.roll_radians))) / 2
    x0 = min(max(0, int(square.centre_x - reach) - reduction), width - 1)
    y0 = min(max(0, int(square.centre_y - reach) - reduction), height - 1)
    columns = min(width, int(square.centre_x + reach) + 2 * reduction) - x0
    rows = min(height, int(square.centre_y + reach) + 2 * reduction) - y0
    columns, rows = max(columns // reduction, 1), max(rows // reduction, 1)
    part = frame[y0 : y0 + rows * reduction, x0 : x0 + columns * reduction]
    return cv2.resize(part, (columns, rows), interpolation=cv2.INTER_AREA), np.array([x0, y0], dtype=float)
