"""Cameras and head parameters of whole datasets as arrays: what is drawn from and looked up; reads no picture."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray

from flame.errors import InputError
from flame.geometry.camera import Camera
from flame.heads.flame import PORTRAIT4D_UNITS_PER_METRE
from flame.heads.head_model import HeadParams
from preprocess.dataset.reading.dataset import Dataset
from preprocess.dataset.records.record_codec import decode_arrays
from preprocess.dataset.records.shards import Shard, read_shard

HEAD_FIELDS = ("shape", "expression", "jaw", "eyes")


@dataclass(frozen=True)
class HeadTable:
    """Cameras and parameters of N pictures, float32; the neck is at rest, cameras see the network's world.

    Attributes:
        label: `[N, 25]` in OpenGL axes.
        shape: `[N, S]`.
        expression: `[N, E]`.
        jaw: `[N, 3]`.
        eyes: `[N, 2, 3]`.
    """

    label: NDArray[np.float32]
    shape: NDArray[np.float32]
    expression: NDArray[np.float32]
    jaw: NDArray[np.float32]
    eyes: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.label)

    def condition(self, rows: list[int]) -> torch.Tensor:
        """What the mapping takes of some pictures, `[B, 25 + S]`."""
        return torch.from_numpy(np.concatenate([self.label[rows], self.shape[rows]], 1))

    def camera(self, rows: list[int]) -> Camera:
        """Their cameras."""
        return Camera.from_label25(torch.from_numpy(self.label[rows]), axes="opengl")

    def params(self, rows: list[int]) -> HeadParams:
        """Their heads."""
        shape, expression, jaw, eyes = (torch.from_numpy(getattr(self, name)[rows]) for name in HEAD_FIELDS)
        return HeadParams(shape, expression, torch.zeros(len(rows), 3), jaw, eyes)


def read_heads(
    dataset: Dataset, origin: tuple[float, float, float], *, sizes: Mapping[str, int] | None = None
) -> tuple[HeadTable, list[str]]:
    """Cameras and parameters of all records of a dataset, and their keys; reads no picture.

    Args:
        dataset: of shards.
        origin: the network's origin in the head model's coordinates, metres.
        sizes: numbers that each record must have of an array; None checks nothing.

    Raises:
        InputError: a record is damaged, or has another number of them.
    """
    rows: list[dict[str, NDArray]] = []
    keys: list[str] = []
    for path in dataset.paths:
        shard = read_shard(path)
        with path.open("rb") as file:
            rows += [_read_numbers(shard, key, file, sizes or {}) for key in shard.keys]
        keys += shard.keys
    label = np.stack([row["camera"] for row in rows]).astype(np.float64)
    scale = PORTRAIT4D_UNITS_PER_METRE / dataset.info.units_per_metre
    label[:, [3, 7, 11]] = label[:, [3, 7, 11]] * scale - PORTRAIT4D_UNITS_PER_METRE * np.asarray(origin)
    return HeadTable(label.astype(np.float32), *(np.stack([row[name] for row in rows]) for name in HEAD_FIELDS)), keys


def read_necks(dataset: Dataset) -> NDArray[np.float32]:
    """The turns of all heads `[N, 3]`, axis-angle in radians, which the cameras of `read_heads` hold.

    Raises:
        InputError: a record is damaged.
    """
    found = []
    for path in dataset.paths:
        shard = read_shard(path)
        with path.open("rb") as file:
            found += [_read_numbers(shard, key, file, {})["neck"] for key in shard.keys]
    return np.stack(found)


def _read_numbers(shard: Shard, key: str, file: BinaryIO, sizes: Mapping[str, int]) -> dict[str, NDArray]:
    """The arrays of a record, those in `sizes` with so many numbers."""
    where = f"{shard.path}: {key}.safetensors"
    parts = shard.parts(key, file, only=("safetensors",))
    if "safetensors" not in parts:
        raise InputError(f"{where}: the member is missing: build the shard again")
    numbers = decode_arrays(parts["safetensors"], where)
    for name, size in sizes.items():
        if numbers[name].shape != (size,):
            raise InputError(
                f"{where}: expected {size} numbers of {name}, got {list(numbers[name].shape)}: it is of another "
                "version of the head model; build the dataset again"
            )
    return numbers
