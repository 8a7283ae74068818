"""A page of the studio without a browser: what it says on its socket, and what it hears."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
from starlette.testclient import TestClient, WebSocketTestSession

from live_heads import free_models
from portrait4d.studio.app import build_app

KEY = "k" * 22
HOST = "127.0.0.1:8765"
ORIGIN = {"origin": f"http://{HOST}"}


@contextmanager
def studio_client(**options: Any) -> Iterator[TestClient]:
    """A running studio with the free head's models."""
    with TestClient(build_app(free_models(), key=KEY, **options), base_url=f"http://{HOST}") as client:
        yield client


class FakePage:
    """One tab."""

    def __init__(self, client: TestClient, socket: WebSocketTestSession) -> None:
        self.client, self.socket = client, socket
        self.heard: list[dict[str, Any]] = []
        self.session: str = self.wait("hello")["session"]

    def say(self, kind: str, **values: Any) -> None:
        self.socket.send_text(json.dumps({"kind": kind, **values}))

    def send_camera(self, stamp: float, image: np.ndarray) -> None:
        jpeg = cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]))[1].tobytes()
        self.socket.send_bytes(struct.pack("<d", stamp) + jpeg)

    def upload(self, kind: str, content: Any, **headers: str):
        address = f"/{KEY}/upload/{self.session}/{kind}"
        return self.client.post(address, content=content, headers={**ORIGIN, **headers})

    def download(self, name: str) -> bytes:
        answer = self.client.get(f"/{KEY}/result/{self.session}/{name}")
        assert answer.status_code == 200
        return answer.content

    def wait_any(self) -> dict[str, Any]:
        """The next message of any kind."""
        while True:
            message = self.socket.receive()
            if message.get("text") is not None:
                return self._hear(message["text"])

    def _hear(self, text: str) -> dict[str, Any]:
        self.heard.append(json.loads(text))
        return self.heard[-1]

    def wait(self, kind: str) -> dict[str, Any]:
        """The next message of a kind; an error that was not waited for fails the test."""
        while True:
            message = self.socket.receive()
            if message.get("text") is None:
                continue
            said = self._hear(message["text"])
            if said["kind"] == kind:
                return said
            assert said["kind"] != "error", said

    def wait_frame(self, stamp: float) -> np.ndarray:
        """The drawn frame of a stamp, uint8 `[H, W, 3]` RGB."""
        while True:
            message = self.socket.receive()
            if message.get("bytes") is not None:
                found, _ = struct.unpack_from("<dI4x", message["bytes"])
                if found == stamp:
                    pixels = cv2.imdecode(np.frombuffer(message["bytes"][16:], np.uint8), cv2.IMREAD_COLOR)
                    assert pixels is not None
                    return pixels[..., ::-1]
            else:
                said = self._hear(message["text"])
                assert said["kind"] != "error", said


@contextmanager
def open_page(client: TestClient) -> Iterator[FakePage]:
    with client.websocket_connect(f"ws://{HOST}/{KEY}/live", headers=ORIGIN) as socket:
        yield FakePage(client, socket)
