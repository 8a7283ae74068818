"""Writes synthesised subjects so that it may be stopped at any moment: each container is whole, or absent.

Every subject is drawn from the seed and its own number, in a process of one thread; so the containers of one machine
have the same bytes for any number of processes and any order.
"""

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from flame.errors import InputError
from genhead.generator import GenHeadGenerator
from genhead.jobs.options import SynthesizeOptions
from genhead.jobs.sheet import write_sheet
from genhead.synthesis.subjects import SyntheticHeads
from portrait4d.runtime.device import check_device
from portrait4d.runtime.paths import check_output
from portrait4d.runtime.progress import Progress, ignore_progress
from preprocess.dataset.building.plan import Item
from preprocess.dataset.building.workers import Work, run_workers
from preprocess.dataset.records.container import index_path, write_container
from preprocess.dataset.synthetic.record import encode_subject, encode_synthetic_info
from preprocess.files.atomic import atomic_path
from preprocess.files.file_check import check_not_input

SETTINGS_NAME = "synthetic.json"
"""Beside the containers: the settings they were made with."""


@dataclass(frozen=True)
class SynthesizeReport:
    """What a run did: containers in all, subjects in all, and how many of them this run made."""

    output: str
    num_containers: int
    num_subjects: int
    num_new: int


def write_subjects(
    network: str | Path,
    output: str | Path,
    *,
    options: SynthesizeOptions,
    device: str = "cpu",
    progress: Progress = ignore_progress,
) -> SynthesizeReport:
    """Makes the missing containers of a folder.

    Args:
        network: name of released weights, a checkpoint folder, or an official `.pkl`.
        output: the folder.
        options: what shapes the subjects, and how they are written.
        device: name of a torch device.
        progress: called with subjects done, once before the first.

    Raises:
        InputError: the network or the motions cannot be used, or the folder was begun with others.
    """
    output, count = Path(output), options.config.count
    check_not_input(output, network, *options.config.motions)
    device = check_device(device)
    if options.sheet is not None:
        check_output(Path(options.sheet), frozenset({".png"}))
        check_not_input(options.sheet, network, *options.config.motions)
    heads = SyntheticHeads(GenHeadGenerator.from_pretrained(network), options.config, seed=options.seed)
    _keep_settings(output, heads, options)
    parts = {
        output / f"heads-{start:08d}.tar": range(start, min(start + options.subjects_per_shard, count))
        for start in range(0, count, options.subjects_per_shard)
    }
    todo = [path for path in parts if not (path.is_file() and index_path(path).is_file())]
    num_new = sum(len(parts[path]) for path in todo)
    done = count - num_new
    progress("synthesize", done, count)
    items = {path.stem: path for path in todo}
    ranges = {path.stem: parts[path] for path in todo}
    make_work = partial(_make_work, network, options, device, items, ranges)
    work_items = [Item(stem, stem) for stem in items]
    num_workers = min(options.num_workers, max(len(work_items), 1))
    for item, failure in run_workers(make_work, work_items, num_workers=num_workers):
        if failure is not None:
            raise RuntimeError(f"{item.key}: {failure}")
        done += len(ranges[item.key])
        progress("synthesize", done, count)
    if options.sheet is not None:
        write_sheet(heads.generator.to(device), output, options.sheet, options.config)
    return SynthesizeReport(str(output), len(parts), count, num_new)


def _make_work(
    network: str | Path, options: SynthesizeOptions, device: str, paths: dict[str, Path], ranges: dict[str, range]
) -> Work:
    """Loads network and motions in a worker's process, and returns the work on a container."""
    import torch

    torch.set_num_threads(1)
    heads = SyntheticHeads(network, options.config, seed=options.seed, device=device)
    description = encode_synthetic_info(heads.info)

    def work(item: Item) -> None:
        subjects = (heads[index] for index in ranges[item.key])
        write_container(paths[item.key], description, ((subject.key, encode_subject(subject)) for subject in subjects))

    return work


def _keep_settings(output: Path, heads: SyntheticHeads, options: SynthesizeOptions) -> None:
    """Writes the settings beside the containers, or refuses those of another folder."""
    settings: dict[str, Any] = {**heads.settings, "subjects_per_shard": options.subjects_per_shard}
    path = output / SETTINGS_NAME
    if not path.is_file():
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(settings, indent=1) + "\n")
        return
    try:
        before = json.loads(path.read_text())
        changed = sorted(name for name, value in settings.items() if before.get(name) != value)
    except (ValueError, AttributeError) as error:
        raise InputError(f"{path} is damaged: delete it and what lies beside it, or choose another output") from error
    if changed:
        raise InputError(
            f"{output} was begun with other settings ({', '.join(changed)}): repeat them, or choose another output"
        )
