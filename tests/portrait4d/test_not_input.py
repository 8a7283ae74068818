"""No command writes over what it reads, under whatever name the output is given."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from flame.errors import InputError
from portrait4d.cli.main import run
from portrait4d.jobs.demo import MOTION_FILE
from portrait4d.pipeline import build_avatar, track_driver
from preprocess.files.file_check import check_no_input_among, check_not_input
from preprocess.media.image import write_png


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with inputs whose content would do nothing but be refused."""
    monkeypatch.chdir(tmp_path)
    picture = np.full((64, 64, 3), 90, np.uint8)
    for name in ("own.png", "other.png", "frames/0001.png", "own_yaw-20_pitch+0.png", "photos/a.png"):
        write_png(tmp_path / name, picture)
    for name in (
        "own.mp4",
        "own.npz",
        "own.safetensors",
        "own.ply",
        "videos/a.mp4",
        "shards/x.tar",
        "eg3d/dataset.json",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"not to be written over")
    shutil.copy(MOTION_FILE, tmp_path / "motion.npz")
    (tmp_path / "link.png").symlink_to(tmp_path / "own.png")
    os.link(tmp_path / "own.png", tmp_path / "hard.png")
    return tmp_path


COMMANDS = [
    "reenact own.png own.mp4 -o own.mp4",
    "reenact own.png other.png -o own.png",
    "reenact own.png other.png -o other.png",
    "reenact own.png frames -o frames/0001.png",
    "reenact own.png motion.npz -o own.mp4 --flame own.mp4",
    "track own.npz -o own.npz",
    "track own.mp4 -o own.npz --flame own.npz",
    "avatar own.safetensors -o own.safetensors",
    "avatar own.png own.safetensors -o own.safetensors",
    "avatar own.png -o own.safetensors --flame own.safetensors",
    "render own.png -o own.png",
    "render own.png -o ./frames/../own.png",
    "render own.png -o link.png",
    "render link.png -o own.png",
    "render own.png -o hard.png",
    "render own_yaw-20_pitch+0.png -o own.png --yaw=-20,20",
    "render own.png -o own.ply --flame own.ply",
    "selfcheck lift own.png -o own.png",
    "eg3d sample photos -o photos",
    "eg3d video own.mp4 -o own.mp4",
    "eg3d shape own.ply -o own.ply",
    "fit-scene photos -o photos",
    "weights convert own.npz -o own.npz",
    "data convert shards -o shards",
    "data convert eg3d -o eg3d",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_an_output_that_is_an_input_is_refused(command: str, folder: Path, capsys: pytest.CaptureFixture[str]):
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert run(command.split()) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "is one of the inputs: choose another name" in line
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_batch_writes_over_no_input_of_any_item(folder: Path, capsys: pytest.CaptureFixture[str]):
    (folder / "list.jsonl").write_text(
        '{"source": "own.png", "driver": "other.png", "output": "own.mp4"}\n'
        '{"source": "other.png", "driver": "own.mp4", "output": "new.mp4"}\n'
    )
    assert run(["batch", "--manifest", "list.jsonl", "-o", ".", "--engine", "lift"]) == 2
    assert "own.mp4 is one of the inputs" in capsys.readouterr().err
    assert (folder / "own.mp4").read_bytes() == b"not to be written over"


@pytest.mark.parametrize("command", ["ffhq", "video"])
def test_a_dataset_is_not_built_into_its_own_photos(
    command: str, folder: Path, capsys: pytest.CaptureFixture[str]
):  # it says so in words of its own
    assert run(["data", command, "photos", "-o", "photos"]) == 2
    assert "photos" in capsys.readouterr().err
    assert [path.name for path in (folder / "photos").iterdir()] == ["a.png"]


def test_python_calls_refuse_it_too(folder: Path):
    with pytest.raises(InputError, match="one of the inputs"):
        build_avatar(["own.png", "own.safetensors"], "own.safetensors")
    with pytest.raises(InputError, match="one of the inputs"):
        track_driver("motion.npz", "motion.npz")


def test_other_names_pass(folder: Path):
    check_not_input("new.png", "own.png", None, "missing.png")
    check_no_input_among(["other.png", "new.png"], ["own.png"])
    check_not_input("n" * 5000, "own.png")  # a name that cannot be is told by whoever opens it
