"""The released code's sampling noise: of a frame's number and a seed alone, off unless asked for, refused by `lift`."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

import portrait4d.reenactment.head_crops
from fakes_engine import FakeAvatar, FakeHead, fake_motion
from flame.errors import InputError
from flame.heads.pose_field import HeadPoseField
from portrait4d.cli.main import run
from portrait4d.engines.base import Drive
from portrait4d.engines.choose import load_engine
from portrait4d.engines.jitter import frame_seed, frame_seeds
from portrait4d.engines.own_drive import orbit_drive
from portrait4d.engines.portrait4d.avatar import Portrait4DAvatar
from portrait4d.engines.portrait4d.engine import Portrait4DEngine
from portrait4d.engines.retarget import RetargetOptions, retarget, retarget_parts
from portrait4d.options import ReenactOptions, RenderOptions
from portrait4d.reenactment.head_crops import render_frames
from portrait4d.reenactment.models import Models, check_models
from preprocess.faces.crop import Crop
from preprocess.media.image import read_image
from preprocess.tracking.motion import Motion
from preprocess.tracking.tracker import Tracker

ENGINE = "portrait4d-v2"
JITTERED = RetargetOptions(jitter=3)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def models(home: Path) -> Models:
    engine = load_engine(ENGINE)
    return Models(engine, Tracker(head_model=engine.head_model, motion_encoder=engine.motion_encoder))


@pytest.fixture(scope="module")
def engine(models: Models) -> Portrait4DEngine:
    assert isinstance(models.engine, Portrait4DEngine)
    return models.engine


@pytest.fixture(scope="module")
def avatar(models: Models, engine: Portrait4DEngine, shared: Path) -> Portrait4DAvatar:
    return engine.build([models.tracker.track_image(read_image(shared / "data" / "sources" / "s01_astronaut.png"))])


def _still_motion(avatar: Portrait4DAvatar, count: int) -> Motion:
    """The source's own frame, over and over: whatever differs between frames is noise."""
    one = avatar.motion
    per_frame = {
        name: np.repeat(value, count, 0)
        for name, value in vars(one).items()
        if isinstance(value, np.ndarray) and name not in ("shape", "crop_matrix") and value.shape[:1] == (1,)
    }
    per_frame["seconds"] = np.arange(count) / 25
    return replace(one, frame_rate=Fraction(25), **per_frame)


def test_a_seed_belongs_to_a_frame_however_frames_are_parted() -> None:
    whole = frame_seeds(3, range(7))
    assert whole.shape == (7, 1) and frame_seeds(None, range(7)).shape == (7, 0)
    assert torch.equal(torch.cat([frame_seeds(3, range(4)), frame_seeds(3, range(4, 7))]), whole)
    table = {frame_seed(jitter, frame) for jitter in range(20) for frame in range(20)}
    assert len(table) == 400 and max(table) < 2**32
    motion = fake_motion([index / 10 for index in range(7)])
    target = FakeAvatar(fake_motion([0.0]), Crop.whole((64, 64), size=64), 0.0)
    for size in (1, 2, 5, 64):
        parts = retarget_parts(motion, target, JITTERED, FakeHead(), size=size)
        assert torch.equal(torch.cat([part.noise_seeds for part in parts]), whole)
    assert retarget(motion, target, RetargetOptions(), FakeHead()).noise_seeds.shape == (7, 0)


