"""Tracks one face in pictures as they come, such as those of a camera: nothing waits for a later picture."""

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from flame.landmarks.groups import outer_eye_distance
from preprocess.faces.crop import Crop, face_crop
from preprocess.faces.landmarker import FaceLandmarks
from preprocess.fitting.clip import ClipFit, one_frame
from preprocess.fitting.frames import HeadFitter, VideoFitter
from preprocess.tracking.follow import FaceFollower
from preprocess.tracking.followed_clip import MIN_FACE_PX
from preprocess.tracking.motion import Motion
from preprocess.tracking.one_euro import OneEuro

RATE = Fraction(25)
"""Frame rate that the motions state; what counts are their seconds."""

KEPT_FRAMES = 12
"""Frames that the identity is fitted to when the person holds still."""

ToMotion = Callable[[ClipFit, Crop, NDArray[np.float64]], Motion]
Encode = Callable[[NDArray[np.uint8], FaceLandmarks | None], NDArray[np.float32] | None]


class LiveTracker:
    """Follows a face; `Tracker.live` makes it.

    The crop and, until `hold_still`, the identity are those of the first picture that shows the face.
    """

    def __init__(self, follower: FaceFollower, fitter: HeadFitter, *, to_motion: ToMotion, encode: Encode) -> None:
        """Takes the parts of a tracker.

        Args:
            follower: a new one.
            fitter: the head model's.
            to_motion: makes a motion of a fit, a crop and the seconds `[1]`.
            encode: returns the motion code of a picture with its landmarks, or None.
        """
        self._follower, self._fitter = follower, fitter
        self._to_motion, self._encode = to_motion, encode
        self._steady = OneEuro()
        self._recent: deque[NDArray[np.float32]] = deque(maxlen=KEPT_FRAMES)
        self._crop: Crop | None = None
        self._person: VideoFitter | None = None

    def __call__(self, image: NDArray[np.uint8], seconds: float) -> Motion | None:
        """Tracks the next picture.

        Args:
            image: uint8 `[H, W, 3]` RGB.
            seconds: when it was taken, from any start.

        Returns:
            The motion of this one frame; None where the face is not seen or is too small.
        """
        height, width = image.shape[:2]
        found = self._follower(image) if min(height, width) >= MIN_FACE_PX else None
        if found is None or np.ptp(found.points[:, 0]) < MIN_FACE_PX:
            self._lose()
            return None
        if self._follower.is_cut:
            self._lose()
        if self._crop is None or self._crop.image_size != (height, width):
            self._begin(found, (height, width))
        assert self._crop is not None and self._person is not None
        points = self._crop.to_crop(found.points).astype(np.float32)
        points = self._steady(points, seconds, unit=float(outer_eye_distance(points)))
        self._recent.append(points)
        fit = one_frame(self._person(points), points)
        motion = self._to_motion(fit, self._crop, np.array([seconds]))
        code = self._encode(image, found)
        return motion if code is None else replace(motion, codes=code[None])

    def hold_still(self) -> None:
        """Fits the identity anew, to the last pictures, in which the person should hold still."""
        if self._crop is not None and len(self._recent) > 1:
            self._person = VideoFitter(self._fitter, self._fitter.fit(list(self._recent))[0].head.shape)

    def _begin(self, found: FaceLandmarks, image_size: tuple[int, int]) -> None:
        """Fixes the crop by a face, and the identity by what its one picture shows."""
        self._crop = face_crop(found.points, image_size=image_size, is_inside=True)
        self._recent.clear()
        self._steady.reset()
        points = self._crop.to_crop(found.points).astype(np.float32)
        self._person = VideoFitter(self._fitter, self._fitter.fit([points])[0].head.shape)

    def _lose(self) -> None:
        """The next face may be elsewhere."""
        self._steady.reset()
        if self._person is not None:
            self._person.reset()
