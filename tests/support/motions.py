"""Motions made of formulas, for tests."""

from fractions import Fraction

import numpy as np

from flame.landmarks.groups import OUTER_EYE_CORNERS
from preprocess.tracking.motion import Motion


def make_motion(count: int, *, num_shape: int = 6, num_expression: int = 9, head_model: str = "fake") -> Motion:
    """A slowly nodding head, `count` frames at 25 per second."""
    seconds = np.arange(count) / 25
    points = np.random.default_rng(5).uniform(100, 400, (478, 3))
    points[list(OUTER_EYE_CORNERS)] = (200, 230, 0), (310, 230, 0)
    return Motion(
        head_model=head_model,
        frame_rate=Fraction(25),
        seconds=seconds,
        shape=np.linspace(-1, 1, num_shape).astype(np.float32),
        expression=np.outer(seconds, np.linspace(0, 0.1, num_expression)).astype(np.float32),
        rotation=np.outer(np.sin(seconds), [0.1, 0.2, 0]).astype(np.float32),
        translation=np.tile(np.array([0.01, 0.02, -1.5], np.float32), (count, 1)),
        neck=np.zeros((count, 3), np.float32),
        jaw=np.zeros((count, 3), np.float32),
        eyes=np.zeros((count, 2, 3), np.float32),
        landmarks=np.tile(points.astype(np.float32), (count, 1, 1)),
        valid=np.arange(count) % 7 != 3,
        crop_matrix=np.array([[2.0, 0, -30], [0, 2.0, -40], [0, 0, 1]]),
        crop_size=512,
        frame_height=480,
        frame_width=640,
        source="clip.mp4",
        eye_open=np.full((count, 2), 0.3, np.float32),
        fit_error=np.full(count, 0.01, np.float32),
        warnings=("first", "second, with a comma"),
    )
