"""Clips of a dataset as an evaluation takes them: folders of pictures, one a clip, unpacked once."""

from itertools import groupby
from pathlib import Path

from flame.errors import InputError
from portrait4d.jobs.evaluation.items import EvaluationItem
from preprocess.dataset.reading.dataset import Dataset
from preprocess.media.image import write_png

_LEAST_FRAMES = 2


def holds_shards(path: Path) -> bool:
    """Whether a path is a shard, or a folder of shards."""
    return path.suffix == ".tar" or (path.is_dir() and any(path.glob("*.tar")))


def shard_items(path: Path, folder: Path) -> list[EvaluationItem]:
    """The clips of shards, driven by themselves, their frames unpacked below a folder; single pictures are no clips.

    Args:
        path: a shard, or a folder of shards, as `portrait4d data video` makes them.
        folder: of the unpacked frames; what is there already is kept.

    Raises:
        InputError: the shards are damaged, or hold no clips.
    """
    dataset = Dataset(path)
    names = [(index, record.partition("-")[0]) for index, record in enumerate(dataset.keys())]
    items = []
    for name, group in groupby(names, lambda pair: pair[1]):
        rows = [index for index, _ in group]
        if len(rows) >= _LEAST_FRAMES:
            _unpack(dataset, rows, folder / name)
            items.append(EvaluationItem(name, folder / name))
    if not items:
        raise InputError(f"expected clips of {_LEAST_FRAMES} frames or more in {path}, got single pictures")
    return items


def _unpack(dataset: Dataset, rows: list[int], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, row in enumerate(rows):
        picture = folder / f"{number:06d}.png"
        if not picture.is_file():  # it is written whole or not at all
            write_png(picture, dataset[row].image, is_synthetic=False)
