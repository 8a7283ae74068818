"""What a tab of the studio gets: a head of a photo, frames with their stamps, a driver, files, progress and cancel."""

import asyncio
import dataclasses
import io
import threading
import time
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("starlette", reason="the studio is an extra: pip install 'portrait4d[studio]'")
pytest.importorskip("httpx", reason="starlette's test client needs httpx")

from PIL import Image

import portrait4d.live.recorder
import portrait4d.studio.exports
import portrait4d.studio.session
import portrait4d.studio.take
from flame.errors import InputError
from free_material import turned_motion
from live_heads import free_avatar, free_models, portrait, rolled
from portrait4d.live.by_hand import ByHand
from portrait4d.live.puppet import Puppet
from portrait4d.pipeline import Source
from portrait4d.reenactment.models import Models
from portrait4d.studio.names import grouped_names
from portrait4d.studio.outbox import Outbox
from portrait4d.studio.take import Take
from preprocess.media.video import probe, read_frames
from preprocess.media.video_writer import VideoWriter
from preprocess.tracking.motion import Motion
from studio_page import FakePage, open_page, studio_client

NUM_FRAMES = 8


def as_file(image: np.ndarray, kind: str = "JPEG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind, quality=95)
    return stream.getvalue()


@pytest.fixture(scope="module")
def client():
    with studio_client() as client:
        yield client


@pytest.fixture
def page(client):
    with open_page(client) as page:
        yield page


def known_source(path: Path, *, models: Models, face: int) -> Source:
    """In place of `build_source`, which takes more than a second."""
    return Source(free_avatar(), portrait(), path)


@pytest.fixture
def head(page: FakePage, monkeypatch: pytest.MonkeyPatch) -> FakePage:
    """A tab with the free head."""
    monkeypatch.setattr(portrait4d.studio.session, "build_source", known_source)
    assert page.upload("photo", as_file(portrait())).status_code == 200
    page.wait("head")
    page.wait("done")
    monkeypatch.undo()
    return page


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("clip") / "roll.mp4"
    with VideoWriter(path, height=512, width=512, frame_rate=Fraction(25)) as writer:
        for index in range(NUM_FRAMES):
            writer.write(rolled(2 * index))
    return path.read_bytes()


@pytest.fixture(scope="module")
def motion_file(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("motion") / "turn.npz"
    turned_motion(free_avatar().motion, free_models().head_model).save(path)
    return path.read_bytes()


def difference(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.abs(first.astype(float) - second.astype(float)).mean())


def test_a_photo_becomes_a_head_that_sliders_move(page: FakePage) -> None:
    head = page
    assert head.upload("photo", as_file(portrait(), "PNG")).status_code == 200
    assert head.wait("head")["faces"]
    head.say("draw", stamp=1.0)
    still = head.wait_frame(1.0)
    assert still.shape == (512, 512, 3)
    assert difference(still, free_avatar().crop.apply(portrait())) < 4
    head.say("hand", expression={"jawOpen": 0.8}, yaw=0)
    head.say("draw", stamp=2.0)
    opened = head.wait_frame(2.0)
    assert difference(still, opened) > 0.5
    changed = np.abs(still.astype(float) - opened.astype(float)).mean((1, 2))
    assert changed[220:].sum() > 5 * changed[:180].sum()  # the jaw, not the hair
    head.say("hand", yaw=15)
    head.say("draw", stamp=3.0)
    assert difference(still, head.wait_frame(3.0)) > 2


def test_the_camera_drives_and_a_lost_face_holds_the_last_pose(head: FakePage) -> None:
    head.send_camera(1.0, portrait())
    first = head.wait_frame(1.0)
    assert [said["stamp"] for said in head.heard if said["kind"] == "next"] == [1.0]
    head.send_camera(2.0, rolled(8))
    turned = head.wait_frame(2.0)
    assert difference(first, turned) > 2
    head.send_camera(3.0, np.full((512, 512, 3), 90, np.uint8))
    assert difference(turned, head.wait_frame(3.0)) < 0.5
    head.socket.send_bytes(bytes(8) + b"no picture")
    while (said := head.wait_any())["kind"] != "error":
        pass
    assert "damaged" in said["text"] and head.wait("next")


def test_the_camera_is_tracked_by_the_times_of_its_pictures(head: FakePage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page stamps in milliseconds; the filters of the tracker count in seconds."""
    times: list[float] = []
    track = Puppet.track

    def spy(self: Puppet, image: np.ndarray, seconds: float) -> Motion | None:
        times.append(seconds)
        return track(self, image, seconds)

    monkeypatch.setattr(Puppet, "track", spy)
    for stamp in (1000.0, 1040.0):
        head.send_camera(stamp, portrait())
        head.wait_frame(stamp)
    assert times == [1.0, 1.04]


def test_orders_before_a_photo_are_answered_in_one_line(page: FakePage) -> None:
    for order in ("hold_neutral", "record"):
        page.say(order)
        assert page.wait_any() == {"kind": "error", "text": "expected a photo first, got none: send one"}
    page.send_camera(1.0, portrait())
    assert "expected a photo first" in page.wait_any()["text"]


def test_a_photo_without_a_face_is_told_without_our_paths(page: FakePage) -> None:
    assert page.upload("photo", as_file(np.full((200, 200, 3), 90, np.uint8))).status_code == 200
    while (said := page.wait_any())["kind"] != "error":
        pass
    assert "no face found" in said["text"] and page.session not in said["text"]


def test_several_faces_are_offered_and_the_chosen_one_is_taken(page: FakePage) -> None:
    small = np.asarray(Image.fromarray(portrait()[:320, 60:380]).resize((220, 220)))
    picture = np.full((512, 800, 3), 128, np.uint8)
    picture[:, :512], picture[100:320, 560:780] = portrait(), small[:, ::-1]
    page.upload("photo", as_file(picture, "PNG"))
    said = page.wait("head")
    assert len(said["faces"]) == 2 and said["face"] == 0
    (left, _, _, _), (right, _, _, _) = said["faces"]
    assert left < 0.5 < right
    page.say("draw", stamp=1.0)
    first = page.wait_frame(1.0)
    page.say("face", index=1)
    assert page.wait("head")["face"] == 1
    page.say("draw", stamp=2.0)
    assert difference(first, page.wait_frame(2.0)) > 10


def test_a_clip_is_followed_played_and_exported(head: FakePage, clip: bytes, tmp_path: Path) -> None:
    assert head.upload("clip", clip).status_code == 200
    said = head.wait("clip")
    assert (said["num_frames"], said["frame_rate"], said["is_motion"]) == (NUM_FRAMES, 25.0, False)
    head.wait("done")
    frames = []
    for index in (0, NUM_FRAMES - 1, 10**5):  # the last one beyond the end
        head.say("draw", stamp=float(index), index=index)
        frames.append(head.wait_frame(float(index)))
    assert difference(frames[0], frames[1]) > 2 and difference(frames[1], frames[2]) == 0
    head.say("export", what="mp4", of="clip", side_by_side=True, name="../My photo (1)")
    offered = head.wait("file")
    assert offered["name"] == "My-photo-1-clip.mp4"
    (tmp_path / "a.mp4").write_bytes(head.download(offered["name"]))
    info = probe(tmp_path / "a.mp4")
    assert (info.height, info.width, info.num_frames_estimate) == (512, 3 * 512, NUM_FRAMES)
    last = list(read_frames(tmp_path / "a.mp4"))[-1].image
    assert difference(last[:, 1024:], frames[1]) < 4
    head.wait("done")
    head.say("hand", expression={"jawOpen": 0.5})
    head.say("export", what="motion", of="clip")
    (tmp_path / "a.npz").write_bytes(head.download(head.wait("file")["name"]))
    motion = Motion.load(tmp_path / "a.npz")
    assert len(motion) == NUM_FRAMES and motion.values("jawOpen").min() >= 0.5


def test_a_motion_file_drives_and_has_no_pictures_to_set_beside(head: FakePage, motion_file: bytes) -> None:
    head.upload("motion", motion_file)
    said = head.wait("clip")
    assert said["is_motion"] and said["num_frames"] == 12
    head.wait("done")
    head.say("export", what="mp4", of="clip", side_by_side=True)
    while (said := head.wait_any())["kind"] != "error":
        pass
    assert "got a motion file, which has none" in said["text"]


def test_pictures_and_avatars_are_files(head: FakePage, page: FakePage, tmp_path: Path) -> None:
    head.say("hand", expression={"mouthSmileLeft": 1.0})
    head.say("export", what="png", transparent=True)
    picture = np.asarray(Image.open(io.BytesIO(head.download(head.wait("file")["name"]))))
    assert picture.shape == (512, 512, 4) and picture[..., 3].min() == 0 and picture[..., 3].max() == 255
    head.wait("done")
    head.say("export", what="avatar")
    avatar = head.download(head.wait("file")["name"])
    head.wait("done")
    head.say("export", what="mesh")
    assert head.download(head.wait("file")["name"])[:4] == b"glTF"
    head.wait("done")
    assert head.upload("photo", avatar).status_code == 200
    assert head.wait("head")["faces"] == []


def test_without_a_driver_a_video_turns_the_head_once(
    head: FakePage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("portrait4d.studio.files.TURN_FRAMES", 8)
    head.say("export", what="mp4")
    (tmp_path / "a.mp4").write_bytes(head.download(head.wait("file")["name"]))
    frames = [frame.image for frame in read_frames(tmp_path / "a.mp4")]
    assert len(frames) == 8 and difference(frames[2], frames[6]) > 4  # to one side and to the other


def test_a_recording_gives_a_video_and_its_motion(head: FakePage, tmp_path: Path) -> None:
    head.say("record")
    for index, degrees in enumerate((0, 4, 8)):
        head.send_camera(float(index), rolled(degrees))
        head.wait_frame(float(index))
    head.say("stop")
    video, motion = head.wait("file"), head.wait("file")
    (tmp_path / "a.mp4").write_bytes(head.download(video["name"]))
    (tmp_path / "a.npz").write_bytes(head.download(motion["name"]))
    assert probe(tmp_path / "a.mp4").num_frames_estimate >= 1
    assert Motion.load(tmp_path / "a.npz").frame_rate == 25
    head.wait("done")
    head.say("record")
    head.say("stop")
    while (said := head.wait_any())["kind"] != "error":
        pass
    assert "nothing was drawn" in said["text"]


def test_work_is_cancelled_and_its_file_removed(head: FakePage, clip: bytes, client) -> None:
    folder = client.app.state.studio.sessions[head.session].folder
    before = set(folder.iterdir())
    head.upload("clip", clip)
    head.say("cancel")
    said = head.wait("done")
    while said["work"] != "clip":
        said = head.wait("done")
    assert said.get("cancelled") and set(folder.iterdir()) == before


def test_the_file_of_a_cancelled_photo_is_removed(page: FakePage, client, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was kept until the tab was closed."""
    begun, gate = threading.Event(), threading.Event()

    def slow_source(path: Path, **options: object) -> Source:
        begun.set()
        assert gate.wait(20)
        return known_source(path, models=free_models(), face=0)

    monkeypatch.setattr(portrait4d.studio.session, "build_source", slow_source)
    folder = client.app.state.studio.sessions[page.session].folder
    page.upload("photo", as_file(portrait()))
    assert begun.wait(20)
    page.say("cancel")
    page.say("record")
    while "expected a photo first" not in page.wait_any().get("text", ""):  # it has heard of the cancel
        pass
    gate.set()
    assert page.wait("done")["cancelled"] and list(folder.iterdir()) == []


def test_an_avatar_file_is_not_kept_once_it_is_read(page: FakePage, client, tmp_path: Path) -> None:
    free_avatar().save(tmp_path / "a.safetensors")
    folder = client.app.state.studio.sessions[page.session].folder
    page.upload("photo", (tmp_path / "a.safetensors").read_bytes())
    page.wait("done")
    assert list(folder.iterdir()) == []
    page.say("draw", stamp=1.0)
    assert difference(page.wait_frame(1.0), free_avatar().crop.apply(portrait())) < 4


def test_a_recording_that_fails_is_told_and_the_head_goes_on(
    head: FakePage, client, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FullDisk(VideoWriter):
        def write(self, image: np.ndarray) -> None:
            raise InputError("no space left on the device")

    monkeypatch.setattr(portrait4d.live.recorder, "VideoWriter", FullDisk)
    folder = client.app.state.studio.sessions[head.session].folder
    before = set(folder.iterdir())
    head.say("record")
    stamp = 0.0
    while not any(said["kind"] == "full" for said in head.heard):  # as at the longest duration, the page then stops
        stamp += 1
        head.say("draw", stamp=stamp)
        head.wait_frame(stamp)
        time.sleep(0.04)
    head.say("stop")
    while (said := head.wait_any())["kind"] != "error":
        pass
    assert said == {"kind": "error", "work": "record", "text": "no space left on the device"}
    head.say("draw", stamp=0.5)
    head.wait_frame(0.5)
    assert set(folder.iterdir()) == before


def test_a_recording_that_ends_while_a_file_is_written_is_kept(head: FakePage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its end was refused, and the recording was lost."""
    gate = threading.Event()
    write = portrait4d.studio.exports.write_picture

    def slow_picture(*arguments: Any, **options: Any) -> None:
        assert gate.wait(20)
        write(*arguments, **options)

    monkeypatch.setattr(portrait4d.studio.exports, "write_picture", slow_picture)
    head.say("record")
    head.say("draw", stamp=1.0)
    head.wait_frame(1.0)
    head.say("export", what="png")
    head.say("stop")
    head.say("record")
    while (said := head.wait_any())["kind"] != "error":
        pass
    assert "the last one is not finished" in said["text"]
    gate.set()
    names = [head.wait("file")["name"] for _ in range(2)]
    assert [name.rpartition(".")[2] for name in names] == ["png", "mp4"]
    head.wait("done")


def test_old_results_are_removed(head: FakePage) -> None:
    names = []
    for _ in range(7):
        head.say("export", what="png")
        names.append(head.wait("file")["name"])
        head.wait("done")
    with pytest.raises(AssertionError):
        head.download(names[0])
    assert head.download(names[1])[:4] == b"\x89PNG"


def test_two_tabs_have_heads_of_their_own(client) -> None:
    with open_page(client) as first, open_page(client) as second:
        for page, yaw in ((first, 0), (second, 20)):
            page.upload("photo", as_file(portrait(), "PNG"))
            page.wait("head")
            page.say("hand", yaw=yaw)
        pictures = []
        for page in (first, second):
            page.say("draw", stamp=1.0)
            pictures.append(page.wait_frame(1.0))
        assert difference(*pictures) > 2
        first.say("export", what="png")
        name = first.wait("file")["name"]
        answer = client.get(f"/{'k' * 22}/result/{second.session}/{name}")
        assert answer.status_code == 404


def test_the_52_names_are_in_groups_and_no_other() -> None:
    groups = grouped_names(free_models().head_model)
    names = [name for members in groups.values() for name in members]
    assert len(names) == len(set(names)) == 52
    assert "mouthSmileLeft" in groups["Mouth"] and "tongueOut" in groups["Jaw and tongue"]


def test_an_outbox_keeps_the_newest_frame_and_the_newest_progress() -> None:
    sent: list[object] = []
    encoded: list[int] = []

    def frame(number: int) -> bytes:
        encoded.append(number)
        return bytes([number])

    async def run() -> None:
        outbox = Outbox()
        for number in range(5):
            outbox.show(partial(frame, number))
            outbox.say("progress", done=number)
        outbox.say("done")

        async def send(item: object) -> None:
            sent.append(item)
            if item == '{"kind": "done"}':
                outbox.close()

        await asyncio.wait_for(outbox.send_all(send, send), timeout=10)

    asyncio.run(run())
    assert sent == ['{"kind": "progress", "done": 4}', b"\x04", '{"kind": "done"}'] and encoded == [4]


def test_the_motion_of_a_recording_has_a_constant_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portrait4d.studio.take.time, "monotonic", lambda: 11.0)

    @dataclasses.dataclass
    class Asked:
        begun: float
        by_hand: ByHand = dataclasses.field(default_factory=ByHand)

    @dataclasses.dataclass
    class Drawn:
        request: Asked
        motion: Motion
        image: np.ndarray

    still = free_avatar().motion
    take = Take(tmp_path / "a.mp4")
    for seconds, value in ((10.0, 0.1), (10.1, 0.2), (10.4, 0.3)):
        moved = dataclasses.replace(still, rotation=np.full((1, 3), value, np.float32))
        take.add(Drawn(Asked(seconds), moved, np.zeros((64, 64, 3), np.uint8)))  # pyright: ignore[reportArgumentType]
    assert take.finish() == 26  # until now
    motion = take.motion()
    assert motion is not None
    assert motion.rotation[:, 0].tolist() == pytest.approx([0.1] * 3 + [0.2] * 7 + [0.3])
    assert np.allclose(motion.seconds, np.arange(11) / 25)
