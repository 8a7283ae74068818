"""One clip as the measuring tracker sees it: unsmoothed, with one shape, in pixels of its own pictures."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from flame.heads.head_model import HeadModel
from preprocess.faces.crop import Crop
from preprocess.media.video import Frame
from preprocess.tracking.motion import Motion
from preprocess.tracking.tracker import TrackedFrame


class MeasuringTracker(Protocol):
    """What is asked of a tracker, see `preprocess.tracking.tracker.Tracker`."""

    head_model: HeadModel

    def track_image(self, image: NDArray[np.uint8], *, face: int = 0) -> TrackedFrame:
        """Tracks a picture."""
        ...

    def track_video(
        self,
        frames: Iterable[Frame],
        frame_rate: Fraction,
        *,
        source: str = "",
        progress: Callable[[int], None] | None = None,
        face: int = 0,
        smooth: float = 1.0,
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


def track_clip(frames: NDArray[np.uint8], frame_rate: Fraction, tracker: MeasuringTracker) -> ClipTrack:
    """Tracks a clip `[T, H, W, 3]`; its largest face in the first frame that shows one is followed.

    Raises:
        InputError: no frame shows a face, or it is too small.
    """
    motion = tracker.track_video(_as_frames(frames, frame_rate), frame_rate, source="the clip", smooth=0.0)
    crop = Crop(motion.crop_matrix, motion.crop_size, (motion.frame_height, motion.frame_width))
    return ClipTrack(
        found=motion.valid,
        landmarks=crop.to_image(motion.landmarks[..., :2].astype(np.float64)),
        expression=motion.expression,
        rotation=motion.rotation,
        eyes=motion.eyes,
        shape=motion.shape,
    )


def _as_frames(images: NDArray[np.uint8], frame_rate: Fraction) -> Iterator[Frame]:
    for index, image in enumerate(images):
        yield Frame(np.asarray(image), float(index / frame_rate), index)
