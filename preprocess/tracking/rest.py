"""Motions out of numbers alone: a head at rest before the camera, and the blendshape weights that move it."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from flame.errors import InputError
from flame.geometry.camera import Camera
from flame.heads.expression_names import ARKIT_NAMES
from flame.heads.open_head import OpenHead
from flame.landmarks.groups import eye_opening
from preprocess.faces.crop import DEFAULT_CROP_SIZE
from preprocess.tracking.edit import open_head
from preprocess.tracking.head_landmarks import landmark_positions
from preprocess.tracking.motion_fields import NeutralFrame

Weights: TypeAlias = "Mapping[str, float | Sequence[float] | NDArray] | NDArray"

REST_TRANSLATION = (0.0, -0.095, -1.7)
"""Place of a head at rest in camera space, metres: its face is in the middle of the crop, as large as a tracked one."""

RATES = (0.01, 1000.0)
"""Least and most frames per second of motions that are not read from files."""

NO_ACTION = "_neutral"
"""What MediaPipe calls the share of no expression at all."""


def rest_fields(num_frames: int, frame_rate: float | Fraction, source: str) -> dict[str, Any]:
    """The fields of a motion of the mean open head, frontal and without expression, `num_frames` long.

    Raises:
        InputError: there are no frames, or the rate is not within `RATES`.
    """
    if num_frames < 1 or not RATES[0] <= frame_rate <= RATES[1]:
        low, high = RATES
        raise InputError(
            f"expected frames at a rate from {low:g} to {high:g} a second, got {num_frames} at {frame_rate}"
        )
    head, rate = open_head(), Fraction(frame_rate).limit_denominator(1001)
    none = np.zeros((num_frames, 3), np.float32)
    translation = np.tile(np.array(REST_TRANSLATION, np.float32), (num_frames, 1))
    shape, expression = np.zeros(head.num_shape, np.float32), np.zeros((num_frames, head.num_expression), np.float32)
    landmarks = _resting_landmarks(shape, translation[0])
    eye_open = eye_opening(landmarks).astype(np.float32)
    return {
        "head_model": OpenHead.name,
        "frame_rate": rate,
        "seconds": np.arange(num_frames) / float(rate),
        "shape": shape,
        "expression": expression,
        "rotation": none,
        "translation": translation,
        "neck": none,
        "jaw": none,
        "eyes": np.zeros((num_frames, 2, 3), np.float32),
        "landmarks": np.tile(landmarks, (num_frames, 1, 1)),
        "valid": np.ones(num_frames, bool),
        "crop_matrix": np.eye(3),
        "crop_size": DEFAULT_CROP_SIZE,
        "frame_height": DEFAULT_CROP_SIZE,
        "frame_width": DEFAULT_CROP_SIZE,
        "source": source,
        "eye_open": np.tile(eye_open, (num_frames, 1)),
        "fit_error": np.zeros(num_frames, np.float32),
        "neutral": NeutralFrame(expression[0], none[0], translation[0], landmarks, eye_open),
    }


def weights_by_name(weights: Weights) -> tuple[dict[str, Any], int]:
    """Blendshape weights by name, without `_neutral`, and the number of frames.

    Raises:
        InputError: an array is not `[T, 52]`, or the numbers of frames differ.
    """
    if not isinstance(weights, Mapping):
        array = np.asarray(weights)
        if array.ndim != 2 or array.shape[1] != len(ARKIT_NAMES):
            raise InputError(
                f"expected blendshape weights [T, {len(ARKIT_NAMES)}] in the order of ARKIT_NAMES, or numbers by name, "
                f"got {list(array.shape)}"
            )
        weights = dict(zip(ARKIT_NAMES, array.T, strict=True))
    named: dict[str, Any] = {name: values for name, values in weights.items() if name != NO_ACTION}
    lengths = {len(values) for values in named.values() if np.ndim(values)}
    if len(lengths) > 1:
        raise InputError(f"expected blendshape weights of one number of frames, got {sorted(lengths)}: cut the longer")
    return named, lengths.pop() if lengths else 1


def _resting_landmarks(shape: NDArray[np.float32], translation: NDArray[np.float32]) -> NDArray[np.float32]:
    """The landmarks `[478, 3]` in crop px of a frontal head `[S]` at `translation` `[3]`."""
    head, middle = open_head(), DEFAULT_CROP_SIZE / 2
    points = landmark_positions(head, torch.from_numpy(shape), torch.zeros(1, head.num_expression))[0]
    x, y, z = (points + torch.from_numpy(translation)).unbind(-1)
    scale = _focal_px() / -z
    nearer = points[:, 2] - points[:, 2].mean()
    return torch.stack([middle + x * scale, middle - y * scale, -nearer * scale], -1).numpy()


def _focal_px() -> float:
    still = torch.zeros(1, 3)
    return float(Camera.from_head_pose(still, still).intrinsics[0, 0, 0]) * DEFAULT_CROP_SIZE
