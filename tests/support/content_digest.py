"""The content of an object as JSON can hold it, to compare what a file says today with what it said when written."""

import hashlib
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch


def describe(value: Any) -> Any:
    """An array by type, shape and the SHA-256 of its values as float32; anything else as JSON has it."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray):
        digest = hashlib.sha256(np.ascontiguousarray(value, np.float32).tobytes()).hexdigest()
        return {"type": str(value.dtype), "shape": list(value.shape), "sha256": digest}
    if isinstance(value, Fraction):
        return f"{value.numerator}/{value.denominator}"
    if isinstance(value, dict):
        return {str(key): describe(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [describe(item) for item in value]
    return value


def leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every field of a dataclass and of those inside it, by dotted path, described."""
    for field in fields(value):
        part = getattr(value, field.name)
        if is_dataclass(part):
            yield from leaves(part, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", describe(part)


def find(value: Any, path: str) -> Any:
    """The field at a path of `leaves`, also where its dataclass has been grouped into inner ones since."""
    for name in path.split("."):
        value = _find_field(value, name)
    return value


def _find_field(value: Any, name: str) -> Any:
    waiting = [value]
    while waiting:
        value = waiting.pop(0)
        if hasattr(value, name):
            return getattr(value, name)
        waiting += [part for field in fields(value) if is_dataclass(part := getattr(value, field.name))]
    raise AssertionError(f"nothing holds {name} any more")
