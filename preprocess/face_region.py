"""The rotated square around a face that the mesh network looks at, and its sampling from a frame."""

import math
from dataclasses import dataclass

import cv2
import numpy as np

REGION_SCALE = 1.5  # side of the square over the longer side of the face's box, as in MediaPipe
_EYE_CORNERS = (33, 263)  # outer corners: subject's right, left


@dataclass(frozen=True)
class FaceRegion:
    """A square in the frame.

    Attributes:
        centre_x, centre_y, side: frame pixels.
        roll_radians: angle of the square's x axis in the frame, x right, y down (clockwise is positive).
    """

    centre_x: float
    centre_y: float
    side: float
    roll_radians: float

    def to_frame(self, resolution: int) -> np.ndarray:
        """Affine map `[2, 3]` from region pixels (0 ... resolution) to frame pixels; top-left corners at 0."""
        scale = self.side / resolution
        along_x, along_y = scale * math.cos(self.roll_radians), scale * math.sin(self.roll_radians)
        linear = np.array([[along_x, -along_y], [along_y, along_x]])
        origin = np.array([self.centre_x, self.centre_y]) - linear @ np.full(2, resolution / 2)
        return np.concatenate([linear, origin[:, None]], axis=1)


def region_from_keypoints(box: tuple[float, float, float, float], right_eye: np.ndarray, left_eye: np.ndarray):
    """The region of a detection: x0, y0, x1, y1 and the eyes `[2]`, frame pixels."""
    return _region(box, left_eye - right_eye)


def region_from_points(points: np.ndarray) -> FaceRegion:
    """The region of known landmarks `[478, 2 or 3]`, frame pixels."""
    low, high = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
    right, left = points[_EYE_CORNERS[0], :2], points[_EYE_CORNERS[1], :2]
    return _region((*low.tolist(), *high.tolist()), left - right)


def _region(box: tuple[float, float, float, float], along_eyes: np.ndarray) -> FaceRegion:
    x0, y0, x1, y1 = box
    side = REGION_SCALE * max(x1 - x0, y1 - y0)
    return FaceRegion((x0 + x1) / 2, (y0 + y1) / 2, side, math.atan2(along_eyes[1], along_eyes[0]))


def sample_region(frame: np.ndarray, region: FaceRegion, resolution: int) -> np.ndarray:
    """Cut the region out of `frame` uint8 `[H, W, 3]`: uint8 `[resolution, resolution, 3]`.

    Bilinear, with the frame's edge repeated outside; a region larger than twice the resolution is
    first reduced by averaging, so that large photos do not alias.
    """
    to_frame = region.to_frame(resolution)
    reduction = int(region.side / resolution)
    if reduction >= 2:
        frame, offset = _reduce(frame, region, reduction)
        to_frame[:, 2] -= offset
        to_frame /= reduction
    # OpenCV counts from pixel centres: half a pixel is added before and taken away after the map
    to_frame[:, 2] += to_frame[:, :2] @ np.full(2, 0.5) - 0.5
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(frame, to_frame, (resolution, resolution), flags=flags, borderMode=cv2.BORDER_REPLICATE)


def _reduce(frame: np.ndarray, region: FaceRegion, reduction: int) -> tuple[np.ndarray, np.ndarray]:
    """The part of the frame around the region, `reduction` times smaller; and its corner `[2]` (x, y)."""
    height, width = frame.shape[:2]
    reach = region.side * (abs(math.cos(region.roll_radians)) + abs(math.sin(region.roll_radians))) / 2
    x0 = min(max(0, int(region.centre_x - reach) - reduction), width - 1)
    y0 = min(max(0, int(region.centre_y - reach) - reduction), height - 1)
    columns = min(width, int(region.centre_x + reach) + 2 * reduction) - x0
    rows = min(height, int(region.centre_y + reach) + 2 * reduction) - y0
    columns, rows = max(columns // reduction, 1), max(rows // reduction, 1)
    part = frame[y0 : y0 + rows * reduction, x0 : x0 + columns * reduction]
    return cv2.resize(part, (columns, rows), interpolation=cv2.INTER_AREA), np.array([x0, y0], dtype=float)
