"""Packs the baked tables into the asset that `flame/heads/open_head.py` reads; the docstring there has the layout."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

NUM_HALF_PRECISION = 60
"""Number of leading shape directions stored in float16; the rest, all under a millimetre, take 8 bits and a scale."""

_SMALLEST_OFFSET = 1e-5
"""Expression offsets below a hundredth of a millimetre are dropped."""


def pack_shape(basis: np.ndarray) -> dict[str, np.ndarray]:
    """Packs `[V, 3, S]` into leading directions of float16 and a tail of int8 with one scale per direction."""
    tail = basis[..., NUM_HALF_PRECISION:]
    scale = np.abs(tail).max((0, 1)) / 127
    return {
        "shape_basis_half": basis[..., :NUM_HALF_PRECISION].astype(np.float16),
        "shape_basis_bytes": np.round(tail / scale).astype(np.int8),
        "shape_basis_scale": scale.astype(np.float32),
    }


def pack_expressions(offsets: np.ndarray) -> dict[str, np.ndarray]:
    """Packs `[E, V, 3]` into one list of the moved vertices of all expressions, with counts."""
    moved = np.abs(offsets).max(2) > _SMALLEST_OFFSET
    expression, vertex = moved.nonzero()
    return {
        "expression_counts": moved.sum(1).astype(np.int32),
        "expression_vertices": vertex.astype(np.int16),
        "expression_offsets": offsets[expression, vertex].astype(np.float16),
    }


def write_asset(path: Path, tensors: dict[str, np.ndarray], names: dict[str, list[str]]) -> None:
    """Writes the safetensors file; name lists go into its header."""
    metadata = {key: json.dumps(value) for key, value in names.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: np.ascontiguousarray(value) for key, value in tensors.items()}, path, metadata)
    path.chmod(0o644)
