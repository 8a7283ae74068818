"""Every kind of output holds the frames it was given, at their time, with their opacity, and the program's mark."""

import struct
import zlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import trimesh
from PIL import Image
from pymediainfo import MediaInfo

from flame.errors import InputError
from preprocess.media.encodings import ALPHA_SUFFIXES, SUFFIXES
from preprocess.media.image import write_png
from preprocess.media.mark import SOURCE_TYPE, maker, mark
from preprocess.media.mesh_files import write_mesh
from preprocess.media.result_writer import Sound, open_writer
from preprocess.media.video import probe, read_frames

SIDE = 96


def square(number: int, *, channels: int = 3) -> np.ndarray:
    """A smooth picture whose bright square moves with `number`; with opacity, all but the square is transparent."""
    row, column = np.mgrid[0:SIDE, 0:SIDE]
    image = np.stack([row, column, row + column], -1) * 200 // (2 * SIDE)
    left = 8 + 6 * number
    image[32:64, left : left + 24] = (240, 200, 40)
    if channels == 4:
        alpha = np.zeros((SIDE, SIDE, 1), int)
        alpha[32:64, left : left + 24] = 255
        image = np.concatenate([image, alpha], -1)
    return image.astype(np.uint8)


def write(path: Path, *, count: int = 9, rate: int = 30, channels: int = 3, **options: Any) -> Path:
    options |= {"has_alpha": True} if channels == 4 else {}
    with open_writer(path, height=SIDE, width=SIDE, frame_rate=Fraction(rate), **options) as writer:
        for number in range(count):
            writer.write(square(number, channels=channels))
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_kind_holds_the_frames_at_their_time(tmp_path, suffix):
    path = write(tmp_path / f"a{suffix}")
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    frames = list(read_frames(path))
    assert len(frames) == 9
    for number, frame in enumerate(frames):
        error = np.abs(frame.image.astype(int) - square(number))
        assert error.mean() < 4 and np.median(error) <= 3, (number, error.mean())
    seconds = np.array([frame.seconds for frame in frames])
    np.testing.assert_allclose(seconds, np.arange(9) / 30, atol=0.0101)  # GIF counts hundredths, WebP thousandths
    assert probe(path).duration_seconds == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize("suffix", [".webm", ".webp"])
def test_colours_survive(tmp_path, suffix):
    """The wrong matrix or range of colours shifts strong colours by ten levels and more."""
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    image[:, :32], image[:, 32:64], image[:, 64:] = (220, 30, 30), (30, 200, 40), (40, 50, 230)
    with open_writer(tmp_path / f"a{suffix}", height=SIDE, width=SIDE, frame_rate=Fraction(25), quality=100) as writer:
        for _ in range(3):
            writer.write(image)
    frame = list(read_frames(tmp_path / f"a{suffix}"))[1].image.astype(int)
    for column in (16, 48, 80):
        assert np.abs(frame[48, column] - image[48, column]).max() <= 5, (column, frame[48, column])


def test_quality_orders_size_and_error(tmp_path):
    for suffix in (".mp4", ".webm", ".webp"):
        sizes, errors = [], []
        for quality in (20, 60, 95):
            path = write(tmp_path / f"{quality}{suffix}", quality=quality)
            frames = [frame.image.astype(int) for frame in read_frames(path)]
            sizes.append(path.stat().st_size)
            errors.append(np.mean([np.abs(frame - square(number)).mean() for number, frame in enumerate(frames)]))
        assert sizes == sorted(sizes) and errors == sorted(errors, reverse=True), (suffix, sizes, errors)


def read_alpha(path: Path) -> list[np.ndarray]:
    """Opacity [H, W] of each frame, by decoders that keep it."""
    if path.suffix == ".webp":
        with Image.open(path) as picture:
            alphas = []
            for index in range(getattr(picture, "n_frames", 1)):
                picture.seek(index)
                alphas.append(np.array(picture.convert("RGBA"))[..., 3])
            return alphas
    decoder = av.CodecContext.create("libvpx-vp9", "r")  # FFmpeg's own decoder drops opacity
    with av.open(str(path)) as container:
        packets = list(container.demux(container.streams.video[0]))
        frames = [frame for packet in packets for frame in decoder.decode(packet)]
        return [frame.to_ndarray(format="rgba")[..., 3] for frame in frames]


@pytest.mark.parametrize("suffix", [".webm", ".webp"])
def test_opacity_is_kept(tmp_path, suffix):
    path = write(tmp_path / f"a{suffix}", channels=4)
    alphas = read_alpha(path)
    assert len(alphas) == 9
    for number, alpha in enumerate(alphas):
        assert np.abs(alpha.astype(int) - square(number, channels=4)[..., 3]).mean() < 4, number


@pytest.mark.parametrize("suffix", sorted(set(SUFFIXES) - ALPHA_SUFFIXES))
def test_other_kinds_refuse_opacity(tmp_path, suffix):
    with pytest.raises(InputError, match="cannot hold opacity"):
        open_writer(tmp_path / f"a{suffix}", height=SIDE, width=SIDE, frame_rate=Fraction(25), has_alpha=True)


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.webm", "frames"])
def test_an_error_leaves_no_file(tmp_path, name):
    def fail():
        with open_writer(tmp_path / name, height=SIDE, width=SIDE, frame_rate=Fraction(25)) as writer:
            writer.write(square(0))
            raise RuntimeError

    pytest.raises(RuntimeError, fail)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("channels", [3, 4])
