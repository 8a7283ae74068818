"""Pieces of the pipeline by their mathematics: pasting back, threads that keep the order, cuts of a motion, gaps."""

import sys
import threading
import time
import wave
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import preprocess.media.audio
from fakes_engine import SIZE, fake_models, fake_motion
from flame.errors import InputError
from portrait4d.engines.choose import available_engines, choose_engine, load_engine
from portrait4d.jobs.batch import run_batch
from portrait4d.jobs.batch_items import BatchItem
from portrait4d.jobs.views import video_angles
from portrait4d.options import ReenactOptions, RenderOptions
from portrait4d.pipeline import SILENT, build_avatar, build_source, reenact, track_driver
from portrait4d.reenactment.compose import DriverView, PasteBack, feather_mask, fit_height
from portrait4d.reenactment.driver import cut_motion
from portrait4d.reenactment.report import find_gaps
from portrait4d.runtime.streams import ordered_map, prefetch
from preprocess.faces.crop import Crop
from preprocess.media.image import write_png
from preprocess.media.video import probe
from preprocess.media.video_writer import VideoWriter


def smooth_picture(height: int, width: int) -> np.ndarray:
    """Slow waves, so that resampling costs next to nothing."""
    y, x = np.mgrid[:height, :width] / 40.0
    waves = [np.sin(x + 0.3 * y), np.cos(0.7 * x - y), np.sin(0.5 * x) * np.cos(y)]
    return np.round(128 + 100 * np.stack(waves, -1)).astype(np.uint8)


@pytest.mark.parametrize("side", [150.0, 300.0, 500.0])
def test_pasting_back_the_own_crop_changes_nothing(side: float):
    picture = smooth_picture(360, 480)
    crop = Crop.from_square((230.3, 170.8), side, size=256, image_size=(360, 480))
    pasted = PasteBack(picture, crop)(crop.apply(picture))
    assert pasted.shape == picture.shape
    difference = np.abs(pasted.astype(int) - picture.astype(int))
    assert difference.max() <= 6 and difference.mean() < 0.6


def test_pasting_back_has_no_edge_and_stays_inside():
    picture = np.full((200, 300, 3), 100, np.uint8)
    crop = Crop.from_square((150, 100), 100, size=128, image_size=(200, 300))
    pasted = PasteBack(picture, crop)(np.full((128, 128, 3), 200, np.uint8)).astype(int)
    assert pasted[100, 150, 0] == 200
    assert (pasted[:, :99] == 100).all() and (pasted[:49] == 100).all() and (pasted[:, 201:] == 100).all()
    assert np.abs(np.diff(pasted[100, :, 0])).max() < 30  # of the step of 100


def test_pasting_back_replaces_all_where_crop_and_picture_end_together():
    """The feather left a still strip of the photo along such borders."""
    picture = np.full((200, 300, 3), 100, np.uint8)
    moved = np.full((128, 128, 3), 200, np.uint8)
    crop = face_square((150, 100), 200, image_size=(200, 300))
    pasted = PasteBack(picture, crop)(moved)[..., 0]
    assert (pasted[:, 150] == 200).all()  # top and bottom are the picture's
    assert pasted[100, 51] < 110 and pasted[100, 248] < 110  # left and right lie inside
    corner = PasteBack(picture, face_square((220, 120), 160, image_size=(200, 300)))(moved)[..., 0]
    assert (corner[120:, 230:] == 200).all()
    assert corner[41, 220] < 110 and corner[120, 141] < 110
    beyond = PasteBack(picture, face_square((150, 100), 400, image_size=(200, 300)))(moved)[..., 0]
    assert (beyond == 200).all()


def face_square(center: tuple[float, float], side: float, *, image_size: tuple[int, int]) -> Crop:
    return Crop.from_square(center, side, size=128, image_size=image_size)


