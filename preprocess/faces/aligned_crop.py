"""The aligned crops that the networks of Portrait4D and of EG3D were trained on.

Portrait4D's is specified in Deng et al. 2024, supplement; EG3D's in Chan et al. 2022, supplement. A weak-perspective
fit of five template points to the pupils, nose tip and mouth corners places the square, which is scaled and moved but
never turned.
"""

import numpy as np
from numpy.typing import NDArray

from flame.landmarks.sets import FIVE_POINTS
from preprocess.faces.backend_names import Alignment
from preprocess.faces.crop import DEFAULT_CROP_SIZE, Crop

# x to the picture's right, y up, z to the viewer; in units of 0.1 m around the origin of Deep3DFaceRecon
DEEP3D_FIVE_POINTS = np.array(
    [
        [-0.31148657, 0.09036078, 0.13377953],
        [0.30979887, 0.08972035, 0.13179526],
        [0.0032535, -0.24617933, 0.55244243],
        [-0.25216928, -0.5813392, 0.22405732],
        [0.2484662, -0.5812824, 0.22235769],
    ]
)

_SHIFT = {"portrait4d": np.array([0.0, 0.1, 0.4]), "eg3d": np.zeros(3)}
_PX_PER_UNIT = {"portrait4d": 180.0, "eg3d": 300.0 * DEFAULT_CROP_SIZE / 700}
"""Scale of the template in a crop of 512 px. EG3D scales to 300 and takes the middle 700 px as the picture."""


def portrait_crop(
    landmarks: NDArray,
    *,
    image_size: tuple[int, int],
    size: int = DEFAULT_CROP_SIZE,
    alignment: Alignment = "portrait4d",
) -> Crop:
    """Returns the aligned crop of a face.

    Args:
        landmarks: `[478, 98, 70 or 68, 2 or 3]` image px.
        image_size: (height, width) of the image.
        size: side of the crop in pixels.
        alignment: whose crop it is.
    """
    return crop_from_five(five_points(landmarks), image_size=image_size, size=size, alignment=alignment)


def five_points(landmarks: NDArray) -> NDArray[np.float64]:
    """Returns pupils (of 68 points: eye centres), nose tip and mouth corners `[5, 2]`, the subject's right first.

    Args:
        landmarks: `[N, 2 or 3]`: 478 of the tracker, 98 of WFLW, 70 or 68 of iBUG.
    """
    if landmarks.ndim != 2 or landmarks.shape[0] not in FIVE_POINTS or landmarks.shape[1] not in (2, 3):
        raise ValueError(f"expected landmarks [478, 98, 70 or 68, 2 or 3], got {list(landmarks.shape)}")
    flat = landmarks[:, :2].astype(np.float64)
    return np.stack([flat[list(averaged)].mean(0) for averaged in FIVE_POINTS[len(landmarks)]])


def crop_from_five(
    points: NDArray,
    *,
    image_size: tuple[int, int],
    size: int = DEFAULT_CROP_SIZE,
    alignment: Alignment = "portrait4d",
) -> Crop:
    """Returns the aligned crop of pupils, nose tip and mouth corners `[5, 2]`, the subject's right first, image px."""
    if points.shape != (5, 2):
        raise ValueError(f"expected five points [5, 2], got {points.shape}")
    template = np.concatenate([DEEP3D_FIVE_POINTS + _SHIFT[alignment], np.ones((5, 1))], 1)
    flipped = points.astype(np.float64) * [1.0, -1.0]
    rows = np.linalg.lstsq(template, flipped, rcond=None)[0].T  # each axis: three of scaled rotation, one of place
    px_per_unit = float(np.linalg.norm(rows[:, :3], axis=1).mean())
    center = float(rows[0, 3]), float(-rows[1, 3])
    side = px_per_unit / _PX_PER_UNIT[alignment] * DEFAULT_CROP_SIZE
    return Crop.from_square(center, side, size=size, image_size=image_size)
