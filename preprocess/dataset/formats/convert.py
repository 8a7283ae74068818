"""Converts datasets of others to shards, and shards to EG3D's format; pictures stay as they are.

EG3D's datasets hold pictures and cameras: records made from them have no head parameters, no landmarks, and a mask that
is 255 everywhere. The neck is the rotation that the camera shows. Portrait4D's LMDBs lack only landmarks.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from flame.errors import InputError
from flame.heads.head_model import HeadParams
from preprocess.dataset.building.plan import KEY_LENGTH
from preprocess.dataset.formats.eg3d_format import (
    HEADS_IN_EG3D,
    Eg3dDataset,
    eg3d_from_ours,
    ours_from_eg3d,
    read_eg3d,
    with_eg3d_lens,
    write_eg3d,
)
from preprocess.dataset.formats.lmdb_format import OfficialDataset
from preprocess.dataset.formats.options import ConvertOptions, Message, Origin
from preprocess.dataset.reading.dataset import find_shards
from preprocess.dataset.records.record import DatasetInfo, Record
from preprocess.dataset.records.shard_options import ImageFormat
from preprocess.dataset.records.shards import read_shard, write_shard
from preprocess.files.file_check import check_not_input

Progress = Callable[[int, int | None], None]

_UNKNOWN_LICENCE = "not stated by the dataset it was converted from"


def find_format(path: Path) -> Literal["eg3d", "lmdb", "shards"]:
    """Returns the format of the dataset at a path, by its file names.

    Raises:
        InputError: it has none of these formats.
    """
    if path.suffix == ".zip" or (path / "dataset.json").is_file():
        return "eg3d"
    if path.suffix == ".mdb" or (path / "data.mdb").is_file():
        return "lmdb"
    if path.suffix in (".tar", ".txt") or (path.is_dir() and any(path.glob("*.tar"))):
        return "shards"
    raise InputError(
        f"{path}: expected a folder or zip with dataset.json, an LMDB with data.mdb, or shards (.tar), it is none"
    )


def eg3d_to_shards(
    source: Path, output: Path, *, origin: Origin = ConvertOptions.origin,
    items_per_shard: int = ConvertOptions.items_per_shard,
    image_format: ImageFormat = ConvertOptions.image_format, progress: Progress | None = None,
) -> list[Path]:  # fmt: skip
    """Writes shards of EG3D's folder or zip; returns their paths.

    Args:
        source: the folder or zip.
        output: a new or empty folder.
        origin: head model whose neck joint and axes define our world, see `HEADS_IN_EG3D`.
        items_per_shard: number of pictures in each shard.
        image_format: of the pictures in the shards.
        progress: called with (pictures done, total).

    Raises:
        InputError: there is no such dataset, a picture is damaged or of another size, or the output is not empty.
    """
    check_not_input(output, source)
    dataset = read_eg3d(source)
    labels = ours_from_eg3d(dataset.labels, HEADS_IN_EG3D[origin], units_per_metre=DatasetInfo.units_per_metre)
    records = _eg3d_records(dataset, labels.astype(np.float32))
    first, records = _first(records, source)
    info = DatasetInfo(
        origin, _UNKNOWN_LICENCE, crop="eg3d", image_size=len(first.image), landmarks="0", detector="none", mask="none"
    )
    told = _told(records, len(dataset), progress)
    return _write(told, info, output, items_per_shard=items_per_shard, image_format=image_format)


def lmdb_to_shards(
    source: Path, message: Message, output: Path, *, items_per_shard: int = ConvertOptions.items_per_shard,
    image_format: ImageFormat = ConvertOptions.image_format, progress: Progress | None = None,
) -> list[Path]:  # fmt: skip
    """Writes shards of one of Portrait4D's LMDBs; returns their paths.

    Args:
        source: the LMDB.
        message: which of the three kinds the LMDB holds.
        output: a new or empty folder.
        items_per_shard: number of records in each shard.
        image_format: of the pictures in the shards.
        progress: called with (messages done, total).

    Raises:
        InputError: there is no such LMDB, a message does not fit, pictures have several sizes, or the output is not
            empty.
    """
    check_not_input(output, source)
    dataset = OfficialDataset(source, message)
    first, records = _first(_lmdb_records(dataset, progress), source)
    info = DatasetInfo(
        "flame", _UNKNOWN_LICENCE, image_size=len(first.image), landmarks="0", detector="none", mask="official",
        code_size=len(first.code),
    )  # fmt: skip
    return _write(records, info, output, items_per_shard=items_per_shard, image_format=image_format)


def shards_to_eg3d(
    source: Path, output: Path, *, has_eg3d_lens: bool = ConvertOptions.has_eg3d_lens, progress: Progress | None = None
) -> int:  # fmt: skip
    """Writes EG3D's folder or zip of shards; returns the number of pictures.

    Args:
        source: a shard, a folder of shards or a `.txt` that lists them.
        output: a new or empty folder, or the name of a new `.zip`.
        has_eg3d_lens: whether all cameras get EG3D's lens and distance, see `with_eg3d_lens`.
        progress: called with (pictures done, total).

    Raises:
        InputError: there are no shards or damaged ones, the pictures' side is no power of two, or the output is not
            empty.
    """
    check_not_input(output, source)
    shards = [read_shard(path) for path in find_shards(source)]
    total = sum(map(len, shards))

    def items() -> Iterator[tuple[NDArray[np.uint8], NDArray]]:
        for record, info in ((record, shard.info) for shard in shards for record in shard):
            head = HEADS_IN_EG3D[info.head_model]
            labels = eg3d_from_ours(record.camera[None], head, units_per_metre=info.units_per_metre)
            yield record.image, (with_eg3d_lens(labels) if has_eg3d_lens else labels)[0]

    return write_eg3d(output, _told(items(), total, progress))


def _eg3d_records(dataset: Eg3dDataset, cameras: NDArray[np.float32]) -> Iterator[Record]:
    for (image, label), name, camera in zip(dataset, dataset.names, cameras, strict=True):
        side = image.shape[0]
        content = hashlib.sha256(name.encode() + label.tobytes() + image.tobytes())
        cam2world = camera[:16].reshape(4, 4)
        yield Record(
            key=content.hexdigest()[:KEY_LENGTH],
            source=name,
            image=image,
            mask=np.full(image.shape[:2], 255, np.uint8),
            crop_matrix=np.eye(3),
            source_size=(side, image.shape[1]),
            landmarks=np.zeros((0, 3), np.float32),
            camera=camera,
            head=HeadParams(
                shape=np.zeros(0, np.float32),
                expression=np.zeros(0, np.float32),
                neck=Rotation.from_matrix(cam2world[:3, :3].T).as_rotvec().astype(np.float32),
                jaw=np.zeros(3, np.float32),
                eyes=np.zeros((2, 3), np.float32),
            ),
        )


def _lmdb_records(dataset: OfficialDataset, progress: Progress | None) -> Iterator[Record]:
    """Yields records with keys made from their content: the LMDB's own keys are numbers, which every LMDB has."""
    for index in range(len(dataset)):
        records = dataset[index]
        digest = hashlib.sha256(str(index).encode())
        for record in records:
            digest.update(record.image.tobytes() + record.camera.tobytes())
        key = digest.hexdigest()[:KEY_LENGTH]
        for record in records:
            number, dash, frame = record.key.partition("-")
            yield replace(record, key=f"{key}{dash}{frame}", source=f"{dataset.path.name}/{number}")
        if progress is not None:
            progress(index + 1, len(dataset))


