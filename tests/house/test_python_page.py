"""docs/python.md: every public name is on it, and its programs run."""

import re
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import portrait4d
from places import ROOT
from portrait4d.jobs.demo import demo_photo
from preprocess.media.image import write_png
from preprocess.media.video_writer import VideoWriter

PAGES = {name: (ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("python.md", "expressions.md")}


def test_every_public_name_is_on_the_page() -> None:
    words = set(re.findall(r"\w+", PAGES["python.md"]))
    assert [name for name in portrait4d.__all__ if name not in words] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_the_programs_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    photo = demo_photo()
    write_png(tmp_path / "photo.png", photo)
    shutil.copy(tmp_path / "photo.png", tmp_path / "photo.jpg")
    with VideoWriter(tmp_path / "video.mp4", height=512, width=512, frame_rate=Fraction(25)) as writer:
        for index in range(4):
            writer.write(np.roll(photo, 2 * index, axis=1))
    portrait4d.track_driver("video.mp4", "clip.npz")
    programs = re.findall(r"```python\n(.*?)```", PAGES[name], flags=re.DOTALL)
    assert programs
    for program in programs:
        exec(compile(program, name, "exec"), {})
