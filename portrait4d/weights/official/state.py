"""Conversion of official state dicts to ours and back, bit for bit.

Names stay as they are. Two things change: FIR buffers, which always hold the same constant, are dropped after a check
that they do, and the label statistics that the training loops add to the root go to the config. The head-model
buffers under `deformer.` are already scaled and stay untouched.
"""

from collections.abc import Mapping
from typing import Any

import torch

from flame.errors import InputError
from portrait4d.weights.config import CheckpointConfig
from portrait4d.weights.official.stored_tensor import StoredTensor

LABEL_STD = "dataset_label_std"
_MAX_LABELS = 4096

Tensors = Mapping[str, StoredTensor]


def resample_filter() -> torch.Tensor:
    """The FIR kernel of all released networks, `[4, 4]`: the outer product of [1, 3, 3, 1] with itself, sum 1."""
    row = torch.tensor([1.0, 3.0, 3.0, 1.0])
    return torch.outer(row, row) / 64


def is_resample_filter(name: str) -> bool:
    """Whether a state-dict name is that of a FIR buffer."""
    return name.rpartition(".")[2] == "resample_filter"


def split_official(tensors: Tensors) -> tuple[dict[str, StoredTensor], tuple[str, ...], dict[str, Any] | None]:
    """Our tensors, the names of the FIR buffers, and the label statistics of an official state dict.

    Raises:
        InputError: a FIR buffer holds another kernel, or the label statistics are not a short row of numbers.
    """
    own, filters = {}, []
    for name, tensor in tensors.items():
        if is_resample_filter(name):
            _check_filter(name, tensor)
            filters.append(name)
        elif name != LABEL_STD:
            own[name] = tensor
    label_std = _describe_label_std(tensors[LABEL_STD]) if LABEL_STD in tensors else None
    return own, tuple(filters), label_std


def to_official(config: CheckpointConfig, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The official state dict of a converted checkpoint.

    Raises:
        InputError: the checkpoint was not converted from an official one.
    """
    if config.resample_filters is None:
        raise InputError("this checkpoint was not converted from an official one: there is no official form of it")
    result = dict(tensors)
    result.update((name, resample_filter()) for name in config.resample_filters)
    if config.label_std is not None:
        result[LABEL_STD] = _label_std_tensor(config.label_std)
    return result


def _check_filter(name: str, tensor: StoredTensor) -> None:
    expected = resample_filter()
    if tensor.shape != tuple(expected.shape) or tensor.dtype != expected.dtype or not _same(tensor.read(), expected):
        raise InputError(f"{name} is not the kernel of [1, 3, 3, 1] that all released networks use: not supported")


def _same(first: torch.Tensor, second: torch.Tensor) -> bool:
    return torch.equal(first.view(torch.int32), second.view(torch.int32))  # bit for bit: -0.0 is not 0.0


def _describe_label_std(tensor: StoredTensor) -> dict[str, Any]:
    if len(tensor.shape) > 1 or tensor.num_bytes > 8 * _MAX_LABELS:
        raise InputError(f"{LABEL_STD} has shape {list(tensor.shape)}: expected a number or one row of them")
    values = tensor.read()
    if values.is_floating_point() and not values.isfinite().all():
        raise InputError(f"{LABEL_STD} is not finite: the file is damaged")
    # a float32 is written by Python as the float64 of the same value, so reading gives the same bits
    return {
        "dtype": str(values.dtype).removeprefix("torch."),
        "shape": list(values.shape),
        "values": values.reshape(-1).tolist(),
    }


def _label_std_tensor(stored: Mapping[str, Any]) -> torch.Tensor:
    dtype = {"float32": torch.float32, "float64": torch.float64, "int64": torch.int64}.get(str(stored.get("dtype")))
    if dtype is None:
        raise InputError(
            f"label_std in the config has dtype {stored.get('dtype')!r}: expected float32, float64 or int64"
        )
    try:
        return torch.tensor(stored["values"], dtype=dtype).reshape(stored["shape"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"label_std in the config is damaged ({str(error)[:60]}): convert the checkpoint again"
        ) from error
