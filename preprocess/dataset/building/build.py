"""Builds a dataset so that it may be stopped at any moment: finished parts lie on disk, whole, under their names.

Each item leaves `items/KEY.tar` (its records, if it is kept), then `items/KEY.json` (its outcome). When all items of a
shard have an outcome, the shard is assembled in the plan's order; then `outcomes/SHARD.json` says that it is finished.
"""

import json
import math
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from flame.errors import InputError
from preprocess.dataset.building.build_options import BuildOptions
from preprocess.dataset.building.plan import ITEMS, OUTCOMES, Item, Plan, make_plan
from preprocess.dataset.building.stage_options import Outcome, StageOptions
from preprocess.dataset.building.workers import Work, run_workers
from preprocess.dataset.records.container import INDEX_SUFFIX, index_path
from preprocess.dataset.records.record import DatasetInfo
from preprocess.dataset.records.shard_options import ImageFormat
from preprocess.dataset.records.shards import (
    read_shard,
    verify_shard,
    write_encoded,
    write_shard,
)
from preprocess.files.atomic import atomic_path

RunStages = Callable[[Path, Item], Outcome]
MakeStages = Callable[[StageOptions], RunStages]
Progress = Callable[[str, int, int | None], None]


@dataclass(frozen=True)
class BuildResult:
    """What a build of one part did.

    Attributes:
        shards: paths of the finished shards.
        outcomes: of all items.
        duplicates: name of a file that was left out, name of the file with the same content.
        num_new: items that this build worked on.
    """

    shards: tuple[Path, ...]
    outcomes: tuple[dict[str, Any], ...]
    duplicates: tuple[tuple[str, str], ...]
    num_new: int


def build_dataset(
    folder: Path,
    output: Path,
    stage_options: StageOptions,
    *,
    options: BuildOptions | None = None,
    progress: Progress | None = None,
    make_stages: MakeStages | None = None,
) -> BuildResult:
    """Makes the missing parts of a dataset.

    Args:
        folder: with the inputs.
        output: folder of the dataset.
        stage_options: what shapes the records.
        options: how to build.
        progress: called with (stage "hash" or "data", number done, total).
        make_stages: called in each process; `preprocess.dataset.building.stages.Stages` by default.

    Raises:
        InputError: inputs or output cannot be used; never for one bad item.
    """
    options = options or BuildOptions()
    tell = progress or (lambda stage, done, total: None)
    settings = {**stage_options.settings, "image_format": options.image_format}
    plan = make_plan(
        folder, output, part=options.part, items_per_shard=options.items_per_shard, settings=settings,
        progress=partial(tell, "hash"),
    )  # fmt: skip
    store = _Store(output, stage_options.info, options.image_format)
    num_new = _work(plan, folder, store, stage_options, options, tell, make_stages or _load_stages)
    outcomes = [outcome for name in plan.shards for outcome in store.outcomes_of_shard(name)]
    paths = (store.shard_path(name) for name in plan.shards)
    return BuildResult(tuple(path for path in paths if path.exists()), tuple(outcomes), plan.duplicates, num_new)


def check_dataset(path: Path) -> tuple[int, list[str]]:
    """Returns how many shards of a folder are whole, and a line for each that is damaged or missing.

    Args:
        path: the folder of a dataset; or a shard, or a `.txt` that lists shards and folders of them.

    Raises:
        InputError: the path names no shards, or one that does not exist.
    """
    shards = _shards_of_folder(path) if path.is_dir() else _named_shards(path)
    faults = []
    for shard in shards:
        try:
            if not shard.exists():
                raise InputError(f"{shard}: the shard is missing: build or copy it again")
            verify_shard(shard)
        except InputError as error:
            faults.append(str(error))
    return len(shards) - len(faults), faults


def _named_shards(path: Path) -> list[Path]:
    from preprocess.dataset.reading.dataset import (
        find_shards,  # loads torch, which the main process of a build does not need
    )

    return find_shards(path)


def _shards_of_folder(output: Path) -> list[Path]:
    """Returns the shards of a folder, missing ones included that an index or an outcome still names."""
    known = {index.name.removesuffix(INDEX_SUFFIX) for index in output.glob(f"*.tar{INDEX_SUFFIX}")}
    known |= {f"{path.stem}.tar" for path in (output / OUTCOMES).glob("shard-*.json") if _has_kept(path)}
    shards = sorted({output / name for name in known} | set(output.glob("*.tar")))
    if not shards:
        raise InputError(f"expected shards (*.tar) in {output}, found none: give the folder of a built dataset")
    return shards


def _has_kept(outcomes: Path) -> bool:
    """Returns whether a shard's outcomes name any records."""
    return any(outcome["state"] == "kept" for outcome in json.loads(outcomes.read_text()))


