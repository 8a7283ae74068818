"""Results by suffix, size, quality, opacity and sound; what cannot be written is refused before anything is loaded."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

import portrait4d.reenactment.kept_frames
from fakes_engine import SIZE, FakeEngine, fake_models
from flame.errors import InputError
from portrait4d.jobs.batch import run_batch
from portrait4d.jobs.batch_items import cross_items
from portrait4d.jobs.views import render_avatar
from portrait4d.options import Format, FormatOptions, ReenactOptions, RenderOptions
from portrait4d.pipeline import reenact
from portrait4d.reenactment.kept_frames import frames_key
from portrait4d.reenactment.models import Models
from portrait4d.reenactment.report import ReenactReport
from portrait4d.reenactment.result_name import check_result
from portrait4d.runtime.paths import MOVING_SUFFIXES
from preprocess.media.image import read_image, write_png
from preprocess.media.video import probe, read_frames
from preprocess.media.video_writer import VideoWriter

NUM_FRAMES = 6
LEVELS = [40 + 30 * index for index in range(NUM_FRAMES)]


def write_tone(path: Path, *, hertz: float, seconds: float = 2.0) -> Path:
    """A sound file with one sine."""
    samples = np.sin(2 * np.pi * hertz * np.arange(round(48000 * seconds)) / 48000) * 12000
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=48000, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples.astype(np.int16)[None], format="s16", layout="mono")
        frame.sample_rate = 48000
        container.mux(stream.encode(frame))
    return path


def read_tone(path: Path) -> float:
    """The strongest frequency of a file's sound, hertz."""
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=0))
    samples = np.concatenate([frame.to_ndarray()[0].astype(float) for frame in frames])
    spectrum = np.abs(np.fft.rfft(samples))
    return float(np.argmax(spectrum) * frames[0].sample_rate / len(samples))


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A photo, and a clip with sound in which every frame is brighter than the one before."""
    write_png(tmp_path / "photo.png", np.full((SIZE, SIZE, 3), 90, np.uint8))
    tone = write_tone(tmp_path / "driver.wav", hertz=440)
    with VideoWriter(
        tmp_path / "talk.mp4", height=SIZE, width=SIZE, frame_rate=25, audio_from=tone, audio_duration=NUM_FRAMES / 25
    ) as writer:
        for level in LEVELS:
            writer.write(np.full((SIZE, SIZE, 3), level, np.uint8))
    return tmp_path


def moved(files: Path, name: str, *, engine: FakeEngine | None = None, **changed: Any) -> ReenactReport:
    models: Models = fake_models()
    models = models if engine is None else replace(models, engine=engine)  # pyright: ignore[reportArgumentType]
    options = ReenactOptions(mode="absolute", **changed)
    return reenact(files / "photo.png", files / "talk.mp4", files / name, options=options, models=models)


def levels(path: Path) -> list[float]:
    return [float(frame.image.mean()) for frame in read_frames(path)]


@pytest.mark.parametrize("suffix", sorted(MOVING_SUFFIXES))
def test_every_kind_shows_the_same_frames(files, suffix):
    expected = None
    report = moved(files, f"out{suffix}", size=48)
    shown = levels(files / f"out{suffix}")
    moved(files, "exact", size=48)
    expected = levels(files / "exact")
    assert report.num_frames == len(shown) == NUM_FRAMES
    np.testing.assert_allclose(shown, expected, atol=4)
    assert np.ptp(expected) > 60  # the frames differ
    assert next(read_frames(files / f"out{suffix}")).image.shape == (48, 48, 3)
    assert report.has_audio == (suffix in (".mp4", ".m4v", ".mov", ".mkv", ".webm"))
    assert not [line for line in report.warnings if "sound" in line]


def test_size_is_the_height_also_of_panels_and_whole_pictures(files):
    write_png(files / "photo.png", np.full((80, 120, 3), 90, np.uint8))
    moved(files, "panels.mp4", side_by_side=True, size=96)
    assert probe(files / "panels.mp4").height == 96 and probe(files / "panels.mp4").width > 3 * 90
    moved(files, "whole.mp4", crop=False, size=160)
    assert (probe(files / "whole.mp4").height, probe(files / "whole.mp4").width) == (160, 240)


def test_audio_takes_the_place_of_the_driver_s_sound(files):
    assert moved(files, "own.mp4").has_audio and read_tone(files / "own.mp4") == pytest.approx(440, abs=8)
    write_tone(files / "song.wav", hertz=1000)
    for name in ("other.mp4", "other.webm"):
        assert moved(files, name, audio=str(files / "song.wav")).has_audio
        assert read_tone(files / name) == pytest.approx(1000, abs=8)


@pytest.mark.parametrize("name", ["out.webp", "out"])
def test_transparent_results_hold_the_engine_s_opacity(files, name):
    class HalfThere(FakeEngine):
        def render(self, avatar, drive):
            drawn = super().render(avatar, drive)
            alpha = drawn.alpha.clone()
            alpha[..., : SIZE // 2], alpha[..., SIZE // 2 :] = 0.0, 0.8
            return replace(drawn, alpha=alpha)

    moved(files, name, engine=HalfThere(), transparent=True)
    path = files / name
    with Image.open(path if path.is_file() else path / "000002.png") as picture:
        alpha = np.array(picture.convert("RGBA"))[..., 3]
    assert (alpha[:, : SIZE // 2 - 4] == 0).all() and np.abs(alpha[:, SIZE // 2 + 4 :].astype(int) - 204).max() <= 1


@pytest.mark.parametrize("is_transparent", [False, True])
def test_a_stopped_run_into_a_folder_resumes_with_all_channels(files, monkeypatch, is_transparent):
    monkeypatch.setattr(portrait4d.reenactment.kept_frames, "WORTH_KEEPING_SECONDS", 0.0)

    class Stopping(FakeEngine):
        num_left = 2

        def render(self, avatar, drive):
            self.num_left -= 1
            if self.num_left < 0:
                raise KeyboardInterrupt
            return super().render(avatar, drive)

    moved(files, "whole", transparent=is_transparent)
    with pytest.raises(KeyboardInterrupt, match="of 6 frames of frames are kept"):
        moved(files, "frames", engine=Stopping(), transparent=is_transparent)
    assert not (files / "frames").exists()
    report = moved(files, "frames", transparent=is_transparent)
    assert report.num_kept_frames >= 2
    names = sorted(path.name for path in (files / "frames").iterdir())
    assert names == [f"{number:06d}.png" for number in range(NUM_FRAMES)]
    for one in names:
        assert (files / "frames" / one).read_bytes() == (files / "whole" / one).read_bytes()
    assert not list(files.glob(".*"))


def test_another_size_or_quality_reuses_kept_frames(files):
    """They change the file, not what was drawn."""
    photo, engine = files / "photo.png", FakeEngine()
    avatar: Any = engine.build(fake_models().tracker.track_images([read_image(photo)]))
    asked: list[dict[str, Any]] = [{}, {"size": 64}, {"quality": 20}, {"audio": "a.wav"}, {"transparent": True}]
    keys = []
    for changed in [*asked, {"gaze": "camera"}]:
        options = ReenactOptions(**changed)
        keys.append(frames_key(photo, avatar, avatar.motion, options=options, engine=engine))  # pyright: ignore
    assert len(set(keys[:4])) == 1 and len(set(keys[3:])) == 3


def test_batch_writes_the_chosen_kind_and_keeps_it(files):
    rounds: list[tuple[Format, bool]] = [("webp", False), ("frames", False), ("frames", True)]
    for kind, is_kept in rounds:
        items = cross_items(files / "photo.png", files / "talk.mp4", files / "all", FormatOptions(format=kind).suffix)
        report = run_batch(items, files / "all", options=ReenactOptions(), models=fake_models())
        assert [result.state for result in report.results] == ["kept" if is_kept else "done"], report
    assert len(list((files / "all" / "photo__talk").iterdir())) == NUM_FRAMES
    assert probe(files / "all" / "photo__talk.webp").num_frames_estimate == NUM_FRAMES


REFUSED = [
    ("out.txt", {}, "expected an output name ending in .gif, .*, or a folder name without a suffix, got .txt"),
    ("out.gif", {"quality": 50}, "--quality is for files that lose some .*, got out.gif"),
    ("out", {"quality": 50}, "--quality"),
    ("out.mp4", {"transparent": True}, r"--transparent needs a file that holds opacity \(.png, .webm, .webp"),
    ("out.webm", {"transparent": True, "crop": False}, "which --paste-back shows: drop one"),
    ("out.webm", {"transparent": True, "side_by_side": True}, "which --side-by-side shows: drop one"),
    ("out.gif", {"audio": "photo.png"}, "--audio needs a file that holds sound"),
    ("out.mp4", {"audio": "nothing.wav"}, "sound not found"),
]


@pytest.mark.parametrize(("name", "changed", "message"), REFUSED)
def test_what_a_kind_cannot_hold_is_refused(files, monkeypatch, name, changed, message):
    monkeypatch.chdir(files)
    with pytest.raises(InputError, match=message):
        check_result(Path(name), ReenactOptions(**changed))


def test_a_silent_file_as_sound_is_refused(files):
    with pytest.raises(InputError, match="expected a file with sound as --audio, got photo.png, which has none"):
        moved(files, "out.mp4", audio=str(files / "photo.png"))


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot write to the folder .*file \(it is a file\): choose another output"):
        check_result(tmp_path / "file" / "out.mp4", ReenactOptions())
    check_result(tmp_path / "new" / "deep" / "out.mp4", ReenactOptions())
    assert [path.name for path in tmp_path.iterdir()] == ["file"]  # nothing was made by looking


def test_refusals_come_before_torch_is_loaded(tmp_path):
    """A wrong name is told within a second: importing torch alone takes longer."""
    script = (
        "import sys\nfrom portrait4d.cli.main import run\n"
        "codes = [run(line.split()) for line in sys.argv[1:]]\n"
        "assert codes == [2] * len(codes), codes\nassert 'torch' not in sys.modules"
    )
    wrong = [
        "reenact a.jpg b.mp4 -o out.txt",
        "render a.jpg -o out.xyz",
        "track b.mp4 -o out.mp4",
        "avatar a.jpg -o out.png",
        "demo --transparent",
    ]
    done = subprocess.run([sys.executable, "-c", script, *wrong], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stderr.splitlines()) == len(wrong)


def test_render_in_every_kind(files):
    options = RenderOptions(duration=0.2, size=32)
    for name in ("orbit.webm", "orbit.gif", "orbit"):
        render_avatar(files / "photo.png", files / name, options=options, models=fake_models())
        assert probe(files / name).height == 32 and probe(files / name).num_frames_estimate == 5
    view = replace(options, transparent=True)
    render_avatar(files / "photo.png", files / "view.png", options=view, models=fake_models())
    assert np.array(Image.open(files / "view.png")).shape == (32, 32, 4)
    with pytest.raises(InputError, match="--size is for pictures and videos, got the mesh head.glb: drop it"):
        render_avatar(files / "photo.png", files / "head.glb", options=options, models=fake_models())
