"""The square, upright crop of an image around a head, and the maps between both."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from flame.landmarks.groups import CHIN, EARS, FOREHEAD

DEFAULT_CROP_SIZE = 512

CROP_SCALE = 2.0
"""Side of the crop in face heights (forehead point to chin): hair, head and the top of the shoulders fit."""


_DOWN = 0.17
"""Distance of the crop's centre below the middle of the ears, in face heights: the eyes lie at 46 % of the side."""


@dataclass(frozen=True)
class Crop:
    """A similarity transform from image pixels to crop pixels.

    Attributes:
        matrix: `[3, 3]` float64, image px -> crop px (x right, y down, origin at the top-left corner of a picture).
        size: side of the crop in pixels.
        image_size: (height, width) of the image the crop was made for.
    """

    matrix: NDArray[np.float64]
    size: int
    image_size: tuple[int, int]

    @classmethod
    def from_square(
        cls, center: tuple[float, float], side: float, *, size: int = DEFAULT_CROP_SIZE, image_size: tuple[int, int]
    ) -> "Crop":
        """Returns the crop of an upright square.

        Args:
            center: (x, y) image px.
            side: image px.
            size: crop px.
            image_size: (height, width) of the image.
        """
        if not side > 0:
            raise ValueError(f"crop side must be positive, got {side}")
        scale = size / side
        shift = size / 2 - scale * np.asarray(center, dtype=np.float64)
        matrix = np.array([[scale, 0.0, shift[0]], [0.0, scale, shift[1]], [0.0, 0.0, 1.0]])
        return cls(matrix, size, image_size)

    @classmethod
    def whole(cls, image_size: tuple[int, int], *, size: int = DEFAULT_CROP_SIZE) -> "Crop":
        """Returns the smallest centred square that holds the whole image (height, width)."""
        height, width = image_size
        return cls.from_square((width / 2, height / 2), max(height, width), size=size, image_size=image_size)

    @property
    def inverse(self) -> NDArray[np.float64]:
        """`[3, 3]`, crop px -> image px."""
        return np.linalg.inv(self.matrix).astype(np.float64)

    @property
    def scale(self) -> float:
        """Crop px per image px."""
        return float(np.sqrt(abs(np.linalg.det(self.matrix[:2, :2]))))

    def to_crop(self, points: NDArray) -> NDArray:
        """Maps image px `[..., 2 or 3]` to crop px; a third coordinate (depth in px) is scaled alike."""
        return _map_points(self.matrix, points)

    def to_image(self, points: NDArray) -> NDArray:
        """Maps crop px `[..., 2 or 3]` to image px."""
        return _map_points(self.inverse, points)

    def apply(self, image: NDArray) -> NDArray:
        """Crops an image or mask `[H, W]` or `[H, W, C]` to `[size, size(, C)]` of the same dtype.

        Outside the image its border is repeated. An image that shrinks is low-pass filtered first.
        """
        window, offset = self._window(image)
        # OpenCV counts from the centre of the first pixel, this package from its corner.
        matrix = _shift(-0.5) @ self.matrix @ _translation(offset) @ _shift(0.5)
        if self.scale < 1.0:
            sigma = 0.5 * np.sqrt(1.0 / self.scale**2 - 1.0)
            if sigma > 0.2:
                window = cv2.GaussianBlur(window, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
        interpolation = cv2.INTER_LINEAR if self.scale < 1.0 else cv2.INTER_CUBIC
        return cv2.warpAffine(
            window, matrix[:2], (self.size, self.size), flags=interpolation, borderMode=cv2.BORDER_REPLICATE
        )

    def _window(self, image: NDArray) -> tuple[NDArray, NDArray[np.float64]]:
        """Returns the part of the image that the crop can see, and its corner: large photos are not filtered whole."""
        height, width = image.shape[:2]
        corners = self.to_image(np.array([[0, 0], [self.size, 0], [0, self.size], [self.size, self.size]], np.float64))
        margin = 4 + 4 / self.scale
        low = np.floor(corners.min(0) - margin).astype(int)
        high = np.ceil(corners.max(0) + margin).astype(int)
        x0, y0 = int(np.clip(low[0], 0, width - 1)), int(np.clip(low[1], 0, height - 1))
        x1, y1 = int(np.clip(high[0], x0 + 1, width)), int(np.clip(high[1], y0 + 1, height))
        return image[y0:y1, x0:x1], np.array([x0, y0], np.float64)


def face_crop(
    landmarks: NDArray,
    *,
    image_size: tuple[int, int],
    is_inside: bool = False,
) -> Crop:
    """Returns the crop of a head from the landmarks of one or several frames; their median gives a clip a fixed crop.

    Args:
        landmarks: `[478, 3]` or `[T, 478, 3]` image px; smaller z is nearer.
        image_size: (height, width) of the image.
        is_inside: whether to shrink and shift the square so that it shows nothing beyond the image's border.
    """
    if landmarks.ndim not in (2, 3) or landmarks.shape[-2:] != (478, 3):
        raise ValueError(f"landmarks must be [478, 3] or [T, 478, 3], got {landmarks.shape}")
    points = landmarks.reshape(-1, 478, 3)[:, (FOREHEAD, CHIN, *EARS)].astype(np.float64)
    # With depth, the height does not shrink when the head nods; depths of 0 do no harm.
    height = float(np.median(np.linalg.norm(points[:, 1] - points[:, 0], axis=-1)))
    middle = np.median(points[:, 2:, :2].mean(1), axis=0)
    center, side = middle + [0, _DOWN * height], CROP_SCALE * height
    if is_inside:
        side = min(side, *image_size)
        extent = np.array([image_size[1], image_size[0]])
        center = np.clip(center, side / 2, extent - side / 2)
    return Crop.from_square((float(center[0]), float(center[1])), side, image_size=image_size)


def _map_points(matrix: NDArray[np.float64], points: NDArray) -> NDArray:
    mapped = points[..., :2] @ matrix[:2, :2].T + matrix[:2, 2]
    if points.shape[-1] == 3:
        scale = np.sqrt(abs(np.linalg.det(matrix[:2, :2])))
        mapped = np.concatenate([mapped, points[..., 2:] * scale], axis=-1)
    return mapped.astype(points.dtype if np.issubdtype(points.dtype, np.floating) else np.float64)


def _shift(amount: float) -> NDArray[np.float64]:
    return _translation(np.array([amount, amount]))


def _translation(offset: NDArray[np.float64]) -> NDArray[np.float64]:
    matrix = np.eye(3)
    matrix[:2, 2] = offset
    return matrix
