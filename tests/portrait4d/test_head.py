"""A head in Python: what it is made of, what it gives, how it shows itself; by `lift` and by the toy network."""

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import portrait4d.api.head
from flame.errors import InputError
from flame.landmarks.groups import INNER_LIP_MIDDLES
from portrait4d import (
    Head,
    Motion,
    Portrait4D,
    PoseOptions,
    ReenactOptions,
    RenderOptions,
    Video,
    pose_avatar,
    render_avatar,
)
from portrait4d.jobs.demo import demo_photo
from portrait4d.pipeline import reenact
from portrait4d.reenactment.models import Models
from preprocess.media.given_picture import picture_of
from preprocess.media.image import png_bytes, read_image, write_png
from preprocess.media.video import probe, read_frames

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return demo_photo()


@pytest.fixture(scope="module")
def head(photo: np.ndarray) -> Head:
    return Head.from_image(photo, engine="lift")


@pytest.fixture(scope="module")
def motion() -> Motion:
    return Motion.from_arkit({"jawOpen": [0, 0.4, 0]}, frame_rate=25, yaw_degrees=[0, 6, 12])


def test_pictures_of_all_kinds_are_the_same(head: Head, photo: np.ndarray, tmp_path: Path) -> None:
    write_png(tmp_path / "photo.png", photo)
    upside_down = Image.Exif()
    upside_down[0x0112] = 3
    turned = io.BytesIO()
    Image.fromarray(photo[::-1, ::-1]).save(turned, format="PNG", exif=upside_down)
    path, clear = tmp_path / "photo.png", np.full(photo.shape[:2], 255, np.uint8)
    for given in (
        path,
        str(path),
        png_bytes(photo),
        turned.getvalue(),
        Image.fromarray(photo),
        photo,
        np.dstack([photo, clear]),
    ):
        assert np.array_equal(picture_of(given), photo), type(given)
    assert np.array_equal(picture_of(photo[..., 0]), np.repeat(photo[..., :1], 3, 2))
    again = Head.from_image([png_bytes(photo)], models=head.models)
    assert np.array_equal(again.motion.landmarks, head.motion.landmarks)


def test_an_avatar_is_taken_as_file_and_as_object(head: Head, tmp_path: Path) -> None:
    head.save(tmp_path / "head.safetensors")
    of_file = Head.from_image(tmp_path / "head.safetensors", models=head.models)
    of_object = Head.from_image(head.avatar, models=head.models)
    assert of_object.avatar is head.avatar
    assert np.abs(of_file.pose().astype(int) - head.pose()).max() <= 2  # pictures are kept in half precision


