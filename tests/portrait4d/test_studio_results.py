"""The studio's keyframes and files: what plays is what is written, each kind can be opened, what cannot be is told."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("starlette", reason="the studio is an extra: pip install 'portrait4d[studio]'")
pytest.importorskip("httpx", reason="starlette's test client needs httpx")

import trimesh
from PIL import Image

import portrait4d.engines.lift.whole_head
import portrait4d.studio.session
from live_heads import free_avatar, portrait
from portrait4d.pipeline import Source
from portrait4d.studio.exports import name_of_export
from portrait4d.studio.messages import SetKeys, WantFile, hand_as_said, read_message
from preprocess.media.video import probe, read_frames
from preprocess.tracking.motion import Motion
from studio_page import FakePage, open_page, studio_client

KEYS = [
    {"seconds": 0.0, "expression": {}},
    {"seconds": 0.2, "expression": {"jawOpen": 0.7}, "gaze": [0.5, 0], "yaw": 12},
]
LINE = {"duration": 0.24, "keys": KEYS}


@pytest.fixture(scope="module")
def client():
    with studio_client() as client:
        yield client


@pytest.fixture
def head(client, monkeypatch: pytest.MonkeyPatch):
    """A tab with the free head."""
    with open_page(client) as page:
        known = lambda path, **_: Source(free_avatar(), portrait(), path)  # noqa: E731
        monkeypatch.setattr(portrait4d.studio.session, "build_source", known)
        stream = io.BytesIO()
        Image.fromarray(portrait()).save(stream, "JPEG")
        page.upload("photo", stream.getvalue())
        page.wait("head")
        page.wait("done")
        yield page


def difference(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.abs(first.astype(float) - second.astype(float)).mean())


def frame(page: FakePage, stamp: float, **values: Any) -> np.ndarray:
    page.say("draw", stamp=stamp, **values)
    return page.wait_frame(stamp)


def made(page: FakePage, path: Path, **wanted: Any) -> Path:
    """The file that a page asks for, at a path."""
    page.say("export", **wanted)
    path.write_bytes(page.download(page.wait("file")["name"]))
    page.wait("done")
    return path


def refusal(page: FakePage, **wanted: Any) -> str:
    page.say("export", **wanted)
    while (said := page.wait_any())["kind"] != "error":
        pass
    return said["text"]


def test_a_line_plays_through_its_keys_and_says_its_poses(head: FakePage) -> None:
    still = frame(head, 1.0)
    head.say("hand", **{name: value for name, value in KEYS[1].items() if name != "seconds"})
    opened = frame(head, 2.0)
    head.say("hand")
    head.say("keys", **LINE)
    assert difference(frame(head, 3.0, seconds=0.0), still) < 0.01
    assert difference(frame(head, 4.0, seconds=0.2), opened) < 0.01
    between = frame(head, 5.0, seconds=0.1)
    assert min(difference(between, still), difference(between, opened)) > 0.3
    poses = {said["stamp"]: said for said in head.heard if said["kind"] == "pose"}
    assert poses[4.0]["expression"] == {"jawOpen": 0.7} and poses[4.0]["yaw"] == 12
    assert poses[5.0]["yaw"] == pytest.approx(6) and poses[5.0]["seconds"] == 0.1
    head.say("keys", duration=1, keys=[])
    assert difference(frame(head, 6.0, seconds=0.2), still) < 0.01  # by hand again


def test_what_is_written_of_a_line_is_what_plays(head: FakePage, tmp_path: Path) -> None:
    head.say("keys", **LINE)
    frames = [f.image for f in read_frames(made(head, tmp_path / "a.mp4", what="mp4", of="keys", name="Ada"))]
    assert len(frames) == 6 and head.heard[-2]["name"] == "Ada-keyframes.mp4"
    for index in (0, 2, 5):
        assert difference(frames[index], frame(head, float(index), seconds=index / 25)) < 3
    assert difference(frames[0], frames[5]) > 4
    motion = Motion.load(made(head, tmp_path / "a.npz", what="motion", of="keys"))
    assert len(motion) == 6 and np.ptp(motion.values("yaw_degrees")) == pytest.approx(12, abs=1e-2)


@pytest.mark.parametrize("what", ["webm", "gif", "webp"])
def test_moving_kinds_are_written_in_a_chosen_size(head: FakePage, what: str, tmp_path: Path) -> None:
    head.say("keys", **LINE)
    has_alpha = what != "gif"
    path = made(head, tmp_path / f"a.{what}", what=what, of="keys", transparent=has_alpha, size=128)
    if what == "webm":
        info = probe(path)
        assert (info.height, info.width) == (128, 128) and len(list(read_frames(path))) == 6
        return
    with Image.open(path) as picture:
        assert picture.size == (128, 128) and picture.n_frames == 6  # pyright: ignore[reportAttributeAccessIssue]
        assert has_alpha == (np.asarray(picture.convert("RGBA"))[..., 3].min() < 20)


def test_the_whole_head_is_written_with_its_morph_targets(
    head: FakePage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(portrait4d.engines.lift.whole_head, "TEXTURE_SIZE", 1024)
    path = made(head, tmp_path / "a.glb", what="head")
    assert b'"targetNames"' in path.read_bytes() and b"jawOpen" in path.read_bytes()
    mesh = trimesh.load(path, force="mesh")
    assert isinstance(mesh, trimesh.Trimesh) and len(mesh.faces) > 9_000


def test_files_that_cannot_be_are_told_at_once(head: FakePage) -> None:
    assert "expected keyframes, got none" in refusal(head, what="gif", of="keys")
    assert "expected a clip or motion, got none" in refusal(head, what="gif", of="clip")
    assert "webm, webp, png for a transparent background, got gif" in refusal(head, what="gif", transparent=True)
    assert "moving picture of a clip for side by side" in refusal(head, what="mp4", side_by_side=True)
    assert "expected a size from 64" in refusal(head, what="mp4", size=5000)
    assert not any(said["kind"] == "progress" and said["work"] == "export" for said in head.heard)


def test_a_file_that_is_cancelled_is_not_kept(head: FakePage, client) -> None:
    folder = client.app.state.studio.sessions[head.session].folder
    before = set(folder.iterdir())
    head.say("export", what="webp")
    head.say("cancel")
    while not (said := head.wait_any()).get("cancelled"):
        assert said["kind"] == "progress", said
    assert set(folder.iterdir()) == before


def test_the_sample_is_a_head_that_moves(client, monkeypatch: pytest.MonkeyPatch) -> None:
    known = lambda path, **_: Source(free_avatar(), portrait(), path)  # noqa: E731
    monkeypatch.setattr(portrait4d.studio.session, "build_source", known)
    with open_page(client) as page:
        page.say("sample")
        page.wait("head")
        said = page.wait("clip")
        assert said["is_motion"] and said["num_frames"] > 50
        page.wait("done")
        first, later = frame(page, 1.0, index=0), frame(page, 2.0, index=said["num_frames"] // 2)
        assert difference(first, later) > 1


def test_names_of_files_say_what_they_are_and_are_never_the_same() -> None:
    taken: list[str] = []
    for _ in range(3):
        taken.append(name_of_export(WantFile("gif", "hand", False, False, None, "photo"), taken))
    assert taken == ["photo-turn.gif", "photo-turn-2.gif", "photo-turn-3.gif"]
    wanted = (
        *(WantFile("motion", "hand", False, False, None, "a"), WantFile("motion", "keys", False, False, None, "a")),
        *(WantFile("png", "keys", False, False, None, "a"), WantFile("head", "clip", False, False, None, "a")),
    )
    names = [name_of_export(item, ()) for item in wanted]
    assert names == ["a-pose.npz", "a-keyframes.npz", "a-picture.png", "a-head.glb"]


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        *(("../../etc/passwd", "etc-passwd"), ("Zoë & Max", "Zo-Max"), ("x" * 500, "x" * 40)),
        *(("..", "portrait4d"), (7, "portrait4d")),
    ],
)
def test_a_page_names_files_by_harmless_letters(name: Any, plain: str) -> None:
    said = read_message(json.dumps({"kind": "export", "what": "png", "name": name}))
    assert isinstance(said, WantFile) and said.name == plain


def test_a_pose_is_said_as_it_is_heard() -> None:
    said = read_message(json.dumps({"kind": "keys", **LINE}))
    assert isinstance(said, SetKeys) and said.line is not None
    again = [{"seconds": key["seconds"], **hand_as_said(pose)} for key, pose in zip(KEYS, said.line.poses, strict=True)]
    assert read_message(json.dumps({"kind": "keys", "duration": 0.24, "keys": again})) == said


def test_unknown_expressions_of_a_line_are_refused(head: FakePage) -> None:
    head.say("keys", duration=1, keys=[{"seconds": 0, "expression": {"grin": 1}}])
    assert "got 'grin'" in head.wait_any()["text"]
