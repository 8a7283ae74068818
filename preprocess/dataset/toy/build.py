"""Builds a toy dataset so that it may be stopped at any moment: each shard is whole, or absent and made again.

Every person is drawn from the seed and its own number, in a process of one thread; so the shards of one machine have
the same bytes for any number of processes and any order.
"""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

from flame.errors import InputError
from preprocess.dataset.building.plan import Item
from preprocess.dataset.building.workers import Work, run_workers
from preprocess.dataset.records.shards import index_path, write_shard
from preprocess.dataset.toy.options import ToyOptions
from preprocess.files.atomic import atomic_path

SETTINGS_NAME = "toy-faces.json"
"""Beside the shards: the settings they were made with."""

Progress = Callable[[int, int], None]


def build_toy_faces(
    output: Path, options: ToyOptions, *, num_workers: int = 1, progress: Progress | None = None
) -> list[Path]:
    """Makes the missing shards of a toy dataset, and returns all.

    Args:
        output: folder of the dataset.
        options: what shapes it.
        num_workers: processes, one core each.
        progress: called with (shards done, of all), once before the first.

    Raises:
        InputError: the folder was begun with other options, or cannot be written.
    """
    if num_workers < 1:
        raise InputError(f"expected at least 1 worker, got {num_workers}")
    _keep_settings(output, options)
    shards = {_shard_path(output, index): index for index in range(options.num_shards)}
    todo = [path for path in shards if not (path.is_file() and index_path(path).is_file())]
    tell = progress or (lambda done, total: None)
    done = len(shards) - len(todo)
    tell(done, len(shards))
    items = [Item(path.stem, str(shards[path])) for path in todo]
    make_work = partial(_make_work, output, options)
    for item, failure in run_workers(make_work, items, num_workers=min(num_workers, max(len(items), 1))):
        if failure is not None:
            raise RuntimeError(f"{item.key}: {failure}")
        done += 1
        tell(done, len(shards))
    return list(shards)


def _shard_path(output: Path, shard_index: int) -> Path:
    return output / f"toy-{shard_index:06d}.tar"


def _keep_settings(output: Path, options: ToyOptions) -> None:
    """Writes the settings beside the shards, or refuses those of another dataset."""
    path = output / SETTINGS_NAME
    if not path.is_file():
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(options.settings, indent=1) + "\n")
        return
    try:
        before = json.loads(path.read_text())
        changed = sorted(name for name, value in options.settings.items() if before.get(name) != value)
    except (ValueError, AttributeError) as error:
        raise InputError(f"{path} is damaged: delete it and the shards beside it, or choose another output") from error
    if changed:
        raise InputError(
            f"{output} was begun with other settings ({', '.join(changed)}): repeat them, or choose another output"
        )


def _make_work(output: Path, options: ToyOptions) -> Work:
    """Loads the head in a worker's process, and returns the work on a shard."""
    from preprocess.dataset.toy.records import ToyRecords, toy_info  # loads torch: for workers

    make_records = ToyRecords(options)

    def work(item: Item) -> None:
        shard_index = int(item.name)
        people = options.identities_of_shard(shard_index)
        records = (record for identity in people for record in make_records(identity))
        write_shard(_shard_path(output, shard_index), toy_info(options), records)

    return work
