"""A studio in a process of its own, and Debian's Chromium that opens it, with a camera that plays a file."""

from __future__ import annotations

import base64
import io
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from places import ROOT

FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--autoplay-policy=no-user-gesture-required"),
    *("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"),
)


def chromium() -> str:
    """The browser's path; the test is skipped where it is absent."""
    pytest.importorskip("playwright", reason="browser tests need playwright: pip install playwright")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("browser tests need Chromium: apt install chromium")
    return found


class StudioProcess:
    """A running `portrait4d studio`.

    Attributes:
        address: what to open.
        folder: where the sessions' files are.
    """

    def __init__(self, home: Path) -> None:
        environment = {**os.environ, "TMPDIR": str(home)}
        command = [sys.executable, "-m", "portrait4d.cli.main", "studio", "--port", "0", "--no-browser"]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment
        )
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip()
        assert self.address.startswith("http://127.0.0.1:"), self.process.communicate()
        self.home = home

    @property
    def folder(self) -> Path:
        (folder,) = self.home.glob("portrait4d-studio-*")
        return folder

    def stop(self) -> tuple[int, str]:
        """Ends it as Ctrl-C does; returns its exit code and what it said."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        said, errors = self.process.communicate(timeout=60)
        return self.process.returncode, said + errors


@contextmanager
def studio_process(home: Path) -> Iterator[StudioProcess]:
    studio = StudioProcess(home)
    try:
        yield studio
    finally:
        studio.stop()


def write_camera(path: Path, pictures: Iterable[np.ndarray]) -> Path:
    """Writes pictures uint8 `[H, W, 3]` RGB as the file that Chromium's fake camera plays again and again."""
    with path.open("wb") as file:
        for picture in pictures:
            file.write(cv2.imencode(".jpg", np.ascontiguousarray(picture[..., ::-1]))[1].tobytes())
    return path


@contextmanager
def browser(camera: Path | None = None) -> Iterator[Any]:
    """Chromium without a window."""
    program = chromium()
    from playwright.sync_api import sync_playwright

    flags = [*FLAGS, *([] if camera is None else [f"--use-file-for-fake-video-capture={camera}"])]
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program, args=flags)
        try:
            yield running
        finally:
            running.close()


def wait_for(page: Any, expression: str, *, seconds: float = 60) -> None:
    """Waits until an expression holds on the page; its policy forbids the wait of playwright."""
    end = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < end, expression
        page.wait_for_timeout(50)


def open_studio(running: Any, address: str, **options: Any) -> Any:
    """A tab that is connected; `page.errors` collects what fails on it."""
    page = running.new_context(**{"viewport": {"width": 1280, "height": 860}, **options}).new_page()
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on("console", lambda line: page.errors.append(line.text) if line.type == "error" else None)
    page.goto(address)
    wait_for(page, "window.studio && studio.link.session !== ''")
    return page


def give_photo(page: Any, photo: Path) -> None:
    page.set_input_files("#photo", str(photo))
    page.wait_for_selector("#drop", state="hidden", timeout=60_000)
    wait_for(page, "studio.shown > 0 && studio.isIdle")


def head_picture(page: Any) -> np.ndarray:
    """What the canvas shows, uint8 `[H, W, 3]` RGB."""
    address = page.evaluate("document.getElementById('head').toDataURL('image/png')")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))).convert("RGB"))


def set_slider(page: Any, name: str, value: float) -> np.ndarray:
    """Moves a slider as a hand does; returns the picture that answers."""
    page.evaluate(
        "([name, value]) => { const slider = document.getElementById(name); slider.value = value;"
        " slider.dispatchEvent(new Event('input', { bubbles: true })); }",
        [name, value],
    )
    wait_for(page, "studio.isIdle")
    return head_picture(page)
