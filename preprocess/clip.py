"""Fits a head model to all frames of a clip: one identity, frame after frame, gaps filled."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from preprocess.fit import HeadFit, HeadFitter, VideoFitter
from preprocess.landmark_groups import eye_opening

SHAPE_FRAMES = 12
"""Frames of a clip from which the identity is estimated."""

MAX_BRIDGED_FRAMES = 5
"""Gaps up to this length are interpolated, longer ones hold the last pose."""


@dataclass(frozen=True)
class ClipFit:
    """Head parameters of T frames, float32 unless said otherwise.

    Attributes:
        shape: `[S]`.
        expression: `[T, E]`, rotation: `[T, 3]`, translation: `[T, 3]`, jaw: `[T, 3]`, eyes: `[T, 2, 3]`.
        landmarks: `[T, 478, 3]` crop px.
        eye_open: `[T, 2]`.
        fit_error: `[T]`.
        valid: `[T]` bool, False in gaps.
    """

    shape: NDArray[np.float32]
    expression: NDArray[np.float32]
    rotation: NDArray[np.float32]
    translation: NDArray[np.float32]
    jaw: NDArray[np.float32]
    eyes: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    eye_open: NDArray[np.float32]
    fit_error: NDArray[np.float32]
    valid: NDArray[np.bool_]


def fit_clip(
    fitter: HeadFitter, landmarks: NDArray[np.float32], *, seen: NDArray[np.bool_], cuts: NDArray[np.bool_]
) -> ClipFit:
    """Fits a clip.

    Args:
        fitter: of the head model.
        landmarks: `[N, 478, 3]` crop px of the N frames with a face.
        seen: `[T]` which frames those are.
        cuts: `[T]` frames that begin a new scene.
    """
    if len(landmarks) == 1:
        fits = fitter.fit(list(landmarks))
    else:
        shape = fitter.fit(list(landmarks[shape_frames(landmarks)]))[0].shape
        video = VideoFitter(fitter, shape)
        fits = []
        scene = np.cumsum(cuts)[seen]
        frames = np.flatnonzero(seen)
        for index, points in enumerate(landmarks):
            if index and (scene[index] != scene[index - 1] or frames[index] - frames[index - 1] > MAX_BRIDGED_FRAMES):
                video.reset()
            fits.append(video(points))
    return _fill_gaps(fits, landmarks, seen, cuts)


def fit_photos(fitter: HeadFitter, landmarks: Sequence[NDArray[np.float32]]) -> list[ClipFit]:
    """Fits photos `[478, 3]` (each in its own crop's px) of one person: one identity, a clip of T = 1 for each."""
    one, no = np.ones(1, np.bool_), np.zeros(1, np.bool_)
    fits = fitter.fit(landmarks)
    return [_fill_gaps([fit], points[None], one, no) for fit, points in zip(fits, landmarks, strict=True)]


def shape_frames(landmarks: NDArray) -> NDArray[np.int64]:
    """Indices of up to `SHAPE_FRAMES` frames of `[N, 478, 3]`, spread over the clip, the most turned ones left out."""
    # The nose tip between the ears: 0 for a frontal face, +-0.5 for a profile.
    right, left, nose = landmarks[:, 234, 0], landmarks[:, 454, 0], landmarks[:, 1, 0]
    turn = np.abs((nose - (left + right) / 2) / np.maximum(np.abs(left - right), 1e-6))
    frontal = np.flatnonzero(turn <= max(np.quantile(turn, 0.7), 0.08))
    count = min(SHAPE_FRAMES, len(frontal))
    return frontal[np.linspace(0, len(frontal) - 1, count).round().astype(int)]


def _fill_gaps(
    fits: list[HeadFit], landmarks: NDArray[np.float32], seen: NDArray[np.bool_], cuts: NDArray[np.bool_]
) -> ClipFit:
    before, after, share = _neighbours(seen, np.cumsum(cuts))

    def blend(rows: NDArray) -> NDArray[np.float32]:
        weight = share.reshape(-1, *[1] * (rows.ndim - 1))
        return (rows[before] * (1 - weight) + rows[after] * weight).astype(np.float32)

    def stack(name: str) -> NDArray:
        return np.stack([getattr(fit, name) for fit in fits])

    rotvec = stack("rotation")
    start, end = Rotation.from_rotvec(rotvec[before]), Rotation.from_rotvec(rotvec[after])
    turned = start * Rotation.from_rotvec((start.inv() * end).as_rotvec() * share[:, None])
    return ClipFit(
        shape=fits[0].shape,
        expression=blend(stack("expression")),
        rotation=turned.as_rotvec().astype(np.float32),
        translation=blend(stack("translation")),
        jaw=blend(stack("jaw")),
        eyes=blend(stack("eyes")),
        landmarks=blend(landmarks),
        eye_open=blend(eye_opening(landmarks)),
        fit_error=blend(np.array([fit.error for fit in fits])),
        valid=seen.copy(),
    )


def _neighbours(seen: NDArray[np.bool_], scene: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """For each of T frames, the rows (among the seen ones) to blend and the share of the second, `[T]` each."""
    frames = np.flatnonzero(seen)
    times = np.arange(len(seen))
    after = np.searchsorted(frames, times).clip(0, len(frames) - 1)
    before = (np.searchsorted(frames, times, side="right") - 1).clip(0, len(frames) - 1)
    gap = frames[after] - frames[before] - 1
    is_bridged = (gap <= MAX_BRIDGED_FRAMES) & (scene[frames[after]] == scene[frames[before]])
    span = np.maximum(frames[after] - frames[before], 1)
    share = np.where(is_bridged, (times - frames[before]) / span, 0.0).clip(0, 1)
    return before, after, share
