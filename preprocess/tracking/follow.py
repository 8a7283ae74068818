"""Follows one face through a clip by the last frame's landmarks; detects it at the start, after losses and cuts."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from flame.errors import InputError
from flame.landmarks.groups import NUM_MESH
from preprocess.faces.detector import FaceBox, FaceDetector
from preprocess.faces.landmarker import FaceLandmarker, FaceLandmarks, find_faces

_DETECT_EVERY = 30
"""Frames between detections of the other faces in the picture."""

_MIN_OVERLAP = 0.35
"""Least overlap (intersection over union) of one face's boxes in successive frames."""

_CUT_DIFFERENCE = 22.0
"""Mean change of the frame's thumbnail (0-255) above which a cut is assumed."""

RIVAL_SHARE = 0.5
"""A face at least this share as wide as the chosen one may have been meant."""

_PATIENCE = 12
"""Frames after which a lost face is searched for in the whole picture."""

_LUMA = np.array([0.2126, 0.7152, 0.0722])  # ITU-R BT.709

Box = NDArray[np.float64]
"""`[4]` x0, y0, x1, y1, picture px."""


class FaceFollower:
    """Finds one person's landmarks, frame after frame.

    Attributes:
        is_cut: whether the last frame began a new scene.
    """

    def __init__(self, detector: FaceDetector, landmarker: FaceLandmarker, *, face: int = 0) -> None:
        self.is_cut = False
        self._detector, self._landmarker, self._face = detector, landmarker, face
        self._previous: FaceLandmarks | None = None
        self._last_box: Box | None = None
        self._others: list[Box] = []
        self._thumbnail: NDArray | None = None
        self._num_lost = 0
        self._frame_index = -1

    def __call__(self, frame: NDArray[np.uint8]) -> FaceLandmarks | None:
        """Returns the landmarks in the next frame, uint8 `[H, W, 3]` RGB; None where the person is not seen.

        Raises:
            InputError: the first frame with a face has no face of the requested number.
        """
        self._frame_index += 1
        self.is_cut = self._sees_cut(frame)
        found = None
        if self._previous is not None and not self.is_cut:
            found = self._landmarker(frame, self._previous)
            if not self._is_plausible(found):
                found = None
            elif self._frame_index % _DETECT_EVERY == 0:
                self._look_around(frame, found)
        if found is None:
            found = self._detect(frame)
        if found is None:
            self._previous = None
            self._num_lost += 1
            return None
        self._previous, self._last_box, self._num_lost = found, bounding_box(found.points), 0
        return found

    @property
    def has_rival(self) -> bool:
        """Whether the last look around saw another face at least `RIVAL_SHARE` as wide as the one that is followed."""
        if self._last_box is None:
            return False
        width = self._last_box[2] - self._last_box[0]
        return any(other[2] - other[0] >= RIVAL_SHARE * width for other in self._others)

    def _is_plausible(self, found: FaceLandmarks) -> bool:
        if not found.is_face or not np.isfinite(found.points).all():
            return False
        assert self._last_box is not None
        return overlap(bounding_box(found.points), self._last_box) > _MIN_OVERLAP

    def _detect(self, frame: NDArray[np.uint8]) -> FaceLandmarks | None:
        if self._last_box is None:
            return self._detect_first(frame)
        # tiles are searched only at the start and after a cut; otherwise the face is near its last place or absent
        boxes = self._detector(frame) if self.is_cut else self._detector.detect_batch([frame])[0]
        for box in self._choose(boxes, self._last_box):
            found = self._landmarker(frame, box)
            if found.is_face and np.isfinite(found.points).all():
                chosen = bounding_box(found.points)
                self._others = [_box(other) for other in boxes if overlap(_box(other), chosen) < 0.2]
                return self._landmarker(frame, found)  # its landmarks give a better region than the detector
        return None

    def _detect_first(self, frame: NDArray[np.uint8]) -> FaceLandmarks | None:
        faces = find_faces(frame, self._detector, self._landmarker)
        if not faces:
            return None
        chosen = choose_face(faces, self._face, place="the clip's first frame with a face")
        self._others = [bounding_box(face.points) for face in faces if face is not chosen]
        return self._landmarker(frame, chosen)  # once more, as in the frames that follow: no jump after the first frame

    def _choose(self, boxes: Sequence[FaceBox], last: Box) -> list[FaceBox]:
        """Returns the boxes that may show the person, the most likely first."""
        if self.is_cut:  # a flash looks like a cut: a face in the same place is of the same person
            return sorted(boxes, key=lambda box: overlap(_box(box), last) < 0.5)
        strangers = [any(overlap(_box(box), other) > 0.3 for other in self._others) for box in boxes]
        known = [box for box, is_stranger in zip(boxes, strangers, strict=True) if not is_stranger]
        near = [box for box in known if _distance(_box(box), last) < 0.7]
        near.sort(key=lambda box: _distance(_box(box), last))
        return near if near or self._num_lost < _PATIENCE else known

    def _look_around(self, frame: NDArray[np.uint8], found: FaceLandmarks) -> None:
        chosen = bounding_box(found.points)
        boxes = self._detector.detect_batch([frame])[0]
        self._others = [_box(box) for box in boxes if overlap(_box(box), chosen) < 0.2]

    def _sees_cut(self, frame: NDArray[np.uint8]) -> bool:
        thumbnail = cv2.resize(frame, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
        before, self._thumbnail = self._thumbnail, thumbnail
        return before is not None and float(np.abs(thumbnail - before).mean()) > _CUT_DIFFERENCE


def choose_face(faces: Sequence[FaceLandmarks], face: int, *, place: str) -> FaceLandmarks:
    """Returns the face of a number among those of `find_faces`.

    Args:
        faces: sorted by size, the largest first.
        face: number of the face, from 0.
        place: names the picture or clip in the message.

    Raises:
        InputError: there is no face of that number.
    """
    if face >= len(faces):
        numbers = "0" if len(faces) == 1 else f"0 to {len(faces) - 1}"
        raise InputError(f"expected at least {face + 1} faces in {place}, found {len(faces)}: use --face {numbers}")
    return faces[face]


def bounding_box(points: NDArray) -> Box:
    """Returns the bounding box of the face mesh points among landmarks `[478, 2 or 3]` (picture px)."""
    return np.concatenate([points[:NUM_MESH, :2].min(0), points[:NUM_MESH, :2].max(0)]).astype(np.float64)


def face_level(image: NDArray[np.uint8], points: NDArray) -> float:
    """Returns the median brightness of a face, 0 to 255, by its landmarks (image px); 255 if it lies outside."""
    height, width = image.shape[:2]
    left, top, right, bottom = bounding_box(points).round().astype(int)
    part = image[max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
    return float(np.median(part @ _LUMA)) if part.size else 255.0


def overlap(first: Box, second: Box) -> float:
    """Returns the intersection over union of two boxes."""
    shared = np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2])
    if (shared <= 0).any():
        return 0.0
    area = float(shared.prod())
    return area / float((first[2:] - first[:2]).prod() + (second[2:] - second[:2]).prod() - area)


def _distance(first: Box, second: Box) -> float:
    """Returns the distance of two boxes' centres as a multiple of their mean side."""
    centres = first.reshape(2, 2).mean(0) - second.reshape(2, 2).mean(0)
    size = (first[2:] - first[:2] + second[2:] - second[:2]).mean() / 2
    return float(np.linalg.norm(centres) / max(size, 1e-6))


def _box(box: FaceBox) -> Box:
    return np.array([box.x0, box.y0, box.x1, box.y1])
