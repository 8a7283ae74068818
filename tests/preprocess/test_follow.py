"""Following one face: who is followed, through losses, cuts and neighbours. Networks are faked by squares."""

from typing import cast

import numpy as np
import pytest

from flame.errors import InputError
from flame.landmarks.groups import CHIN, EARS, FOREHEAD, OUTER_EYE_CORNERS
from preprocess.faces.detector import FaceBox
from preprocess.faces.landmarker import FaceLandmarks
from preprocess.tracking.follow import FaceFollower, bounding_box, overlap

DOG = 120


class FakeFaces:
    """Detector and landmarker that find flat squares by their colour: a face is a square brighter than 100.

    One of brightness `DOG` looks like a face to the detector only.
    """

    def __init__(self) -> None:
        self.num_detections = 0
        rows = np.linspace(0, 1, 22)
        grid = np.stack(np.meshgrid(rows, rows), -1).reshape(-1, 2)[:478]
        self.points = np.concatenate([grid, np.zeros((478, 1))], 1)
        anchors = [FOREHEAD, CHIN, *EARS, *OUTER_EYE_CORNERS]
        self.points[anchors, :2] = [0.5, 0], [0.5, 1], [0, 0.4], [1, 0.4], [0.2, 0.4], [0.8, 0.4]

    def boxes(self, frame: np.ndarray) -> list[FaceBox]:
        self.num_detections += 1
        found = []
        for level in np.unique(frame[..., 0]):
            if level > 100:
                rows, columns = np.nonzero(frame[..., 0] == level)
                x0, y0, x1, y1 = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
                found.append(FaceBox(float(x0), float(y0), float(x1), float(y1), np.zeros((6, 2)), 0.9))
        return sorted(found, key=lambda box: -(box.x1 - box.x0))

    def __call__(self, frame: np.ndarray, region: FaceBox | FaceLandmarks | None = None):
        if region is None:
            return self.boxes(frame)
        if isinstance(region, FaceBox):
            center = np.array([region.x0 + region.x1, region.y0 + region.y1]) / 2
        else:
            center = bounding_box(region.points).reshape(2, 2).mean(0)
        for box in self.boxes(frame):
            self.num_detections -= 1
            if abs(center - [(box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2]).max() < (box.x1 - box.x0) / 2:
                points = self.points * [box.x1 - box.x0, box.y1 - box.y0, 1] + [box.x0, box.y0, 0]
                is_dog = frame[int(box.y0), int(box.x0), 0] == DOG
                return FaceLandmarks(points.astype(np.float32), 0.1 if is_dog else 1.0)
        return FaceLandmarks(np.zeros((478, 3), np.float32), 0.0)

    def batch(self, frames: list[np.ndarray], regions: list[FaceBox | FaceLandmarks]) -> list[FaceLandmarks]:
        return [cast(FaceLandmarks, self(frame, region)) for frame, region in zip(frames, regions, strict=True)]

    def detect_batch(self, frames: list[np.ndarray]) -> list[list[FaceBox]]:
        return [self.boxes(frame) for frame in frames]


def _draw(*faces: tuple[int, int, int, int], background: int = 10) -> np.ndarray:
    """A frame with squares (x, y, side, brightness)."""
    frame = np.full((120, 240, 3), background, np.uint8)
    for x, y, side, level in faces:
        frame[y : y + side, x : x + side] = level
    return frame


def _follow(frames: list[np.ndarray], face: int = 0) -> list[float | None]:
    """x of the followed face's centre in each frame."""
    fake = FakeFaces()
    follower = FaceFollower(fake, fake, face=face)  # pyright: ignore[reportArgumentType]
    found = [follower(frame) for frame in frames]
    return [None if item is None else float(bounding_box(item.points)[[0, 2]].mean()) for item in found]


def test_follows_the_chosen_face() -> None:
    frames = [_draw((20 + step, 20, 50, 200), (150, 30, 40, 150)) for step in range(20)]
    assert _follow(frames) == [45 + step for step in range(20)]
    assert _follow(frames, face=1) == [170] * 20


def test_a_missing_face_number_is_refused_not_replaced() -> None:
    with pytest.raises(InputError, match="at least 2 faces in the clip.* found 1: use --face 0$"):
        _follow([_draw(), _draw((20, 20, 50, 200))], face=1)
    with pytest.raises(InputError, match="at least 4 faces .* found 2: use --face 0 to 1$"):
        _follow([_draw((20, 20, 50, 200), (150, 30, 40, 150))], face=3)


def test_only_human_faces_are_counted() -> None:
    """The largest square is a dog: the detector returns it, the landmarks refuse it."""
    frame = _draw((10, 10, 70, DOG), (100, 20, 50, 200), (180, 30, 40, 150))
    assert _follow([frame] * 2) == [125] * 2 and _follow([frame] * 2, face=1) == [200] * 2
    with pytest.raises(InputError, match="found 2"):
        _follow([frame], face=2)


def test_does_not_jump_to_the_neighbour_when_the_face_hides() -> None:
    both, alone = _draw((20, 20, 50, 200), (150, 30, 40, 150)), _draw((150, 30, 40, 150))
    assert _follow([both] * 3 + [alone] * 30 + [both] * 2) == [45] * 3 + [None] * 30 + [45] * 2


def test_finds_a_face_that_comes_back_elsewhere() -> None:
    found = _follow([_draw((20, 20, 50, 200))] * 3 + [_draw()] * 20 + [_draw((150, 30, 50, 200))] * 2)
    assert found[:3] == [45] * 3 and found[3:23] == [None] * 20 and found[23:] == [175] * 2


def test_takes_the_largest_face_after_a_cut() -> None:
    first = [_draw((20, 20, 50, 200))] * 3
    second = [_draw((180, 30, 30, 150), (100, 20, 60, 220), background=90)] * 2
    assert _follow(first + second) == [45] * 3 + [130] * 2


def test_a_flash_is_no_cut_to_another_person() -> None:
    frames = [_draw((20, 20, 40, 200), (150, 30, 60, 150), background=level) for level in (10, 90, 10)]
    assert _follow(frames, face=1) == [40] * 3


def test_detector_runs_rarely() -> None:
    fake = FakeFaces()
    follower = FaceFollower(fake, fake)  # pyright: ignore[reportArgumentType]
    for _ in range(60):
        follower(_draw((20, 20, 50, 200)))
    assert fake.num_detections <= 3


def test_overlap_by_hand() -> None:
    unit = np.array([0.0, 0, 1, 1])
    assert overlap(unit, unit) == 1 and overlap(unit, unit + 2) == 0
    assert overlap(unit, unit + [0.5, 0, 0.5, 0]) == pytest.approx(1 / 3)
