"""The studio as a process, asked by hand-written requests: a flood of sockets, a body of 2 GB, a kill."""

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

pytest.importorskip("uvicorn", reason="the studio is an extra: pip install 'portrait4d[studio]'")

from studio_browser import StudioProcess, studio_process

pytestmark = pytest.mark.slow


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[StudioProcess]:
    with studio_process(tmp_path) as studio:
        yield studio


def ask(studio: StudioProcess, line: str, *headers: str, port: int | None = None) -> socket.socket:
    """Sends the head of a request and returns its connection."""
    place = urlsplit(studio.address)
    connection = socket.create_connection(("127.0.0.1", place.port or 0), timeout=20)
    host = f"127.0.0.1:{port or place.port}"
    head = [line.replace("KEY", place.path.strip("/")), f"Host: {host}", f"Origin: http://{host}", *headers, "", ""]
    connection.sendall("\r\n".join(head).encode())
    return connection


def status(connection: socket.socket) -> int:
    return int(connection.recv(4096).split(b" ")[1])


UPGRADE = (
    *("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"),
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


def test_a_thousand_sockets_are_refused_but_few_and_the_page_is_there_again(studio: StudioProcess) -> None:
    connections, codes = [], []
    for _ in range(1000):
        try:
            connections.append(ask(studio, "GET /KEY/live HTTP/1.1", *UPGRADE))
            codes.append(status(connections[-1]))
        except OSError:
            codes.append(0)
    assert 1 <= codes.count(101) <= 8 and codes.count(403) + codes.count(503) + codes.count(0) >= 992
    assert len(list(studio.folder.iterdir())) == codes.count(101)
    for connection in connections:
        connection.close()
    end = time.monotonic() + 60
    while list(studio.folder.iterdir()):
        assert time.monotonic() < end
        time.sleep(0.1)
    with ask(studio, "GET /KEY/ HTTP/1.1", "Connection: close") as connection:
        assert status(connection) == 200


def test_two_gigabytes_are_refused_before_they_are_sent(studio: StudioProcess) -> None:
    with ask(studio, "GET /KEY/live HTTP/1.1", *UPGRADE) as tab:
        assert status(tab) == 101
        (folder,) = studio.folder.iterdir()
        line = f"POST /KEY/upload/{folder.name}/clip HTTP/1.1"
        with ask(studio, line, "Content-Length: 2000000000") as connection:
            assert status(connection) == 413
        assert list(folder.iterdir()) == []


def test_what_a_killed_studio_left_the_next_one_removes(studio: StudioProcess) -> None:
    left = studio.folder
    with ask(studio, "GET /KEY/live HTTP/1.1", *UPGRADE) as tab:
        assert status(tab) == 101
        os.kill(studio.process.pid, signal.SIGKILL)
        studio.process.wait(30)
    assert left.is_dir() and list(left.iterdir())
    with studio_process(studio.home) as second:
        assert not left.exists() and second.folder.is_dir()
        with ask(second, "GET /KEY/ HTTP/1.1", "Connection: close") as connection:  # it serves, so it can be stopped
            assert status(connection) == 200
