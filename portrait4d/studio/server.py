"""Runs the studio until Ctrl-C."""

from __future__ import annotations

import contextlib
import secrets
import socket
import threading
import webbrowser
from collections.abc import Callable

from flame.errors import InputError
from portrait4d.reenactment.models import load_models
from portrait4d.runtime.streams import one_torch_thread
from portrait4d.studio.limits import CAMERA_BYTES, NUM_CONNECTIONS
from portrait4d.studio.options import StudioOptions

OWN_HOSTS = ("127.0.0.1", "localhost", "::1")

GRACE_SECONDS = 3
"""Time that open sockets get when the server is stopped."""


@one_torch_thread()
def run_studio(options: StudioOptions, *, told: Callable[[str], None]) -> None:
    """Serves the page until it is stopped.

    Args:
        options: where, and with which engine.
        told: called with the address, when the page can be opened.

    Raises:
        InputError: an option or the address cannot be used, or the extra is not installed.
    """
    check_host(options)
    try:
        import uvicorn
        import websockets  # noqa: F401  (uvicorn would only log that sockets are missing)

        from portrait4d.studio.app import build_app
    except ModuleNotFoundError as error:
        raise InputError(f"the studio needs {error.name}: pip install 'portrait4d[studio]'") from error
    listening = _listen(options)
    models = load_models(options)
    key = secrets.token_urlsafe(16)
    app = build_app(models, key=key, host=options.host, is_remote_allowed=options.allow_remote)
    address = address_of(listening, options.host, key)
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        ws_max_size=CAMERA_BYTES,
        ws_per_message_deflate=False,  # JPEG does not shrink
        limit_concurrency=NUM_CONNECTIONS,
        timeout_graceful_shutdown=GRACE_SECONDS,
        server_header=False,
    )
    told(address)
    if options.opens_browser:
        threading.Timer(0.5, webbrowser.open, [address]).start()
    try:
        with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises it once all is closed; it is the way to end
            uvicorn.Server(config).run(sockets=[listening])
    finally:
        app.state.studio.close()
        listening.close()


def check_host(options: StudioOptions) -> None:
    """Refuses an address of other machines unless they are let in.

    Raises:
        InputError: with what letting them in means.
    """
    if options.host not in OWN_HOSTS and not options.allow_remote:
        raise InputError(
            f"expected --host of this machine ({', '.join(OWN_HOSTS)}), got {options.host}: add --allow-remote to let "
            "other machines in; whoever has the address with its key can then use the page and see its pictures, and "
            "nothing on the way is encrypted"
        )


def _listen(options: StudioOptions) -> socket.socket:
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((options.host, options.port))
        listening.listen()  # who opens the address at once waits until the models are there
    except OSError as error:
        listening.close()
        raise InputError(
            f"cannot listen at {options.host}, port {options.port} ({error.strerror}): is a studio running already? "
            "--port 0 takes a free one"
        ) from error
    return listening


def address_of(listening: socket.socket, host: str, key: str) -> str:
    """The address to open."""
    name = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(host, host)
    return f"http://{f'[{name}]' if ':' in name else name}:{listening.getsockname()[1]}/{key}/"
