"""Scores how usable a picture is."""

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from flame.landmarks.groups import CONTOUR, eye_opening
from preprocess.faces.crop import Crop

_SHARPNESS_SIDE = 256


def measure(
    image: NDArray[np.uint8], mask: NDArray[np.uint8], landmarks: NDArray, *, crop: Crop, rotation: NDArray
) -> dict[str, float]:
    """Returns the scores of an aligned picture, without the fit error.

    Yaw is > 0 with the nose to the viewer's right, pitch is > 0 looking up. Sharpness is the variance of the Laplacian
    of the face's grey levels (0 to 255) in a picture of 256 px. Occlusion is the share of the face that the mask leaves
    out or that lies beyond the source's border. Outside is the share of the whole picture beyond that border, where
    the border's pixels are repeated: usually above a head whose top the source cuts off.

    Args:
        image: `[S, S, 3]` RGB.
        mask: `[S, S]`, 255 on the person.
        landmarks: `[478, 3]` px of the picture.
        crop: the crop that made the picture.
        rotation: `[3]` axis-angle of the head in camera space.
    """
    face = np.zeros(mask.shape, np.uint8)
    outline = landmarks[list(CONTOUR), :2]
    cv2.fillPoly(face, [np.round(outline).astype(np.int32)], 1)
    inside = cv2.warpAffine(
        np.ones(crop.image_size, np.uint8), crop.matrix[:2], mask.shape[::-1], flags=cv2.INTER_NEAREST
    )
    area = max(int(face.sum()), 1)
    # `face` lacks the part of the face that lies beyond the picture
    low, high = outline.min(0), outline.max(0)
    whole = max(cv2.contourArea(outline.astype(np.float32)), 1.0)
    shown = float(((face > 0) & (mask >= 128) & (inside > 0)).sum()) / max(whole, area)
    yaw, pitch, roll = Rotation.from_rotvec(rotation).as_euler("YXZ", degrees=True)
    return {
        "sharpness": _sharpness(image, face),
        "yaw_degrees": float(yaw),
        "pitch_degrees": float(-pitch),
        "roll_degrees": float(roll),
        "occlusion": float(np.clip(1 - shown, 0, 1)),
        "outside": float(1 - inside.mean()),
        "eye_open": float(eye_opening(landmarks).max()),
        "face_px": float((high - low)[0] / crop.scale),
    }


def _sharpness(image: NDArray[np.uint8], face: NDArray[np.uint8]) -> float:
    size = (_SHARPNESS_SIDE, _SHARPNESS_SIDE)
    grey = cv2.cvtColor(cv2.resize(image, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    region = cv2.resize(face, size, interpolation=cv2.INTER_NEAREST) > 0
    if not region.any():
        return 0.0
    return float(cv2.Laplacian(grey, cv2.CV_64F)[region].var())
