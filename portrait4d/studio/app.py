"""The web application: the page, one socket a tab, files in and out. Everything lies behind the key."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast, get_args

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from flame.errors import InputError
from portrait4d.reenactment.models import Models
from portrait4d.studio.content import Kind
from portrait4d.studio.guard import Guard
from portrait4d.studio.lanes import Lanes
from portrait4d.studio.leftovers import PREFIX, remove_leftovers
from portrait4d.studio.limits import CLIP_SECONDS, NUM_SESSIONS
from portrait4d.studio.messages import read_camera, read_message
from portrait4d.studio.names import grouped_names
from portrait4d.studio.outbox import Outbox
from portrait4d.studio.session import Session
from portrait4d.studio.uploads import TooLargeError, check_length, receive

logger = logging.getLogger(__name__)

PAGE = Path(__file__).parent / "page"

MEDIA_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


class Studio:
    """All sessions of one server."""

    def __init__(self, models: Models) -> None:
        """Makes the folder of all sessions; `close` removes it."""
        remove_leftovers()
        self.models = models
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        self.sessions: dict[str, Session] = {}
        self._lanes = Lanes()
        self._pages = {path.name: path for path in PAGE.iterdir() if path.suffix in MEDIA_TYPES}
        self._uploading: set[str] = set()

    def close(self) -> None:
        """Ends all sessions and removes their files."""
        for session in list(self.sessions.values()):
            session.close()
        self.sessions.clear()
        self._lanes.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    async def page(self, request: Request) -> Response:
        """A file of the page: one of a fixed list, which the name is looked up in."""
        path = self._pages.get(request.path_params.get("name") or "index.html")
        if path is None:
            return PlainTextResponse("no such file", 404)
        return Response(await asyncio.to_thread(path.read_bytes), media_type=MEDIA_TYPES[path.suffix])

    async def result(self, request: Request) -> Response:
        """A file that a session made."""
        session = self.sessions.get(request.path_params["session"])
        path = None if session is None else session.results.get(request.path_params["name"])
        if path is None or not path.is_file():
            return PlainTextResponse("no such file: it may have been replaced by newer ones", 404)
        return FileResponse(path, filename=request.path_params["name"])

    async def upload(self, request: Request) -> Response:
        """Takes a file of the page and has it loaded; the session tells how that goes."""
        session, kind = self.sessions.get(request.path_params["session"]), request.path_params["kind"]
        if session is None or kind not in get_args(Kind):
            return JSONResponse({"error": "this page is no longer connected: load it again"}, 404)
        if session.name in self._uploading:
            return JSONResponse({"error": "a file is being sent already: wait for it"}, 409)
        self._uploading.add(session.name)
        try:
            check_length(cast(Kind, kind), request.headers.get("content-length"))
            number = session.next_number()
            path = await receive(request.stream(), cast(Kind, kind), folder=session.folder, number=number)
            session.load(cast(Kind, kind), path)
        except TooLargeError as error:
            return JSONResponse({"error": str(error)}, 413, headers={"connection": "close"})
        except InputError as error:
            return JSONResponse({"error": str(error)}, 415, headers={"connection": "close"})
        except OSError as error:  # the tab was closed meanwhile, or the disk is full
            return JSONResponse({"error": f"the file could not be kept here: {error.strerror}"}, 507)
        finally:
            self._uploading.discard(session.name)
        return JSONResponse({"ok": True})

    async def socket(self, socket: WebSocket) -> None:
        """One tab, from its opening to its end."""
        if len(self.sessions) >= NUM_SESSIONS:
            return await socket.close(1013, f"{NUM_SESSIONS} tabs are open already: close one")
        outbox = Outbox()
        session = Session(self.models, outbox, folder=self.folder, lanes=self._lanes)
        self.sessions[session.name] = session
        try:
            await self._serve(socket, session, outbox)
        except (WebSocketDisconnect, RuntimeError):  # starlette raises the second where the tab died while we sent
            pass
        finally:
            self.sessions.pop(session.name, None)
            outbox.close()
            await asyncio.shield(asyncio.to_thread(session.close))  # also where the server cancels this tab

    async def _serve(self, socket: WebSocket, session: Session, outbox: Outbox) -> None:
        await socket.accept()
        engine = self.models.engine
        outbox.say(
            "hello",
            session=session.name,
            engine=engine.name,
            groups=grouped_names(self.models.head_model),
            follows_names=engine.motion_encoder is None,
            clip_seconds=CLIP_SECONDS,
        )
        sending = asyncio.create_task(outbox.send_all(socket.send_text, socket.send_bytes))
        try:
            await self._listen(socket, session, outbox)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _listen(self, socket: WebSocket, session: Session, outbox: Outbox) -> None:
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            try:
                if message.get("bytes") is not None:
                    session.see(*read_camera(message["bytes"]))
                else:
                    session.hear(read_message(message.get("text") or ""))
            except InputError as error:
                outbox.say("error", text=str(error))


def build_app(models: Models, *, key: str, host: str = "127.0.0.1", is_remote_allowed: bool = False) -> Starlette:
    """Builds the application.

    Args:
        models: the engine and the tracker.
        key: what every path begins with; a secret.
        host: the name or address that it listens at.
        is_remote_allowed: whether other machines may name this one by its address.
    """
    studio = Studio(models)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await asyncio.to_thread(studio.close)

    routes = [
        Route(f"/{key}/", studio.page),
        Route(f"/{key}/page/{{name}}", studio.page),
        Route(f"/{key}/result/{{session}}/{{name}}", studio.result),
        Route(f"/{key}/upload/{{session}}/{{kind}}", studio.upload, methods=["POST"]),
        WebSocketRoute(f"/{key}/live", studio.socket),
    ]
    app = Starlette(routes=routes, lifespan=lifespan)
    app.state.studio = studio
    app.add_middleware(Guard, key=key, host=host, is_remote_allowed=is_remote_allowed)
    return app
