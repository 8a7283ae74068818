"""What every request has to pass: the host it names, the page it comes from, the key in its address.

The key keeps other users and programs of the machine out, the host those who bend names of their own to 127.0.0.1 (DNS
rebinding), the origin other pages in the same browser.
"""

from __future__ import annotations

import hmac
import ipaddress
import socket
from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

OWN_NAMES = ("127.0.0.1", "localhost", "[::1]")


class Guard:
    """ASGI middleware; hands on requests whose path then begins behind the key."""

    def __init__(self, app: ASGIApp, *, key: str, is_remote_allowed: bool) -> None:
        self._app, self._key, self._is_remote_allowed = app, key, is_remote_allowed

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
        if len(hosts) != 1 or not self._is_own_host(hosts[0], scope):
            return 403, "this address is not the studio's: use the one that the command printed"
        changes = scope["type"] == "websocket" or scope["method"] not in ("GET", "HEAD")
        if (changes or origins) and origins != [f"http://{hosts[0]}"]:
            return 403, "requests come from the studio's own page only"
        key = scope["path"].split("/")[1] if scope["path"].startswith("/") else ""
        if not hmac.compare_digest(key.encode(), self._key.encode()):
            return 404, "nothing here: use the whole address that the command printed"
        return None

    def _is_own_host(self, host: str, scope: Scope) -> bool:
        name, _, port = host.rpartition(":")
        server = scope.get("server")
        if server is None or port != str(server[1]):
            return False
        if name in OWN_NAMES:
            return True
        return self._is_remote_allowed and (_is_address(name) or name == socket.gethostname())


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
