"""The folder of kept frames by itself: what is put in, what comes out again, and whose it is."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import portrait4d.reenactment.kept_frames
from portrait4d.reenactment.kept_frames import KeptFrames

SIZE = 64


@pytest.fixture(autouse=True)
def all_are_dear(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames count as worth keeping however fast they were drawn."""
    monkeypatch.setattr(portrait4d.reenactment.kept_frames, "WORTH_KEEPING_SECONDS", 0.0)


def test_how_long_a_frame_took_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each frame, not of all that are drawn together."""
    now = 0.0
    monkeypatch.setattr(portrait4d.reenactment.kept_frames, "WORTH_KEEPING_SECONDS", 0.1)
    monkeypatch.setattr(portrait4d.reenactment.kept_frames, "time", SimpleNamespace(perf_counter=lambda: now))
    kept = KeptFrames(tmp_path / "x.mp4", "a" * 64)

    def draw(count: int, seconds: float) -> np.ndarray:
        nonlocal now
        now += seconds
        return np.zeros((count, SIZE, SIZE, 3), np.uint8)

    kept.frames(range(0, 3), lambda: draw(3, 0.29))
    assert kept.count() == 0
    kept.frames(range(3, 5), lambda: draw(2, 0.21))
    assert [path.name for path in _kept_in(tmp_path)] == ["000003.png", "000004.png"]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "cut": lambda data: data[: len(data) // 2],
    "zeros": lambda data: data[: len(data) // 2] + bytes(len(data) - len(data) // 2),
    "bit": lambda data: data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_to_a_flat_frame_is_seen(tmp_path: Path, damage: str) -> None:
    """Pillow alone takes one with zeros inside, as after a loss of power, for whole, and shows other pixels."""
    kept, images = KeptFrames(tmp_path / "x.mp4", "0" * 64), np.full((1, 512, 512, 3), 90, np.uint8)
    kept.frames(range(1), lambda: images)
    assert np.array_equal(kept.frames(range(1), lambda: images + 1), images)
    (path,) = _kept_in(tmp_path)
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    assert np.array_equal(kept.frames(range(1), lambda: images + 1), images + 1)


def test_outputs_of_like_names_leave_each_other_alone(tmp_path: Path) -> None:
    image = np.zeros((1, SIZE, SIZE, 3), np.uint8)
    for name in ("a.mp4", "b.mp4", "a.mp4.mp4", "xa.mp4"):
        KeptFrames(tmp_path / name, "0" * 64).frames(range(1), lambda: image)
    mine = KeptFrames(tmp_path / "a.mp4", "1" * 64)
    assert len(mine.warnings) == 1 and mine.count() == 0
    assert all(KeptFrames(tmp_path / name, "0" * 64).count() for name in ("b.mp4", "a.mp4.mp4", "xa.mp4"))


def _kept_in(folder: Path) -> list[Path]:
    return sorted(folder.glob(".*.frames/*.png"))
