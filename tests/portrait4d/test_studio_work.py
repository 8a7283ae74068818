"""Work of the studio's pages: one thing a page, pages in turn, cancel at any time, and what is left behind: nothing."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the studio is an extra: pip install 'portrait4d[studio]'")

from starlette.websockets import WebSocketDisconnect

from flame.errors import InputError
from live_heads import free_models
from portrait4d.runtime.progress import Progress
from portrait4d.studio.app import Studio
from portrait4d.studio.lanes import Duration, Lanes
from portrait4d.studio.work import Job, Work


class Heard:
    """An outbox that keeps what is said."""

    def __init__(self) -> None:
        self.said: list[tuple[str, dict[str, Any]]] = []
        self.changed = threading.Condition()

    def say(self, kind: str, **values: Any) -> None:
        with self.changed:
            self.said.append((kind, values))
            self.changed.notify_all()

    def wait(self, kind: str, **wanted: Any) -> dict[str, Any]:
        def found() -> dict[str, Any] | None:
            return next((v for k, v in self.said if k == kind and wanted.items() <= v.items()), None)

        with self.changed:
            assert self.changed.wait_for(lambda: found() is not None, timeout=20), self.said
            return found() or {}


class Page:
    """A page whose jobs last until it is told that they end."""

    def __init__(self, lanes: Lanes) -> None:
        self.heard, self.gate, self.undone = Heard(), threading.Event(), []
        self.work = Work(lanes, self.heard)  # pyright: ignore[reportArgumentType]

    def start(self, name: str, duration: Duration = "minutes", **options: Any) -> None:
        self.work.start(Job(name, self._run, lambda: self.undone.append(name), duration), **options)

    def _run(self, progress: Progress) -> None:
        assert self.gate.wait(20)
        progress("step", 1, 2)


@pytest.fixture
def lanes() -> Iterator[Lanes]:
    lanes = Lanes()
    yield lanes
    lanes.close()


@pytest.fixture
def new_page(lanes: Lanes) -> Iterator[Callable[[], Page]]:
    pages: list[Page] = []

    def make() -> Page:
        pages.append(Page(lanes))
        return pages[-1]

    yield make
    for page in pages:
        page.gate.set()
        page.work.end()


def test_a_photo_never_waits_for_videos_and_pages_take_turns(new_page: Callable[[], Page]) -> None:
    first, second, third, fourth = (new_page() for _ in range(4))
    for page in (first, second, third, fourth):
        page.start("video")
    for page, has_to_wait in ((first, False), (second, False), (third, True), (fourth, True)):
        assert any(kind == "warning" for kind, _ in page.heard.said) == has_to_wait
    with pytest.raises(InputError, match="something is being done already"):
        first.start("another")
    fifth = new_page()
    fifth.start("photo", "seconds")
    fifth.gate.set()
    fifth.heard.wait("done", work="photo")
    first.gate.set()
    first.heard.wait("done", work="video")
    first.start("another")  # behind the two that came before
    third.heard.wait("progress", work="video")
    assert not any(kind == "progress" for kind, _ in fourth.heard.said)
    second.gate.set()
    fourth.heard.wait("progress", work="video")
    assert not any(values.get("work") == "another" for _, values in first.heard.said)


def test_what_waits_is_cancelled_at_once_and_undone(new_page: Callable[[], Page]) -> None:
    busy = [new_page(), new_page()]
    for page in busy:
        page.start("video")
    waiting = new_page()
    waiting.start("clip")
    waiting.work.cancel()
    assert waiting.heard.wait("done", work="clip")["cancelled"] and waiting.undone == ["clip"]
    waiting.start("photo", "seconds")
    waiting.work.cancel()
    waiting.gate.set()
    assert waiting.heard.wait("done", work="photo")["cancelled"] and waiting.undone == ["clip", "photo"]


def test_a_recording_is_finished_after_what_is_being_done(new_page: Callable[[], Page]) -> None:
    """Its end was refused while a video was written, and the recording was lost."""
    page = new_page()
    page.start("export")
    page.start("record", "seconds", may_wait=True)
    assert page.work.is_waiting
    page.gate.set()
    page.heard.wait("done", work="record")
    assert [values["work"] for kind, values in page.heard.said if kind == "done"] == ["export", "record"]
    assert page.undone == []


def test_a_page_that_has_gone_begins_nothing(new_page: Callable[[], Page]) -> None:
    page = new_page()
    page.start("export")
    page.start("record", may_wait=True)
    ending = threading.Thread(target=page.work.end)
    ending.start()
    while not page.undone:
        pass
    page.gate.set()
    ending.join(20)
    assert page.undone == ["record", "export"]
    with pytest.raises(InputError, match="no longer connected"):
        page.start("photo")


class DeadSocket:
    """A tab that goes before its handshake ends."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def accept(self) -> None:
        raise self.error


@pytest.mark.parametrize("error", [WebSocketDisconnect(1006), RuntimeError("connection lost"), OSError("broken pipe")])
def test_a_failed_handshake_gives_its_place_back(error: Exception) -> None:
    async def run() -> None:
        studio = Studio(free_models())
        try:
            await asyncio.gather(studio.socket(DeadSocket(error)), return_exceptions=True)  # pyright: ignore
            assert studio.sessions == {} and list(studio.folder.iterdir()) == []
        finally:
            studio.close()

    asyncio.run(run())


def test_the_files_of_a_tab_that_the_server_cancels_are_removed() -> None:
    """A second cancellation, as of a server's own shutdown, kept the end from running."""

    class OpenSocket:
        async def accept(self) -> None:
            pass

        async def receive(self) -> dict:
            await asyncio.sleep(60)
            return {}

        async def send_text(self, text: str) -> None:
            pass

        send_bytes = send_text

    async def run() -> None:
        studio = Studio(free_models())
        task = asyncio.create_task(studio.socket(OpenSocket()))  # pyright: ignore[reportArgumentType]
        await asyncio.sleep(0.05)
        (folder,) = studio.folder.iterdir()
        for _ in range(10):
            task.cancel()
            await asyncio.sleep(0)
        for _ in range(500):
            if not folder.exists():
                break
            await asyncio.sleep(0.02)
        assert not folder.exists()
        studio.close()

    asyncio.run(run())


def test_a_file_that_arrives_after_its_tab_has_gone_is_removed(tmp_path: Path) -> None:
    async def run() -> None:
        studio, seen = Studio(free_models()), []

        class LeavingSocket:
            async def accept(self) -> None:
                seen.extend(studio.sessions.values())
                raise WebSocketDisconnect(1006)

        await studio.socket(LeavingSocket())  # pyright: ignore[reportArgumentType]
        late = tmp_path / "1.png"
        late.write_bytes(b"x")
        with pytest.raises(InputError, match="no longer connected"):
            seen[0].load("photo", late)
        assert not late.exists()
        studio.close()

    asyncio.run(run())
