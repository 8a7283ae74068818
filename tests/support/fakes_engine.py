"""A tiny head model, tracker and engine in place of the real ones: quick, exact, and slow only where asked.

A picture's "face" is its brightness: pictures darker than 8 have none. A frame's expression is its brightness over
255, and the fake engine paints it back, so that a test can read off the result which frame drove it.
"""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from threading import Lock

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from torch import Tensor

from flame.errors import InputError
from flame.heads.head_model import HeadModel, HeadParams, HeadTables, LandmarkEmbedding
from portrait4d.engines.abilities import Abilities
from portrait4d.engines.base import Drive, Mesh, Rendering
from portrait4d.reenactment.models import Models
from preprocess.faces.crop import Crop
from preprocess.files.atomic import atomic_path
from preprocess.media.video import Frame
from preprocess.tracking.motion import Motion
from preprocess.tracking.tracker import TrackedFrame

SIZE = 64
NUM_EXPRESSIONS = 2


class FakeHead(HeadModel):
    """One triangle that carries all 478 landmarks, one shape and two expression directions."""

    name = "fake"

    def __init__(self) -> None:
        triangle = torch.tensor([[-0.1, 0.0, 0.0], [0.1, 0.0, 0.0], [0.0, 0.1, 0.0]])
        faces = torch.zeros(478, dtype=torch.int64)
        landmarks = LandmarkEmbedding(faces, torch.full((478, 3), 1 / 3), torch.ones(478, dtype=torch.bool))
        super().__init__(
            HeadTables(
                template=triangle,
                shape_basis=torch.zeros(3, 3, 1),
                expression_basis=torch.zeros(3, 3, NUM_EXPRESSIONS),
                faces=torch.tensor([[0, 1, 2]]),
                uv=None,
                skinning_weights=torch.ones(3, 1),
                joint_template=torch.zeros(1, 3),
                joint_basis=torch.zeros(1, 3, 1 + NUM_EXPRESSIONS),
                joint_names=("root",),
                parents=(-1,),
                expression_names=("jawOpen", "mouthSmileLeft"),
                expression_min=torch.zeros(NUM_EXPRESSIONS),
                expression_max=torch.ones(NUM_EXPRESSIONS),
                landmarks={478: landmarks},
                regions={},
                loops={},
            )
        )

    def pose_vectors(self, params: HeadParams) -> Tensor:
        return params.neck[:, None]


def fake_motion(levels: Sequence[float], frame_rate: Fraction = Fraction(25), source: str = "fake") -> Motion:
    """A motion whose first expression is the given levels in [0, 1]; a negative level is a gap, held."""
    count = len(levels)
    expression = np.zeros((count, NUM_EXPRESSIONS), np.float32)
    valid = np.array([level >= 0 for level in levels])
    held = 0.0
    for index, level in enumerate(levels):
        held = level if level >= 0 else held
        expression[index, 0] = held
    translation = np.tile(np.array([0.0, 0.0, -1.0], np.float32), (count, 1))
    return Motion(
        head_model=FakeHead.name,
        frame_rate=frame_rate,
        seconds=np.arange(count) / float(frame_rate),
        shape=np.zeros(1, np.float32),
        expression=expression,
        rotation=np.zeros((count, 3), np.float32),
        translation=translation,
        neck=np.zeros((count, 3), np.float32),
        jaw=np.zeros((count, 3), np.float32),
        eyes=np.zeros((count, 2, 3), np.float32),
        landmarks=np.full((count, 478, 3), SIZE / 2, np.float32),
        valid=valid,
        crop_matrix=np.eye(3),
        crop_size=SIZE,
        frame_height=SIZE,
        frame_width=SIZE,
        source=source,
        eye_open=np.full((count, 2), 0.3, np.float32),
        fit_error=np.zeros(count, np.float32),
    )


