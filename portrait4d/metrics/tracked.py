"""Control measured by the tracker: does a picture show the expression, pose and gaze that were asked for?"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from flame.errors import InputError
from flame.geometry.rotation import axis_angle_to_matrix
from preprocess.tracking.tracker import TrackedFrame

ENLARGED_SIDE = 512
"""Smaller pictures are enlarged to this shorter side: the face networks were trained on faces of photos."""


class TracksImages(Protocol):
    """What is asked of a tracker."""

    def track_image(self, image: NDArray[np.uint8], *, face: int = 0) -> TrackedFrame:
        """As `preprocess.tracking.tracker.Tracker` does."""
        ...


@dataclass(frozen=True)
class Heads:
    """Heads of N pictures, measured or known.

    Attributes:
        expression: `[N, E]` in units of the head model's blendshapes.
        rotation: `[N, 3]` axis-angle of the head in camera space, radians.
        eyes: `[N, 2, 3]` axis-angle of the eyes in the head, radians.
        found: `[N]` False where there is no face; the other rows are zero there.
    """

    expression: NDArray[np.float32]
    rotation: NDArray[np.float32]
    eyes: NDArray[np.float32]
    found: NDArray[np.bool_]


@dataclass(frozen=True)
class TrackedErrors:
    """Means over pictures with a face in both; NaN where there is none.

    Attributes:
        found_share: pictures with a face among those where one was expected.
        expression: mean absolute difference of blendshape weights.
        pose_degrees: angle between the heads.
        gaze_degrees: angle between the directions of an eye in its head, mean of both eyes.
        num_compared: pictures that the means are over.
    """

    found_share: float
    expression: float
    pose_degrees: float
    gaze_degrees: float
    num_compared: int


def track_heads(images: Iterable[NDArray[np.uint8]], tracker: TracksImages) -> Heads:
    """Tracks pictures one by one, each with its own identity.

    Args:
        images: uint8 `[H, W, 3]` RGB, of any sizes; small ones are enlarged.
        tracker: of the head model whose parameters are meant.

    Raises:
        InputError: no picture shows a face.
    """
    rows: list[TrackedFrame | None] = []
    for image in images:
        try:
            rows.append(tracker.track_image(enlarge(image)))
        except InputError:  # no face, or none that is large enough
            rows.append(None)
    present = [row.motion for row in rows if row is not None]
    if not present:
        raise InputError(f"no face found in any of {len(rows)} pictures: expected pictures of faces")
    size = present[0].expression.shape[1]
    heads = Heads(
        expression=np.zeros((len(rows), size), np.float32),
        rotation=np.zeros((len(rows), 3), np.float32),
        eyes=np.zeros((len(rows), 2, 3), np.float32),
        found=np.array([row is not None for row in rows]),
    )
    for name in ("expression", "rotation", "eyes"):
        getattr(heads, name)[heads.found] = np.concatenate([getattr(motion, name) for motion in present])
    return heads


def control_errors(measured: Heads, wanted: Heads) -> TrackedErrors:
    """Compares heads of pictures with those that were asked for: known ones, or tracked in the true pictures.

    Heads tracked in both have the tracker's own bias in both, so it cancels; known ones show it.
    """
    if measured.expression.shape != wanted.expression.shape:
        raise ValueError(
            f"expected as many heads of one model, got expressions {list(measured.expression.shape)} and "
            f"{list(wanted.expression.shape)}"
        )
    both = measured.found & wanted.found
    expression = np.abs(measured.expression - wanted.expression).mean(1)
    turns = [axis_angle_to_matrix(torch.from_numpy(heads.rotation).double()) for heads in (measured, wanted)]
    gazes = [axis_angle_to_matrix(torch.from_numpy(heads.eyes).double())[..., 2] for heads in (measured, wanted)]
    pose, gaze = turn_degrees(*turns), angle_degrees(*gazes).mean(1)
    return TrackedErrors(
        found_share=float(both.sum() / wanted.found.sum()) if wanted.found.any() else float("nan"),
        expression=_mean(expression, both),
        pose_degrees=_mean(pose, both),
        gaze_degrees=_mean(gaze, both),
        num_compared=int(both.sum()),
    )


def enlarge(image: NDArray[np.uint8], *, side: int = ENLARGED_SIDE) -> NDArray[np.uint8]:
    """A picture `[H, W, 3]` whose shorter side is at least `side`, by cubic interpolation; larger ones as they are."""
    height, width = image.shape[:2]
    scale = side / min(height, width)
    if scale <= 1:
        return image
    size = (round(width * scale), round(height * scale))
    return cv2.resize(image, size, interpolation=cv2.INTER_CUBIC).astype(np.uint8)


def turn_degrees(first: torch.Tensor, second: torch.Tensor) -> NDArray[np.float64]:
    """Angle `[N]` between rotations `[N, 3, 3]`, exact near zero: `|A - B| = 2 sqrt(2) sin(angle / 2)`."""
    distance = (first - second).flatten(1).norm(dim=1)
    return np.degrees(2 * np.arcsin((distance / 8**0.5).clamp(max=1).numpy()))


def angle_degrees(first: torch.Tensor, second: torch.Tensor) -> NDArray[np.float64]:
    """Angle `[...]` between unit vectors `[..., 3]`, exact near zero."""
    return np.degrees(2 * np.arcsin(((first - second).norm(dim=-1) / 2).clamp(max=1).numpy()))


def _mean(values: NDArray, chosen: NDArray[np.bool_]) -> float:
    return float(values[chosen].mean()) if chosen.any() else float("nan")
