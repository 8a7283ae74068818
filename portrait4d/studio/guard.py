"""What every request has to pass: the host it names, the page it comes from, the key in its address.

The key keeps other users and programs of the machine out, the host those who bend names of their own to 127.0.0.1 (DNS
rebinding), the origin other pages in the same browser.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
import socket
from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

OWN_NAMES = ("127.0.0.1", "localhost", "[::1]")

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[\w.-]+)(?::(\d{1,5}))?", re.ASCII)


class Guard:
    """ASGI middleware; hands on requests whose path then begins behind the key."""

    def __init__(self, app: ASGIApp, *, key: str, host: str, is_remote_allowed: bool) -> None:
        """Guards an application; `host` is the name or address that it was told to listen at."""
        self._app, self._key, self._is_remote_allowed = app, key, is_remote_allowed
        self._names = {*OWN_NAMES, _bracketed(host.lower())}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hands a request on, or refuses it."""
        if scope["type"] not in ("http", "websocket"):
            return await self._app(scope, receive, send)
        headers = Headers(scope=scope)
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            return await _refuse(*refusal, scope=scope, receive=receive, send=send)
        if scope["type"] == "websocket":
            return await self._app(scope, receive, send)
        host = headers["host"]

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(dict(_headers(host)))
            await send(message)

        return await self._app(scope, receive, send_guarded)

    def _refusal(self, scope: Scope, headers: Headers) -> tuple[int, str] | None:
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        place = _place_of(hosts[0]) if len(hosts) == 1 else None
        if place is None or not self._is_own(*place, scope):
            return 403, "this address is not the studio's: use the one that the command printed"
        changes = scope["type"] == "websocket" or scope["method"] not in ("GET", "HEAD")
        if (changes or origins) and [_place_of_origin(origin) for origin in origins] != [place]:
            return 403, "requests come from the studio's own page only"
        key = scope["path"].split("/")[1] if scope["path"].startswith("/") else ""
        if not hmac.compare_digest(key.encode(), self._key.encode()):
            return 404, "nothing here: use the whole address that the command printed"
        return None

    def _is_own(self, name: str, port: int, scope: Scope) -> bool:
        server = scope.get("server")
        if server is None or port != server[1]:
            return False
        if name in self._names:
            return True
        return self._is_remote_allowed and (_is_address(name) or name == socket.gethostname().lower())


def _place_of(host: str) -> tuple[str, int] | None:
    """The name in small letters and the port that a host names, 80 where it names none; None if it is no host."""
    match = _HOST.fullmatch(host)
    return None if match is None else (match[1].lower(), int(match[2] or 80))


def _place_of_origin(origin: str) -> tuple[str, int] | None:
    scheme, _, host = origin.partition("://")
    return _place_of(host) if scheme.lower() == "http" else None


def _bracketed(name: str) -> str:
    return f"[{name}]" if ":" in name else name


def _is_address(name: str) -> bool:
    """Whether a name is the number of a machine, which no one else's name server can bend."""
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def _headers(host: str) -> Iterable[tuple[str, str]]:
    policy = (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
        f"connect-src 'self' ws://{host}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    yield "content-security-policy", policy
    yield "x-content-type-options", "nosniff"
    yield "referrer-policy", "no-referrer"
    yield "cross-origin-resource-policy", "same-origin"
    yield "cross-origin-opener-policy", "same-origin"
    yield "cache-control", "no-store"
    yield "permissions-policy", "camera=(self), microphone=(), geolocation=()"


async def _refuse(status: int, reason: str, *, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await receive()
        return await send({"type": "websocket.close", "code": 1008, "reason": reason})
    await PlainTextResponse(reason, status)(scope, receive, send)
