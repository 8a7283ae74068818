"""The track of a run that is stopped while it draws is kept, and used by the next run of the same command."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import portrait4d.reenactment.kept_track
from fakes_engine import SIZE, FakeEngine, fake_models
from portrait4d.cli.console import tell_stop
from portrait4d.options import ReenactOptions
from portrait4d.pipeline import reenact
from preprocess.media.image import write_png
from preprocess.media.video_writer import VideoWriter


class Stopped(FakeEngine):
    def render(self, avatar, drive):
        raise KeyboardInterrupt


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(portrait4d.reenactment.kept_track, "WORTH_KEEPING_SECONDS", 0.0)
    write_png(tmp_path / "photo.png", np.full((SIZE, SIZE, 3), 90, np.uint8))
    with VideoWriter(tmp_path / "talk.mp4", height=SIZE, width=SIZE, frame_rate=25) as writer:
        for level in range(40, 200, 20):
            writer.write(np.full((SIZE, SIZE, 3), level, np.uint8))
    return tmp_path


def moved(files: Path, *, engine: FakeEngine | None = None, **changed: Any) -> int:
    """Runs a reenactment; returns how many videos were tracked for it."""
    models: Any = fake_models()
    models = models if engine is None else replace(models, engine=engine)
    options = ReenactOptions(mode="absolute", **changed)
    try:
        reenact(files / "photo.png", files / "talk.mp4", files / "out.mp4", options=options, models=models)
    finally:
        (files / "tracked").write_text(str(models.tracker.num_tracked_videos))
    return models.tracker.num_tracked_videos


def kept(files: Path) -> list[Path]:
    return sorted(files.glob(".out.mp4.*.track.npz"))


def test_a_stopped_run_keeps_its_track_and_says_so(files, capsys):
    with pytest.raises(KeyboardInterrupt) as stop:
        moved(files, engine=Stopped())
    assert str(stop.value) == "the track of talk.mp4 is kept" and len(kept(files)) == 1
    tell_stop(stop.value)
    told = capsys.readouterr().err
    assert told == "error: stopped; the track of talk.mp4 is kept: run the same command again to resume\n"
    assert moved(files) == 0 and kept(files) == []
    first = (files / "out.mp4").read_bytes()
    assert moved(files) == 1 and (files / "out.mp4").read_bytes() == first


def test_a_run_that_is_stopped_twice_still_has_its_track(files):
    for expected in ("1", "0"):
        with pytest.raises(KeyboardInterrupt, match="the track of talk.mp4 is kept"):
            moved(files, engine=Stopped())
        assert (files / "tracked").read_text() == expected and len(kept(files)) == 1


def test_another_cut_is_tracked_again(files):
    with pytest.raises(KeyboardInterrupt):
        moved(files, engine=Stopped())
    assert moved(files, duration=0.2) == 1 and kept(files) == []


def test_a_quick_track_is_not_kept(files, monkeypatch):
    monkeypatch.setattr(portrait4d.reenactment.kept_track, "WORTH_KEEPING_SECONDS", 60.0)
    with pytest.raises(KeyboardInterrupt) as stop:
        moved(files, engine=Stopped())
    assert str(stop.value) == "" and kept(files) == []


def test_a_damaged_track_is_made_again(files):
    with pytest.raises(KeyboardInterrupt):
        moved(files, engine=Stopped())
    (path,) = kept(files)
    path.write_bytes(path.read_bytes()[:200])
    assert moved(files) == 1 and kept(files) == []