class FakeTracker:
    """Reads brightness instead of faces."""

    def __init__(self) -> None:
        self.num_tracked_videos = 0
        self.faces: list[int | None] = []
        self.smooths: list[float | None] = []

    def track_images(self, images: Sequence[np.ndarray], *, face: int | None = None) -> list[TrackedFrame]:
        self.faces.append(face)
        return [self.track_image(image) for image in images]

    def track_image(self, image: np.ndarray) -> TrackedFrame:
        if image.mean() < 8:
            raise InputError("no face found in the picture: use a photo with a visible face")
        crop = Crop.whole(image.shape[:2], size=SIZE)
        return TrackedFrame(image=image, motion=fake_motion([0.0]), crop=crop, landmarks=None)  # pyright: ignore

    def track_video(
        self,
        frames: Iterable[Frame],
        frame_rate: Fraction,
        *,
        source: str = "",
        progress: Callable[[int], None] | None = None,
        face: int | None = None,
        smooth: float | None = None,
    ) -> Motion:
        self.num_tracked_videos += 1
        self.faces.append(face)
        self.smooths.append(smooth)
        levels: list[float] = []
        for frame in frames:
            mean = float(frame.image.mean()) / 255
            levels.append(mean if mean > 8 / 255 else -1.0)
            if progress is not None:
                progress(len(levels))
        if max(levels) < 0:
            raise InputError(f"no face found in {source}: use a video with a visible face")
        return fake_motion(levels, frame_rate, source)


@dataclass(frozen=True)
class FakeAvatar:
    """A source of the fake engine."""

    motion: Motion
    crop: Crop
    level: float
    engine: str = "fake"
    warnings: tuple[str, ...] = ("this is a fake",)

    def save(self, path: Path | str) -> None:
        with atomic_path(path) as temporary:
            save_file({"level": np.array([self.level])}, temporary)


class FakeEngine:
    """Paints the driver's expression as a grey level; sleeps `PORTRAIT4D_FAKE_SECONDS` per frame.

    Of several pictures it shows the brightest.
    """

    name = "fake"
    engine_option = "fake"
    abilities = Abilities()

    def __init__(self) -> None:
        self.num_built = 0
        self.placement = "tracked"
        self.weights = ""
        self.motion_encoder = None
        self.head_model = FakeHead()

    def build(self, sources: Sequence[TrackedFrame]) -> FakeAvatar:
        self.num_built += 1
        shown = max(sources, key=lambda item: item.image.mean())
        return FakeAvatar(shown.motion, shown.crop, float(shown.image.mean()) / 255, engine=self.name)

    def load(self, path: Path | str) -> FakeAvatar:
        level = float(load_file(path)["level"][0])
        return FakeAvatar(fake_motion([0.0]), Crop.whole((SIZE, SIZE), size=SIZE), level, engine=self.name)

    def render(self, avatar: FakeAvatar, drive: Drive) -> Rendering:
        time.sleep(float(os.environ.get("PORTRAIT4D_FAKE_SECONDS", "0")) * len(drive))
        level = drive.head.expression[:, 0].reshape(-1, 1, 1, 1) * 2 - 1
        image = level.expand(-1, 3, SIZE, SIZE)
        return Rendering(image, torch.ones_like(image[:, :1]))

    def mesh(self, avatar: FakeAvatar, *, resolution: int | None = None) -> Mesh:
        vertices = np.array([[0, 0, 0], [0.1, 0, 0], [0, 0.1, 0]], np.float32)
        uv = np.array([[0, 0], [1, 0], [0, 1]], np.float32)
        return Mesh(vertices, np.array([[0, 1, 2]]), uv, np.full((4, 4, 4), 200, np.uint8))


class WatchedEngine(FakeEngine):
    """Remembers the frames that it draws, by the expression that they show, and fails where it is told to."""

    def __init__(self, error: BaseException | None = None, *, after: int = 0) -> None:
        super().__init__()
        self.drawn: list[float] = []
        self._error, self._after, self._lock = error, after, Lock()

    def render(self, avatar: FakeAvatar, drive: Drive) -> Rendering:
        with self._lock:
            if self._error is not None and len(self.drawn) >= self._after:
                raise self._error
            self.drawn += drive.head.expression[:, 0].tolist()
        return super().render(avatar, drive)


def fake_models(*_: object) -> Models:
    """In place of `load_models`."""
    return Models(FakeEngine(), FakeTracker())  # pyright: ignore[reportArgumentType]