def test_large_pictures_are_scaled_down_to_even_sizes():
    picture = np.zeros((1501, 3001, 3), np.uint8)
    paste = PasteBack(picture, Crop.from_square((1500, 700), 800, size=512, image_size=(1501, 3001)))
    assert paste(np.zeros((512, 512, 3), np.uint8)).shape == (960, 1920, 3)


def test_feather_is_symmetric_one_inside_and_small_at_the_border():
    mask = feather_mask(128)
    assert np.allclose(mask, mask.T) and np.allclose(mask, mask[::-1])
    assert mask[64, 64] == 1 and mask[0].max() < 0.02


def test_driver_panel_is_the_tracked_crop():
    picture = smooth_picture(300, 400)
    crop = Crop.from_square((210, 140), 200, size=256, image_size=(300, 400))
    shown = DriverView(crop.matrix, crop.size, 128)(picture)
    expected = fit_height(crop.apply(picture), 128)
    assert np.abs(shown.astype(int) - expected.astype(int)).mean() < 1.0


def test_prefetch_keeps_order_and_raises_in_place():
    def items():
        yield from range(20)
        raise InputError("here")

    seen = []
    with pytest.raises(InputError, match="here"):  # noqa: PT012  (the loop is what breaks off)
        for item in prefetch(items(), depth=3):
            seen.append(item)
    assert seen == list(range(20))


def test_prefetch_reads_only_as_far_ahead_as_told_and_stops_with_the_reader():
    produced = []

    def items():
        for index in range(1000):
            produced.append(index)
            yield index

    stream = prefetch(items(), depth=4)
    next(stream)
    time.sleep(0.3)
    assert len(produced) <= 7
    stream.close()  # pyright: ignore
    assert not [thread for thread in threading.enumerate() if thread.name == "prefetch"]


def test_ordered_map_keeps_order_and_runs_little_ahead():
    started = []

    def slow_first(item: int) -> int:
        started.append(item)
        time.sleep(0.1 if item == 0 else 0.0)
        return item * item

    results = ordered_map(slow_first, range(30), num_workers=2, ahead=1)
    assert next(results) == 0
    assert len(started) <= 4
    assert list(results) == [item * item for item in range(1, 30)]


def test_ordered_map_raises_what_the_function_raised():
    def fail(item: int) -> int:
        if item == 3:
            raise InputError("third")
        return item

    with pytest.raises(InputError, match="third"):
        list(ordered_map(fail, range(10), num_workers=2))


def test_cut_of_a_motion_takes_the_nearest_frames():
    motion = fake_motion([index / 100 for index in range(50)], Fraction(25))
    whole = cut_motion(motion, ReenactOptions())
    assert len(whole) == 50
    cut = cut_motion(motion, ReenactOptions(start=0.4, duration=1.0))
    assert np.allclose(cut.expression[:, 0], np.arange(10, 35) / 100)
    half = cut_motion(motion, ReenactOptions(fps=12.5))
    assert half.frame_rate == Fraction(25, 2) and np.allclose(half.expression[:, 0], np.arange(0, 50, 2) / 100)
    double = cut_motion(motion, ReenactOptions(fps=50))
    assert len(double) == 100 and np.allclose(double.seconds, np.arange(100) / 50)
    with pytest.raises(InputError, match="--start"):
        cut_motion(motion, ReenactOptions(start=2.0))


@pytest.mark.parametrize("fps", [None, 25.0, 50.0])
def test_start_just_under_the_end_keeps_the_last_frame(fps: float | None):
    """It rounded to a frame beyond the last and left an empty motion."""
    cut = cut_motion(fake_motion([0.1, 0.2, 0.3, 0.4]), ReenactOptions(start=0.159, fps=fps))
    assert len(cut) == 1 and cut.expression[0, 0] == np.float32(0.4) and cut.seconds[0] == 0


def test_cut_counts_its_time_from_its_own_start():
    cut = cut_motion(fake_motion([0.1] * 50), ReenactOptions(start=1.0, duration=0.4))
    assert np.allclose(cut.seconds, np.arange(10) / 25)