def test_the_engine_is_the_one_that_was_named(head: Head, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the argument, or by the options; models of another are refused."""
    loaded = []

    def load(options: ReenactOptions) -> Models:
        loaded.append((options.engine, options.device, options.face))
        return head.models

    monkeypatch.setattr(portrait4d.api.head, "load_models", load)
    options = ReenactOptions(engine="toy", device="cuda")
    Head.from_image(photo)
    Head.from_image(photo, options=options)
    Head.from_image(photo, engine="lift", device="cpu", options=options)
    assert loaded == [("auto", "cpu", 0), ("toy", "cuda", 0), ("lift", "cpu", 0)]
    with pytest.raises(InputError, match="models of engine 'toy', got 'lift'"):
        Head.from_image(photo, engine="toy", models=head.models)
    with pytest.raises(InputError, match="models on meta, got them on cpu"):
        Head.from_image(photo, device="meta", models=head.models)
    assert Head.from_image(photo, engine="lift", models=head.models).engine is head.engine


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((64, 64, 3)), r"uint8 \[H, W, 3\] RGB, got float64 \[64, 64, 3\]"),
        (np.zeros((3, 64, 64), np.uint8), r"got uint8 \[3, 64, 64\]"),
        (np.zeros((8, 8, 3), np.uint8), "8 x 8 pixels is too small"),
        (b"no picture", "got 10 bytes of something else"),
        (np.zeros((256, 256, 3), np.uint8), "no face found"),
        (None, "a picture, several, or an avatar, got NoneType"),
        (Motion.from_arkit({"jawOpen": 1}), "a picture, several, or an avatar, got Motion"),
    ],
)
def test_what_is_no_picture_of_a_face_is_refused(head: Head, given: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Head.from_image(given, models=head.models)  # pyright: ignore[reportArgumentType]  (the errors are tested)


def test_pose_view_and_mesh(head: Head, photo: np.ndarray) -> None:
    own = head.pose()
    assert own.shape == (512, 512, 3) and own.dtype == np.uint8
    assert np.abs(own.astype(int) - head.avatar.crop.apply(photo)).mean() < 2
    opened = head.pose({"jaw-open": 0.7})
    assert np.abs(opened.astype(int) - own).max() > 60 and np.array_equal(opened, head.pose(jaw_open=0.7))
    yaw = [head.models.tracker.track_image(head.view(angle)).motion.values("yaw_degrees")[0] for angle in (-12, 12)]
    assert yaw[1] - yaw[0] > 10
    assert len(head.mesh().vertices) > 1000
    with pytest.raises(InputError, match="did you mean 'smile'"):
        head.pose(smil=1)
    with pytest.raises(InputError, match="no mesh-resolution"):
        head.mesh(resolution=64)


def test_numbers_that_cannot_be_are_refused(head: Head, photo: np.ndarray) -> None:
    for angle in (181, float("nan")):
        with pytest.raises(InputError, match="yaw_degrees to be -180 to 180"):
            head.view(angle)
        with pytest.raises(InputError, match="pitch_degrees to be -180 to 180"):
            head.view(0, angle)
    for rate in (0, -25, float("nan")):
        with pytest.raises(InputError, match="frame_rate to be 0.01 to 1000"):
            head.track([photo], frame_rate=rate)
    with pytest.raises(InputError, match="did you mean 'yaw_degrees'"):
        head.pose(yaw=10)


def test_drivers_of_all_kinds_are_animated(head: Head, motion: Motion, photo: np.ndarray, tmp_path: Path) -> None:
    frames = list(head.animate(motion))
    assert len(frames) == 3 and frames[0].shape == (512, 512, 3) and frames[0].dtype == np.uint8
    motion.save(tmp_path / "m.npz")
    for path in (tmp_path / "m.npz", str(tmp_path / "m.npz")):
        assert all(np.array_equal(*pair) for pair in zip(head.animate(path), frames, strict=True))
    cut = list(head.animate(motion, options=ReenactOptions(start=0.04, duration=0.04)))
    assert len(cut) == 1

    def pictures() -> Iterator[np.ndarray]:
        for shift in (0, 4):
            yield np.roll(photo, shift, axis=1)

    tracked = head.track(pictures(), frame_rate=30)
    assert len(tracked) == 2 and tracked.frame_rate == 30
    assert len(list(head.animate(tracked))) == 2
    for one in (photo, Image.fromarray(photo), png_bytes(photo), photo[None]):
        assert len(head.track(one)) == 1
    with pytest.raises(InputError, match="cut the pictures themselves"):
        head.track(pictures(), options=ReenactOptions(start=1.0))
    with pytest.raises(InputError, match="a motion, a path, a picture or several, got int"):
        head.track(5)  # pyright: ignore[reportArgumentType]  (the error is tested)
    with pytest.raises(InputError, match="driver not found"):
        head.animate(tmp_path / "none.mp4")
    with pytest.raises(InputError, match="belongs to head model 'flame'"):
        head.animate(replace(motion, head_model="flame"))


def test_frames_are_those_that_the_command_writes(
    head: Head, motion: Motion, photo: np.ndarray, tmp_path: Path
) -> None:
    write_png(tmp_path / "photo.png", photo)
    motion[:1].edit(yaw_degrees=5).save(tmp_path / "m.npz")
    reenact(tmp_path / "photo.png", tmp_path / "m.npz", tmp_path / "out.png", options=head.options, models=head.models)
    (frame,) = head.animate(tmp_path / "m.npz")
    assert np.array_equal(read_image(tmp_path / "out.png"), frame)


def test_a_head_and_its_video_show_themselves(head: Head, motion: Motion, tmp_path: Path) -> None:
    assert repr(head) == f"Head(engine 'lift' on cpu, {len(head.warnings)} warnings)"
    assert repr(motion) == "Motion(3 frames at 25 per second, head model 'open-head', source '')"
    assert len(repr(head.avatar)) < 80 and len(repr(head.motion)) < 100
    shown = Image.open(io.BytesIO(head._repr_png_()))
    assert np.array_equal(np.asarray(shown), head.pose())
    video = head.video(motion)
    assert isinstance(video, Video) and len(repr(video)) < 120
    assert video._repr_html_().startswith("<video controls") and "video/mp4;base64," in video._repr_html_()
    video.save(tmp_path / "v.mp4")
    assert probe(tmp_path / "v.mp4").frame_rate == 25 and len(list(read_frames(tmp_path / "v.mp4"))) == 3
    with pytest.raises(InputError, match="ending in .mp4"):
        video.save(tmp_path / "v.mov")


def test_the_networks_are_heads_of_their_engines(photo: np.ndarray, head: Head) -> None:
    """One implementation: what the model gives of an avatar is what its head gives; names drive a network, too."""
    model = Portrait4D.from_pretrained("toy")
    toy = model.head(photo)
    assert toy.engine is model.engine and toy.options == model.options
    avatar = model.avatar(photo)
    wave = Motion.from_arkit({"jawOpen": [0, 0.5]})
    for ours, theirs in zip(toy.animate(wave), model.animate(avatar, wave), strict=True):
        assert np.array_equal(ours, theirs)
    assert not np.array_equal(toy.pose(jaw_open=1), toy.pose(jaw_open=0))
    with pytest.raises(InputError, match="expected an avatar of engine toy, got one of engine lift"):
        Head(head.avatar, model.models)


def test_functions_of_files_take_avatars_and_motions(head: Head, motion: Motion, tmp_path: Path) -> None:
    """As objects and as files they give the same."""
    head.save(tmp_path / "a.safetensors")
    motion.save(tmp_path / "m.npz")
    avatar = Head.from_image(tmp_path / "a.safetensors", models=head.models).avatar
    for source, driver in ((avatar, motion), (tmp_path / "a.safetensors", tmp_path / "m.npz")):
        report = reenact(source, driver, tmp_path / "out.mp4", options=head.options, models=head.models)
        assert report.num_frames == 3
        written = (tmp_path / "out.mp4").read_bytes()
        (tmp_path / "out.mp4").rename(tmp_path / f"{report.source == '(in memory)'}.mp4")
        assert written == (tmp_path / "True.mp4").read_bytes()
    pose_avatar(avatar, tmp_path / "p.png", options=PoseOptions(engine="lift", smile=0.5), models=head.models)
    assert np.array_equal(read_image(tmp_path / "p.png"), Head(avatar, head.models).pose(smile=0.5))
    options = RenderOptions(yaw_degrees=(10.0,), engine="lift")
    render_avatar(avatar, tmp_path / "v.png", options=options, models=head.models)
    assert np.array_equal(read_image(tmp_path / "v.png"), Head(avatar, head.models).view(10))
    with pytest.raises(InputError, match="--paste-back needs the picture, got an avatar"):
        reenact(avatar, motion, tmp_path / "o.mp4", options=replace(head.options, crop=False), models=head.models)


@pytest.mark.slow
def test_an_edited_clip_shows_the_edit_and_keeps_the_rest(head: Head, shared: Path) -> None:
    """Real speech, read back from the frames: the smile is wider, the words and the head are the same."""
    motion = head.track(shared / "data/drivers/d02_speech_woman.mp4", options=ReenactOptions(duration=1.0))

    def read(moved: Motion) -> Motion:
        return head.track(list(head.animate(moved)))

    before, smiling, winking = read(motion), read(motion.edit(smile=0.9)), read(motion.edit(blink_left=1))
    assert smiling.values("smile").mean() > before.values("smile").mean() + 0.08
    for name in ("yaw_degrees", "pitch_degrees"):
        assert np.corrcoef(before.values(name), smiling.values(name))[0, 1] > 0.9, name
    # the lips themselves: a jaw that opens little and a smile that bares teeth are read as one another
    lips = [item.landmarks[:, INNER_LIP_MIDDLES, :2] for item in (before, smiling)]
    gaps = [np.linalg.norm(points[:, 0] - points[:, 1], axis=1) for points in lips]
    assert np.corrcoef(*gaps)[0, 1] > 0.9
    assert winking.eye_open[:, 0].mean() < 0.5 * before.eye_open[:, 0].mean()
    assert winking.eye_open[:, 1].mean() > 0.75 * before.eye_open[:, 1].mean()
