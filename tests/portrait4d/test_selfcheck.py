"""The check of weights: noise fails it, an engine that works passes it, and each kind of damage is seen."""

import json
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from portrait4d.cli.main import run
from portrait4d.engines.base import Rendering
from portrait4d.engines.lift.engine import LiftEngine
from portrait4d.engines.own_drive import orbit_drive
from portrait4d.jobs import selfcheck
from portrait4d.jobs.selfcheck import run_selfcheck
from preprocess.faces.backends import insightface_pack

pytestmark = pytest.mark.usefixtures("one_thread")


def _failed(check: selfcheck.SelfCheck) -> set[str]:
    return {finding.name for finding in check.findings if finding.passed is False}


@pytest.mark.slow
def test_generated_weights_fail(
    generated_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PORTRAIT4D_HOME", str(generated_home))
    assert run(["selfcheck", "portrait4d-v2", "-o", str(tmp_path / "pair.png")]) == 1
    said = capsys.readouterr()
    assert "FAILED  PSNR in the face" in said.out and "FAILED  face in the result" in said.out
    assert "weights of portrait4d-v2 do not do what they should" in said.err
    assert (tmp_path / "pair.png").is_file()


def test_an_engine_that_works_passes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["selfcheck", "lift", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    judged = [finding for finding in report["findings"] if finding["passed"] is not None]
    assert report["passed"] and len(judged) == 8


def test_what_is_wrong_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Views that turn the wrong way, a picture that is moved, a head that is not where it should be."""
    turned = lambda avatar, model, yaw, pitch: orbit_drive(avatar, model, -yaw, pitch)  # noqa: E731
    render = LiftEngine.render

    def moved(self: LiftEngine, avatar, drive) -> Rendering:
        rendering = render(self, avatar, drive)
        return Rendering(rendering.image.roll(40, 3), 1 - rendering.alpha)

    monkeypatch.setattr(selfcheck, "orbit_drive", turned)
    assert _failed(run_selfcheck("lift")) == {"yaw of the view at -20", "yaw of the view at +20"}
    monkeypatch.setattr(selfcheck, "orbit_drive", orbit_drive)
    monkeypatch.setattr(LiftEngine, "render", moved)
    found = _failed(run_selfcheck("lift"))
    assert {"landmark error", "opacity of the face", "opacity of the upper corners", "L1 in the face"} <= found
    assert "face in the result" not in found


def test_identity_is_the_cosine_of_both_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, target = np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 255, np.uint8)
    vectors = {0: np.array([1.0, 0.0]), 255: np.array([0.6, 0.8])}
    monkeypatch.setattr(insightface_pack, "IdentityEncoder", lambda: lambda picture: vectors[int(picture[0, 0, 0])])
    assert selfcheck._identity(shown, target).value == "0.600"
    monkeypatch.setattr(insightface_pack, "IdentityEncoder", lambda: lambda picture: None)
    assert selfcheck._identity(shown, target).value == "not measured: insightface finds no face"
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "insightface", None)
    found = selfcheck._identity(shown, target)
    assert found.passed is None and 'pip install "portrait4d[insightface]"' in found.value


def test_nothing_is_fetched_offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Both measures would download; they say which variable forbids it, unless their weights are here."""
    picture, made = np.zeros((8, 8, 3), np.uint8), []

    class Lpips(torch.nn.Module):
        def __init__(self, **_: object) -> None:
            super().__init__()
            made.append("lpips")

        def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
            return (first - second).abs().mean() + 0.25

    for name, content in (
        ("lpips", {"LPIPS": Lpips, "__spec__": ModuleSpec("lpips", None)}),
        ("insightface", {}),
        ("insightface.app", {"FaceAnalysis": lambda **_: made.append("insightface")}),
    ):
        module = ModuleType(name)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setenv("PORTRAIT4D_OFFLINE", "1")
    for measure in (selfcheck._lpips, selfcheck._identity):
        found = measure(picture, picture)
        assert found.passed is None and found.value.startswith("not measured: PORTRAIT4D_OFFLINE is set")
        assert "\n" not in found.value
    assert made == []
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "alexnet-owt-7be5be79.pth").touch()
    assert selfcheck._lpips(picture, picture).value == "0.250 (alex)" and made == ["lpips"]
    (tmp_path / "checkpoints" / "alexnet-owt-7be5be79.pth").unlink()
    monkeypatch.setenv("PORTRAIT4D_OFFLINE", "0")
    assert selfcheck._lpips(picture, picture).value == "0.250 (alex)"


def test_the_face_mask_is_the_contour() -> None:
    angle = np.linspace(0, 2 * np.pi, 36, endpoint=False)
    points = np.zeros((478, 2))
    points[list(selfcheck.CONTOUR)] = 50 + 20 * np.stack([np.cos(angle), np.sin(angle)], 1)
    mask = selfcheck.face_mask(points, size=100)
    assert abs(mask.sum() / (np.pi * 400) - 1) < 0.1 and mask[50, 50] and not mask[50, 75]
