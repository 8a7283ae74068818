"""Pictures and camera labels that EG3D learns from: shards of the project, or a dataset of EG3D's own tools.

A label must fit the network in three ways: its world (where the origin lies and what a unit is), its lens, and its
axes. Records of shards are converted to what the network has; EG3D's own labels are in EG3D's world already.
"""

import copy
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from flame.errors import InputError
from flame.geometry.camera import Axes, Camera
from portrait4d.runtime.checks import check_choice, check_range
from preprocess.dataset.formats.convert import find_format
from preprocess.dataset.formats.eg3d_format import (
    HEADS_IN_EG3D,
    Eg3dDataset,
    eg3d_from_ours,
    read_eg3d,
    with_eg3d_lens,
)
from preprocess.dataset.reading.balance import replica_counts, yaw_degrees
from preprocess.dataset.reading.dataset import Dataset
from preprocess.dataset.reading.flip import mirror_label
from preprocess.dataset.records.record import DatasetInfo
from preprocess.dataset.records.shards import read_shard

Crop = Literal["eg3d", "portrait4d"]
World = Literal["eg3d", "portrait4d"]
Lens = Literal["eg3d", "own"]

_PORTRAIT4D_UNITS_PER_METRE = 3.0


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which pictures are learned from, and in which terms their cameras are told."""

    paths: tuple[str, ...] = ()
    """Shards, folders of shards or lists of them (.txt); or one zip or folder of EG3D's dataset tool."""

    crop: Crop = "eg3d"
    """Alignment that the shards must have."""

    world: World = "eg3d"
    """eg3d: the origin in the middle of the head, 2.7 units a metre; portrait4d: the neck joint, 3 units a metre."""

    lens: Lens = "eg3d"
    """eg3d: all cameras of shards get EG3D's lens and distance, as the released networks expect; own: they keep
    theirs."""

    mirror: bool = True
    """Also learn from each picture in the mirror."""

    is_balanced: bool = False
    """Repeat turned heads, so that frontal ones do not outnumber them too far."""

    threads: int = 2
    """Threads that read and decode pictures."""

    def __post_init__(self) -> None:
        check_choice("data.crop", self.crop, get_args(Crop))
        check_choice("data.world", self.world, get_args(World))
        check_choice("data.lens", self.lens, get_args(Lens))
        check_range("data.threads", self.threads, 1, 64)
        if self.lens == "eg3d" and (self.crop, self.world) != ("eg3d", "eg3d"):
            raise InputError(
                f"expected data.lens own with crop {self.crop} and world {self.world}: EG3D's lens fits its own crop "
                "and world only"
            )


@dataclass(frozen=True)
class LabelledPicture:
    """A picture uint8 `[S, S, 3]` RGB and its label `[25]` float32 in the network's terms."""

    image: NDArray[np.uint8]
    label: NDArray[np.float32]


class TrainingPictures:
    """Pictures by index, mirrored ones behind the others; a `Source` of a `RecordStream`.

    Attributes:
        labels: `[N, 25]` float32 of all of them.
        digest: identifies pictures and labels.

    Args:
        config: which pictures.
        side: of the network's pictures; larger ones are shrunk by area.
        axes: of the network's labels.

    Raises:
        InputError: there are no such data, they have another crop or too small pictures, or a label is not finite.
    """

    def __init__(self, config: DataConfig, *, side: int, axes: Axes) -> None:
        if not config.paths:
            raise InputError("expected training pictures: set data.paths to shards, or to a zip or folder of EG3D")
        self.side = side
        formats = {find_format(Path(path)) for path in config.paths}
        if formats == {"shards"}:
            self._reader = _Shards(config)
        elif formats == {"eg3d"} and len(config.paths) == 1:
            self._reader = _Zip(config)
        else:
            raise InputError(
                f"expected shards, or one zip or folder of EG3D, got {' and '.join(sorted(formats))} in "
                f"{len(config.paths)} paths: convert them to shards with `portrait4d dataset convert`"
            )
        labels = self._reader.labels
        if not (is_finite := np.isfinite(labels).all(1)).all():
            raise InputError(
                f"{self._reader.name(int(is_finite.argmin()))}: expected a camera of finite numbers: build it again"
            )
        opengl = Camera.from_label25(torch.from_numpy(labels), axes=self._reader.axes).to_label25(axes="opengl")
        entries = np.arange(len(labels))
        if config.is_balanced:
            entries = np.repeat(entries, replica_counts(yaw_degrees(opengl.numpy())))
        own = Camera.from_label25(opengl[entries], axes="opengl").to_label25(axes=axes).numpy().astype(np.float32)
        self._entries = entries
        self.labels = np.concatenate([own, mirror_label(own)]) if config.mirror else own
        self.digest = hashlib.sha256(self._reader.identity + self.labels.tobytes()).hexdigest()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> LabelledPicture:
        is_mirrored, entry = divmod(index, len(self._entries))
        number = int(self._entries[entry])
        image = self._reader.read(number)
        height, width = image.shape[:2]
        if height != width or height < self.side:
            raise InputError(
                f"{self._reader.name(number)}: expected a square of {self.side} px or more, got {height} x {width}: "
                "give larger pictures, or train a smaller network"
            )
        if height > self.side:
            image = np.asarray(cv2.resize(image, (self.side, self.side), interpolation=cv2.INTER_AREA), np.uint8)
        return LabelledPicture(np.ascontiguousarray(image[:, ::-1] if is_mirrored else image), self.labels[index])

    def __copy__(self) -> "TrainingPictures":
        """The same pictures, read through files of its own."""
        other = object.__new__(TrainingPictures)
        other.__dict__.update(self.__dict__, _reader=copy.copy(self._reader))
        return other


