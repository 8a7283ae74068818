"""A tracker of plain pictures for tests of evaluations: a picture's level moves the face and opens its mouth."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np

from fakes import FakeHead, make_fake_head
from fakes_engine import fake_motion
from flame.errors import InputError
from flame.landmarks.groups import OUTER_EYE_CORNERS
from preprocess.media.video import Frame
from preprocess.tracking.motion import Motion

SIDE = 64
"""Of pictures, px."""

PX_PER_LEVEL = 0.05
EYE_DISTANCE = 20.0


def level_clip(levels: Iterable[float]) -> np.ndarray:
    """Plain pictures `[T, SIDE, SIDE, 3]` of the levels; one below 8 shows no face."""
    return np.stack([np.full((SIDE, SIDE, 3), round(level), np.uint8) for level in levels])


def points_of(level: float) -> np.ndarray:
    """Landmarks `[478, 3]` of a picture of that level, px."""
    points = np.random.default_rng(1).uniform(16, 48, (478, 3))
    right, left = OUTER_EYE_CORNERS
    points[right], points[left] = (22, 30, 0), (22 + EYE_DISTANCE, 30, 0)
    return points + [PX_PER_LEVEL * level, 0, 0]


class LevelTracker:
    """Reads levels; the shape is that of the red channel's excess over the green one."""

    def __init__(self) -> None:
        self.head_model: FakeHead = make_fake_head()
        self.num_tracked = 0

    def track_image(self, image: np.ndarray, *, face: int = 0) -> Any:
        motion = self.track_video([Frame(image, 0.0, 0)], Fraction(25))
        return SimpleNamespace(motion=motion, landmarks=SimpleNamespace(points=points_of(float(image.mean()))))

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
        self.num_tracked += 1
        images = [frame.image for frame in frames]
        levels = np.array([image.mean() for image in images])
        if levels.max() < 8:
            raise InputError(f"no face found in {source}")
        count = len(levels)
        expression = np.zeros((count, self.head_model.num_expression), np.float32)
        expression[:, 0] = levels / 255
        shape = np.zeros(self.head_model.num_shape, np.float32)
        shape[0] = (float(images[0][..., 0].mean()) - float(images[0][..., 1].mean())) / 10
        turned = np.zeros((count, 3), np.float32)
        turned[:, 1] = levels / 1000
        height, width = images[0].shape[:2]
        return replace(
            fake_motion((levels / 255).tolist(), frame_rate, source),
            head_model=self.head_model.name,
            shape=shape,
            expression=expression,
            rotation=turned,
            eyes=np.repeat(turned[:, None], 2, 1),
            landmarks=np.stack([points_of(level) for level in levels]).astype(np.float32),
            valid=levels >= 8,
            crop_size=SIDE,
            frame_height=height,
            frame_width=width,
        )


class LevelIdentity:
    """Tells people apart by the ratio of their channels."""

    name, digest = "levels", "1e" * 32

    def __call__(self, image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        vector = image.reshape(-1, 3).mean(0) + 1e-6
        return vector / np.linalg.norm(vector)
