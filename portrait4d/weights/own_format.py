"""Our own checkpoints: a folder with `model.safetensors` and `config.json`.

Tensors are written one after the other, so that writing takes the memory of the largest one. The hash of their file in
`config.json` binds the two together. It is written last: a folder without it is not a checkpoint.
"""

import hashlib
import itertools
import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from flame.errors import InputError, printable
from portrait4d.weights.config import CONFIG_FILE, TENSORS_FILE, CheckpointConfig, read_config
from portrait4d.weights.official.stored_tensor import StoredTensor
from preprocess.files.atomic import atomic_path
from preprocess.files.digest import file_digest

Progress = Callable[[str, int, int | None], None]
"""Called with a stage, the bytes done and the total in bytes."""

_TYPE_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def write_checkpoint(
    folder: str | Path,
    config: CheckpointConfig,
    tensors: Mapping[str, torch.Tensor | StoredTensor],
    *,
    progress: Progress | None = None,
) -> CheckpointConfig:
    """Writes a checkpoint; returns the config with the hash of the tensors.

    Raises:
        InputError: the folder cannot be written to, or a tensor is of a type that is not stored.
    """
    folder = Path(folder)
    config.to_json()  # fails before anything is written
    header, names = _header(tensors)
    total = len(header) + sum(_num_bytes(tensor) for tensor in tensors.values())
    digest, done = hashlib.sha256(), 0
    (folder / CONFIG_FILE).unlink(missing_ok=True)  # without it a half-replaced folder is not taken for a checkpoint
    with atomic_path(folder / TENSORS_FILE) as temporary, temporary.open("wb") as stream:
        for piece in itertools.chain([header], (_content(tensors[name]) for name in names)):
            stream.write(piece)
            digest.update(piece)
            done += len(piece)
            if progress:
                progress("write", done, total)
    config = replace(config, tensors_sha256=digest.hexdigest())
    with atomic_path(folder / CONFIG_FILE) as temporary:
        temporary.write_text(config.to_json(), encoding="utf-8")
    return config


def read_checkpoint(
    folder: str | Path, *, check_hash: bool = True, progress: Progress | None = None
) -> tuple[CheckpointConfig, dict[str, torch.Tensor]]:
    """Config and tensors of a checkpoint.

    Raises:
        InputError: a file is missing or damaged, or the tensors are not those that the config was written for.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    config, path = read_config(folder), Path(folder) / TENSORS_FILE
    if not path.is_file():
        raise InputError(f"{folder} has {CONFIG_FILE} but no {TENSORS_FILE}: convert the checkpoint again")
    if check_hash and hash_file(path, progress=progress) != config.tensors_sha256:
        raise InputError(
            f"{path} is not the file that {CONFIG_FILE} was written for (sha256 differs): convert it again"
        )
    try:
        return config, load_file(path)
    except SafetensorError as error:
        raise InputError(f"{path} is damaged ({printable(str(error)[:100])}): convert the checkpoint again") from error


def hash_file(path: str | Path, *, progress: Progress | None = None) -> str:
    """The sha256 of a file.

    Raises:
        InputError: there is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"expected a file at {path}, there is none: check the path")
    total = path.stat().st_size
    return file_digest(path, told=None if progress is None else lambda done: progress("hash", done, total))


def _header(tensors: Mapping[str, torch.Tensor | StoredTensor]) -> tuple[bytes, list[str]]:
    """The beginning of a safetensors file, and the order of the tensors that follow without gaps."""
    names = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))  # keeps each tensor aligned
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name in names:
        tensor = tensors[name]
        if tensor.dtype not in _TYPE_NAMES:
            raise InputError(f"tensor {name} is of type {tensor.dtype}: known are {', '.join(_TYPE_NAMES.values())}")
        end = offset + _num_bytes(tensor)
        shape = list(tensor.shape)
        entries[name] = {"dtype": _TYPE_NAMES[tensor.dtype], "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text, names


def _content(tensor: torch.Tensor | StoredTensor) -> memoryview:
    values = tensor.read() if isinstance(tensor, StoredTensor) else tensor.detach().cpu().contiguous()
    return values.reshape(-1).view(torch.uint8).numpy().data


def _num_bytes(tensor: torch.Tensor | StoredTensor) -> int:
    return tensor.num_bytes if isinstance(tensor, StoredTensor) else tensor.numel() * tensor.dtype.itemsize