def _first(records: Iterator[Record], source: Path) -> tuple[Record, Iterator[Record]]:
    """Returns the first record, and all of them."""
    first = next(records, None)
    if first is None:
        raise InputError(f"{source}: expected pictures, it holds none")
    return first, chain([first], records)


def _told(values: Iterable, total: int, progress: Progress | None) -> Iterator:
    for index, value in enumerate(values):
        yield value
        if progress is not None:
            progress(index + 1, total)


def _write(
    records: Iterator[Record], info: DatasetInfo, output: Path, *, items_per_shard: int, image_format: ImageFormat
) -> list[Path]:
    if items_per_shard < 1:
        raise InputError(f"expected at least 1 record in a shard, got {items_per_shard}")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(f"{output}: expected a new or empty folder to write shards to")
    paths: list[Path] = []
    while some := list(islice(records, 1)):
        path = output / f"shard-{len(paths):06d}.tar"
        rest = chain(some, islice(records, items_per_shard - 1))
        write_shard(path, info, _of_one_size(rest, info), image_format=image_format)
        paths.append(path)
    return paths


def _of_one_size(records: Iterable[Record], info: DatasetInfo) -> Iterator[Record]:
    side = info.image_size
    for record in records:
        if record.image.shape != (side, side, 3) or len(record.code) != info.code_size:
            found = f"{list(record.image.shape)} and {len(record.code)}"
            raise InputError(
                f"{record.source}: expected a picture {[side, side, 3]} and a motion code of {info.code_size} numbers "
                f"as the first record has, got {found}: convert such pictures apart"
            )
        yield record
