"""The studio's page in a real browser: photo in, sliders and camera move it, files play, tabs and server end."""

import base64
import contextlib
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("starlette", reason="the studio is an extra: pip install 'portrait4d[studio]'")

from live_heads import free_models, portrait, rolled
from preprocess.media.image import write_png
from preprocess.media.video_writer import VideoWriter
from preprocess.tracking.motion import Motion
from studio_browser import (
    StudioProcess,
    browser,
    chromium,
    give_photo,
    head_picture,
    open_studio,
    set_slider,
    studio_process,
    wait_for,
    write_camera,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The free portrait, a clip of it rolling, and the same as a camera."""
    chromium()
    folder = tmp_path_factory.mktemp("material")
    sway = [rolled(8 * np.sin(2 * np.pi * index / 50)) for index in range(50)]
    write_png(folder / "photo.png", portrait())
    write_camera(folder / "camera.mjpeg", sway)
    with VideoWriter(folder / "sway.mp4", height=512, width=512, frame_rate=Fraction(25)) as writer:
        for picture in sway[:20]:
            writer.write(picture)
    return folder


@pytest.fixture(scope="module")
def studio(material: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StudioProcess]:
    with studio_process(tmp_path_factory.mktemp("home")) as studio:
        yield studio


@pytest.fixture(scope="module")
def running(material: Path) -> Iterator[Any]:
    with browser(material / "camera.mjpeg") as running:
        yield running


@pytest.fixture
def page(running: Any, studio: StudioProcess, material: Path) -> Iterator[Any]:
    """A tab with a head."""
    page = open_studio(running, studio.address)
    give_photo(page, material / "photo.png")
    yield page
    assert page.errors == []
    page.context.close()


def track(picture: np.ndarray) -> Motion:
    return free_models().tracker.track_image(picture).motion


def difference(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.abs(first.astype(float) - second.astype(float)).mean())


def wait_until(is_so: Any, *, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_sliders_move_the_picture_as_the_tracker_reads_it(page: Any) -> None:
    at_rest = head_picture(page)
    rest = track(at_rest)
    opened = track(set_slider(page, "jawOpen", 0.7))
    assert opened.values("jawOpen")[0] - rest.values("jawOpen")[0] > 0.3
    page.click("#reset")
    shut = track(set_slider(page, "eyeBlinkLeft", 1))  # with both sides together
    assert shut.eye_open.max() < 0.5 * rest.eye_open.min()
    page.click("#reset")
    aside = track(set_slider(page, "gaze-x", 0.7))
    assert aside.values("gaze")[0, 0] - rest.values("gaze")[0, 0] > 0.25
    page.click("#reset")
    turned = track(set_slider(page, "yaw", 14))
    assert turned.values("yaw_degrees")[0] - rest.values("yaw_degrees")[0] == pytest.approx(14, abs=4)
    page.click("#reset")
    assert difference(set_slider(page, "roll", 0), at_rest) < 1


def test_a_photo_is_dropped_and_settings_reach_the_head(running: Any, studio: StudioProcess, material: Path) -> None:
    page = open_studio(running, studio.address)
    page.evaluate(
        "(data) => { const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));"
        " const transfer = new DataTransfer();"
        " transfer.items.add(new File([bytes], 'photo.png', { type: 'image/png' }));"
        " dispatchEvent(new DragEvent('drop', { dataTransfer: transfer, cancelable: true })); }",
        base64.b64encode((material / "photo.png").read_bytes()).decode(),
    )
    wait_for(page, "studio.shown > 0 && studio.isIdle")
    page.set_input_files("#clip", str(material / "sway.mp4"))
    page.wait_for_selector("#play[aria-pressed=true]", timeout=60_000)
    for slider, value in (("pose_scale", 0), ("expression_scale", 0)):
        page.evaluate(
            "([name, value]) => { const slider = document.getElementById(name);"
            " slider.value = value; slider.oninput(); }",
            [slider, value],
        )
    page.wait_for_timeout(1500)
    rolls = []
    for _ in range(4):
        rolls.append(track(head_picture(page)).values("roll_degrees")[0])
        page.wait_for_timeout(300)
    assert max(rolls) - min(rolls) < 1.5  # the clip's is 16
    assert page.errors == []
    page.context.close()


def test_mouse_and_keys_turn_the_head(page: Any) -> None:
    before = head_picture(page)
    box = page.locator("#head").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + box["height"] / 2, steps=6)
    page.mouse.up()
    assert page.evaluate("studio.sliders.value('yaw')") > 10
    wait_until(lambda: difference(before, head_picture(page)) > 2)
    page.focus("#head")
    page.keyboard.press("0")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    assert page.evaluate("[studio.sliders.value('yaw'), studio.sliders.value('pitch')]") == [0, 6]
    page.keyboard.press("r")
    assert page.evaluate("studio.sliders.value('pitch')") == 0


def test_the_webcam_drives_and_the_page_says_how_fast(page: Any) -> None:
    page.click("#by-camera")
    wait_for(page, "studio.shown > 10")
    pictures = []
    for _ in range(12):
        pictures.append(head_picture(page))
        page.wait_for_timeout(200)
    assert max(difference(pictures[0], picture) for picture in pictures) > 2
    rolls = [track(picture).values("roll_degrees")[0] for picture in pictures]
    assert 6 < max(rolls) - min(rolls) < 24  # the camera's is 16
    rates = page.evaluate("studio.meter.rates()")
    assert rates["count"] > 5 and rates["p50"] <= rates["p95"]
    print(f"webcam at 512: {rates['fps']:.1f} frames/s, p50 {rates['p50']:.0f} ms, p95 {rates['p95']:.0f} ms")
    page.click("#neutral")
    page.click("#by-hand")
    shown = page.evaluate("studio.shown")
    page.wait_for_timeout(1500)
    assert page.evaluate("studio.shown") <= shown + 3  # the camera is off


def test_a_photo_taken_by_the_webcam_becomes_the_head(running: Any, studio: StudioProcess) -> None:
    page = open_studio(running, studio.address)
    page.click("#by-camera")
    page.wait_for_timeout(1000)
    page.click("#snap")
    wait_for(page, "studio.shown > 3")  # at once driven by the same webcam
    assert track(head_picture(page)).valid.all() and page.errors == []
    page.context.close()


def test_a_clip_plays_and_its_export_plays(page: Any, material: Path, tmp_path: Path) -> None:
    page.set_input_files("#clip", str(material / "sway.mp4"))
    page.wait_for_selector("#play[aria-pressed=true]", timeout=60_000)
    wait_for(page, "studio.shown > 10")
    assert page.locator("#driver-panel").is_visible()
    page.check("#side-by-side")
    assert page.input_value("#of") == "clip" and page.is_disabled("#transparent")
    page.click("#write")
    page.wait_for_selector("#files video", timeout=60_000)
    wait_for(page, "document.querySelector('#files video').readyState >= 2")
    width, seconds = page.evaluate(
        "(() => { const video = document.querySelector('#files video'); return [video.videoWidth, video.duration]; })()"
    )
    assert width == 3 * 512 and seconds == pytest.approx(0.8, abs=0.1)
    with page.expect_download() as download:
        page.click("#files a")
    download.value.save_as(tmp_path / "a.mp4")
    assert (tmp_path / "a.mp4").read_bytes()[4:8] == b"ftyp"


def seconds_of_keys(page: Any) -> list[float]:
    return [key["seconds"] for key in page.evaluate("studio.line.state.keys")]


def put_time(page: Any, seconds: float) -> None:
    page.evaluate(
        "(seconds) => { const time = document.getElementById('line-time'); time.value = seconds; time.oninput(); }",
        seconds,
    )
    wait_for(page, "studio.isIdle")


def test_keyframes_are_set_moved_and_removed_by_keys_and_mouse(page: Any) -> None:
    page.keyboard.press("k")
    put_time(page, 2)
    set_slider(page, "yaw", 16)
    page.click("#line-add")
    assert seconds_of_keys(page) == [0, 2]
    set_slider(page, "yaw", 12)  # of the keyframe that is selected
    assert page.evaluate("studio.line.state.keys[1].yaw") == 12
    page.focus(".key >> nth=1")
    for key in ("ArrowLeft", "Shift+ArrowLeft"):
        page.keyboard.press(key)
    assert seconds_of_keys(page) == [0, 1.56]
    assert page.get_attribute(".key >> nth=1", "aria-valuetext") == "1.56 seconds, 1 sliders set"
    assert page.get_attribute(".key >> nth=1", "aria-label") == "Keyframe 2 of 2"
    box, lane = page.locator(".key >> nth=1").bounding_box(), page.locator("#line-lane").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(lane["x"] + lane["width"] - 1, box["y"] + box["height"] / 2, steps=5)
    page.mouse.up()
    assert seconds_of_keys(page) == [0, 4]
    page.focus(".key >> nth=0")
    assert page.evaluate("studio.sliders.value('yaw')") == 0  # focus selects
    page.keyboard.press("End")  # where another is already: beside it
    assert seconds_of_keys(page) == [0, 4]
    page.keyboard.press("Delete")
    assert seconds_of_keys(page) == [4] and page.evaluate("document.activeElement.className") == "key selected"
    page.click("#line-remove")
    assert seconds_of_keys(page) == [] and page.is_disabled("#line-play")


def test_keyframes_play_as_the_picture_of_their_moments(page: Any) -> None:
    still = head_picture(page)
    page.click("#line-add")
    put_time(page, 1)
    turned = set_slider(page, "yaw", 18)
    page.click("#line-add")
    page.fill("#line-length", "1")
    page.press("#line-length", "Enter")
    put_time(page, 0.52)
    assert 5 < page.evaluate("studio.sliders.value('yaw')") < 13  # the sliders follow
    assert min(difference(head_picture(page), still), difference(head_picture(page), turned)) > 1
    put_time(page, 1)
    assert difference(head_picture(page), turned) < 0.5
    page.click("#line-play")
    shown = page.evaluate("studio.shown")
    wait_for(page, f"studio.shown > {shown + 8}")
    page.click("#line-play")
    wait_for(page, "studio.isIdle")
    paused, yaw = head_picture(page), page.evaluate("studio.sliders.value('yaw')")
    assert difference(set_slider(page, "yaw", yaw), paused) < 1.5  # sliders and picture are of one moment
    page.select_option("#what", "webp")
    page.select_option("#size", "256")
    page.click("#write")
    page.wait_for_selector("#files img", timeout=60_000)
    wait_for(page, "document.querySelector('#files img').naturalWidth === 256")
    assert page.inner_text("#files a").startswith("photo-keyframes.webp")


def test_one_click_shows_a_face_that_moves(running: Any, studio: StudioProcess) -> None:
    page = open_studio(running, studio.address)
    page.get_by_role("button", name="Try it with a sample photo").click()
    wait_for(page, "studio.shown > 3", seconds=120)
    first = head_picture(page)
    wait_until(lambda: difference(first, head_picture(page)) > 1)
    assert page.errors == []
    page.context.close()


def test_a_recording_can_be_played(page: Any) -> None:
    page.click("#record")
    for index in range(6):
        set_slider(page, "yaw", 5 * index)
    page.click("#record")
    page.wait_for_selector("#files video", timeout=60_000)
    wait_for(page, "document.querySelector('#files video').readyState >= 2")


def test_a_moving_picture_given_as_clip_leaves_the_head(page: Any, tmp_path: Path) -> None:
    """It was taken for a photo, and its head came in the place of the one that it should drive."""
    pictures = [Image.fromarray(rolled(degrees)) for degrees in range(6)]
    pictures[0].save(tmp_path / "sway.webp", save_all=True, append_images=pictures[1:], duration=40)
    page.set_input_files("#clip", str(tmp_path / "sway.webp"))
    page.wait_for_selector("#play[aria-pressed=true]", timeout=60_000)


def test_the_choice_of_a_face_goes_with_its_photo(page: Any, material: Path, tmp_path: Path) -> None:
    two = np.concatenate([portrait(), portrait()[:, ::-1]], axis=1)
    write_png(tmp_path / "two.png", two)
    page.set_input_files("#photo-again", str(tmp_path / "two.png"))
    page.wait_for_selector("#faces button", timeout=60_000)
    page.set_input_files("#photo-again", str(material / "photo.png"))
    page.wait_for_selector("#faces", state="hidden", timeout=60_000)


def test_keys_count_after_a_button_was_clicked(page: Any) -> None:
    page.keyboard.press("n")
    assert "neutral" not in page.inner_text("#notices")  # there is no camera to hold still before
    page.click("#by-camera")
    wait_for(page, "studio.shown > 3")
    page.keyboard.press("n")
    assert "count as neutral" in page.inner_text("#notices")
    page.evaluate("studio.sliders.turn(9, 0)")
    page.keyboard.press("r")
    assert page.evaluate("studio.sliders.value('yaw')") == 0


def test_a_second_click_waits_for_the_same_camera(page: Any) -> None:
    """Else the first one's light stays on for ever."""
    page.evaluate(
        "() => { window.opened = []; const media = navigator.mediaDevices, open = media.getUserMedia.bind(media);"
        " media.getUserMedia = async (...wanted) => {"
        " const stream = await open(...wanted); opened.push(stream); return stream; };"
        " const button = document.getElementById('by-camera'); button.click(); button.click(); }"
    )
    wait_for(page, "studio.shown > 3")
    page.click("#by-hand")
    assert page.evaluate("opened.flatMap((stream) => stream.getTracks()).map((track) => track.readyState)") == ["ended"]


def test_two_tabs_are_apart_and_a_dead_one_leaves_nothing(running: Any, studio: StudioProcess, material: Path) -> None:
    first, second = open_studio(running, studio.address), open_studio(running, studio.address)
    for page in (first, second):
        give_photo(page, material / "photo.png")
    still = head_picture(second)
    set_slider(first, "yaw", 20)
    assert difference(still, head_picture(second)) == 0
    assert len(list(studio.folder.iterdir())) == 2
    first.context.close()
    wait_until(lambda: len(list(studio.folder.iterdir())) == 1)
    with contextlib.suppress(Exception):  # the tab dies, which is the point
        second.goto("chrome://crash", timeout=3000)
    wait_until(lambda: not list(studio.folder.iterdir()))


def test_nothing_is_asked_of_another_place_and_another_page_gets_in_nowhere(
    running: Any, studio: StudioProcess
) -> None:
    page = running.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(studio.address)
    wait_for(page, "studio.link.session !== ''")
    assert len(asked) > 5 and all(url.startswith((studio.address, "blob:", "data:")) for url in asked)
    page.goto("about:blank")
    said = page.evaluate(
        "(place) => new Promise((done) => { const socket = new WebSocket(place);"
        " socket.onopen = () => done('open'); socket.onclose = () => done('closed'); })",
        studio.address.replace("http", "ws") + "live",
    )
    assert said == "closed"
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_all_of_it_and_every_control_has_a_name(
    running: Any, studio: StudioProcess, scheme: str, tmp_path: Path
) -> None:
    page = open_studio(running, studio.address, viewport={"width": 360, "height": 740}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    unnamed = page.evaluate(
        "[...document.querySelectorAll('input, select, button, video, canvas')].filter((item) => !(item.labels?.length"
        " || item.ariaLabel || item.textContent.trim())).map((item) => item.outerHTML)"
    )
    assert unnamed == []
    light = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    page.click("#theme")
    assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") != light
    page.context.close()


def test_a_photo_that_is_none_is_told_on_the_page(running: Any, studio: StudioProcess, tmp_path: Path) -> None:
    (tmp_path / "face.jpg").write_bytes(b"PK\x03\x04" + bytes(100))
    page = open_studio(running, studio.address)
    page.set_input_files("#photo", str(tmp_path / "face.jpg"))
    page.wait_for_selector("#notices li.error")
    assert "got a zip archive" in page.inner_text("#notices")
    page.context.close()


def test_a_page_says_that_its_studio_has_ended(running: Any, tmp_path: Path) -> None:
    with studio_process(tmp_path) as studio:
        page = open_studio(running, studio.address)
        code, said = studio.stop()
    assert code == 0, said
    page.wait_for_selector("#link.bad", timeout=30_000)
    assert "has ended" in page.inner_text("#link")
    assert list(tmp_path.iterdir()) == [] and "Traceback" not in said
    page.context.close()
