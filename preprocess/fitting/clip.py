"""Fits a head model to all frames of a clip: one identity, frame after frame, with gaps filled."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from flame.heads.head_model import HeadParams
from flame.heads.head_pose import HeadPose
from flame.landmarks.groups import EARS, NOSE_TIP, eye_opening
from preprocess.fitting.frames import HeadFit, HeadFitter, VideoFitter

SHAPE_FRAMES = 12
"""Frames of a clip from which the identity is estimated."""

MAX_BRIDGED_FRAMES = 5
"""Longest gap that is interpolated; in longer ones the last pose is held."""


FRAMES_AT_ONCE = 64
"""Frames whose landmarks are interpolated in one step; limits the memory for long clips."""


@dataclass(frozen=True, kw_only=True)
class ClipFit:
    """One head in T frames, float32 unless said otherwise.

    Attributes:
        pose: of T frames.
        head: of T frames, the shape the same in all, the neck zero.
        landmarks: `[T, 478, 3]` crop px.
        eye_open: `[T, 2]` opening of the lids as a fraction of the eye's width, subject's left first.
        fit_error: `[T]` mean distance of model and landmarks, as a fraction of the outer-eye distance.
        valid: `[T]` bool, False in gaps.
    """

    pose: HeadPose[NDArray[np.float32]]
    head: HeadParams[NDArray[np.float32]]
    landmarks: NDArray[np.float32]
    eye_open: NDArray[np.float32]
    fit_error: NDArray[np.float32]
    valid: NDArray[np.bool_]


def fit_clip(
    fitter: HeadFitter, landmarks: NDArray[np.float32], *, seen: NDArray[np.bool_], cuts: NDArray[np.bool_]
) -> ClipFit:
    """Fits a head model to a clip of T frames, N of which show a face.

    Args:
        fitter: the head model's fitter.
        landmarks: `[N, 478, 3]` crop px, of the frames with a face.
        seen: `[T]` whether a frame shows a face.
        cuts: `[T]` whether a frame begins a new scene.
    """
    if len(landmarks) == 1:
        return _fill_gaps(_FittedFrames(fitter.fit(list(landmarks)), 1), landmarks, seen, cuts)
    shape = fitter.fit(list(landmarks[shape_frames(landmarks)]))[0].head.shape
    video = VideoFitter(fitter, shape)
    scene = np.cumsum(cuts)[seen]
    frames = np.flatnonzero(seen)

    def fit(index: int) -> HeadFit:
        if index and (scene[index] != scene[index - 1] or frames[index] - frames[index - 1] > MAX_BRIDGED_FRAMES):
            video.reset()
        return video(landmarks[index])

    fits = _FittedFrames((fit(index) for index in range(len(landmarks))), len(landmarks))
    return _fill_gaps(fits, landmarks, seen, cuts)


def fit_photos(fitter: HeadFitter, landmarks: Sequence[NDArray[np.float32]]) -> list[ClipFit]:
    """Fits photos of one person with one shape; returns a clip of T = 1 for each.

    Args:
        fitter: the head model's fitter.
        landmarks: `[478, 3]` of each photo, in px of its own crop.
    """
    return [one_frame(fit, points) for fit, points in zip(fitter.fit(landmarks), landmarks, strict=True)]


def one_frame(fit: HeadFit, landmarks: NDArray[np.float32]) -> ClipFit:
    """Returns a clip of T = 1 from a fit and the landmarks `[478, 3]` (crop px) that it was made of."""
    return _fill_gaps(_FittedFrames([fit], 1), landmarks[None], np.ones(1, np.bool_), np.zeros(1, np.bool_))


def shape_frames(landmarks: NDArray) -> NDArray[np.int64]:
    """Picks up to `SHAPE_FRAMES` frames of landmarks `[N, 478, 3]`, spread over the clip, without the most turned ones.

    Returns:
        Their indices in ascending order.
    """
    # position of the nose tip between the ears: 0 for a frontal face, +-0.5 for a profile
    right, left, nose = (landmarks[:, point, 0] for point in (*EARS, NOSE_TIP))
    turn = np.abs((nose - (left + right) / 2) / np.maximum(np.abs(left - right), 1e-6))
    frontal = np.flatnonzero(turn <= max(np.quantile(turn, 0.7), 0.08))
    count = min(SHAPE_FRAMES, len(frontal))
    return frontal[np.linspace(0, len(frontal) - 1, count).round().astype(int)]


class _FittedFrames:
    """The fits of N frames of one person as one array for each quantity.

    Thousands of small arrays, allocated between the temporary arrays of the fits, would fragment the heap, so that the
    memory of the temporary arrays could not be returned to the system.

    Attributes:
        shape: `[S]`.
        rows: `[N, ...]` for each quantity of a frame, by its name in pose or head, and "error".
    """

    def __init__(self, fits: Iterable[HeadFit], count: int) -> None:
        self.rows: dict[str, NDArray] = {}
        for index, fit in enumerate(fits):
            quantities = {**fit.pose.named(), **fit.head.named(), "error": fit.error}
            shape = quantities.pop("shape")
            values = {name: np.asarray(value) for name, value in quantities.items()}
            if index == 0:
                self.shape = shape
                self.rows = {name: np.empty((count, *value.shape), value.dtype) for name, value in values.items()}
            for name, value in values.items():
                self.rows[name][index] = value


def _fill_gaps(
    fits: _FittedFrames, landmarks: NDArray[np.float32], seen: NDArray[np.bool_], cuts: NDArray[np.bool_]
) -> ClipFit:
    before, after, share = _neighbours(seen, np.cumsum(cuts))

    def blend(rows: NDArray) -> NDArray[np.float32]:
        if seen.all():
            return rows.astype(np.float32, copy=False)
        result = np.empty((len(share), *rows.shape[1:]), np.float32)
        for start in range(0, len(share), FRAMES_AT_ONCE):
            part = slice(start, start + FRAMES_AT_ONCE)
            weight = share[part].reshape(-1, *[1] * (rows.ndim - 1))
            result[part] = rows[before[part]] * (1 - weight) + rows[after[part]] * weight
        return result

    rotvec = fits.rows.pop("rotation")
    start, end = Rotation.from_rotvec(rotvec[before]), Rotation.from_rotvec(rotvec[after])
    turned = start * Rotation.from_rotvec((start.inv() * end).as_rotvec() * share[:, None])
    rows = {name: blend(values) for name, values in fits.rows.items()}
    translation, error = rows.pop("translation"), rows.pop("error")
    return ClipFit(
        pose=HeadPose(rotation=turned.as_rotvec().astype(np.float32), translation=translation),
        head=HeadParams(shape=np.tile(fits.shape, (len(seen), 1)), **rows),
        landmarks=blend(landmarks),
        eye_open=blend(eye_opening(landmarks)),
        fit_error=error,
        valid=seen.copy(),
    )


def _neighbours(seen: NDArray[np.bool_], scene: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Returns for each of T frames the two rows of seen frames to blend, and the share of the second: `[T]` each."""
    frames = np.flatnonzero(seen)
    times = np.arange(len(seen))
    after = np.searchsorted(frames, times).clip(0, len(frames) - 1)
    before = (np.searchsorted(frames, times, side="right") - 1).clip(0, len(frames) - 1)
    gap = frames[after] - frames[before] - 1
    is_bridged = (gap <= MAX_BRIDGED_FRAMES) & (scene[frames[after]] == scene[frames[before]])
    span = np.maximum(frames[after] - frames[before], 1)
    share = np.where(is_bridged, (times - frames[before]) / span, 0.0).clip(0, 1)
    return before, after, share
