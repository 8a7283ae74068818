"""How usable a picture is, in numbers, and the limits beyond which it is left out."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from preprocess.crop import Crop
from preprocess.landmark_groups import CONTOUR, eye_opening

_SHARPNESS_SIDE = 256


@dataclass(frozen=True)
class Limits:
    """What a picture must reach to be kept.

    Attributes:
        min_face_px: width of the face in the source.
        min_sharpness: see `measure`.
        max_yaw_degrees, max_pitch_degrees: either way.
        max_occlusion: share of the face, 0 to 1.
        max_fit_error: of the outer-eye distance.
        min_eye_open: of the wider eye, of its width; 0 keeps closed eyes.
    """

    min_face_px: float = 80.0
    min_sharpness: float = 4.0
    max_yaw_degrees: float = 75.0
    max_pitch_degrees: float = 50.0
    max_occlusion: float = 0.15
    max_fit_error: float = 0.08
    min_eye_open: float = 0.0

    def fault(self, scores: dict[str, float]) -> str | None:
        """Why scores do not pass: the number and the limit; None if they do."""
        yaw, pitch = abs(scores["yaw_degrees"]), abs(scores["pitch_degrees"])
        for is_fault, text in (
            (
                scores["face_px"] < self.min_face_px,
                f"the face is {scores['face_px']:.0f} px wide, at least {self.min_face_px:g} wanted",
            ),
            (
                scores["fit_error"] > self.max_fit_error,
                f"fit error {scores['fit_error']:.3f}, at most {self.max_fit_error:g} wanted",
            ),
            (
                scores["occlusion"] > self.max_occlusion,
                f"{scores['occlusion']:.2f} of the face is hidden or outside, at most {self.max_occlusion:g} wanted",
            ),
            (yaw > self.max_yaw_degrees, f"yaw {yaw:.0f} degrees, at most {self.max_yaw_degrees:g} wanted"),
            (pitch > self.max_pitch_degrees, f"pitch {pitch:.0f} degrees, at most {self.max_pitch_degrees:g} wanted"),
            (
                scores["sharpness"] < self.min_sharpness,
                f"sharpness {scores['sharpness']:.1f}, at least {self.min_sharpness:g} wanted",
            ),
            (
                scores["eye_open"] < self.min_eye_open,
                f"eyes {scores['eye_open']:.2f} open, at least {self.min_eye_open:g} wanted",
            ),
        ):
            if is_fault:
                return text
        return None


def measure(
    image: NDArray[np.uint8], mask: NDArray[np.uint8], landmarks: NDArray, *, crop: Crop, rotation: NDArray
) -> dict[str, float]:
    """Scores of an aligned picture, without the fit error.

    Yaw is > 0 with the nose to the viewer's right, pitch is > 0 looking up. Sharpness is the variance of the
    Laplacian of the face's grey levels (0 to 255) in a picture of 256 px. Occlusion counts what the mask leaves out of
    the face and what lies beyond the source's border.

    Args:
        image: `[S, S, 3]` RGB and mask: `[S, S]`.
        landmarks: `[478, 3]` px of the picture.
        crop: that made the picture.
        rotation: `[3]` axis-angle of the head in camera space.
    """
    face = np.zeros(mask.shape, np.uint8)
    outline = landmarks[list(CONTOUR), :2]
    cv2.fillPoly(face, [np.round(outline).astype(np.int32)], 1)
    inside = cv2.warpAffine(
        np.ones(crop.image_size, np.uint8), crop.matrix[:2], mask.shape[::-1], flags=cv2.INTER_NEAREST
    )
    area = max(int(face.sum()), 1)
    # what of the face lies beyond the picture altogether is missing from `face`
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
