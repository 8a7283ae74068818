"""Writes the parameters of a track for other programs: arrays in an `.npz`, or one row a frame in a `.csv`."""

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flame.errors import InputError
from preprocess.files.atomic import atomic_path
from preprocess.tracking.motion import Motion

_VECTORS = ("rotation", "translation", "neck", "jaw")


def write_parameters(motion: Motion, path: Path) -> None:
    """Writes the head model's parameters of T frames; names, units and axes are those of a motion file.

    An `.npz` holds `seconds`, `valid`, `shape` [S], `expression` [T, E], `rotation`, `translation`, `neck`, `jaw`
    [T, 3], `eyes` [T, 2, 3], `frame_rate` and `head_model`. A `.csv` has the columns of `parameter_columns`; the shape
    is the same in all rows.

    Raises:
        InputError: the name has another suffix.
    """
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".npz"):
        raise InputError(f"expected parameters to be a .csv or .npz file, got {path.name}: rename it")
    with atomic_path(path) as temporary:
        if suffix == ".npz":
            names = ("seconds", "valid", "shape", "expression", *_VECTORS, "eyes")
            arrays = {name: getattr(motion, name) for name in names}
            with open(temporary, "wb") as file:
                np.savez_compressed(file, frame_rate=float(motion.frame_rate), head_model=motion.head_model, **arrays)
            return
        columns = parameter_columns(motion)
        with open(temporary, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["frame", "seconds", "valid", *columns])
            for index in range(len(motion)):
                values = [f"{float(column[index]):.7g}" for column in columns.values()]
                writer.writerow([index, f"{motion.seconds[index]:.6f}", int(motion.valid[index]), *values])


def parameter_columns(motion: Motion) -> dict[str, NDArray]:
    """The numbers of all frames by column: `rotation_x`, `eye_left_x`, `expression_000`, `shape_000` and so on."""
    columns: dict[str, NDArray] = {}
    for name in _VECTORS:
        columns |= {f"{name}_{axis}": getattr(motion, name)[:, place] for place, axis in enumerate("xyz")}
    for side, name in enumerate(("eye_left", "eye_right")):
        columns |= {f"{name}_{axis}": motion.eyes[:, side, place] for place, axis in enumerate("xyz")}
    columns |= {f"expression_{index:03d}": motion.expression[:, index] for index in range(motion.expression.shape[1])}
    return columns | {f"shape_{index:03d}": np.full(len(motion), value) for index, value in enumerate(motion.shape)}
