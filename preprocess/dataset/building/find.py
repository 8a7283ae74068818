"""Finds faces in photos and clips with any detector; each gets the embedded tracker's 478 points to fit the head to.

The embedded detector's faces have those points already. Any other detector finds the face and its own 68 points, which
place the crop and are stored; the embedded landmarker then runs where that face is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flame.errors import InputError
from flame.landmarks.sets import IBUG_CONTOUR_ENDS, IBUG_LEFT_EYE, IBUG_MOUTH, IBUG_NOSE_TIP, IBUG_RIGHT_EYE
from preprocess.faces.backends.detectors import DetectedFace, Detector
from preprocess.faces.detector import FaceBox, FaceDetector
from preprocess.faces.landmarker import FaceLandmarker, find_faces
from preprocess.tracking.follow import FaceFollower, bounding_box, overlap

_SAME_FACE = 0.3
"""Least overlap of two detectors' boxes of the same face; it is low because 68 points leave out the forehead."""


@dataclass(frozen=True)
class FoundFace:
    """One face in a picture.

    Attributes:
        points: `[478, 3]` of the embedded landmarker, picture px, for the fit and the scores.
        marks: `[L, 3]` of the detector, picture px, for the crop and the record; `points` if it is the embedded one.
    """

    points: NDArray[np.float32]
    marks: NDArray[np.float32]


class FaceFinder:
    """Finds faces with networks that are loaded once in a process.

    Args:
        other: a detector of 68 points in place of the embedded one.
    """

    def __init__(self, other: Detector | None = None) -> None:
        self.other = other
        self.detector = (
            FaceDetector() if other is None else _Boxes(lambda frame: [face_box(face) for face in other(frame)])
        )
        self.landmarker = FaceLandmarker()

    def largest(self, image: NDArray[np.uint8]) -> tuple[FoundFace, int]:
        """Returns the largest face of a photo, and how many there are.

        Raises:
            InputError: there is no face, or the embedded landmarker sees none where the detector does.
        """
        if self.other is None:
            faces = find_faces(image, self.detector, self.landmarker)
            if not faces:
                raise InputError("no face found")
            return FoundFace(faces[0].points, faces[0].points), len(faces)
        marked = self.other(image)
        if not marked:
            raise InputError("no face found")
        box = face_box(marked[0])
        faces = find_faces(image, _Boxes(lambda _: [box]), self.landmarker)
        if not faces:
            raise InputError("the embedded landmarker sees no face where the detector does")
        return FoundFace(faces[0].points, marked[0].points), len(marked)

    def follower(self) -> "ClipFinder":
        """Returns a finder for the frames of one clip."""
        return ClipFinder(self)


class ClipFinder:
    """Follows one person's face from frame to frame; see `preprocess.tracking.follow.FaceFollower`."""

    def __init__(self, finder: FaceFinder) -> None:
        self._other = finder.other
        self._follower = FaceFollower(finder.detector, finder.landmarker)

    @property
    def is_cut(self) -> bool:
        """Whether the last frame began a new scene."""
        return self._follower.is_cut

    def __call__(self, frame: NDArray[np.uint8]) -> FoundFace | None:
        """Returns the face in the next frame, or None where the detector or the landmarker does not see it."""
        found = self._follower(frame)
        if found is None:
            return None
        if self._other is None:
            return FoundFace(found.points, found.points)
        place = bounding_box(found.points)
        marked = [(overlap(bounding_box(face.points), place), face) for face in self._other(frame)]
        share, face = max(marked, key=lambda entry: entry[0], default=(0.0, None))
        return None if face is None or share < _SAME_FACE else FoundFace(found.points, face.points)


def face_box(face: DetectedFace) -> FaceBox:
    """Returns the box in which the embedded landmarker should look for a face with 68 points."""
    points = face.points[:, :2].astype(np.float64)
    low, high = points.min(0), points.max(0)
    ears = ((end,) for end in IBUG_CONTOUR_ENDS)
    parts = (IBUG_RIGHT_EYE, IBUG_LEFT_EYE, (IBUG_NOSE_TIP,), IBUG_MOUTH, *ears)
    keypoints = np.stack([points[list(part)].mean(0) for part in parts])
    return FaceBox(low[0], low[1], high[0], high[1], keypoints, face.score)


class _Boxes(FaceDetector):
    """Any source of boxes in the place of the embedded detector."""

    def __init__(self, find: Callable[[NDArray[np.uint8]], list[FaceBox]]) -> None:
        self._find = find

    def __call__(self, frame: NDArray[np.uint8]) -> list[FaceBox]:
        return self._find(frame)

    def detect_batch(self, frames: Sequence[NDArray[np.uint8]]) -> list[list[FaceBox]]:
        return [self._find(frame) for frame in frames]
