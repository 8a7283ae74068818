"""Checks of the arrays in a motion file: their shapes before they are read, their content after."""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from preprocess.files.npz import ArrayHeader

MOST_INFLATION = 20.0
"""Largest ratio of a track's numbers to its file; real ones are below 3, beyond the first megabytes."""

_MOST_NUMBERS = 4096
"""Most numbers of one frame in arrays of no fixed size."""

_MOST_CLIP_BYTES = 1 << 20
"""Of an array that is not over time."""


def check_headers(headers: Mapping[str, ArrayHeader], *, per_frame: Mapping[str, tuple[int | None, ...]]) -> None:
    """Refuses shapes that no motion has, before their numbers are read.

    Args:
        headers: of the arrays of a file, by name.
        per_frame: arrays over time, with their shape after the first axis (None: any size).

    Raises:
        ValueError: an array has another shape than its field.
    """
    frames = headers["seconds"].shape[:1] if "seconds" in headers else None
    for name, header in headers.items():
        if not _fits(header, per_frame.get(name), frames):
            raise ValueError(f"{name} holds {header.dtype} {list(header.shape)}")


def _fits(header: ArrayHeader, tail: tuple[int | None, ...] | None, frames: tuple[int, ...] | None) -> bool:
    shape, rest = header.shape, header.shape[1:]
    if tail is None:
        return header.num_bytes <= _MOST_CLIP_BYTES
    if not math.prod(shape):
        return True  # takes no memory; what reads the numbers says what is wrong
    return (
        len(shape) == 1 + len(tail)
        and frames in (None, shape[:1])
        and header.dtype.kind != "U"
        and all(want == got or (want is None and got <= _MOST_NUMBERS) for want, got in zip(tail, rest, strict=True))
    )


def numbers_of(arrays: Mapping[str, NDArray], name: str) -> NDArray:
    """The array of a name, which must hold numbers; raises ValueError otherwise."""
    if arrays[name].dtype.kind not in "biuf":
        raise ValueError(f"{name} holds {arrays[name].dtype} instead of numbers")
    return arrays[name]


def whole_of(value: NDArray, name: str) -> int:
    """A scalar as a whole number; raises ValueError for anything else."""
    value = np.asarray(value)
    if value.shape != () or value.dtype.kind not in "iuf" or not np.isfinite(value):
        raise ValueError(f"{name} holds {value.dtype} {list(value.shape)} instead of a whole number")
    return int(value)


def text_of(arrays: Mapping[str, NDArray], name: str) -> str:
    """The text of a name; raises ValueError for anything else."""
    if arrays[name].dtype.kind != "U" or arrays[name].shape != ():
        raise ValueError(f"{name} is not text")
    return str(arrays[name])
