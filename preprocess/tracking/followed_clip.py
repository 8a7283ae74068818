"""What a follower finds in the frames of a clip: landmarks, gaps, cuts and motion codes."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flame.landmarks.groups import NUM_LANDMARKS
from preprocess.faces.landmarker import FaceLandmarks
from preprocess.media.video import Frame
from preprocess.tracking.follow import FaceFollower, face_level

MIN_FACE_PX = 24
"""Width of a face in the picture, px, below which nothing is tracked."""

LEVEL_EVERY = 25
"""Frames between two looks at the brightness of the face."""

BLOCK = 128
"""Frames of a clip whose landmarks are stored and mapped to the crop together."""


@dataclass(frozen=True)
class FollowedClip:
    """The face of one person in T frames, N of which show it.

    Attributes:
        landmarks: `[N, 478, 3]` image px, of the frames with a face.
        seen: `[T]` bool, whether a frame shows the face.
        cuts: `[T]` bool, whether a frame begins a new scene.
        seconds: `[T]` float64 from the start of the clip.
        codes: T motion codes `[C]`, None where there is none.
        image_size: (height, width) of the last frame.
        has_rival: `[T]` bool, whether a frame shows another face that may have been meant.
        levels: median brightness of the face, 0 to 255, in some of the frames.
    """

    landmarks: NDArray[np.float32]
    seen: NDArray[np.bool_]
    cuts: NDArray[np.bool_]
    seconds: NDArray[np.float64]
    codes: list[NDArray[np.float32] | None]
    image_size: tuple[int, int]
    has_rival: NDArray[np.bool_]
    levels: NDArray[np.float64]


def follow_clip(
    frames: Iterable[Frame],
    follower: FaceFollower,
    *,
    encode: Callable[[NDArray[np.uint8], FaceLandmarks | None], NDArray[np.float32] | None],
    progress: Callable[[int], None] | None = None,
) -> FollowedClip:
    """Follows a face through all frames of a clip, of which it keeps one in memory at a time.

    Args:
        frames: as of `preprocess.media.video.read_frames`.
        follower: a new one.
        encode: returns the motion code of a frame with its landmarks, or None.
        progress: called with the number of frames done.

    Raises:
        InputError: the first frame with a face has no face of the requested number.
    """
    points = _LandmarkRows()
    seen: list[bool] = []
    cuts: list[bool] = []
    seconds: list[float] = []
    codes: list[NDArray[np.float32] | None] = []
    rivals: list[bool] = []
    levels: list[float] = []
    image_size = (0, 0)
    for frame in frames:
        image_size = (frame.image.shape[0], frame.image.shape[1])
        landmarks = follower(frame.image) if min(image_size) >= MIN_FACE_PX else None
        seen.append(landmarks is not None)
        codes.append(encode(frame.image, landmarks))
        if landmarks is not None:
            points.append(landmarks.points)
            if len(levels) * LEVEL_EVERY <= len(seen):
                levels.append(face_level(frame.image, landmarks.points))
        rivals.append(landmarks is not None and follower.has_rival)
        cuts.append(follower.is_cut)
        seconds.append(frame.seconds)
        if progress is not None:
            progress(len(seconds))
    return FollowedClip(
        landmarks=points.take(),
        seen=np.array(seen, bool),
        cuts=np.array(cuts, bool),
        seconds=np.array(seconds),
        codes=codes,
        image_size=image_size,
        has_rival=np.array(rivals, bool),
        levels=np.array(levels),
    )


class _LandmarkRows:
    """Collects the landmarks `[478, 3]` of a clip's frames in blocks.

    One array per frame, allocated between the networks' temporary arrays, would fragment the heap, so that the memory
    of the temporary arrays could not be returned to the system.
    """

    def __init__(self) -> None:
        self._blocks: list[NDArray[np.float32]] = []
        self._count = 0

    def append(self, points: NDArray[np.float32]) -> None:
        """Adds the landmarks of a frame."""
        row = self._count % BLOCK
        if row == 0:
            self._blocks.append(np.empty((BLOCK, *points.shape), np.float32))
        self._blocks[-1][row] = points
        self._count += 1

    def take(self) -> NDArray[np.float32]:
        """Returns the landmarks of all frames `[N, 478, 3]`, and empties this object."""
        if not self._blocks:
            return np.zeros((0, NUM_LANDMARKS, 3), np.float32)
        rows = np.concatenate(self._blocks)[: self._count]
        self._blocks, self._count = [], 0
        return rows
