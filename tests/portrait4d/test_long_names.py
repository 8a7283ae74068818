"""File names as long as file systems allow: results, what is kept beside them, and a line where they are longer."""

from pathlib import Path

import numpy as np
import pytest

import portrait4d.reenactment.kept_frames
from fakes_engine import SIZE, fake_models
from flame.errors import InputError
from portrait4d.jobs.batch import run_batch
from portrait4d.jobs.batch_items import BatchItem
from portrait4d.reenactment.kept_frames import KeptFrames
from portrait4d.runtime.paths import check_output
from preprocess.files.atomic import atomic_path
from preprocess.media.image import write_png
from preprocess.media.video_writer import VideoWriter


@pytest.mark.parametrize("name", ["a" * 246 + ".mp4", "\u00e4" * 123 + ".mp4", "a" * 177 + ".mp4"])
def test_frames_are_kept_whatever_the_length(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen as OSError `File name too long` before a frame was drawn, of any engine."""
    with atomic_path(tmp_path / name) as temporary:  # an output of this name can be written
        temporary.touch()
    monkeypatch.setattr(portrait4d.reenactment.kept_frames, "WORTH_KEEPING_SECONDS", 0.0)
    image = np.zeros((1, SIZE, SIZE, 3), np.uint8)
    kept = KeptFrames(tmp_path / name, "0" * 64)
    kept.frames(range(1), lambda: image)
    neighbour = KeptFrames(tmp_path / f"b{name[1:]}", "1" * 64)
    assert kept.count() == 1 and not neighbour.warnings
    assert np.array_equal(kept.frames(range(1), lambda: image + 1), image)
    other = KeptFrames(tmp_path / name, "1" * 64)
    assert len(other.warnings) == 1 and other.count() == kept.count() == 0


def test_a_batch_writes_them_or_says_so(tmp_path: Path) -> None:
    """Motions and records, whose names are made of those of drivers and results, ended an item as OSError."""
    photo, driver = tmp_path / "photo.png", tmp_path / f"{'d' * 246}.mp4"
    write_png(photo, np.full((SIZE, SIZE, 3), 90, np.uint8))
    with VideoWriter(driver, height=SIZE, width=SIZE, frame_rate=25) as writer:
        for level in (90, 120):
            writer.write(np.full((SIZE, SIZE, 3), level, np.uint8))
    items = [BatchItem(photo, driver, tmp_path / "out" / f"{'x' * length}.mp4") for length in (246, 247, 300)]
    for states in (["done", "failed", "failed"], ["kept", "failed", "failed"]):
        report = run_batch(items, tmp_path / "out", models=fake_models())
        assert [result.state for result in report.results] == states
        for result, count in zip(report.results[1:], (251, 304), strict=True):
            assert result.reason.startswith(f"expected an output name of at most 250 bytes, got {count}: shorten x")


def test_bytes_are_counted_and_not_letters(tmp_path: Path) -> None:
    check_output(tmp_path / f"{chr(0xE4) * 123}.mp4", frozenset({".mp4"}))
    with pytest.raises(InputError, match=r"got 252: shorten \u00e4{40}\.\.\.$"):
        check_output(tmp_path / f"{chr(0xE4) * 124}.mp4", frozenset({".mp4"}))
