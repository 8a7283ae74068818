"""Who and what the studio refuses: other pages, hosts and keys, files that are too large or something else, floods."""

import io
import os
import re
import socket
import sys
import time
import zipfile
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("starlette", reason="the studio is an extra: pip install 'portrait4d[studio]'")
pytest.importorskip("httpx", reason="starlette's test client needs httpx")

from PIL import Image
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

import portrait4d.studio.app
import portrait4d.studio.content
import portrait4d.studio.leftovers
from flame.errors import InputError
from live_heads import free_models
from portrait4d.options import ReenactOptions
from portrait4d.studio import uploads
from portrait4d.studio.app import PAGE, build_app
from portrait4d.studio.camera import decode_camera
from portrait4d.studio.content import suffix_of
from portrait4d.studio.leftovers import remove_leftovers
from portrait4d.studio.messages import read_camera, read_message
from portrait4d.studio.options import StudioOptions
from portrait4d.studio.server import check_host, run_studio
from studio_page import HOST, KEY, ORIGIN, open_page, studio_client


@pytest.fixture(scope="module")
def client():
    with studio_client() as client:
        yield client


def archive(**entries: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in entries.items():
            file.writestr(name, content)
    return stream.getvalue()


def jpeg(height: int, width: int, kind: str = "JPEG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((height, width, 3), 120, np.uint8)).save(stream, kind)
    return stream.getvalue()


def test_the_page_is_served_with_a_policy_and_names_no_other_place(client) -> None:
    answer = client.get(f"/{KEY}/")
    assert answer.status_code == 200 and "portrait4d" in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"
    for path in PAGE.iterdir():
        assert client.get(f"/{KEY}/page/{path.name}").status_code == 200
        named = re.findall(r"(?:https?:)?//[\w.]+", re.sub(r"^\s*//.*$", "", path.read_text(), flags=re.MULTILINE))
        assert set(named) <= {"http://www.w3.org"}, path.name


def test_what_the_page_loads_is_there(client) -> None:
    text = client.get(f"/{KEY}/").text + "".join(path.read_text() for path in PAGE.glob("*.js"))
    named = re.findall(r'(?:href|src)="(page/[^"]+)"', text) + re.findall(r'from "\./([^"]+)"', text)
    assert len(named) > 5
    assert {Path(name).name for name in named} == {path.name for path in PAGE.iterdir()} - {"index.html"}


@pytest.mark.parametrize("path", ["/", f"/{KEY[:-1]}/", f"/{KEY}x/", "/page/main.js", f"/x/{KEY}/"])
def test_without_the_key_there_is_nothing(client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404 and "portrait4d studio" not in answer.text


@pytest.mark.parametrize(
    "host", ["evil.example:8765", "127.0.0.1:80", "127.0.0.1", "localhost.evil.example:8765", "192.168.1.5:8765"]
)
def test_another_host_name_is_refused(client, host: str) -> None:
    assert client.get(f"/{KEY}/", headers={"host": host}).status_code == 403


def test_remote_hosts_are_known_by_number_only_where_they_are_let_in() -> None:
    with studio_client(is_remote_allowed=True) as client:
        assert client.get(f"/{KEY}/", headers={"host": "192.168.1.5:8765"}).status_code == 200
        assert client.get(f"/{KEY}/", headers={"host": "evil.example:8765"}).status_code == 403


def opens(address: str, *, named: str, origin: str | None = None, **options: object) -> bool:
    """Whether a studio at `address` (host:port) takes a request that names it and its own page so."""
    app = build_app(free_models(), key=KEY, **options)  # pyright: ignore[reportArgumentType]
    with TestClient(app, base_url=f"http://{address}") as client:
        headers = {"host": named, "origin": origin or f"http://{named}"}
        return client.get(f"/{KEY}/", headers=headers).status_code == 200


def test_names_are_the_same_in_capitals_and_without_the_port_that_browsers_leave_out() -> None:
    assert opens(HOST, named="LocalHost:8765", origin="http://localhost:8765")
    assert opens(HOST, named="127.0.0.1:8765", origin="HTTP://127.0.0.1:8765")
    assert opens("127.0.0.1:80", named="localhost") and opens("127.0.0.1:80", named="localhost:80")
    assert opens("127.0.0.1:80", named="localhost", origin="http://localhost:80")
    assert not opens(HOST, named="localhost") and not opens("127.0.0.1:80", named="localhost:8765")
    assert not opens(HOST, named="localhost:8765", origin="http://127.0.0.1:8765")
    assert not opens("127.0.0.1:80", named="localhost", origin="https://localhost")


def test_the_name_that_the_studio_was_told_to_listen_at_is_its_own() -> None:
    assert opens(HOST, named="Studio.lan:8765", host="studio.lan", is_remote_allowed=True)
    assert opens(HOST, named="[fe80::1]:8765", host="fe80::1", is_remote_allowed=True)
    assert not opens(HOST, named="other.lan:8765", host="studio.lan", is_remote_allowed=True)


@pytest.mark.parametrize(
    "host", ["me@127.0.0.1:8765", "127.0.0.1:8765/x", "127.0.0.1:8765, evil.example", "127.0.0.1:8765;", "", ":8765"]
)
def test_what_is_no_host_is_refused(client, host: str) -> None:
    assert client.get(f"/{KEY}/", headers={"host": host}).status_code == 403


@pytest.mark.parametrize(
    "origin", [None, "null", "http://evil.example", "https://127.0.0.1:8765", "http://127.0.0.1:8766"]
)
def test_another_page_can_neither_connect_nor_send(client, origin: str | None) -> None:
    headers = {} if origin is None else {"origin": origin}
    with pytest.raises(WebSocketDisconnect), client.websocket_connect(f"ws://{HOST}/{KEY}/live", headers=headers):
        pass
    assert client.post(f"/{KEY}/upload/x/photo", content=b"x", headers=headers).status_code == 403


def test_a_socket_with_a_wrong_key_is_refused(client) -> None:
    address = f"ws://{HOST}/{'j' * 22}/live"
    with pytest.raises(WebSocketDisconnect), client.websocket_connect(address, headers=ORIGIN):
        pass


def test_files_that_are_too_large_are_refused_and_nothing_is_kept(client, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_page(client) as page:
        folder = client.app.state.studio.sessions[page.session].folder

        def endless():
            raise AssertionError("was read")
            yield b""

        announced = page.upload("clip", endless(), **{"content-length": str(2 * 10**9)})
        assert announced.status_code == 413 and "at most 400 MB" in announced.json()["error"]
        monkeypatch.setitem(uploads.LIMITS, "photo", 5000)
        sent = page.upload("photo", (jpeg(64, 64)[:20] + b"\0" * 1000 for _ in range(100)))
        assert sent.status_code == 413
        assert list(folder.iterdir()) == []


def test_content_counts_and_not_the_name(client, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_page(client) as page:
        folder = client.app.state.studio.sessions[page.session].folder
        for kind, content, reason in (
            ("photo", archive(photo=b"x"), "got a zip archive"),
            ("photo", b"\0\0\0\x18ftypmp42" + bytes(20), "got a video"),
            ("photo", b"%!PS-Adobe-3.0 EPSF-3.0\n", "something else"),
            ("clip", b"#EXTM3U\nfile:///etc/passwd\n", "something else"),
            ("clip", archive(photo=b"x"), "got a zip archive"),
            ("motion", jpeg(64, 64), "expected a motion file"),
            ("photo", b"", "expected a picture"),
        ):
            answer = page.upload(kind, content)
            assert answer.status_code == 415 and reason in answer.json()["error"], (kind, content[:12])
        assert list(folder.iterdir()) == []


def test_what_unpacks_to_too_much_is_refused(client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portrait4d.studio.content, "PHOTO_PIXELS", 10_000)
    monkeypatch.setattr(portrait4d.studio.content, "MOTION_INFLATED_BYTES", 10**6)
    with open_page(client) as page:
        folder = client.app.state.studio.sessions[page.session].folder
        assert page.upload("photo", jpeg(300, 300)).status_code == 200
        while (said := page.wait_any())["kind"] != "error":
            pass
        assert "at most 0 megapixels, got 300 x 300" in said["text"]
        assert page.upload("motion", archive(**{"landmarks.npy": bytes(2 * 10**6)})).status_code == 200
        while (said := page.wait_any())["kind"] != "error":
            pass
        assert "unpacked" in said["text"]
        assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["../secret", "..%2Fsecret", "%2e%2e/%2e%2e/etc/passwd", "app.py", "..", "main.js/../../app.py"]
)
def test_no_path_of_a_page_is_opened(client, name: str) -> None:
    with open_page(client) as page:
        (client.app.state.studio.folder / "secret").write_text("secret")
        for address in (f"/{KEY}/page/{name}", f"/{KEY}/result/{page.session}/{name}", f"/{KEY}/result/{name}/secret"):
            answer = client.get(address)
            assert answer.status_code == 404 or answer.headers["content-type"].startswith("text/html"), address
            assert "secret" not in answer.text.replace(name, "") and "Starlette" not in answer.text
        assert client.post(f"/{KEY}/upload/{page.session}/{name}", content=b"x", headers=ORIGIN).status_code in (
            404,
            405,
        )
        (client.app.state.studio.folder / "secret").unlink()


class Controls(HTMLParser):
    """The controls of a page by their id: attributes, and of a select the values of its options."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: dict[str, dict[str, str | None]] = {}
        self.options: dict[str, list[str | None]] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag in ("select", "input"):
            self.last = values.get("id") or ""
            self.found[self.last] = values
        elif tag == "option":
            self.options.setdefault(self.last, []).append(values.get("value"))


def test_a_page_that_is_loaded_again_shows_the_settings_that_count(client) -> None:
    """Firefox keeps what a control said before, unless it is told not to; the server begins with its defaults."""
    controls, options = Controls(client.get(f"/{KEY}/").text), ReenactOptions()
    for name in ("mode", "gaze", "expression_scale", "pose_scale", "yaw_limit"):
        assert controls.found[name].get("autocomplete") == "off", name
        if name in controls.options:
            assert controls.options[name][0] == getattr(options, name)
        else:
            assert float(controls.found[name]["value"] or "nan") == getattr(options, name)


def test_tabs_are_counted_and_a_closed_one_makes_room(client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portrait4d.studio.app, "NUM_SESSIONS", 2)
    with open_page(client) as first, open_page(client) as second:
        assert first.session != second.session
        for _ in range(50):
            with pytest.raises(WebSocketDisconnect) as refusal, open_page(client):
                pass
            assert refusal.value.code == 1013 and "close one" in refusal.value.reason
        assert len(client.app.state.studio.sessions) == 2
    with open_page(client):
        pass


def test_the_files_of_a_tab_go_with_it_and_all_with_the_studio() -> None:
    with studio_client() as client:
        root = client.app.state.studio.folder
        assert os.name == "nt" or root.stat().st_mode & 0o077 == 0
        with open_page(client) as page:
            folder = root / page.session
            (folder / "left").write_bytes(b"x")
        end = time.monotonic() + 20
        while folder.exists():  # the server ends a session after the tab has gone
            assert time.monotonic() < end
            time.sleep(0.02)
        assert root.exists()
    assert not root.exists()


def test_folders_of_killed_studios_are_removed_and_others_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portrait4d.studio.leftovers.tempfile, "gettempdir", lambda: str(tmp_path))
    dead = 2**22 - 3  # above what Linux gives by default
    for name in (
        f"portrait4d-studio-{dead}-abc",
        f"portrait4d-studio-{os.getpid()}-abc",
        "portrait4d-studio-x",
        "other",
    ):
        (tmp_path / name).mkdir()
    remove_leftovers()
    assert {path.name for path in tmp_path.iterdir()} == {
        f"portrait4d-studio-{os.getpid()}-abc",
        "portrait4d-studio-x",
        "other",
    }


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "in JSON"),
        ("[" * 10_000, "in JSON"),
        ("[]", "with a kind"),
        ('{"kind": "shell"}', "got 'shell'"),
        ('{"kind": ["hand"]}', "that this version knows"),
        ('{"kind": "draw"}', "expected a number as stamp"),
        ('{"kind": "draw", "stamp": NaN}', "expected a number as stamp"),
        ('{"kind": "draw", "stamp": ' + "9" * 400 + "}", "expected a number as stamp"),
        ('{"kind": "draw", "stamp": 1e16}', "expected a number as stamp"),
        ('{"kind": "draw", "stamp": 1, "index": -1}', "whole number from 0"),
        ('{"kind": "face", "index": true}', "whole number from 0"),
        ('{"kind": "hand", "gaze": [1]}', "gaze of two numbers"),
        ('{"kind": "hand", "yaw": 1e9}', "yaw_degrees from -60 to 60"),
        ('{"kind": "hand", "expression": {"jawOpen": "1"}}', "expected a number as jawOpen"),
        ('{"kind": "export", "what": "../x"}', "expected an export of"),
        ('{"kind": "export", "what": ["png"]}', "expected an export of"),
        ('{"kind": "export", "what": "gif", "of": "x"}', "expected a file of hand, keys, clip"),
        ('{"kind": "export", "what": "gif", "size": 10}', "expected a size from 64"),
        ('{"kind": "keys", "duration": 1, "keys": {}}', "a list of keyframes"),
        ('{"kind": "keys", "duration": 1, "keys": [1]}', "a list of keyframes"),
        ('{"kind": "keys", "duration": 1, "keys": [{"seconds": 2}]}', "keyframes from 0 to 1 s"),
        ('{"kind": "keys", "keys": [{"seconds": 0}]}', "expected a number as duration"),
        ('{"kind": "draw", "stamp": 1, "seconds": "1"}', "expected a number as seconds"),
        ('{"kind": "settings", "expression_scale": "x"}', "expected a number"),
        ('{"kind": "' + "x" * 100_000 + '"}', "at most 100000 characters"),
    ],
)  # fmt: skip
def test_messages_that_no_page_sends_are_refused(text: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        read_message(text)


def test_a_refused_message_is_answered_and_the_tab_goes_on(client) -> None:
    with open_page(client) as page:
        for message in (
            "nonsense", '{"kind": "draw", "stamp": 1}', '{"kind": "hand", "expression": {"grin": 1}}',
            '{"kind": "draw", "stamp": ' + "9" * 400 + "}", '{"kind": "\\ud800"}',
            '{"kind": "hand", "expression": {"\\ud800": 1}}', '{"kind": "hand", "yaw": ' + "9" * 400 + "}",
        ):  # fmt: skip
            page.socket.send_text(message)
            assert page.wait_any()["kind"] == "error"
        page.socket.send_bytes(b"short")
        assert "at most" in page.wait_any()["text"]


def test_pictures_of_the_camera_are_small_jpegs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert decode_camera(jpeg(48, 64)).shape == (48, 64, 3)
    for content, reason in (
        (jpeg(48, 64, "PNG"), "is damaged"), (jpeg(48, 64)[:200], "is damaged"), (b"", "is damaged"),
        (jpeg(1200, 1920), "at most 1920 x 1080, got 1920 x 1200"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=reason):
            decode_camera(content)
    with pytest.raises(InputError, match="at most 2000000 bytes"):
        read_camera(bytes(3_000_000))
    with pytest.raises(InputError, match="expected a number as stamp"):
        read_camera(b"\xff" * 20)


def test_first_bytes_name_a_file() -> None:
    assert suffix_of(jpeg(64, 64)[:16], "photo") == ".jpg" and suffix_of(jpeg(64, 64, "PNG")[:16], "photo") == ".png"
    assert suffix_of(b"RIFF\0\0\0\0WEBPVP8 ", "photo") == ".webp"
    assert suffix_of((900).to_bytes(8, "little") + b'{"__meta', "photo") == ".safetensors"
    assert suffix_of(b"\x1aE\xdf\xa3" + bytes(12), "clip") == ".mkv"
    assert suffix_of(b"\0\0\0\x14ftypqt  \0\0\0\0", "clip") == ".mp4"


def test_other_machines_are_let_in_only_on_request() -> None:
    with pytest.raises(InputError, match="add --allow-remote .* nothing on the way is encrypted"):
        run_studio(StudioOptions(host="0.0.0.0"), told=lambda address: pytest.fail("started"))
    check_host(StudioOptions(host="0.0.0.0", allow_remote=True))
    check_host(StudioOptions(host="localhost"))


def test_a_port_in_use_and_an_extra_that_is_absent_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        options = StudioOptions(port=taken.getsockname()[1])
        with pytest.raises(InputError, match="is a studio running already"):
            run_studio(options, told=lambda address: pytest.fail("started"))
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(InputError, match=r"needs uvicorn: pip install 'portrait4d\[studio\]'"):
        run_studio(StudioOptions(), told=lambda address: pytest.fail("started"))
