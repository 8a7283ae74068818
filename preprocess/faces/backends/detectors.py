"""Finds faces and landmarks: 478 points of the embedded tracker, or 68 points of face-alignment or insightface."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from flame.errors import InputError
from flame.landmarks.sets import IBUG_CONTOUR_ENDS, IBUG_NOSE_TIP
from preprocess.faces.backend_names import DetectorName
from preprocess.faces.backends.extras import explained_weights, import_extra
from preprocess.faces.backends.insightface_pack import InsightFace
from preprocess.faces.detector import FaceDetector
from preprocess.faces.landmarker import FaceLandmarker, find_faces

FACE_ALIGNMENT_FILES = ("s3fd-619a316812.pth", "3DFAN4-7835d9f11d.pth.tar", "depth-2a464da4ea.pth.tar")
FACE_ALIGNMENT_PAGE = "https://www.adrianbulat.com/downloads/python-fan/"

_NUM_IBUG = 68


@dataclass(frozen=True)
class DetectedFace:
    """One face and its landmarks.

    Attributes:
        points: `[N, 3]` float32, picture px, x right, y down; z is in the same unit, smaller is nearer.
        landmark_set: which points they are: "478" of the embedded tracker, or "68" of iBUG.
        score: 0 ... 1, the detector's confidence.
    """

    points: NDArray[np.float32]
    landmark_set: Literal["478", "68"]
    score: float

    @property
    def size(self) -> float:
        """Longer side of the box around the points, in px."""
        return float(np.ptp(self.points[:, :2], axis=0).max())


Detector = Callable[[NDArray[np.uint8]], list[DetectedFace]]
"""Returns the faces of a picture uint8 `[H, W, 3]` RGB, largest first; an empty list if there is none."""


def load_detector(name: DetectorName = "embedded", device: torch.device | str = "cpu") -> Detector:
    """Returns a detector ready to use.

    Raises:
        InputError: the name is unknown, its package is not installed, its weights are neither here nor can be fetched,
            or it cannot use the device.
    """
    match name:
        case "embedded":
            return EmbeddedDetector(device)
        case "face-alignment":
            return FaceAlignmentDetector(device)
        case "insightface":
            return InsightFaceDetector(device)
        case _:
            raise InputError(f"expected detector to be one of {', '.join(get_args(DetectorName))}, got {name!r}")


class EmbeddedDetector:
    """Finds faces with the networks that come with this package."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._detector, self._landmarker = FaceDetector(device), FaceLandmarker(device)

    def __call__(self, image: NDArray[np.uint8]) -> list[DetectedFace]:
        """Returns the faces of a picture as `Detector` describes, with 478 points."""
        faces = find_faces(image, self._detector, self._landmarker)
        return [DetectedFace(face.points, "478", face.score) for face in faces]


class FaceAlignmentDetector:
    """Finds S3FD boxes, 3DFAN-4 points and their depth with face-alignment (Bulat and Tzimiropoulos 2017)."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        library = import_extra("face_alignment", "face-alignment")
        what = "the weights of face-alignment"
        with explained_weights(what, _face_alignment_advice, are_here=lambda: not _missing_files()):
            # compiling the networks would need a C compiler, and a minute before the first picture
            self._network = library.FaceAlignment(
                library.LandmarksType.THREE_D, device=str(device), flip_input=False, compile=False
            )

    def __call__(self, image: NDArray[np.uint8]) -> list[DetectedFace]:
        """Returns the faces of a picture as `Detector` describes, with 68 points."""
        boxes = self._network.face_detector.detect_from_image(image.copy())
        if not len(boxes):
            return []
        found = self._network.get_landmarks_from_image(image, detected_faces=boxes)
        scores = [float(box[4]) for box in boxes]
        return _largest_first(found, scores)


class InsightFaceDetector:
    """Finds SCRFD boxes and 68 points with depth with insightface's pack buffalo_l."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._analysis = InsightFace("landmark_3d_68", device)

    def __call__(self, image: NDArray[np.uint8]) -> list[DetectedFace]:
        """Returns the faces of a picture as `Detector` describes, with 68 points."""
        faces = self._analysis(image)
        return _largest_first([face["landmark_3d_68"] for face in faces], [float(face["det_score"]) for face in faces])


def _largest_first(found: Sequence[NDArray], scores: Sequence[float]) -> list[DetectedFace]:
    faces = []
    for points, score in zip(found, scores, strict=True):
        if points.shape != (_NUM_IBUG, 3):
            raise InputError(f"expected landmarks [{_NUM_IBUG}, 3] of the detector, got {list(points.shape)}")
        faces.append(DetectedFace(_nearer_is_smaller(np.asarray(points, np.float32)), "68", score))
    return sorted(faces, key=lambda face: -face.size)


def _nearer_is_smaller(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turns z so that smaller is nearer, by the nose tip and the contour's ends: neither library states its sign."""
    depth = points[:, 2]
    sign = 1.0 if depth[IBUG_NOSE_TIP] <= depth[list(IBUG_CONTOUR_ENDS)].mean() else -1.0
    return points * np.array([1.0, 1.0, sign], np.float32)


def _checkpoints() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"


def _missing_files() -> list[str]:
    return [name for name in FACE_ALIGNMENT_FILES if not (_checkpoints() / name).is_file()]


def _face_alignment_advice() -> str:
    folder, missing = _checkpoints(), _missing_files()
    if not missing:
        return f"delete {', '.join(FACE_ALIGNMENT_FILES)} in {folder} if they are damaged, and run again with a network"
    return f"download {', '.join(missing)} from {FACE_ALIGNMENT_PAGE} into {folder}, or run once with a network"