class _Shards:
    """Records of the project. The labels are OpenCV's in EG3D's world, or OpenGL's in Portrait4D's."""

    def __init__(self, config: DataConfig) -> None:
        self._dataset = Dataset(config.paths)
        info = self._dataset.info
        if info.crop != config.crop:
            raise InputError(
                f"{self._dataset.paths[0]}: expected pictures of crop {config.crop}, got {info.crop}: set data.crop, "
                "world and lens to match, or build the dataset with the other crop"
            )
        shards = [read_shard(path) for path in self._dataset.paths]
        self._keys = [(shard.path, key) for shard in shards for key in shard.keys]
        self.identity = "".join(shard.sha256 or " ".join(shard.keys) for shard in shards).encode()
        ours = np.array([camera for shard in shards for camera in shard.cameras()], np.float64).reshape(-1, 25)
        self.axes: Axes = "opencv" if config.world == "eg3d" else "opengl"
        self.labels = _in_world(ours, info, config) if np.isfinite(ours).all() else ours

    def read(self, number: int) -> NDArray[np.uint8]:
        return self._dataset[number].image

    def name(self, number: int) -> str:
        path, key = self._keys[number]
        return f"{path}: {key}"

    def __copy__(self) -> "_Shards":
        other = object.__new__(_Shards)
        other.__dict__.update(self.__dict__, _dataset=copy.copy(self._dataset))
        return other


class _Zip:
    """EG3D's own zip or folder, whose labels are left as they are."""

    def __init__(self, config: DataConfig) -> None:
        if (config.crop, config.world) != ("eg3d", "eg3d"):
            raise InputError(f"{config.paths[0]}: EG3D's datasets are in its own crop and world; expected both as eg3d")
        self._dataset: Eg3dDataset = read_eg3d(config.paths[0])
        self.identity = "\n".join(self._dataset.names).encode()
        self.labels = self._dataset.labels.astype(np.float64)
        self.axes: Axes = "opencv"
        self._archive = None
        self._is_open = False

    def read(self, number: int) -> NDArray[np.uint8]:
        if not self._is_open:
            self._archive, self._is_open = self._dataset.open().__enter__(), True  # closed with the reader
        return self._dataset.read(number, self._archive)

    def name(self, number: int) -> str:
        return f"{self._dataset.path}: {self._dataset.names[number]}"

    def __copy__(self) -> "_Zip":
        other = object.__new__(_Zip)
        other.__dict__.update(self.__dict__, _archive=None, _is_open=False)
        return other


def _in_world(ours: NDArray, info: DatasetInfo, config: DataConfig) -> NDArray:
    """Labels of records `[N, 25]` in the world and with the lens of the network."""
    if config.world == "portrait4d":
        scaled = np.array(ours)
        scaled[:, [3, 7, 11]] *= _PORTRAIT4D_UNITS_PER_METRE / info.units_per_metre
        return scaled
    if info.head_model not in HEADS_IN_EG3D:
        raise InputError(
            f"the place of head model {info.head_model} in EG3D's world is not known: expected one of "
            f"{', '.join(HEADS_IN_EG3D)}, or data.world portrait4d"
        )
    labels = eg3d_from_ours(ours, HEADS_IN_EG3D[info.head_model], units_per_metre=info.units_per_metre)
    return with_eg3d_lens(labels) if config.lens == "eg3d" else labels
