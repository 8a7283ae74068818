"""Motion files find their clip's sound and pictures again; avatar files keep the photo."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from fakes_engine import SIZE, fake_models
from flame.errors import InputError
from portrait4d.engines.avatar_photo import holds_photo, read_photo
from portrait4d.options import ReenactOptions
from portrait4d.pipeline import build_avatar, build_source, reenact, track_driver
from portrait4d.reenactment.report import ReenactReport
from portrait4d.reenactment.source import save_source
from preprocess.media.image import write_png
from preprocess.media.video import read_frames
from preprocess.media.video_writer import VideoWriter
from preprocess.tracking.motion import Motion
from preprocess.tracking.origin import Origin, read_origin

LEVELS = [40 + 15 * index for index in range(10)]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A photo, a clip with sound, and an avatar of the photo."""
    row, column = np.mgrid[0:SIZE, 0:SIZE]
    write_png(tmp_path / "photo.png", (60 + row + column)[..., None].repeat(3, -1).astype(np.uint8))
    samples = (np.sin(np.arange(48000) / 20) * 9000).astype(np.int16)[None]
    with av.open(str(tmp_path / "tone.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=48000, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate = 48000
        container.mux(stream.encode(frame))
    (tmp_path / "clips").mkdir()
    talk = tmp_path / "clips" / "talk.mp4"
    with VideoWriter(talk, height=SIZE, width=SIZE, frame_rate=25, audio_from=tmp_path / "tone.wav") as writer:
        for level in LEVELS:
            writer.write(np.full((SIZE, SIZE, 3), level, np.uint8))
    build_avatar(tmp_path / "photo.png", tmp_path / "head.safetensors", models=fake_models())
    return tmp_path


def tracked(files: Path, **changed: Any) -> Path:
    track_driver(
        files / "clips" / "talk.mp4", files / "talk.npz", options=ReenactOptions(**changed), models=fake_models()
    )
    return files / "talk.npz"


def moved(files: Path, source: str, driver: str, output: str, **changed: Any) -> ReenactReport:
    options = ReenactOptions(mode="absolute", **changed)
    return reenact(files / source, files / driver, files / output, options=options, models=fake_models())


def panels(path: Path) -> np.ndarray:
    """Mean brightness `[T, 3]` of the three panels of each frame."""
    frames = [frame.image for frame in read_frames(path)]
    return np.array([[part.mean() for part in np.array_split(image, 3, axis=1)] for image in frames])


def test_a_motion_file_finds_its_clip(files):
    tracked(files)
    assert moved(files, "photo.png", "talk.npz", "out.mp4", side_by_side=True).has_audio
    moved(files, "photo.png", "clips/talk.mp4", "direct.mp4", side_by_side=True)
    np.testing.assert_allclose(panels(files / "out.mp4"), panels(files / "direct.mp4"), atol=1)


def test_cuts_of_a_cut_add_up(files):
    tracked(files, start=0.08)
    moved(files, "photo.png", "talk.npz", "out.mp4", side_by_side=True, start=0.12)
    driver = panels(files / "out.mp4")[:, 1]
    np.testing.assert_allclose(driver[:3], LEVELS[5:8], atol=4)


def test_a_clip_that_moved_along_is_found_beside_the_motion_file(files):
    tracked(files)
    (files / "away").mkdir()
    for name in ("talk.npz", "clips/talk.mp4"):
        (files / name).rename(files / "away" / Path(name).name)
    assert moved(files, "photo.png", "away/talk.npz", "out.mp4").has_audio


def test_without_the_clip_the_motion_still_drives(files):
    tracked(files)
    clip = files / "clips" / "talk.mp4"
    clip.write_bytes(clip.read_bytes() + b"changed")
    report = moved(files, "photo.png", "talk.npz", "out.mp4")
    assert not report.has_audio and report.num_frames == len(LEVELS)
    with pytest.raises(InputError, match="motion file talk.npz, whose clip is not known or not here any more"):
        moved(files, "photo.png", "talk.npz", "out.mp4", side_by_side=True)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"path": 3}', '{"path": "a", "num_bytes": -1, "start_seconds": 0}'])
def test_an_origin_that_cannot_be_read_is_none(files, text):
    path = tracked(files)
    replace(Motion.load(path), origin=text).save(path)
    assert read_origin(path) is None and not moved(files, "photo.png", "talk.npz", "out.mp4").has_audio


def test_origin_round_trip(files):
    origin = Origin.of(files / "clips" / "talk.mp4", start_seconds=1.5)
    assert Origin.from_text(origin.to_text()) == origin
    assert Motion.load(tracked(files)).origin and read_origin(files / "talk.npz") == replace(origin, start_seconds=0.0)


def test_an_avatar_file_pastes_back_and_shows_panels(files):
    for changed in ({"crop": False}, {"side_by_side": True}):
        moved(files, "photo.png", "clips/talk.mp4", "photo.mp4", **changed)
        moved(files, "head.safetensors", "clips/talk.mp4", "avatar.mp4", **changed)
        pair = [list(read_frames(files / name)) for name in ("photo.mp4", "avatar.mp4")]
        for one, other in zip(*pair, strict=True):
            assert np.abs(one.image.astype(int) - other.image).mean() < 1.5


def test_an_avatar_file_without_photo_says_so(files):
    built = build_source(files / "photo.png", models=fake_models())
    save_source(built, files / "bare.safetensors", has_photo=False)
    assert not holds_photo(files / "bare.safetensors")
    with pytest.raises(InputError, match="--paste-back needs the picture, got the avatar file bare.safetensors, which"):
        moved(files, "bare.safetensors", "clips/talk.mp4", "out.mp4", crop=False)
    assert moved(files, "bare.safetensors", "clips/talk.mp4", "out.mp4").num_frames == len(LEVELS)


@pytest.mark.parametrize("damage", ["cut", "size", "type"])
def test_a_damaged_photo_is_one_line(files, damage):
    path, size = files / "head.safetensors", (SIZE, SIZE)
    tensors = load_file(path)
    if damage == "cut":
        tensors["photo"] = tensors["photo"][:60].copy()
    elif damage == "type":
        tensors["photo"] = tensors["photo"].astype(np.float32)
    else:
        size = (SIZE, SIZE + 1)
    save_file(tensors, files / "damaged.safetensors")
    with pytest.raises(InputError, match="is an incomplete avatar file"):
        read_photo(files / "damaged.safetensors", image_size=size)
