"""Tables of blendshapes in and out."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flame.errors import InputError
from flame.heads.expression_names import ARKIT_NAMES
from preprocess.tracking.blendshape_csv import HEAD_NOT_READ
from preprocess.tracking.motion import Motion


@pytest.fixture(scope="module")
def motion() -> Motion:
    weights = np.random.default_rng(4).uniform(0, 1, (40, 52)).round(4)
    weights[:, [index for index, name in enumerate(ARKIT_NAMES) if name.startswith("eyeLook")]] = 0
    return Motion.from_arkit(weights, frame_rate=25, yaw_degrees=np.linspace(-10, 10, 40), roll_degrees=4)


def test_a_plain_table_there_and_back(motion: Motion, tmp_path: Path) -> None:
    motion.save(tmp_path / "m.csv")
    again = Motion.load(tmp_path / "m.csv")
    assert again.frame_rate == 25 and again.warnings == () and again.source == "m.csv"
    assert np.allclose(again.expression, motion.expression, atol=2e-6)
    assert np.allclose(again.landmarks, motion.landmarks, atol=1e-2)
    for name in ("yaw_degrees", "pitch_degrees", "roll_degrees"):
        assert np.allclose(again.values(name), motion.values(name), atol=1e-3)


def test_a_table_of_the_app_there_and_back(motion: Motion, tmp_path: Path) -> None:
    motion.edit(gaze=(0.25, -0.5)).save(tmp_path / "m.csv", layout="live-link-face")
    lines = (tmp_path / "m.csv").read_text().splitlines()
    header, last = lines[0].split(","), lines[-1].split(",")
    assert header[:4] == ["Timecode", "BlendshapeCount", "EyeBlinkLeft", "EyeLookDownLeft"] and len(header) == 63
    assert header[-10:] == ["TongueOut", "HeadYaw", "HeadPitch", "HeadRoll", *header[-6:]] and last[1] == "61"
    assert last[0] == "00:00:01:14.000"
    again = Motion.load(tmp_path / "m.csv")
    assert again.frame_rate == 25
    assert np.allclose(again.expression, motion.edit(gaze=(0.25, -0.5)).expression, atol=2e-6)
    assert np.allclose(again.values("gaze"), [0.25, -0.5], atol=1e-5)


def test_the_gaze_of_a_tracked_clip_is_in_its_table(motion: Motion, tmp_path: Path) -> None:
    """A tracked clip turns its eyeballs further than its lids tell; a table has nothing but the looks for both."""
    turned = np.zeros((40, 2, 3), np.float32)
    turned[:, 0], turned[:, 1] = (0.1, 0.2, 0), (0.1, -0.3, 0)  # down; the left eye out, the right eye out
    tracked = replace(motion, eyes=turned)
    tracked.save(tmp_path / "M.CSV")
    assert np.allclose(Motion.load(tmp_path / "M.CSV").eyes, turned, atol=1e-5)
    values = tracked.to_arkit()
    assert list(values) == list(ARKIT_NAMES)
    assert np.allclose(values["eyeLookOutLeft"], 0.2 / 0.55) and np.allclose(values["eyeLookOutRight"], 0.3 / 0.55)
    assert np.allclose(values["eyeLookDownLeft"], 0.1 / 0.55) and not values["eyeLookInLeft"].any()


def test_other_spellings_and_times(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("timestamp_ms,_neutral,JawOpen,mouth_smile_left\n0,0.9,0.25,1.0001\n20,0.9,0.5,0\n40,1,0.75,0\n")
    read = Motion.load(path)
    assert read.frame_rate == 50 and len(read) == 3 and np.allclose(read.values("jaw_open"), [0.25, 0.5, 0.75])
    assert read.values("mouthSmileLeft")[0] == 1 and not read.values("browInnerUp").any()
    path.write_text("frame,jawOpen\n0,0.25\n")
    assert Motion.load(path).frame_rate == 30


def test_a_head_rotation_that_nobody_defined_is_told(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text(
        "Timecode,JawOpen,HeadYaw,HeadPitch,HeadRoll\n10:59:05:25.089,0.5,0.1,0,0\n10:59:05:26.1,0.5,0,0,0\n"
    )
    read = Motion.load(path)
    assert read.warnings == (HEAD_NOT_READ,) and read.frame_rate == pytest.approx(60, rel=0.03)
    path.write_text("Timecode,JawOpen,HeadYaw\n10:59:05:25.089,0.5,0.0\n")
    assert Motion.load(path).warnings == ()


def test_values_beyond_the_range_are_cut_and_told(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("jawOpen,mouthLeft\n1.25,0.5\n0.5,-0.005\n")
    read = Motion.load(path)
    assert np.allclose(read.values("jawOpen"), [1, 0.5]) and np.allclose(read.values("mouthLeft"), [0.5, 0])
    assert read.warnings == ("jawOpen was cut to 0 to 1, the table has 0.50 to 1.25",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("jawOpen,mouthSmileLeft\n0.5\n", "expected 2 values in line 2 of m.csv, got 1"),
        ("jawOpen,jawOpenn\n0.5,1\n", "column of m.csv: .*did you mean 'jawOpen'"),
        ("jawOpen,smile\n0.5,1\n", "expected ARKit names .* got smile: name mouthSmileLeft, mouthSmileRight"),
        ("jawOpen,JawOpen\n0.5,1\n", "names a column twice"),
        ("jawOpen\nwide\n", "column jawopen of m.csv: could not convert"),
        ("jawOpen\nnan\n", "not finite"),
        ("jawOpen\n", "got 1 rows"),
        ("a,b\n1,2\n", "expected columns with the names of blendshapes"),
        ("Timecode,jawOpen\nnow,0.5\n", "expected time codes like"),
        ("jawOpen\n0\n50\n", "jawOpen from 0 to 1 in m.csv, got 0 to 50: divide percent"),
        ("jawOpen\n-5\n0.5\n", "jawOpen from 0 to 1 in m.csv, got -5 to 0.5"),
        ("seconds,jawOpen\n0,0\n33,1\n", "1 to 240 frames a second in m.csv, got steps of 33 seconds"),
        ("seconds,jawOpen\n1,0\n0,1\n", "got steps of -1 seconds"),
        ("timestamp_ms,jawOpen\n0,0\n0,1\n", "got steps of 0 seconds"),
    ],
)
def test_tables_that_cannot_be_read(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        Motion.load(tmp_path / "m.csv")


def test_what_is_no_text_and_what_has_no_names(tmp_path: Path, motion: Motion) -> None:
    (tmp_path / "m.csv").write_bytes(b"\xff\xfe\x00\x01" * 20)
    with pytest.raises(InputError, match="not a readable CSV"):
        Motion.load(tmp_path / "m.csv")
    with pytest.raises(InputError, match="expected layout plain or live-link-face, got 'maya'"):
        motion.save(tmp_path / "n.csv", layout="maya")  # pyright: ignore[reportArgumentType]  (the error is tested)
    assert not (tmp_path / "n.csv").exists()