class _Store:
    """The files of a dataset under way."""

    def __init__(self, output: Path, info: DatasetInfo, image_format: ImageFormat) -> None:
        self.output, self.info = output, info
        self.image_format: ImageFormat = image_format

    def shard_path(self, name: str) -> Path:
        return self.output / f"{name}.tar"

    def is_shard_done(self, name: str) -> bool:
        """Returns whether a shard's outcomes exist, and its files if it has records: a deleted shard is built again."""
        outcomes, path = self.output / OUTCOMES / f"{name}.json", self.shard_path(name)
        return outcomes.exists() and ((path.exists() and index_path(path).exists()) or not _has_kept(outcomes))

    def is_item_done(self, item: Item) -> bool:
        return self._item(item, ".json").exists()

    def save(self, item: Item, outcome: Outcome | None, *, reason: str, begin: float) -> None:
        """Stores what became of an item; records first, so that an outcome never lacks them.

        Args:
            item: the input file.
            outcome: None if the item failed.
            reason: why it was rejected; else empty.
            begin: `time.process_time` when the work on the item began.
        """
        records = () if outcome is None else outcome.records
        if records:
            write_shard(self._item(item, ".tar"), self.info, records, image_format=self.image_format)
        seconds = round(time.process_time() - begin, 3)
        values = {
            "key": item.key, "source": item.name, "state": "kept" if records else "rejected", "reason": reason,
            "remarks": [] if outcome is None else list(outcome.remarks), "seconds": seconds,
            "quality": {record.key: record.quality for record in records},
        }  # fmt: skip
        _write_json(self._item(item, ".json"), values)

    def assemble(self, name: str, items: tuple[Item, ...]) -> None:
        """Makes the shard from its items' files."""
        outcomes = [json.loads(self._item(item, ".json").read_text()) for item in items]
        kept = [item for item, outcome in zip(items, outcomes, strict=True) if outcome["state"] == "kept"]
        if kept:
            write_encoded(self.shard_path(name), self.info, self._encoded(kept))
        _write_json(self.output / OUTCOMES / f"{name}.json", outcomes)
        self.clear(items)

    def clear(self, items: tuple[Item, ...]) -> None:
        """Removes the files of items whose shard is finished."""
        for item in items:
            tar = self._item(item, ".tar")
            for path in (self._item(item, ".json"), index_path(tar), tar):
                path.unlink(missing_ok=True)

    def outcomes_of_shard(self, name: str) -> list[dict[str, Any]]:
        return json.loads((self.output / OUTCOMES / f"{name}.json").read_text())

    def _encoded(self, items: list[Item]) -> Iterator[tuple[str, dict[str, bytes]]]:
        for item in items:
            shard = read_shard(self._item(item, ".tar"))
            with shard.path.open("rb") as file:
                for key in shard.keys:
                    yield key, shard.parts(key, file)

    def _item(self, item: Item, suffix: str) -> Path:
        return self.output / ITEMS / f"{item.key}{suffix}"


def _work(
    plan: Plan, folder: Path, store: _Store, stage_options: StageOptions, options: BuildOptions, tell: Progress,
    make_stages: MakeStages,
) -> int:  # fmt: skip
    """Finishes all shards; returns how many items were worked on."""
    open_shards = {name: items for name, items in plan.shards.items() if not store.is_shard_done(name)}
    shard_of = {item.key: name for name, items in open_shards.items() for item in items}
    missing = {
        name: {item.key for item in items if not store.is_item_done(item)} for name, items in open_shards.items()
    }
    todo = [item for items in open_shards.values() for item in items if item.key in missing[shard_of[item.key]]]
    done, total = len(plan.items) - len(todo), len(plan.items)
    for name in open_shards:
        if not missing[name]:
            store.assemble(name, open_shards[name])
    if todo:
        tell("data", done, total)
    make_work = partial(_make_work, make_stages, stage_options, folder, store)
    num_workers, item_seconds = min(options.num_workers, max(len(todo), 1)), options.item_seconds or math.inf
    for item, failure in run_workers(make_work, todo, num_workers=num_workers, item_seconds=item_seconds):
        if failure is not None:
            store.save(item, None, reason=failure, begin=time.process_time())
        done += 1
        tell("data", done, total)
        name = shard_of[item.key]
        missing[name].discard(item.key)
        if not missing[name]:
            store.assemble(name, open_shards[name])
    for name, items in plan.shards.items():  # an earlier run may have been killed while it cleared
        if name not in open_shards:
            store.clear(items)
    remains = store.output / ITEMS
    if remains.is_dir() and options.part.count == 1:
        shutil.rmtree(remains)
    return len(todo)


def _load_stages(options: StageOptions) -> RunStages:
    from preprocess.dataset.building.stages import Stages  # loads torch: only workers need it

    return Stages(options)


def _make_work(make_stages: MakeStages, options: StageOptions, folder: Path, store: _Store) -> Work:
    """Loads the models in a worker's process, with one thread each, and returns the work on an item."""
    import cv2

    cv2.setNumThreads(1)  # those of torch and BLAS are limited by the environment, see `run_workers`
    stages = make_stages(options)

    def work(item: Item) -> None:
        begin = time.process_time()
        outcome, reason = None, ""
        try:
            outcome = stages(folder / item.name, item)
        except InputError as error:
            message = str(error).removeprefix(f"{folder / item.name}: ").removeprefix(f"{Path(item.name).name}: ")
            reason = " ".join(message.split())
        except MemoryError:
            raise  # the process cannot continue
        except Exception as error:  # a bug that one file reveals is reported and must not stop the others
            reason = f"unexpected {type(error).__name__}: {' '.join(str(error).split())[:200]}"
        store.save(item, outcome, reason=reason, begin=begin)

    return work


def _write_json(path: Path, values: Any) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(values, indent=1) + "\n")