def test_folder_of_frames_is_exact(tmp_path, channels):
    write(tmp_path / "frames", channels=channels)
    write(tmp_path / "frames", count=5, channels=channels)  # replaces the nine of the run before
    paths = sorted((tmp_path / "frames").iterdir())
    assert [path.name for path in paths] == [f"{number:06d}.png" for number in range(5)]
    for number, path in enumerate(paths):
        np.testing.assert_array_equal(np.array(Image.open(path)), square(number, channels=channels))


def test_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="got .*frames with thesis.txt: choose another name"):
        write(tmp_path / "frames")
    assert [path.name for path in (tmp_path / "frames").iterdir()] == ["thesis.txt"]


def test_rest_of_a_killed_writer_of_a_folder_is_removed(tmp_path):
    rest = tmp_path / f".frames.{2**22 + 5}-0.partial"  # above the largest process number of Linux
    rest.mkdir()
    (rest / "000000.png").touch()
    write(tmp_path / "frames", count=2)
    assert [entry.name for entry in tmp_path.iterdir()] == ["frames"]


def test_odd_sizes_stay_in_animations(tmp_path):
    for suffix in (".gif", ".webp"):
        with open_writer(tmp_path / f"a{suffix}", height=51, width=47, frame_rate=Fraction(10)) as writer:
            for number in range(3):
                writer.write(square(number)[:51, :47])
        assert next(read_frames(tmp_path / f"a{suffix}")).image.shape == (51, 47, 3)


def test_sound_of_webm_is_opus_and_in_step(tmp_path):
    source = tmp_path / "click.wav"
    samples = np.zeros((1, 48000), np.int16)
    samples[0, 24000:24480] = 20000
    with av.open(str(source), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=48000, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate = 48000
        container.mux(stream.encode(frame))
    path = write(tmp_path / "a.webm", count=30, sound=Sound(source, 0.0, 1.0))
    with av.open(str(path)) as container:
        assert container.streams.audio[0].codec_context.codec.canonical_name == "opus"
        frames = list(container.decode(audio=0))
        begin = float(frames[0].pts * frames[0].time_base)
        heard = np.concatenate([np.abs(frame.to_ndarray().astype(float)).max(0) for frame in frames])
        loud = np.flatnonzero(heard > heard.max() / 2) / frames[0].sample_rate + begin
    assert loud[0] == pytest.approx(0.5, abs=0.02)


# --- the mark


def media_comment(path: Path) -> str | None:
    return MediaInfo.parse(path).general_tracks[0].comment


@pytest.mark.parametrize("suffix", [".mp4", ".m4v", ".mov", ".mkv", ".webm"])
def test_mark_of_videos_is_read_by_mediainfo(tmp_path, suffix):
    assert media_comment(write(tmp_path / f"a{suffix}", rate=25)) == mark()


@pytest.mark.parametrize("channels", [3, 4])
def test_mark_of_animations_is_read_by_pillow(tmp_path, channels):
    with Image.open(write(tmp_path / "a.webp", channels=channels)) as picture:
        assert SOURCE_TYPE.encode() in picture.info["xmp"] and maker().encode() in picture.info["xmp"]
    with Image.open(write(tmp_path / "a.gif")) as picture:
        assert picture.info["comment"].decode() == mark()


def png_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Kind and content of the chunks of a PNG file (W3C PNG, 5.3), whose checksums must fit."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    place, chunks = 8, []
    while place < len(data):
        (length,) = struct.unpack_from(">I", data, place)
        kind, content = data[place + 4 : place + 8], data[place + 8 : place + 8 + length]
        assert struct.unpack_from(">I", data, place + 8 + length)[0] == zlib.crc32(kind + content)
        chunks.append((kind, content))
        place += 12 + length
    return chunks


def test_mark_of_pictures(tmp_path):
    write_png(tmp_path / "a.png", square(0))
    texts = dict(content.split(b"\0", 1) for kind, content in png_chunks((tmp_path / "a.png").read_bytes())
                 if kind in (b"tEXt", b"iTXt"))  # fmt: skip
    assert texts[b"Software"].decode() == maker() and texts[b"Comment"].decode() == mark()
    assert SOURCE_TYPE.encode() in texts[b"XML:com.adobe.xmp"]
    write_png(tmp_path / "photo.png", square(0), is_synthetic=False)
    assert {kind for kind, _ in png_chunks((tmp_path / "photo.png").read_bytes())} == {b"IHDR", b"IDAT", b"IEND"}


def test_mark_of_meshes(tmp_path):
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], np.float32)
    for suffix in (".glb", ".ply", ".obj"):
        write_mesh(tmp_path / f"a{suffix}", corners, np.array([[0, 1, 2]]))
        assert mark().encode() in (tmp_path / f"a{suffix}").read_bytes()
    scene: Any = trimesh.load(tmp_path / "a.glb")
    assert scene.geometry  # it can be opened; trimesh does not show `asset`
