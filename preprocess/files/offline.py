"""Whether the user forbids the network."""

import os

_NAMES = ("PORTRAIT4D_OFFLINE", "HF_HUB_OFFLINE")
_TRUE = ("1", "true", "yes", "on")


def offline_variable() -> str | None:
    """The environment variable that forbids it, None where none does."""
    return next((name for name in _NAMES if os.environ.get(name, "").strip().lower() in _TRUE), None)
