"""Clips are read at the right time and in the right shape, and written whole or not at all."""

import dataclasses
import gc
import json
import logging
import os
import subprocess
import sys
import threading
import weakref
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition
from PIL import Image

from flame.errors import InputError
from places import ROOT
from preprocess.media import decode
from preprocess.media.timing import Shown, nominal_rate, resample, snap_rate
from preprocess.media.video import probe, read_frames
from preprocess.media.video_writer import VideoWriter


def coded(number, *, height=64, width=64):
    """A picture from which `number` (0..255) can be read after lossy coding: 8 black or white tiles."""
    image = np.zeros((height, width, 3), np.uint8)
    for bit in range(8):
        if number >> bit & 1:
            image[:, bit * width // 8 : (bit + 1) * width // 8] = 255
    return image


def decoded(image):
    centres = (np.arange(8) + 0.5) * image.shape[1] / 8
    return sum(1 << bit for bit in range(8) if image[image.shape[0] // 2, int(centres[bit])].mean() > 128)


def smooth(phase, *, height=128, width=128):
    row, column = np.mgrid[0:height, 0:width]
    waves = [np.sin(row / 11 + phase), np.sin(column / 13 - phase), np.sin((row + column) / 17 + 2 * phase)]
    return np.rint(127.5 + 100 * np.stack(waves, axis=-1)).astype(np.uint8)


def write_clip(path, numbers, *, rate=25, **options):
    with VideoWriter(path, height=64, width=64, frame_rate=rate, **options) as writer:
        for number in numbers:
            writer.write(coded(number))
    return path


def write_timed(path, milliseconds, *, codec="libx264", pix_fmt="yuv420p", prepare=None, picture=coded, options=None):
    """A clip whose frame `i` is shown at `milliseconds[i]`."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options or {})
        stream.height, stream.width = picture(0).shape[:2]
        stream.pix_fmt = pix_fmt
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        if prepare is not None:
            prepare(stream)
        for index, stamp in enumerate(milliseconds):
            frame = av.VideoFrame.from_ndarray(picture(index), format="rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = stamp, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_sound(path, seconds, *, codec, rate=16000, first=0.0):
    """A sound file holding silence with one click half way."""
    samples = np.zeros((1, round(seconds * rate)), np.float32)
    samples[0, samples.shape[1] // 2 :][: rate // 100] = 0.9
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        resampler = av.AudioResampler(format=stream.codec_context.format or "fltp", layout="mono", rate=rate)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, round(first * rate), Fraction(1, rate)
        for converted in resampler.resample(frame):
            container.mux(stream.encode(converted))
        container.mux(stream.encode(None))
    return path


def read_sound(path):
    """Samples of the first channel on the clock of the file, from time 0, and their rate."""
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=0))
    rate = frames[0].sample_rate
    samples = np.zeros(round(frames[-1].time * rate) + frames[-1].samples + rate)
    for frame in frames:
        values = frame.to_ndarray().astype(float)
        values = values[0] if frame.format.is_planar else values.reshape(-1, frame.layout.nb_channels)[:, 0]
        begin = round(frame.time * rate)
        samples[max(0, begin) : begin + len(values)] = values[max(0, -begin) :]
    return samples / np.abs(samples).max(), rate


def click_seconds(path):
    samples, rate = read_sound(path)
    return float(np.argmax(samples > 0.5)) / rate


# --- writing and reading back


@pytest.mark.parametrize("threaded", [True, False])
def test_every_frame_comes_back_in_order(tmp_path, threaded):
    path = write_clip(tmp_path / "a.mp4", range(50), threaded=threaded)
    frames = list(read_frames(path))
    assert [decoded(frame.image) for frame in frames] == list(range(50))  # also those in the flush of the encoder
    assert [frame.index for frame in frames] == list(range(50))
    np.testing.assert_allclose([frame.seconds for frame in frames], np.arange(50) / 25, atol=1e-9)
    assert os.listdir(tmp_path) == ["a.mp4"]


@pytest.mark.parametrize("rate", [Fraction(30000, 1001), 12.5, 5, Fraction(2997, 100)])
def test_rate_and_duration(tmp_path, rate):
    info = probe(write_clip(tmp_path / "a.mp4", range(24), rate=rate))
    assert info.frame_rate == Fraction(rate) and not info.is_variable_rate
    assert info.num_frames_estimate == 24 and info.duration_seconds == pytest.approx(24 / rate, abs=1e-4)
    assert (info.height, info.width, info.has_audio) == (64, 64, False)


def test_colours_survive(tmp_path):
    images = [smooth(index / 5) for index in range(10)]
    with VideoWriter(tmp_path / "a.mp4", height=128, width=128, frame_rate=25, quality=100) as writer:
        for image in images:
            writer.write(image)
    read = [frame.image.astype(float) for frame in read_frames(tmp_path / "a.mp4")]
    errors = np.array(read) - np.array(images)
    assert 10 * np.log10(255**2 / np.mean(errors**2)) > 36  # limited by the halved resolution of colour
    assert np.abs(errors.mean(axis=(0, 1, 2))).max() < 0.7  # a wrong matrix or range shifts the mean by many levels


def test_file_plays_in_a_browser(tmp_path):
    path = write_clip(tmp_path / "a.mp4", range(10))
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
        assert (context.colorspace, context.color_primaries, context.color_trc, context.color_range) == (1, 1, 1, 1)
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # plays before it is loaded


def test_odd_sizes_are_padded_by_one(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", height=65, width=67, frame_rate=25) as writer:
        writer.write(np.full((65, 67, 3), 200, np.uint8))
    image = next(read_frames(tmp_path / "a.mp4")).image
    assert image.shape == (66, 68, 3) and abs(image[-1, -1].astype(int) - 200).max() < 4


def test_the_caller_may_reuse_its_buffer(tmp_path):
    buffer = np.zeros((64, 64, 3), np.uint8)
    with VideoWriter(tmp_path / "a.mp4", height=64, width=64, frame_rate=25) as writer:
        for number in range(30):
            buffer[:] = coded(number)
            writer.write(buffer)
    assert [decoded(frame.image) for frame in read_frames(tmp_path / "a.mp4")] == list(range(30))


def test_wrong_frames_and_names_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"\.mp4"):
        VideoWriter(tmp_path / "a.avi", height=64, width=64, frame_rate=25)
    with (  # noqa: PT012  (the second frame is refused, after a first)
        pytest.raises(ValueError, match="as frame 1"),
        VideoWriter(tmp_path / "a.mp4", height=64, width=64, frame_rate=25) as writer,
    ):
        writer.write(coded(0))
        writer.write(np.zeros((64, 66, 3), np.uint8))
    with pytest.raises(InputError, match="no frame"), VideoWriter(tmp_path / "a.mp4", height=9, width=9, frame_rate=1):
        pass
    assert os.listdir(tmp_path) == []


def test_interrupt_while_the_encoder_is_started_is_told_as_such(tmp_path, monkeypatch):
    """It became "RuntimeError: cannot join thread before it is started"."""

    def interrupted(thread):
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with (
        pytest.raises(KeyboardInterrupt),
        VideoWriter(tmp_path / "x.mp4", height=64, width=64, frame_rate=25) as writer,
    ):
        writer.write(np.zeros((64, 64, 3), np.uint8))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("threaded", [True, False])
@pytest.mark.parametrize("num_frames", [0, 40])
def test_interrupt_leaves_no_file(tmp_path, threaded, num_frames):
    with (  # noqa: PT012  (the body is what is interrupted)
        pytest.raises(KeyboardInterrupt),
        VideoWriter(tmp_path / "a.mp4", height=64, width=64, frame_rate=25, threaded=threaded) as writer,
    ):
        for number in range(num_frames):
            writer.write(coded(number))
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []


def test_failing_encoder_is_reported_and_leaves_no_file(tmp_path, monkeypatch):
    def fail(self, frame):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(VideoWriter, "_encode", fail)
    with pytest.raises(OSError, match="No space"):
        write_clip(tmp_path / "a.mp4", range(100))
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(os.name == "nt", reason="needs a hard kill")
def test_killed_writer_leaves_no_result_and_its_rest_is_cleared(tmp_path):
    program = (
        "import sys, time, numpy as np\n"
        "from preprocess.media.video_writer import VideoWriter\n"
        "with VideoWriter(sys.argv[1], height=64, width=64, frame_rate=25) as writer:\n"
        "    for index in range(200): writer.write(np.full((64, 64, 3), index, np.uint8))\n"
        "    print('written', flush=True)\n"
        "    time.sleep(3600)\n"
    )
    path = tmp_path / "a.mp4"
    child = subprocess.Popen([sys.executable, "-c", program, str(path)], cwd=ROOT, stdout=subprocess.PIPE)
    watchdog = threading.Timer(300, child.kill)  # a dead child ends the wait for its line
    watchdog.start()
    try:
        assert child.stdout is not None and child.stdout.readline() == b"written\n"
    finally:
        watchdog.cancel()
        child.kill()
        child.communicate()
    assert all(name.startswith(".") for name in os.listdir(tmp_path))
    write_clip(path, range(5))
    assert os.listdir(tmp_path) == ["a.mp4"]


# --- time


def stamps_to_frames(stamps, rate, *, last=None, **options):
    """Indices of the frames that `resample` picks for frames at `stamps` seconds."""
    clip = (Shown(s, last if i == len(stamps) - 1 else None, lambda i=i: np.array(i)) for i, s in enumerate(stamps))
    frames = list(resample(clip, Fraction(rate), **({"start": 0, "duration": None} | options)))
    assert [frame.seconds for frame in frames] == [i / rate for i in range(len(frames))]
    return [int(frame.image) for frame in frames]


def test_resampling_by_time_stamp():
    assert stamps_to_frames([0, 0.1, 0.2], 10) == [0, 1, 2]
    assert stamps_to_frames([0, 0.103, 0.198, 0.304], 10) == [0, 1, 2, 3]  # jitter neither drops nor doubles
    assert stamps_to_frames([0, 0.1, 0.5], 10) == [0, 1, 1, 1, 1, 2]  # held over the gap
    assert stamps_to_frames([0, 0.1, 0.2, 0.3], 5, last=0.1) == [0, 2]  # every other one
    assert stamps_to_frames([0, 0.1], 20, last=0.1) == [0, 0, 1, 1]  # every one twice
    assert stamps_to_frames([0.2, 0.3], 10) == [0, 0, 0, 1]  # a late first frame is shown from the start
    assert stamps_to_frames([0, 0.08, 0.12, 0.4], 10) == [0, 1, 2, 2, 3]  # the nearer one, then the latest held
    assert stamps_to_frames([0, 0.1], 10, last=0.3) == [0, 1, 1, 1]  # a long last frame


def test_resampling_a_cut():
    stamps = [index / 10 for index in range(20)]
    assert stamps_to_frames(stamps, 10, start=0.5, duration=0.3) == [5, 6, 7]
    assert stamps_to_frames([0, 1.0], 10, start=0.8, duration=0.4, last=0.3) == [
        0,
        0,
        1,
        1,
    ]  # begins with the frame on show
    assert stamps_to_frames(stamps, 10, start=1.8) == [18, 19]
    assert stamps_to_frames(stamps, 10, start=0, duration=0.01) == [0]


@pytest.mark.parametrize("rate", [24, 25, 30, Fraction(24000, 1001), Fraction(30000, 1001), 50, 12.5])
def test_nominal_rate_of_rounded_time_stamps(rate):
    """Containers that count in milliseconds must not turn 29.97 into 30 or 30.3."""
    stamps = np.round(np.arange(300) / float(rate) * 1000) / 1000
    assert nominal_rate(stamps) == (Fraction(rate), False)


def test_nominal_rate_of_changing_rates():
    stamps = np.concatenate([np.arange(50) / 30, 50 / 30 + np.arange(50) / 15])
    assert nominal_rate(stamps, average=Fraction(20), base=Fraction(30)) == (Fraction(30), True)
    assert nominal_rate(stamps, average=Fraction(20), base=Fraction(90000)) == (Fraction(30), True)
    assert snap_rate(17.3) == Fraction(173, 10)


def test_variable_frame_rate_file(tmp_path):
    stamps = [0, 40, 80, 200, 240, 560, 600, 640]
    path = write_timed(tmp_path / "a.mp4", stamps)
    info = probe(path)
    assert info.is_variable_rate and info.frame_rate == 25
    assert info.duration_seconds == pytest.approx(0.68)
    raw = list(read_frames(path))
    np.testing.assert_allclose([frame.seconds for frame in raw], np.array(stamps) / 1000, atol=1e-3)
    even = [decoded(frame.image) for frame in read_frames(path, frame_rate=info.frame_rate)]
    assert even[:-1] == [0, 1, 2, 2, 2, 3, 4, 4, 4, 4, 4, 4, 4, 4, 5, 6]
    assert len(even) == 17


def test_cut_of_a_file_seeks_to_the_frame(tmp_path):
    path = write_clip(tmp_path / "a.mp4", range(200))
    for start, first in ((0.0, 0), (0.04, 1), (3.0, 75), (7.96, 199)):
        frames = list(read_frames(path, start=start, duration=0.2, frame_rate=25))
        assert [decoded(frame.image) for frame in frames] == list(range(first, min(first + 5, 200)))
        assert frames[0].seconds == 0
        raw = list(read_frames(path, start=start, duration=0.2))
        assert [decoded(frame.image) for frame in raw] == list(range(first, min(first + 5, 200)))
        assert raw[0].seconds == pytest.approx(0, abs=1e-6)


def test_impossible_cuts(tmp_path):
    path = write_clip(tmp_path / "a.mp4", range(25))
    with pytest.raises(InputError, match=r"after the end of the clip \(1.00 s\)"):
        read_frames(path, start=1.0)
    cases: tuple[dict[str, Any], ...] = ({"start": -1}, {"duration": 0}, {"frame_rate": 0})
    for options in cases:
        with pytest.raises(InputError, match="expected"):
            read_frames(path, **options)


def test_clip_that_does_not_begin_at_zero(tmp_path):
    path = write_timed(tmp_path / "a.mkv", [5000 + 40 * index for index in range(10)])
    frames = list(read_frames(path, frame_rate=25))
    assert [decoded(frame.image) for frame in frames] == list(range(10))
    assert probe(path).duration_seconds == pytest.approx(0.4, abs=0.01)


# --- shape and colour of what is read


@pytest.mark.parametrize(
    ("degrees", "is_mirrored"), [(90, False), (180, False), (-90, False), (0, True), (90, True), (-90, True)]
)
def test_rotation_and_mirroring_are_applied(tmp_path, degrees, is_mirrored):
    """`degrees` counter-clockwise, then left and right exchanged."""
    image = smooth(1.0, height=64, width=128)
    image[:32, :64] //= 4
    stored = np.ascontiguousarray(np.rot90(image[:, ::-1] if is_mirrored else image, -degrees // 90))

    def prepare(stream):
        if not hasattr(stream, "set_display_rotation"):
            pytest.skip("this PyAV cannot write rotation tags")
        stream.set_display_rotation(degrees, hflip=is_mirrored)

    path = write_timed(tmp_path / "a.mp4", [0, 40], picture=lambda index: stored, prepare=prepare)
    assert (probe(path).height, probe(path).width) == (64, 128)
    assert np.abs(next(read_frames(path)).image.astype(int) - image).mean() < 4


def test_pixel_aspect_is_applied(tmp_path):
    def prepare(stream):
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)

    path = write_timed(tmp_path / "a.mp4", [0, 40, 80], picture=lambda i: coded(i, width=96), prepare=prepare)
    assert (probe(path).height, probe(path).width) == (64, 128)
    frames = list(read_frames(path))
    assert frames[0].image.shape == (64, 128, 3) and [decoded(frame.image) for frame in frames] == [0, 1, 2]


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "suffix"),
    [
        ("libx264", "yuv444p", ".mp4"),
        ("libx264", "yuvj420p", ".mp4"),
        ("mjpeg", "yuvj422p", ".avi"),
        ("libx265", "yuv420p10le", ".mp4"),
        ("libvpx-vp9", "yuv420p", ".webm"),
        ("mpeg4", "yuv420p", ".avi"),
        ("ffv1", "bgr0", ".mkv"),
    ],
)
def test_codecs_and_pixel_formats(tmp_path, codec, pix_fmt, suffix):
    if codec not in av.codecs_available:
        pytest.skip(f"this FFmpeg has no {codec}")
    images = [smooth(index / 5) for index in range(6)]
    options = {"x265-params": "log-level=none"} if codec == "libx265" else None
    path = write_timed(
        tmp_path / f"a{suffix}",
        [40 * index for index in range(6)],
        codec=codec,
        pix_fmt=pix_fmt,
        picture=lambda index: images[min(index, 5)],
        prepare=lambda stream: setattr(stream, "bit_rate", 4_000_000),
        options=options,
    )
    frames = list(read_frames(path, frame_rate=25))
    assert len(frames) == 6
    for frame, image in zip(frames, images, strict=True):
        error = frame.image.astype(float) - image
        assert np.abs(error).mean() < 7 and np.abs(error.mean()) < 1.5


# --- clips that are not videos


def test_animated_pictures(tmp_path):
    pictures = [Image.fromarray(coded(number)) for number in range(6)]
    options: dict[str, Any] = {"save_all": True, "append_images": pictures[1:], "duration": 80}
    cases: dict[str, dict[str, Any]] = {"a.gif": {}, "a.webp": {"lossless": True}, "a.png": {}}
    for name, extra in cases.items():
        path = tmp_path / name
        pictures[0].save(path, **options, **extra)
        info = probe(path)
        assert (info.frame_rate, info.num_frames_estimate) == (Fraction(25, 2), 6)
        assert info.duration_seconds == pytest.approx(0.48)
        frames = list(read_frames(path, frame_rate=info.frame_rate))
        assert [decoded(frame.image) for frame in frames] == list(range(6))


def test_folder_in_natural_order(tmp_path):
    for number in (10, 2, 1):
        Image.fromarray(coded(number)).save(tmp_path / f"frame{number}.png")
    (tmp_path / "notes.txt").write_text("not a picture")
    assert probe(tmp_path).num_frames_estimate == 3 and probe(tmp_path).frame_rate == 25
    frames = list(read_frames(tmp_path, frame_rate=10))
    assert [decoded(frame.image) for frame in frames] == [1, 2, 10]
    assert [frame.seconds for frame in frames] == [0, 0.1, 0.2]
    Image.fromarray(coded(3, height=80)).save(tmp_path / "frame3.png")
    with pytest.raises(InputError, match="frame3.png: 64 x 80 pixels, but the first"):
        list(read_frames(tmp_path))


def test_empty_folder(tmp_path):
    with pytest.raises(InputError, match="no pictures in this folder"):
        probe(tmp_path)


def test_single_picture_is_one_frame(tmp_path):
    Image.fromarray(coded(77)).save(tmp_path / "a.png")
    for rate in (None, 25, 30):
        frames = list(read_frames(tmp_path / "a.png", frame_rate=rate))
        assert [decoded(frame.image) for frame in frames] == [77]


# --- damage


def test_cut_off_and_damaged_files(tmp_path, caplog):
    whole = write_clip(tmp_path / "a.mkv", range(100)).read_bytes()
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole[: len(whole) * 6 // 10])
    numbers = [decoded(frame.image) for frame in read_frames(cut)]
    assert 30 < len(numbers) < 90 and numbers[:-1] == list(range(len(numbers) - 1))
    assert len(numbers) - 1 <= numbers[-1] < len(numbers) + 3  # the last may be one that lost frames refer to
    damaged = bytearray(whole)
    damaged[len(whole) // 2 : len(whole) // 2 + 300] = b"\xff" * 300
    (tmp_path / "damaged.mkv").write_bytes(damaged)
    with caplog.at_level(logging.WARNING):
        assert len(list(read_frames(tmp_path / "damaged.mkv"))) > 20
    assert any("damaged.mkv is cut off or damaged" in record.getMessage() for record in caplog.records)
    told = []
    assert len(list(read_frames(tmp_path / "a.mkv", warn=told.append))) == 100 and told == []
    assert len(list(read_frames(tmp_path / "damaged.mkv", warn=told.append))) > 20
    assert len(told) == 1 and "damaged" in told[0] and "\n" not in told[0]
    no_index = tmp_path / "no_index.mp4"
    data = write_clip(tmp_path / "a.mp4", range(30)).read_bytes()
    no_index.write_bytes(data[:200])
    with pytest.raises(InputError, match="not a video"):
        probe(no_index)


def test_damage_is_told_where_it_was_met(tmp_path):
    """The reader of a cut that ends before the damage hears nothing; one that stops behind it does; a file that
    breaks off says how much of it there is."""
    whole = write_clip(tmp_path / "a.mp4", range(100)).read_bytes()
    start = whole.index(b"mdat") + 4
    damaged = bytearray(whole)
    middle = start + (len(whole) - start) // 2
    damaged[middle : middle + 400] = b"\xff" * 400
    (tmp_path / "damaged.mp4").write_bytes(damaged)
    (tmp_path / "cut.mp4").write_bytes(whole[:middle])
    told = []
    assert len(list(read_frames(tmp_path / "damaged.mp4", frame_rate=25, duration=0.4, warn=told.append))) == 10
    assert told == []
    assert len(list(read_frames(tmp_path / "damaged.mp4", frame_rate=25, duration=3.5, warn=told.append))) == 88
    assert len(told) == 1 and "damaged place" in told[0]
    told.clear()
    frames = list(read_frames(tmp_path / "cut.mp4", frame_rate=25, warn=told.append))
    assert len(told) == 1 and f"pictures for {len(frames) / 25:.2f} of its 4.00 s" in told[0]


def test_sound_files_are_no_videos(tmp_path):
    with pytest.raises(InputError, match="no video track"):
        read_frames(write_sound(tmp_path / "a.m4a", 0.5, codec="aac"))


# --- sound


@pytest.mark.parametrize(
    ("codec", "suffix"), [("aac", ".m4a"), ("pcm_s16le", ".wav"), ("mp3", ".mp3"), ("flac", ".flac")]
)
def test_sound_is_taken_along(tmp_path, codec, suffix):
    if codec == "mp3" and "libmp3lame" not in av.codecs_available:
        pytest.skip("this FFmpeg writes no MP3")
    sound = write_sound(tmp_path / f"a{suffix}", 2.0, codec="libmp3lame" if codec == "mp3" else codec)
    path = write_clip(tmp_path / "a.mp4", range(50), audio_from=sound)
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        assert stream.codec_context.name.startswith({"mp3": "mp3"}.get(codec, "aac"))
        assert float(stream.duration * stream.time_base) == pytest.approx(2.0, abs=0.08)
    assert click_seconds(path) == pytest.approx(1.0, abs=0.003)
    assert len(list(read_frames(path))) == 50


@pytest.mark.parametrize("suffix", [".m4a", ".wav"])
@pytest.mark.parametrize("start", [0.3, 0.71])
def test_sound_is_cut_with_the_pictures(tmp_path, suffix, start):
    sound = write_sound(tmp_path / f"a{suffix}", 2.0, codec={".m4a": "aac", ".wav": "pcm_s16le"}[suffix])
    path = write_clip(tmp_path / "a.mp4", range(20), audio_from=sound, audio_start=start, audio_duration=0.8)
    assert click_seconds(path) == pytest.approx(1.0 - start, abs=0.003)
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        assert float(stream.duration * stream.time_base) == pytest.approx(0.8, abs=0.08)


def test_packets_are_copied_untouched(tmp_path):
    sound = write_sound(tmp_path / "a.m4a", 1.0, codec="aac")
    path = write_clip(tmp_path / "a.mp4", range(25), audio_from=sound)
    packets = []
    for file in (sound, path):
        with av.open(str(file)) as container:
            packets.append([bytes(packet) for packet in container.demux(audio=0) if packet.size])
    assert packets[0] == packets[1]


@pytest.mark.parametrize("codec", ["aac", "flac"])
def test_late_sound_stays_late(tmp_path, codec):
    """A driver whose sound begins 0.5 s after its pictures, which begin at 3 s of the container."""
    path = tmp_path / "driver.mkv"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.height = video.width = 64
        video.pix_fmt = "yuv420p"
        audio = container.add_stream(codec, rate=16000, layout="mono")
        for index in range(50):
            frame = av.VideoFrame.from_ndarray(coded(index), format="rgb24").reformat(format="yuv420p")
            frame.pts = 75 + index
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        samples = np.zeros((1, 16000), np.float32)
        samples[0, 8000:8200] = 0.9
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 16000, round(3.5 * 16000), Fraction(1, 16000)
        resampler = av.AudioResampler(format=audio.codec_context.format or "fltp", layout="mono", rate=16000)
        for converted in resampler.resample(frame):
            container.mux(audio.encode(converted))
        container.mux(audio.encode(None))
    result = tmp_path / "a.mp4"
    for start in (0.0, 0.4):
        frames = [frame.image for frame in read_frames(path, start=start, frame_rate=25)]
        with VideoWriter(result, height=64, width=64, frame_rate=25, audio_from=path, audio_start=start) as writer:
            for image in frames:
                writer.write(image)
        assert click_seconds(result) == pytest.approx(1.0 - start, abs=0.003)


def test_clips_without_sound_give_silent_files(tmp_path):
    silent = write_clip(tmp_path / "silent.mp4", range(5))
    Image.fromarray(coded(1)).save(tmp_path / "a.png")
    for source in (silent, tmp_path / "a.png", tmp_path):
        assert not probe(write_clip(tmp_path / "a.mp4", range(5), audio_from=source)).has_audio


# --- cost


def test_memory_does_not_grow_with_the_clip(tmp_path):
    psutil = pytest.importorskip("psutil", reason="the extra `test` brings psutil")
    process = psutil.Process()

    def grown(num_frames):
        before = process.memory_info().rss
        peak = before
        path = tmp_path / f"{num_frames}.mp4"
        noise = np.random.default_rng(0).integers(0, 256, (320, 320, 3), dtype=np.uint8)
        with VideoWriter(path, height=320, width=320, frame_rate=25, quality=48) as writer:
            for index in range(num_frames):
                writer.write(np.roll(noise, index, axis=0))
                peak = max(peak, process.memory_info().rss)
        for _ in read_frames(path, frame_rate=30):
            peak = max(peak, process.memory_info().rss)
        return (peak - before) / 2**20

    grown(40)  # pools and code are loaded once
    frame_megabytes = 320 * 320 * 3 / 2**20
    assert grown(160) < 80 * frame_megabytes


def test_a_finished_writer_is_freed_at_once(tmp_path):
    """A reference cycle kept the encoders of some twenty clips in memory until the collector ran."""
    sound = write_sound(tmp_path / "a.m4a", 0.4, codec="aac")
    gc.disable()
    try:
        writer = VideoWriter(tmp_path / "a.mp4", height=64, width=64, frame_rate=25, audio_from=sound)
        with writer:
            writer.write(coded(0))
        alive = weakref.ref(writer)
        del writer
        assert alive() is None
    finally:
        gc.enable()


def test_reading_is_lazy(tmp_path, monkeypatch):
    path = write_clip(tmp_path / "a.mp4", range(100))
    converted = []
    convert = decode._to_rgb
    monkeypatch.setattr(decode, "_to_rgb", lambda *arguments: converted.append(1) or convert(*arguments))
    frames = read_frames(path)
    assert len(converted) == 0
    next(frames)
    assert len(converted) == 1
    converted.clear()
    assert len(list(read_frames(path, frame_rate=5))) == 20
    assert len(converted) == 20  # frames that are passed over are not converted


def test_titles_that_are_not_utf8_stop_nothing(tmp_path):
    sound = write_sound(tmp_path / "a.m4a", 1.0, codec="aac")
    clip = write_clip(tmp_path / "a.mp4", range(25), audio_from=sound)
    titled = tmp_path / "titled.mp4"
    with av.open(str(clip)) as source, av.open(str(titled), "w") as container:
        container.metadata["title"] = "QQQQ"
        streams = [container.add_stream_from_template(stream) for stream in source.streams]
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                container.mux(packet)
    content = titled.read_bytes()
    assert content.count(b"QQQQ") == 1
    titled.write_bytes(content.replace(b"QQQQ", b"\xff\xfeQ\xe4"))
    assert probe(titled) == dataclasses.replace(probe(clip), path=titled)
    assert [decoded(frame.image) for frame in read_frames(titled)] == list(range(25))
    assert click_seconds(write_clip(tmp_path / "b.mp4", range(25), audio_from=titled)) == click_seconds(clip)


def test_rates_and_times_are_fractions(tmp_path):
    """PyAV 19 has a type of its own, which lacks what fractions can do."""
    for numbers in ([7], range(30)):
        assert type(probe(write_clip(tmp_path / "a.mp4", numbers)).frame_rate) is Fraction


def test_what_a_file_does_not_say_is_none():
    class Unsaid:
        """Like the 0/1 that PyAV 19 gives where older ones give None."""

        numerator, denominator = 0, 1

        def __bool__(self):
            return False

    unsaid: Any = Unsaid()
    assert decode.exact(unsaid) is None and decode.exact(None) is None
    assert decode.exact(Fraction(30000, 1001)) == Fraction(30000, 1001)


def test_a_cover_picture_is_told_from_the_video():
    """Also where the flag is one of several, which has no name on Python 3.10."""

    class Stream:
        disposition = Disposition.attached_pic | Disposition.default

    stream: Any = Stream()
    assert decode.is_cover(stream)
    stream.disposition = Disposition.default
    assert not decode.is_cover(stream)


# --- the reference set

REFUSED = ("audio_only", "no_moov", "zero_bytes", "zero_frames")


def test_every_clip_of_the_reference_set_behaves_as_expected(shared):
    folder = shared / "data"
    entries = json.loads((folder / "manifest.json").read_text())["files"]
    clips = [e for e in entries if "negatives/" in e["file"] and e["file"].endswith((".mp4", ".gif", ".wav"))]
    assert len(clips) > 20
    for entry in clips:
        path = folder / entry["file"]
        if path.name.startswith(REFUSED) or path.suffix == ".wav":
            with pytest.raises(InputError) as caught:
                read_frames(path)
            assert "\n" not in str(caught.value) and path.name in str(caught.value)
            continue
        info = probe(path)
        frames = 0
        for frame in read_frames(path, frame_rate=info.frame_rate):
            assert frame.image.shape == (info.height, info.width, 3)
            frames += 1
        if not path.name.startswith("cut_"):
            assert abs(frames - info.duration_seconds * info.frame_rate) <= 1, path.name


def test_shapes_and_rates_of_the_reference_set(shared):
    folder = shared / "data" / "negatives"
    expected = {
        "rotation_tag.mp4": (256, 256, 25, False),
        "sar_4_3.mp4": (256, 256, 25, False),
        "odd_size_444.mp4": (253, 251, 25, False),
        "hevc_10bit.mp4": (256, 256, 25, False),
        "vfr.mp4": (320, 320, 25, True),
        "fps5.mp4": (256, 256, 5, False),
        "animated.gif": (200, 200, Fraction(25, 2), False),
    }
    for name, (height, width, rate, is_variable) in expected.items():
        info = probe(folder / name)
        assert (info.height, info.width, info.frame_rate, info.is_variable_rate) == (height, width, rate, is_variable)
    assert sum(1 for _ in read_frames(folder / "vfr.mp4", frame_rate=25)) == 100
    assert sum(1 for _ in read_frames(folder / "single_frame.mp4", frame_rate=25)) == 1


def test_drivers_keep_frames_rate_and_sound(shared, tmp_path):
    """The manifest says how many frames each driver has; sound is copied sample by sample."""
    entries = json.loads((shared / "data" / "manifest.json").read_text())["files"]
    drivers = [entry for entry in entries if entry.get("kind") == "driver" and "video" in entry]
    assert len(drivers) >= 10
    for entry in drivers:
        info = probe(shared / "data" / entry["file"])
        assert info.num_frames_estimate == entry["video"]["frames"]
        assert float(info.frame_rate) == pytest.approx(entry["video"]["fps"], abs=0.005)
        assert info.has_audio == entry["audio"]
    driver = shared / "data" / "drivers" / "d10_male_talk_map.mp4"
    result = write_clip(tmp_path / "a.mp4", range(125), audio_from=driver)
    np.testing.assert_array_equal(*trimmed(read_sound(driver)[0], read_sound(result)[0]))


def trimmed(first, second):
    length = min(len(first), len(second))
    return first[:length], second[:length]
