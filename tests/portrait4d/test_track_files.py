"""`track` with a head model of the user's, and parameters for other programs."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from flame.heads.flame import load_flame
from motions import make_motion
from portrait4d.cli.main import run
from portrait4d.jobs.demo import demo_photo
from preprocess.media.image import write_png
from preprocess.tracking.motion import Motion
from preprocess.tracking.parameter_table import write_parameters


def test_npz_holds_the_numbers_of_the_motion(tmp_path):
    motion = make_motion(5)
    write_parameters(motion, tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as read:
        for name in ("seconds", "valid", "shape", "expression", "rotation", "translation", "neck", "jaw", "eyes"):
            np.testing.assert_array_equal(read[name], getattr(motion, name))
        assert str(read["head_model"]) == motion.head_model and float(read["frame_rate"]) == float(motion.frame_rate)


def test_csv_has_a_row_for_each_frame(tmp_path):
    motion = make_motion(5)
    write_parameters(motion, tmp_path / "a.csv")
    with open(tmp_path / "a.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["frame"]) for row in rows] == list(range(5))
    for index, row in enumerate(rows):
        assert float(row["seconds"]) == pytest.approx(motion.seconds[index], abs=1e-6)
        assert bool(int(row["valid"])) == motion.valid[index]
        for place, axis in enumerate("xyz"):
            assert float(row[f"rotation_{axis}"]) == pytest.approx(motion.rotation[index, place], rel=1e-6)
            assert float(row[f"eye_right_{axis}"]) == pytest.approx(motion.eyes[index, 1, place], rel=1e-6)
        last = motion.expression.shape[1] - 1
        assert float(row[f"expression_{last:03d}"]) == pytest.approx(motion.expression[index, last], rel=1e-6)
        assert float(row["shape_000"]) == pytest.approx(motion.shape[0], rel=1e-6)
    assert len(rows[0]) == 3 + 12 + 6 + motion.expression.shape[1] + len(motion.shape)


@pytest.fixture
def frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of three frames of the free portrait, which moves to the right."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PORTRAIT4D_HOME", str(tmp_path / "home"))  # without any weights
    photo = cv2.resize(demo_photo()[:340, 60:400], (480, 480), interpolation=cv2.INTER_CUBIC)
    for index in range(3):
        write_png(tmp_path / "frames" / f"{index}.png", np.roll(photo, 6 * index, axis=1))
    return tmp_path


def test_parameters_beside_the_motion(frames, capsys):
    assert run(["track", "frames", "-o", "m.npz", "--parameters", "m.csv", "--quiet"]) == 0
    assert "m.csv" in capsys.readouterr().out.splitlines()
    with open("m.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    motion = Motion.load("m.npz")
    x = [float(row["translation_x"]) for row in rows]
    np.testing.assert_allclose(x, motion.translation[:, 0], rtol=1e-5)
    assert x[2] > x[0]  # to the viewer's right


@pytest.mark.slow
def test_a_flame_file_is_fitted_without_weights(frames, synthetic_flame):
    path = synthetic_flame / "geometry" / "generic_model.pkl"
    words = ["track", "frames", "-o", "m.npz", "--quiet", "--parameters", "m.npy.npz"]
    assert run([*words, "--head-model", str(path)]) == 0
    motion, model = Motion.load("m.npz"), load_flame(path)
    motion.check_model(model)
    assert motion.expression.shape == (3, model.num_expression) and np.isfinite(motion.fit_error).all()
    with np.load("m.npy.npz") as read:
        np.testing.assert_array_equal(read["expression"], motion.expression)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--parameters", "m.txt"], "expected an output name ending in .csv, .npz"),
        (["--head-model", "frames/0.png", "--engine", "lift"], "so does --engine lift: drop one"),
        (["--head-model", "frames/0.png"], "0.png"),
        (["--parameters", "frames"], "expected an output name ending in"),
    ],
)
def test_refusals(frames, capsys, words, message):
    assert run(["track", "frames", "-o", "m.npz", "--quiet", *words]) == 2
    told = capsys.readouterr().err
    assert message in told and len(told.splitlines()) == 1 and not Path("m.npz").exists()
