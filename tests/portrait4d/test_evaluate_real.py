"""Real faces, the embedded tracker: a result that is late, frozen or of another person is worse where it should be."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from free_material import NUM_FRAMES as NUM_FREE_FRAMES
from free_material import FreeMaterial
from portrait4d.jobs.evaluation.items import EvaluationItem
from portrait4d.jobs.evaluation.options import EvaluateOptions
from portrait4d.jobs.evaluation.run import evaluate
from portrait4d.options import ReenactOptions
from preprocess.media.image import write_png
from preprocess.media.video import read_frames

NUM_FRAMES, SIDE, LATE = 36, 384, 3


def square_frames(clip: Path) -> list[np.ndarray]:
    """The first frames of a clip, their middle square scaled down."""
    frames = []
    for frame in read_frames(clip, duration=NUM_FRAMES / 24, frame_rate=24):
        side = min(frame.image.shape[:2])
        top, left = ((length - side) // 2 for length in frame.image.shape[:2])
        square = frame.image[top : top + side, left : left + side]
        frames.append(cv2.resize(square, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.uint8))
    return frames


def write_frames(folder: Path, frames: list[np.ndarray]) -> Path:
    for index, frame in enumerate(frames):
        write_png(folder / f"{index:03d}.png", frame)
    return folder


@pytest.mark.slow
def test_each_harm_is_seen_by_the_measure_that_should_see_it(shared: Path, tmp_path: Path, one_thread: None) -> None:
    drivers = shared / "data" / "drivers"
    truth = square_frames(drivers / "d02_speech_woman.mp4")
    clip = write_frames(tmp_path / "clip", truth)
    results = {
        "same": truth,
        "late": truth[:1] * LATE + truth[:-LATE],
        "frozen": truth[:1] * NUM_FRAMES,
        "person": square_frames(drivers / "d06_speech_24fps.mp4"),
    }
    for name, frames in results.items():
        write_frames(tmp_path / "results" / name, frames)
    face_network = shared / "tools" / "weights" / "mobilefacenet_068.onnx"
    options = EvaluateOptions(
        identity=str(face_network) if face_network.is_file() else None,
        reenact=ReenactOptions(mode="absolute", yaw_limit=None),
    )
    items = [EvaluationItem(name, clip) for name in results]
    report = evaluate(items, tmp_path / "out", options=options, results=tmp_path / "results")
    values = {result.name: result.score.values for result in report.results if result.score}
    assert list(values) == list(results)
    same = values.pop("same")
    perfect = {"lost": 0, "psnr": 100, "ssim": 1, "keypoints": 0, "expression": 0, "pose": 0, "gaze": 0, "lag": 0}
    for key, value in perfect.items():
        assert same[key] == pytest.approx(value, abs=1e-5), key
    for name, harmed in values.items():
        assert harmed["psnr"] < 40, name  # pyright: ignore[reportOptionalOperand]
        assert harmed["keypoints"] > 0.01 and harmed["expression"] > 0.005, name  # pyright: ignore[reportOptionalOperand]
    assert values["late"]["lag"] == LATE
    assert values["frozen"]["jitter"] < 0.3 and values["frozen"]["flicker"] < 0.3  # pyright: ignore
    assert abs(values["frozen"]["motion_gain"]) < 0.05 and values["frozen"]["lag"] is None  # pyright: ignore
    assert values["person"]["face_shape"] > 1.0  # pyright: ignore[reportOptionalOperand]
    if options.identity is not None:
        assert same["identity"] > 0.8 and values["person"]["identity"] < 0.5  # pyright: ignore[reportOptionalOperand]


@pytest.mark.slow
def test_the_embedded_engine_follows_a_clip_and_turns_as_asked(
    free: FreeMaterial, tmp_path: Path, one_thread: None
) -> None:
    options = EvaluateOptions(reenact=ReenactOptions(engine="lift", mode="absolute", yaw_limit=None))
    report = evaluate([EvaluationItem("sway", free.clip)], tmp_path / "out", options=options)
    (result,) = report.results
    assert result.score is not None and result.score.num_frames == NUM_FREE_FRAMES - 1
    values = result.score.values
    assert values["lost"] == 0 and values["yaw_lost"] == 0 and values["identity"] is None
    most = {"keypoints": 0.05, "pose": 4, "yaw_error": 8, "face_shape": 3}
    assert all(values[key] < limit for key, limit in most.items()), values  # pyright: ignore[reportOperatorIssue]
    assert values["psnr"] > 18  # pyright: ignore[reportOptionalOperand]