@pytest.mark.slow
def test_each_frame_has_its_own_noise_in_any_company(
    engine: Portrait4DEngine, avatar: Portrait4DAvatar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_frames_at_once", None)  # several frames at once, as on a GPU
    drive = retarget(_still_motion(avatar, 2), avatar, JITTERED, engine.head_model)
    together = engine.render(avatar, drive).image
    with ThreadPoolExecutor(2) as pool:
        singles = list(pool.map(lambda index: engine.render(avatar, drive[index : index + 1]).image, (1, 0)))
    assert torch.equal(together, torch.cat(singles[::-1])) and not torch.equal(together[0], together[1])
    still = engine.render(avatar, replace(drive[:1], noise_seeds=torch.zeros(1, 0, dtype=torch.int64))).image
    other = engine.render(avatar, replace(drive[:1], noise_seeds=frame_seeds(4, range(1)))).image
    assert not torch.equal(still, together[:1]) and not torch.equal(other, together[:1])


@pytest.mark.slow
def test_the_noise_is_the_renderers_own(engine: Portrait4DEngine, avatar: Portrait4DAvatar) -> None:
    """What a frame shows is what the network draws with a generator of the frame's seed."""
    drive = retarget(_still_motion(avatar, 2), avatar, JITTERED, engine.head_model)[1:]
    view, planes = engine.posed_view(avatar, drive), engine.animate(avatar, drive)
    pose = HeadPoseField.build(engine.flame, view.head, engine.coarse_mesh, box_warp=planes.box_warp)
    generator = torch.Generator().manual_seed(frame_seed(3, 1))
    with torch.inference_mode():
        seen = engine.network.render(planes, avatar.features, view.camera, pose=pose, generator=generator)
    assert torch.equal(engine.render(avatar, drive).image, seen.image)


@pytest.mark.slow
@pytest.mark.parametrize("size", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_the_pipeline_s_chunks_and_threads_do_not_matter(
    models: Models, avatar: Portrait4DAvatar, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(portrait4d.reenactment.head_crops, "FRAMES_PER_CHUNK", size)
    monkeypatch.setattr(portrait4d.reenactment.head_crops, "num_render_workers", lambda _: 4 - size)
    motion, options = _still_motion(avatar, 3), ReenactOptions(engine=ENGINE, jitter=3)
    drive = retarget(motion, avatar, JITTERED, models.head_model)
    frames = np.stack(list(render_frames(avatar, motion, options=options, models=models)))
    drawn = models.engine.render(avatar, drive).image
    assert np.abs(frames.astype(float) - (drawn.permute(0, 2, 3, 1).numpy() * 127.5 + 127.5).clip(0, 255)).max() <= 1


@pytest.mark.slow
def test_views_of_an_orbit_have_it_too(engine: Portrait4DEngine, avatar: Portrait4DAvatar) -> None:
    angles = np.zeros(2)
    views = engine.render(avatar, orbit_drive(avatar, engine.head_model, angles, angles, jitter=3)).image
    assert not torch.equal(views[0], views[1])
    still = engine.render(avatar, orbit_drive(avatar, engine.head_model, angles, angles)).image
    assert torch.equal(still[0], still[1])


@pytest.mark.slow
def test_the_commands_hand_the_seed_on(
    models: Models, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, render = [], Portrait4DEngine.render

    def watched(self: Portrait4DEngine, which: Portrait4DAvatar, drive: Drive):
        seen.append(drive.noise_seeds.flatten().tolist())
        return render(self, which, drive)

    monkeypatch.setattr(Portrait4DEngine, "render", watched)
    photo = str(shared / "data" / "sources" / "s01_astronaut.png")
    clip = str(shared / "data" / "drivers" / "d02_speech_woman.mp4")
    options = ["--engine", ENGINE, "--duration", "0.04", "--quiet", "--jitter", "3"]
    assert run(["reenact", photo, clip, "-o", str(tmp_path / "r.mp4"), *options]) == 0
    assert run(["render", photo, "-o", str(tmp_path / "v.png"), "--yaw=15", *options]) == 0
    assert seen == [[frame_seed(3, 0)]] * 2


def test_lift_refuses_it_in_one_line(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo = str(shared / "data" / "sources" / "s01_astronaut.png")
    clip = str(shared / "data" / "drivers" / "d02_speech_woman.mp4")
    for command in (["reenact", photo, clip], ["batch", photo, clip], ["render", photo]):
        output = tmp_path / "out.mp4"
        assert run([*command, "-o", str(output), "--jitter", "0", "--engine", "lift", "--quiet"]) == 2
        message = capsys.readouterr().err
        assert "expected no jitter for engine lift" in message and message.count("\n") == 1
        assert not output.exists()
    lift = load_engine("lift")
    with pytest.raises(InputError, match="expected no jitter for engine lift"):
        check_models(Models(lift, Tracker(head_model=lift.head_model)), ReenactOptions(jitter=1))
    with pytest.raises(InputError, match="expected jitter to be at least 0, got -1"):
        RenderOptions(jitter=-1)
