"""All measures of one reenacted clip; definitions in `definitions.py`."""

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flame.errors import InputError
from portrait4d.evaluation import motion, pictures, steadiness
from portrait4d.evaluation.definitions import Kind, measures_of
from portrait4d.evaluation.identity import FaceVectors
from portrait4d.evaluation.perceptual import PerceptualDistance
from portrait4d.evaluation.tracks import ClipTrack, Landmarker, MeasuringTracker, track_clip

NO_IDENTITY = "needs --identity insightface, or an ArcFace .onnx file"
NO_PERCEPTUAL = "needs --perceptual, and the package it names"
NO_FACE = "no face found in any frame of the result"


@dataclass(frozen=True)
class Networks:
    """What measures; `identity` and `perceptual` are None where the user named none.

    `landmarker` measures landmarks that do not depend on those of the frame before; None trusts the tracker's.
    """

    tracker: MeasuringTracker
    landmarker: Landmarker | None = None
    identity: FaceVectors | None = None
    perceptual: PerceptualDistance | None = None


@dataclass(frozen=True)
class Material:
    """One clip to be measured.

    Attributes:
        kind: whether `truth` shows what the result should look like, or only another person who drives it.
        results: `[T, H, W, 3]` uint8.
        truth: `[T, H', W', 3]` uint8; of self-reenactment of the results' size.
        source: `[H, W, 3]` uint8, the picture that was animated.
        frame_rate: frames per second.
    """

    kind: Kind
    results: NDArray[np.uint8]
    truth: NDArray[np.uint8]
    source: NDArray[np.uint8]
    frame_rate: Fraction

    def __post_init__(self) -> None:
        shapes = [list(part.shape) for part in (self.results, self.truth)]
        is_same = shapes[0] == shapes[1] if self.kind == "self" else shapes[0][0] == shapes[1][0]
        if not is_same or not len(self.results):
            raise ValueError(f"expected results and truth [T, H, W, 3] of the same T > 0 frames, got {shapes}")


@dataclass(frozen=True)
class ClipScore:
    """What was measured of a clip.

    Attributes:
        values: by the key of the measure; None where it could not be measured.
        reasons: why, by key.
        truth_values: steadiness of the true or driving clip itself.
        num_frames: compared.
        num_lost: frames of the result without a face where the truth has one.
        num_without_truth: frames without a face in the truth, where nothing can be expected.
    """

    values: dict[str, float | None]
    reasons: dict[str, str]
    truth_values: dict[str, float | None]
    num_frames: int
    num_lost: int
    num_without_truth: int

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ClipScore":
        """The inverse of `dataclasses.asdict`."""
        return cls(**values)


@dataclass
class _Tally:
    """Values of a clip while it is measured."""

    values: dict[str, float | None] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def put(self, key: str, value: float | None, otherwise: str) -> None:
        self.values[key] = value
        if value is None:
            self.reasons[key] = otherwise


def score_clip(material: Material, networks: Networks) -> ClipScore:
    """Measures a clip.

    Raises:
        InputError: the truth or the source shows no face, so that nothing can be expected of the result.
    """
    rate, tracker, landmarker = material.frame_rate, networks.tracker, networks.landmarker
    truth = track_clip(material.truth, rate, tracker, landmarker)
    try:
        result = track_clip(material.results, rate, tracker, landmarker)
    except InputError:  # all frames are lost, which is a result
        result = None
    found = np.zeros_like(truth.found) if result is None else result.found
    lost = truth.found & ~found
    tally = _Tally()
    tally.put("lost", 100 * float(lost.sum() / truth.found.sum()), "")
    if material.kind == "self":
        _score_pixels(tally, material, networks.perceptual)
    _score_identity(tally, material, networks, result, expected=truth.found)
    _score_motion(tally, material, networks.tracker, result, truth)
    truth_values = _steadiness(material.truth, truth)
    own = {} if result is None else _steadiness(material.results, result)
    for key in truth_values:
        tally.put(key, own.get(key), NO_FACE if result is None else "too few successive frames with a face")
    order = [measure.key for measure in measures_of(material.kind)]
    return ClipScore(
        values={key: tally.values[key] for key in order},
        reasons=tally.reasons,
        truth_values=truth_values,
        num_frames=len(material.results),
        num_lost=int(lost.sum()),
        num_without_truth=int((~truth.found).sum()),
    )


def _score_pixels(tally: _Tally, material: Material, perceptual: PerceptualDistance | None) -> None:
    pairs = [(material.results[index], material.truth[index]) for index in range(len(material.results))]
    tally.put("psnr", float(np.mean([pictures.psnr(*pair) for pair in pairs])), "")
    tally.put("ssim", float(np.mean([pictures.ssim(*pair) for pair in pairs])), "")
    distance = None if perceptual is None else float(np.mean([perceptual(*pair) for pair in pairs]))
    tally.put("perceptual", distance, NO_PERCEPTUAL)


def _score_identity(
    tally: _Tally, material: Material, networks: Networks, result: ClipTrack | None, *, expected: NDArray[np.bool_]
) -> None:
    """Cosines of the frames that should show a face and the source; 0 where a face is not found."""
    if networks.identity is None:
        return tally.put("identity", None, NO_IDENTITY)
    landmarks = networks.tracker.track_image(material.source).landmarks.points
    wanted = networks.identity(material.source, landmarks)
    if wanted is None:
        raise InputError(f"{networks.identity.name} finds no face in the source picture: expected a clear one")
    cosines = []
    for index in np.flatnonzero(expected).tolist():
        is_found = result is not None and bool(result.found[index])
        vector = networks.identity(material.results[index], result.landmarks[index]) if result and is_found else None
        cosines.append(0.0 if vector is None else float(wanted @ vector))
    tally.put("identity", float(np.mean(cosines)), "")


def _score_motion(
    tally: _Tally, material: Material, tracker: MeasuringTracker, result: ClipTrack | None, truth: ClipTrack
) -> None:
    """What the tracker compares, over the frames with a face in both."""
    both = truth.found & (np.zeros_like(truth.found) if result is None else result.found)
    if result is None or not both.any():
        for key in ("face_shape", "keypoints", "expression", "pose", "gaze", "motion_gain", "lag"):
            if key != "keypoints" or material.kind == "self":
                tally.put(key, None, NO_FACE)
        return
    if material.kind == "self":
        apart = motion.keypoint_distances(result.landmarks[both], truth.landmarks[both])
        tally.put("keypoints", float(apart.mean()), "")
        shape = truth.shape
    else:
        shape = tracker.track_image(material.source).motion.shape
    tally.put("face_shape", motion.face_shape_distance(result.shape, shape, tracker.head_model), "")
    for key, measure, name in (
        ("expression", motion.expression_differences, "expression"),
        ("pose", motion.pose_differences, "rotation"),
        ("gaze", motion.gaze_differences, "eyes"),
    ):
        tally.put(key, float(measure(getattr(result, name)[both], getattr(truth, name)[both]).mean()), "")
    gain = motion.motion_gain(result.expression[both], truth.expression[both])
    tally.put("motion_gain", gain, "the truth does not move")
    lag = motion.find_lag(result.expression, truth.expression, both)
    tally.put("lag", None if lag is None else float(lag), "the result does not follow the truth")


def _steadiness(frames: NDArray[np.uint8], track: ClipTrack) -> dict[str, float | None]:
    return {
        "jitter": steadiness.jitter(track.landmarks, track.found),
        "flicker": steadiness.flicker(frames, track.landmarks, track.found),
    }
