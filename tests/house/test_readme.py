"""What the README says can be run: its Python, its commands' options, the pictures it shows."""

import re
import shlex
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from flame.heads.open_head import load_open_head
from places import ROOT
from portrait4d.cli.main import run
from portrait4d.jobs.demo import MOTION_FILE, demo_photo
from preprocess.fitting.frames import HeadFitter
from preprocess.media.image import write_png
from preprocess.media.video import probe
from preprocess.media.video_writer import VideoWriter
from preprocess.tracking.motion import Motion


def blocks(language: str) -> list[str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def test_python_lines_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (program,) = blocks("python")
    assert len([line for line in program.splitlines() if line.strip()]) <= 5
    monkeypatch.chdir(tmp_path)
    photo = demo_photo()
    write_png(tmp_path / "photo.png", photo)
    shutil.copy(tmp_path / "photo.png", tmp_path / "photo.jpg")
    with VideoWriter(tmp_path / "video.mp4", height=512, width=512, frame_rate=Fraction(25)) as writer:
        for index in range(5):
            writer.write(np.roll(photo, 2 * index, axis=1))
    exec(compile(program, "README.md", "exec"), {})
    assert probe(tmp_path / "result.mp4").num_frames_estimate == 5


def test_first_two_commands_install_and_test():
    first, second = blocks("bash")[:2]
    assert "venv" in first and "pip install" in first and "portrait4d demo" in first
    assert ".[test]" in second and "pytest" in second


def test_the_test_command_and_its_minutes_are_those_of_ci():
    """One command and one number, wherever they are written."""
    texts = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", ".ci/run", "CONTRIBUTING.md")}
    (command,) = re.findall(r"python -m pytest\b.*", blocks("bash")[1])
    for name in (".ci/run", "CONTRIBUTING.md"):
        written = [line.split("#")[0].strip() for line in texts[name].splitlines()]
        assert written.count(command) == written.count(f"{command} -m slow") == 1, name
    for before, after in (
        (r"\*\*Run the tests\*\* \(.*?", r"minutes on two cores; `-m slow` runs the rest, about (\w+) more"),
        (r"README's test command takes ", r"minutes of them, the slow tests about\W+(\w+)"),
        (r"the quick suite: ", r"minutes on two cores\n.* the rest: about (\w+)"),
    ):
        found = [match for text in texts.values() for match in re.findall(f"{before}about (\\w+) {after}", text)]
        assert found == [("four", "ten")], before


def test_cpu_builds_of_torch_come_from_pytorch_s_own_index():
    """The command needs the network; what is checked is that it asks for torch alone, from the index of CPU builds."""
    (command,) = [block for block in blocks("bash") if "--index-url" in block]
    assert shlex.split(command) == ["pip", "install", "torch", "--index-url", "https://download.pytorch.org/whl/cpu"]


def test_the_pythons_named_are_those_that_are_tried():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    tried = re.search(r"SUPPORTED = \((.*)\)", (ROOT / ".ci/fresh.py").read_text(encoding="utf-8"))
    classified = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert tried is not None and re.findall(r"3\.\d+", tried[1]) == classified
    assert f"Python {classified[0]} to {classified[-1]}" in text


def test_demo_writes_video_and_sheet(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert run(["demo", "-o", str(tmp_path / "demo"), "--duration", "0.48", "--quiet"]) == 0
    printed = capsys.readouterr().out
    for name in ("demo.mp4", "demo.png"):
        assert (tmp_path / "demo" / name).stat().st_size > 0
        assert str(tmp_path / "demo" / name) in printed
    assert probe(tmp_path / "demo" / "demo.mp4").num_frames_estimate == 12


def test_demo_motion_fits_the_open_head():
    """Its landmarks are the model's own; if the model changes, scripts/make_demo_motion.py must run again."""
    motion = Motion.load(MOTION_FILE)
    fitter = HeadFitter(load_open_head())
    for index in (0, 60, 120, 199):
        predicted = fitter.project(motion.pose.row(index), motion.head.row(index))
        assert np.abs(predicted - motion.landmarks[index, :, :2])[:468].max() < 0.2


def test_every_option_shown_exists(capsys: pytest.CaptureFixture[str]):
    programs = {"portrait4d": "portrait4d.cli.app", "genhead": "genhead.cli"}
    shown = [line for block in blocks("bash") for line in block.splitlines() if line.split(" ")[0] in programs]
    assert len(shown) >= 6
    for line in shown:
        program, *words = shlex.split(line, comments=True)
        command = words[:2] if words[0] in ("eg3d", "metrics", "weights") else words[:1]
        assert run([*command, "--help"], program=program, module=programs[program]) == 0
        known = capsys.readouterr().out
        for word in words[len(command) :]:
            if word.startswith("-"):
                assert re.search(rf"{re.escape(word.split('=')[0])}\b", known), line


def test_links_and_pictures_exist():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", text)
    assert targets
    for target in targets:
        assert (ROOT / target).exists(), target