def test_gaps_are_half_open_intervals():
    assert find_gaps(fake_motion([-1, 0.1, 0.2, -1, -1, 0.3, -1])) == ((0.0, 0.04), (0.12, 0.2), (0.24, 0.28))
    assert find_gaps(fake_motion([0.1])) == ()


def test_video_angles_pass_through_the_keys():
    yaw, pitch = video_angles(RenderOptions(yaw_degrees=(-20, 0, 20), pitch_degrees=(5,), duration=1.0, fps=25))
    assert len(yaw) == 25 and yaw[0] == -20 and yaw[12] == 0 and yaw[-1] == 20
    assert (np.diff(yaw) >= 0).all() and (pitch == 5).all()
    yaw, pitch = video_angles(RenderOptions(duration=2.0))
    assert len(yaw) == 50 and yaw.max() <= 20 and abs(yaw.mean()) < 1e-9 and pitch[0] == 0


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Two photos and a clip with sound."""
    for name, level in (("dark.png", 90), ("bright.png", 200)):
        write_png(tmp_path / name, np.full((SIZE, SIZE, 3), level, np.uint8))
    tone = np.sin(np.arange(16000) / 5) * 9000
    with wave.open(str(tmp_path / "tone.wav"), "wb") as sound:
        sound.setparams((1, 2, 16000, 0, "NONE", ""))
        sound.writeframes(tone.astype("<i2").tobytes())
    clip = tmp_path / "nod.mp4"
    with VideoWriter(clip, height=SIZE, width=SIZE, frame_rate=25, audio_from=tmp_path / "tone.wav") as writer:
        for index in range(6):
            writer.write(np.full((SIZE, SIZE, 3), 40 + 20 * index, np.uint8))
    assert writer.has_audio and probe(clip).has_audio
    return tmp_path


def test_report_tells_the_sound_that_was_written(files: Path, monkeypatch: pytest.MonkeyPatch):
    """It told what the driver has, even where the writer could not read it."""
    report = reenact(files / "dark.png", files / "nod.mp4", files / "x.mp4", models=fake_models())
    assert report.has_audio and SILENT not in report.warnings and probe(files / "x.mp4").has_audio

    def refuse(*_: object, **__: object) -> None:
        raise LookupError("no sound that can be read")

    monkeypatch.setattr(preprocess.media.audio, "AudioFeed", refuse)
    report = reenact(files / "dark.png", files / "nod.mp4", files / "x.mp4", models=fake_models())
    assert not report.has_audio and SILENT in report.warnings and not probe(files / "x.mp4").has_audio


def test_report_tells_damage_in_the_driver(files: Path):
    """It was in the log only, where neither --json nor a batch's table shows it."""
    with VideoWriter(files / "long.mp4", height=SIZE, width=SIZE, frame_rate=25) as writer:
        for index in range(60):
            writer.write(np.random.default_rng(index).integers(0, 255, (SIZE, SIZE, 3), np.uint8))
    data = (files / "long.mp4").read_bytes()
    (files / "cut.mp4").write_bytes(data[: len(data) * 6 // 10])
    whole = reenact(files / "dark.png", files / "long.mp4", files / "x.mp4", models=fake_models())
    assert not any("damaged" in line for line in whole.warnings)
    report = reenact(files / "dark.png", files / "cut.mp4", files / "x.mp4", models=fake_models())
    assert report.num_frames < 60
    assert sum("cut.mp4 is cut off or damaged" in line and "of its 2.40 s" in line for line in report.warnings) == 1
    motion = track_driver(files / "cut.mp4", files / "cut.npz", models=fake_models())
    assert any("cut off" in line for line in motion.warnings)
    again = reenact(files / "dark.png", files / "cut.npz", files / "x.mp4", models=fake_models())
    assert any("cut off" in line for line in again.warnings)


def test_report_tells_damage_in_the_sound(files: Path, monkeypatch: pytest.MonkeyPatch):
    """Sound that breaks off is written as far as it goes, and the report says so."""
    demux = preprocess.media.audio.AudioFeed._demux

    def break_off(feed: preprocess.media.audio.AudioFeed):
        yield next(demux(feed))
        feed._warn("the sound breaks off")

    monkeypatch.setattr(preprocess.media.audio.AudioFeed, "_demux", break_off)
    report = reenact(files / "dark.png", files / "nod.mp4", files / "x.mp4", models=fake_models())
    assert report.has_audio and "the sound breaks off" in report.warnings and SILENT not in report.warnings


def test_options_count_beside_given_models(files: Path):
    """Smoothing and face were taken from the options the models were loaded with."""
    models = fake_models()
    options = ReenactOptions(face=2, driver_face=1, smooth=0.25)
    reenact(files / "dark.png", files / "nod.mp4", files / "x.mp4", models=models, options=options)
    assert sorted(models.tracker.faces) == [1, 2] and models.tracker.smooths == [0.25]  # pyright: ignore
    track_driver(files / "nod.mp4", models=models, options=ReenactOptions(face=3))
    assert models.tracker.faces[-1] == 0  # pyright: ignore
    build_avatar(files / "dark.png", models=models, options=options)
    assert models.tracker.faces[-1] == 2  # pyright: ignore
    item = BatchItem(files / "dark.png", files / "nod.mp4", files / "out" / "x.mp4")
    run_batch([item], files / "out", models=models, options=options)
    assert models.tracker.faces[-2:] == [1, 2]  # pyright: ignore


@pytest.mark.parametrize("wrong", [{"engine": "lift"}, {"device": "cuda"}, {"device": "mps"}])
def test_models_that_are_not_what_the_options_name_are_refused(files: Path, wrong: dict):
    before, options = set(files.iterdir()), ReenactOptions(**wrong)
    with pytest.raises(InputError):
        reenact(files / "dark.png", files / "nod.mp4", files / "x.mp4", models=fake_models(), options=options)
    with pytest.raises(InputError):
        track_driver(files / "nod.mp4", models=fake_models(), options=options)
    with pytest.raises(InputError):
        build_avatar(files / "dark.png", models=fake_models(), options=options)
    assert set(files.iterdir()) == before


def test_picture_of_several_is_the_one_the_engine_chose(files: Path):
    """It was always the first, with the crop of another."""
    source = build_source([files / "dark.png", files / "bright.png"], models=fake_models())
    assert source.picture is not None and source.picture.mean() == 200
    assert source.path == files / "bright.png" and source.avatar.level == pytest.approx(200 / 255)  # pyright: ignore


def test_engine_without_weights_says_how_to_get_them():
    statuses = {status.name: status for status in available_engines()}
    assert statuses["lift"].available and choose_engine("auto").name == "lift"
    for name in ("portrait4d", "portrait4d-static", "portrait4d-v2"):
        assert not statuses[name].available
        assert f"portrait4d weights fetch {name}" in statuses[name].reason
    with pytest.raises(InputError, match="portrait4d-v2 is not on this machine"):
        load_engine("portrait4d-v2")
    with pytest.raises(InputError, match="one of auto"):
        load_engine("magic")


@pytest.mark.parametrize(
    "wrong", [{"driver_face": -1}, {"mode": "both"}, {"fps": float("nan")}, {"face": -1}, {"gaze": "left"}]
)
def test_wrong_options_are_refused(wrong: dict):
    with pytest.raises(InputError):
        ReenactOptions(**wrong)


def test_a_forgotten_stream_may_end_in_its_own_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python collects a generator where its last name goes, which may be the thread that fills it."""
    unraisable: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    kept: list[Iterator[int]] = []
    is_forgotten, is_over = threading.Event(), threading.Event()

    def items() -> Iterator[int]:
        yield 0
        is_forgotten.wait(5)
        kept.clear()
        is_over.set()

    kept.append(prefetch(items()))
    assert next(kept[0]) == 0
    is_forgotten.set()
    assert is_over.wait(5)
    assert not kept and not unraisable
