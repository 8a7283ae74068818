"""FLAME out of an object of the package smplx, which holds the tables of the user's model file as buffers."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import nn

from flame.errors import InputError
from flame.heads.flame import NUM_SHAPE, PORTRAIT4D_UNITS_PER_METRE, Flame, flame_of_tables

_SMPLX_BUFFERS = (
    "v_template",
    "J_regressor",
    "posedirs",
    "shapedirs",
    "expr_dirs",
    "lbs_weights",
    "parents",
    "faces_tensor",
)


def flame_from_smplx(
    model: nn.Module, *, beside: Path | str | None = None, unit: Literal["metre", "portrait4d"] = "metre"
) -> Flame:
    """Reads FLAME from an object of the package smplx, made with `num_betas=300, num_expression_coeffs=100`.

    Args:
        model: `smplx.FLAME`, or a module with its buffers.
        beside: FLAME's file, beside which landmarks and masks are looked for; without landmarks nothing can be tracked.
        unit: as of `load_flame`.

    Raises:
        InputError: the object has no such buffers, or fewer directions.
    """
    found = dict(model.named_buffers())
    if missing := [name for name in _SMPLX_BUFFERS if name not in found]:
        raise InputError(f"expected FLAME of the package smplx, got a {type(model).__name__} without {missing[0]}")
    if found["shapedirs"].shape[2] != NUM_SHAPE:
        raise InputError(
            f"expected {NUM_SHAPE} shape directions, got {found['shapedirs'].shape[2]}: make the object with "
            f"num_betas={NUM_SHAPE}, num_expression_coeffs=100"
        )
    tables = {name: found[name].detach().cpu().double().numpy() for name in _SMPLX_BUFFERS}
    parents = np.stack([tables["parents"], np.arange(len(tables["parents"]))])
    content: dict[str, Any] = {
        **{name: tables[name] for name in ("v_template", "J_regressor", "shapedirs")},
        "exprdirs": tables["expr_dirs"],
        "posedirs": tables["posedirs"].T.reshape(len(tables["v_template"]), 3, -1),
        "weights": tables["lbs_weights"],
        "f": found["faces_tensor"].cpu().numpy(),
        "kintree_table": parents,
    }
    path = Path(type(model).__name__) if beside is None else Path(beside)
    return flame_of_tables(content, path, 1.0 if unit == "metre" else PORTRAIT4D_UNITS_PER_METRE)
