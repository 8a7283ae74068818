"""The wheel: the four packages with their assets and configurations, nothing else, and no file of a licensed model."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath

import pytest

from places import ROOT
from portrait4d.jobs.doctor import REINSTALL_AV

PACKAGES = {"flame", "preprocess", "portrait4d", "genhead"}
ASSETS = {
    "flame/assets/open_head.safetensors",
    "preprocess/assets/face_detector.safetensors",
    "preprocess/assets/face_mesh.safetensors",
    "preprocess/assets/portrait_matte.safetensors",
    "portrait4d/assets/demo_motion.npz",
    "portrait4d/assets/checkpoint_structures.json",
    "portrait4d/studio/page/index.html",
    "portrait4d/studio/page/studio.css",
    "portrait4d/studio/page/main.js",
    "portrait4d/assets/genhead-toy64/config.json",
    "portrait4d/assets/genhead-toy64/model.safetensors",
}
MAX_ASSET_MB = 8.0


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Built from a copy, so that nothing lands in the checkout; tests and scripts lie beside, as in the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in filter(lambda name: (ROOT / name).is_dir(), (*PACKAGES, "tests", "scripts", "benchmarks", "configs")):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, source / name)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(folder),
        str(source),
    ]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode and "No module named 'setuptools'" in result.stderr + result.stdout:
        command.remove("--no-build-isolation")
        result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    (built,) = folder.glob("*.whl")
    return zipfile.ZipFile(built)


def test_wheel_holds_the_four_packages_and_nothing_else(wheel: zipfile.ZipFile):
    tops = {PurePosixPath(name).parts[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == PACKAGES


def test_every_module_of_the_checkout_is_in_the_wheel(wheel: zipfile.ZipFile):
    names = set(wheel.namelist())
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            assert path.relative_to(ROOT).as_posix() in names


def test_assets_are_in_the_wheel_and_small(wheel: zipfile.ZipFile):
    sizes = {item.filename: item.file_size for item in wheel.infolist()}
    assert set(sizes) >= ASSETS
    for name in ASSETS:
        assert 0 < sizes[name] <= MAX_ASSET_MB * 1e6, name


def test_an_installed_program_finds_the_configurations_by_name(wheel: zipfile.ZipFile, tmp_path: Path):
    """Far from the checkout; with torch, which this test's Python has."""
    wheel.extractall(tmp_path / "installed")
    program = (
        "from portrait4d.train.recipes import find_config, own_configs; import portrait4d;"
        "print(portrait4d.__file__, find_config('genhead/toy64').read_text(), *own_configs(), sep='\\n')"
    )
    said = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "installed")},
    )
    assert said.returncode == 0, said.stderr
    assert said.stdout.startswith(str(tmp_path / "installed"))
    names = {path.relative_to(ROOT / "configs").with_suffix("").as_posix() for path in ROOT.glob("configs/*/*")}
    assert len(names) > 6 and names <= set(said.stdout.splitlines())
    assert (ROOT / "configs" / "genhead" / "toy64.yaml").read_text(encoding="utf-8") in said.stdout


def test_the_packages_say_that_they_are_typed(wheel: zipfile.ZipFile):
    names = set(wheel.namelist())
    assert {f"{package}/py.typed" for package in PACKAGES} <= names


def test_tools_have_one_version():
    """`.ci/run` installs them from the extra `dev`, and pre-commit runs what is installed."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert re.search(r'"ruff==[\d.]+"', text) and re.search(r'"pyright==[\d.]+"', text)
    assert '-e ".[dev]"' in (ROOT / ".ci/run").read_text(encoding="utf-8")
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert set(re.findall(r"repo: (\S+)", hooks)) == {"local"}
    assert "rev:" not in hooks and "additional_dependencies" not in hooks


def test_doctor_offers_the_pyav_that_is_asked_for():
    (asked,) = re.findall(r'"(av[>=<,\d]+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert f"'{asked}'" in REINSTALL_AV


def test_assets_come_with_their_licences(wheel: zipfile.ZipFile):
    names = {PurePosixPath(name) for name in wheel.namelist()}
    for folder in ("flame/assets", "preprocess/assets"):
        texts = [name for name in names if str(name.parent) == folder and name.suffix in ("", ".txt", ".md")]
        assert any("LICENSE" in name.name.upper() or "NOTICE" in name.name.upper() for name in texts), folder


def test_no_licensed_model_is_in_the_wheel(wheel: zipfile.ZipFile):
    for name in wheel.namelist():
        lower = PurePosixPath(name).name.lower()
        assert not lower.endswith((".pkl", ".pt", ".pth", ".ckpt")), name
        assert not lower.startswith(("generic_model", "flame20", "smpl")), name


def test_command_is_installed(wheel: zipfile.ZipFile):
    (entry,) = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
    said = wheel.read(entry).decode()
    assert "portrait4d = portrait4d.cli.main:main" in said
    assert "[portrait4d.subjects]\ngenhead = genhead.synthesis.live:make_subjects" in said
