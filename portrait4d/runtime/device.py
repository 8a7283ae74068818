"""Checks of the device that a user names."""

import torch

from flame.errors import InputError


def check_device(device: str) -> str:
    """Returns the name if the program can use such a device here; of "auto" that of the best one.

    Raises:
        InputError: the device cannot be used.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.split(":")[0] == "mps":
        raise InputError("device 'mps' cannot be used: the rasteriser needs float64, which it lacks; use --device cpu")
    try:
        torch.empty(0, device=device)
    except Exception as error:  # torch raises RuntimeError, AssertionError or NotImplementedError by backend
        raise InputError(
            f"device {device!r} cannot be used here: try --device cpu (portrait4d doctor lists devices)"
        ) from error
    return device
