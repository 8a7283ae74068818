"""Pictures and fitted heads that GenHead learns from: shards of the project, mirrored ones behind the others.

Records keep cameras in the head model's own world (metres times `units_per_metre`, origin of the model); the network's
cube lies elsewhere, see `GenHeadConfig.head_origin`, so cameras are moved with it.
"""

import copy
import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flame.errors import InputError
from flame.heads.head_model import HeadParams
from genhead.config import GenHeadConfig
from portrait4d.headparts.head import PartHead
from portrait4d.runtime.checks import check_range
from preprocess.dataset.reading.dataset import Dataset
from preprocess.dataset.reading.flip import HeadMirror, mirror_label
from preprocess.dataset.reading.head_table import HEAD_FIELDS, HeadTable, read_heads
from preprocess.media.shrink import shrink_square


@dataclass(frozen=True, kw_only=True)
class HeadDataConfig:
    """Which pictures are learned from."""

    paths: tuple[str, ...] = ()
    """Shards, folders of shards or lists of them (.txt), as `portrait4d data ffhq` makes them."""

    mirror: bool = True
    """Also learn from each picture in the mirror."""

    threads: int = 2
    """Threads that read and decode pictures."""

    def __post_init__(self) -> None:
        check_range("data.threads", self.threads, 1, 64)


@dataclass(frozen=True)
class HeadPicture:
    """A picture uint8 `[S, S, 3]` RGB, its mask uint8 `[S, S]` (255 is the person), and its row in the table."""

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    row: int


class TrainingHeads:
    """Pictures by index, mirrored ones behind the others; a `Source` of a `RecordStream`.

    Attributes:
        where: the first shard, for messages.
        side: of the pictures.
        num_own: pictures that are not mirrored ones.
        table: cameras and parameters of all of them.
        person_names: of those that are not mirrored; records whose keys differ after the dash only are of one clip, and
            of one person.
        persons: number of the person in each picture; those of mirrored ones come behind the others.
        digest: identifies pictures and parameters.

    Args:
        config: which pictures.
        generator: learns from them; larger pictures than its own are shrunk by area.
        head: the model that the parameters must belong to.
        mirror: of the head model; None where pictures are not mirrored.

    Raises:
        InputError: there are no such data, they are of another head model, of too small pictures or without masks, or
            the numbers of a record do not fit the head model.
    """

    def __init__(
        self, config: HeadDataConfig, *, generator: GenHeadConfig, head: PartHead, mirror: HeadMirror | None
    ) -> None:
        if not config.paths:
            raise InputError("expected training pictures: set data.paths to shards that `portrait4d data ffhq` made")
        self._dataset = Dataset(config.paths)
        info = self._dataset.info
        self.where = where = self._dataset.paths[0]
        if info.head_model != generator.head:
            raise InputError(
                f"{where}: expected parameters of head model {generator.head}, got {info.head_model}: set "
                "generator.head, or build the dataset with the other head model"
            )
        if info.mask == "none":
            raise InputError(f"{where}: expected pictures with masks, there are none: build the dataset with --mask")
        if info.image_size < generator.resolution:
            raise InputError(
                f"{where}: expected pictures of {generator.resolution} px or more, got {info.image_size}: give larger "
                "ones, or train a smaller network"
            )
        self.side, self.num_own = generator.resolution, len(self._dataset)
        sizes = {"shape": head.model.num_shape, "expression": head.model.num_expression}
        own, self._keys = read_heads(self._dataset, generator.head_origin, sizes=sizes)
        names = [key.partition("-")[0] for key in self._keys]
        numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
        self.person_names, self.persons = list(numbers), [numbers[name] for name in names]
        if mirror is not None:
            self.persons += [len(numbers) + number for number in self.persons]
        self.table = own if mirror is None else _joined(own, _mirrored(own, mirror))
        columns = b"".join(getattr(self.table, name).tobytes() for name in ("label", *HEAD_FIELDS))
        self.digest = hashlib.sha256("\n".join(self._keys).encode() + columns).hexdigest()

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> HeadPicture:
        is_mirrored, number = divmod(index, self.num_own)
        record = self._dataset[number]
        image, mask = record.image, record.mask
        if is_mirrored:
            image, mask = image[:, ::-1], mask[:, ::-1]
        return HeadPicture(shrink_square(image, self.side), shrink_square(mask, self.side), index)

    def __copy__(self) -> "TrainingHeads":
        """The same pictures, read through files of its own."""
        other = object.__new__(TrainingHeads)
        other.__dict__.update(self.__dict__, _dataset=copy.copy(self._dataset))
        return other

    def name(self, index: int) -> str:
        """Key of a picture."""
        return self._keys[index % self.num_own]


def _mirrored(table: HeadTable, mirror: HeadMirror) -> HeadTable:
    """All heads in a mirror at x = 0, which the network's world keeps."""
    zeros = np.zeros_like(table.jaw)
    heads = [
        mirror.mirrored(HeadParams(shape, expression, neck, jaw, eyes))
        for shape, expression, neck, jaw, eyes in zip(
            table.shape, table.expression, zeros, table.jaw, table.eyes, strict=True
        )
    ]
    columns = (np.stack([getattr(head, name) for head in heads]).astype(np.float32) for name in HEAD_FIELDS)
    return HeadTable(mirror_label(table.label).astype(np.float32), *columns)


def _joined(first: HeadTable, second: HeadTable) -> HeadTable:
    return HeadTable(
        *(np.concatenate([getattr(first, name), getattr(second, name)]) for name in ("label", *HEAD_FIELDS))
    )
