"""All measures of one reenacted clip; definitions in `definitions.py`."""

from collections.abc import Iterator
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
from portrait4d.evaluation.protocols import ALL_FRAMES, Protocol
from portrait4d.evaluation.sweep import NO_FACE_IN_VIEWS, NO_VIEWS, score_sweep
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
        views: `[V, H, W, 3]` uint8 of a yaw sweep, see `sweep.py`; None where no engine drew any.
    """

    kind: Kind
    results: NDArray[np.uint8]
    truth: NDArray[np.uint8]
    source: NDArray[np.uint8]
    frame_rate: Fraction
    views: NDArray[np.uint8] | None = None

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


def score_clip(material: Material, networks: Networks, protocol: Protocol = ALL_FRAMES) -> ClipScore:
    """Measures a clip.

    Args:
        material: all frames, whichever the protocol compares: steadiness, gain and lag are of all.
        networks: that measure.
        protocol: which frames are compared, and which part of them.

    Raises:
        InputError: the truth or the source shows no face, so that nothing can be expected of the result, or the clip is
            too short for the protocol.
    """
    is_chosen = np.zeros(len(material.results), bool)
    is_chosen[protocol.frames(len(material.results))] = True
    rate, tracker, landmarker = material.frame_rate, networks.tracker, networks.landmarker
    truth = track_clip(material.truth, rate, tracker, landmarker)
    try:
        result = track_clip(material.results, rate, tracker, landmarker)
    except InputError:  # all frames are lost, which is a result
        result = None
    found = np.zeros_like(truth.found) if result is None else result.found
    expected = truth.found & is_chosen
    if not expected.any():
        raise InputError("no face found in the true frames that the protocol compares: give a clip that shows one")
    lost = expected & ~found
    tally = _Tally()
    tally.put("lost", 100 * float(lost.sum() / expected.sum()), "")
    if material.kind == "self":
        _score_pixels(tally, _compared_pixels(material, truth, protocol, is_chosen), networks.perceptual)
    source_vector = _source_vector(material, networks)
    _score_identity(tally, material, networks.identity, result, expected=expected, source_vector=source_vector)
    _score_views(tally, material, networks, source_vector)
    _score_motion(tally, material, networks.tracker, result, truth, is_chosen=is_chosen)
    truth_values = _steadiness(material.truth, truth)
    own = {} if result is None else _steadiness(material.results, result)
    for key in truth_values:
        tally.put(key, own.get(key), NO_FACE if result is None else "too few successive frames with a face")
    order = [measure.key for measure in measures_of(material.kind)]
    return ClipScore(
        values={key: tally.values[key] for key in order},
        reasons=tally.reasons,
        truth_values=truth_values,
        num_frames=int(is_chosen.sum()),
        num_lost=int(lost.sum()),
        num_without_truth=int((is_chosen & ~truth.found).sum()),
    )


def _compared_pixels(
    material: Material, truth: ClipTrack, protocol: Protocol, is_chosen: NDArray[np.bool_]
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Pairs of result and truth `[H, W, 3]`; a square around the face needs one in the true frame."""
    for index in np.flatnonzero(is_chosen).tolist():
        pair = np.asarray(material.results[index]), np.asarray(material.truth[index])
        if protocol.box_scale is None:
            yield pair
        elif truth.found[index]:
            box = protocol.box(truth.landmarks[index], image_size=(pair[1].shape[0], pair[1].shape[1]))
            assert box is not None
            yield box.apply(pair[0]), box.apply(pair[1])


def _score_pixels(
    tally: _Tally,
    pairs: Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]],
    perceptual: PerceptualDistance | None,
) -> None:
    rows = [
        (pictures.psnr(*pair), pictures.ssim(*pair), 0.0 if perceptual is None else perceptual(*pair)) for pair in pairs
    ]
    decibels, similarity, distance = np.mean(rows, axis=0).tolist()
    tally.put("psnr", decibels, "")
    tally.put("ssim", similarity, "")
    tally.put("perceptual", None if perceptual is None else distance, NO_PERCEPTUAL)


def _source_vector(material: Material, networks: Networks) -> NDArray[np.float64] | None:
    """The face vector of the source picture; None without a network of identity."""
    if networks.identity is None:
        return None
    vector = networks.identity(material.source, networks.tracker.track_image(material.source).landmarks.points)
    if vector is None:
        raise InputError(f"{networks.identity.name} finds no face in the source picture: expected a clear one")
    return vector


def _score_identity(
    tally: _Tally,
    material: Material,
    identity: FaceVectors | None,
    result: ClipTrack | None,
    *,
    expected: NDArray[np.bool_],
    source_vector: NDArray[np.float64] | None,
) -> None:
    """Cosines of the frames that should show a face and the source; 0 where a face is not found."""
    if identity is None or source_vector is None:
        return tally.put("identity", None, NO_IDENTITY)
    cosines = []
    for index in np.flatnonzero(expected).tolist():
        is_found = result is not None and bool(result.found[index])
        vector = identity(material.results[index], result.landmarks[index]) if result and is_found else None
        cosines.append(0.0 if vector is None else float(source_vector @ vector))
    tally.put("identity", float(np.mean(cosines)), "")


def _score_views(
    tally: _Tally, material: Material, networks: Networks, source_vector: NDArray[np.float64] | None
) -> None:
    if material.views is None:
        for key in ("yaw_lost", "yaw_error", "yaw_identity"):
            tally.put(key, None, NO_VIEWS)
        return
    found = score_sweep(
        material.views, networks.tracker, identity=networks.identity, source_vector=source_vector
    )  # fmt: skip
    reasons = {"yaw_error": NO_FACE_IN_VIEWS, "yaw_identity": NO_IDENTITY}
    for key, value in found.items():
        tally.put(key, value, reasons.get(key, ""))


def _score_motion(
    tally: _Tally,
    material: Material,
    tracker: MeasuringTracker,
    result: ClipTrack | None,
    truth: ClipTrack,
    *,
    is_chosen: NDArray[np.bool_],
) -> None:
    """What the tracker compares, over the chosen frames with a face in both; gain and lag are of all with one."""
    in_both = truth.found & (np.zeros_like(truth.found) if result is None else result.found)
    both = in_both & is_chosen
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
    gain = motion.motion_gain(result.expression[in_both], truth.expression[in_both])
    tally.put("motion_gain", gain, "the truth does not move")
    lag = motion.find_lag(result.expression, truth.expression, in_both)
    tally.put("lag", None if lag is None else float(lag), "the result does not follow the truth")


def _steadiness(frames: NDArray[np.uint8], track: ClipTrack) -> dict[str, float | None]:
    return {
        "jitter": steadiness.jitter(track.landmarks, track.found),
        "flicker": steadiness.flicker(frames, track.landmarks, track.found),
    }
