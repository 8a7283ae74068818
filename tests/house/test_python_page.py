"""docs/python.md: every public name is on it, and its programs run."""

import ast
import json
import re
import shutil
from fractions import Fraction
from pathlib import Path
from typing import Any

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


@pytest.mark.slow
def test_the_cells_of_the_notebook_run() -> None:
    """Each shows something: a picture, a player or a value; the file holds no outputs."""
    cells = json.loads((ROOT / "docs" / "head.ipynb").read_text(encoding="utf-8"))["cells"]
    names: dict[str, Any] = {}
    shown = []
    for cell in cells:
        if cell["cell_type"] != "code":
            continue
        assert cell["outputs"] == [] and cell["execution_count"] is None
        *before, last = ast.parse("".join(cell["source"])).body
        assert isinstance(last, ast.Expr)
        exec(compile(ast.Module(before, []), "head.ipynb", "exec"), names)
        shown.append(eval(compile(ast.Expression(last.value), "head.ipynb", "eval"), names))
    head, picture, plain, edited, size = shown
    assert head._repr_png_().startswith(b"\x89PNG") and picture.size == (512, 512)
    assert plain.num_frames == edited.num_frames == 25 and plain.data != edited.data
    assert size[1] == 3
