"""Tells whether the user forbids the use of the network."""

import os

_NAMES = ("PORTRAIT4D_OFFLINE", "HF_HUB_OFFLINE")
_TRUE = ("1", "true", "yes", "on")


def offline_variable() -> str | None:
    """Returns the name of the environment variable that forbids the network, or None."""
    return next((name for name in _NAMES if os.environ.get(name, "").strip().lower() in _TRUE), None)
