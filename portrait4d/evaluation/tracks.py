"""One clip as the measuring tracker sees it: unsmoothed, with one shape, in pixels of its own pictures.

A tracker looks for the face where its last landmarks were, and these may swing from frame to frame in a picture that
stands still. Landmarks are therefore measured once more, where their mean over three frames lies, which does not swing.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from flame.heads.head_model import HeadModel
from portrait4d.metrics.tracked import TracksImages
from preprocess.faces.crop import Crop
from preprocess.faces.landmarker import FaceLandmarks
from preprocess.media.video import Frame
from preprocess.tracking.motion import Motion


class MeasuringTracker(TracksImages, Protocol):
    """What is asked of a tracker, see `preprocess.tracking.tracker.Tracker`."""

    @property
    def head_model(self) -> HeadModel:
        """The model that it fits."""
        ...

    def track_video(
        self, frames: Iterable[Frame], frame_rate: Fraction, *, source: str = "", smooth: float = 1.0
    ) -> Motion:
        """Tracks a clip."""
        ...


@dataclass(frozen=True)
class ClipTrack:
    """Heads of T frames.

    Attributes:
        found: `[T]` whether the frame shows a face; what stands in the other rows is not measured.
        landmarks: `[T, 478, 2]` px of the picture.
        expression: `[T, E]` weights of the head model.
        rotation: `[T, 3]` axis-angle of the head in camera space, radians.
        eyes: `[T, 2, 3]` axis-angle of the eyes in the head, radians.
        shape: `[S]` of the head model, one for the clip.
    """

    found: NDArray[np.bool_]
    landmarks: NDArray[np.float64]
    expression: NDArray[np.float32]
    rotation: NDArray[np.float32]
    eyes: NDArray[np.float32]
    shape: NDArray[np.float32]


Landmarker = Callable[[NDArray[np.uint8], FaceLandmarks], FaceLandmarks]
"""Finds landmarks in a picture `[H, W, 3]` near given ones, see `preprocess.faces.landmarker.FaceLandmarker`."""


def track_clip(
    frames: NDArray[np.uint8], frame_rate: Fraction, tracker: MeasuringTracker, landmarker: Landmarker | None = None
) -> ClipTrack:
    """Tracks a clip; its largest face in the first frame that shows one is followed.

    Args:
        frames: `[T, H, W, 3]`.
        frame_rate: frames per second.
        tracker: fits the heads.
        landmarker: measures the landmarks once more; None keeps the tracker's.

    Raises:
        InputError: no frame shows a face, or it is too small.
    """
    motion = tracker.track_video(_as_frames(frames, frame_rate), frame_rate, source="the clip", smooth=0.0)
    crop = Crop(motion.crop_matrix, motion.crop_size, (motion.frame_height, motion.frame_width))
    landmarks = crop.to_image(motion.landmarks.astype(np.float64))
    if landmarker is not None:
        landmarks = _measure_again(frames, landmarks, motion.valid, landmarker)
    return ClipTrack(
        found=motion.valid,
        landmarks=landmarks[..., :2],
        expression=motion.expression,
        rotation=motion.rotation,
        eyes=motion.eyes,
        shape=motion.shape,
    )


def _measure_again(
    frames: NDArray[np.uint8], landmarks: NDArray, found: NDArray[np.bool_], landmarker: Landmarker
) -> NDArray[np.float64]:
    """Landmarks `[T, 478, 3]` found where the mean of a frame's own, twice, and its neighbours' lies."""
    refined = landmarks.copy()
    for index in np.flatnonzero(found).tolist():
        before, after = (step if 0 <= step < len(found) and found[step] else index for step in (index - 1, index + 1))
        if before == index or after == index:  # at an end of a run both weights must fall on two neighbouring frames
            region = (landmarks[before] + landmarks[after]) / 2
        else:
            region = (landmarks[before] + 2 * landmarks[index] + landmarks[after]) / 4
        refined[index] = landmarker(np.asarray(frames[index]), FaceLandmarks(region.astype(np.float32), 1.0)).points
    return refined


def _as_frames(images: NDArray[np.uint8], frame_rate: Fraction) -> Iterator[Frame]:
    for index, image in enumerate(images):
        yield Frame(np.asarray(image), float(index / frame_rate), index)
