"""The state of a run on disk: everything in tensors, a folder each, whole or absent."""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from flame.errors import InputError, printable
from portrait4d.train.trainer import Trainer

TENSORS, FACTS = "training.safetensors", "training.json"


@dataclass(frozen=True)
class SavedRun:
    """A checkpoint's counters.

    Attributes:
        folder: of the checkpoint.
        images_seen: samples before it.
        seconds: that the run took so far.
        cpu_seconds: of all threads of its first process.
        last_good: images of the last good checkpoint before the newest alarm; None without one.
    """

    folder: Path
    images_seen: int
    seconds: float
    cpu_seconds: float
    last_good: int | None


def save_state(
    folder: Path, trainer: Trainer, *, seconds: float, cpu_seconds: float, last_good: int | None = None
) -> Path:
    """Writes a checkpoint into `folder / IMAGES`; a kill at any moment leaves it whole or absent.

    It holds the state of the run, and the averaged networks as checkpoints that commands take.

    Raises:
        InputError: the disk is full, or the folder cannot be written to.
    """
    final = folder / f"{trainer.images_seen:012d}"
    temporary = folder / f".{final.name}.partial"
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        trainer.task.save_weights(temporary, {name: each.network for name, each in trainer.averages.items()})
        save_file(trainer_tensors(trainer), temporary / TENSORS)
        counters = {
            "images_seen": trainer.images_seen,
            "step_index": trainer.step_index,
            "seconds": round(seconds, 3),
            "cpu_seconds": round(cpu_seconds, 3),
            "last_good": last_good,
        }
        (temporary / FACTS).write_text(json.dumps(counters, indent=1), encoding="utf-8")
        if final.exists():  # the same state, written before a kill
            shutil.rmtree(final)
        os.replace(temporary, final)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise InputError(
            f"cannot write the checkpoint {final} ({printable(str(error)[:120])}): make room on the disk and start the "
            "same command again; older checkpoints are untouched"
        ) from error
    return final


def list_states(folder: Path) -> list[SavedRun]:
    """The checkpoints of a run, the oldest first."""
    found = []
    for path in sorted(folder.glob("[0-9]" * 12)):
        try:
            facts = json.loads((path / FACTS).read_text(encoding="utf-8"))
            found.append(_saved_run(path, facts))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path}: expected a checkpoint with {FACTS}, it is damaged: remove the folder to resume from an older "
                "checkpoint"
            ) from error
    return found


def _saved_run(folder: Path, facts: dict[str, Any]) -> SavedRun:
    last_good = facts.get("last_good")
    return SavedRun(
        folder,
        images_seen=int(facts["images_seen"]),
        seconds=float(facts["seconds"]),
        cpu_seconds=float(facts.get("cpu_seconds", 0.0)),  # this and the next are not in checkpoints of older versions
        last_good=None if last_good is None else int(last_good),
    )


def restore_state(saved: SavedRun, trainer: Trainer) -> None:
    """Puts a checkpoint into the trainer.

    Raises:
        InputError: a file is damaged, or of other networks.
    """
    path = saved.folder / TENSORS
    cure = "remove the folder to resume from an older checkpoint"
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        facts = json.loads((saved.folder / FACTS).read_text(encoding="utf-8"))
        index = int(facts["step_index"])
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged ({printable(str(error)[:100])}): {cure}") from error
    wanted = _known_tensors(trainer) | _known_moments(trainer, tensors)
    odd = sorted(name for name in {*wanted, *tensors} if not _agree(wanted.get(name), tensors.get(name)))
    if odd:
        raise InputError(f"{path} is of other networks, they differ in {', '.join(odd[:4])}: {cure}")
    for name, network in trainer.task.networks.items():
        network.load_state_dict(_below(tensors, f"network.{name}."))
    for name, average in trainer.averages.items():
        average.load_state_dict(_below(tensors, f"average.{name}."))
    for name in trainer.optimisers:
        _restore_optimiser(trainer, name, _below(tensors, f"adam.{name}."))
    trainer.task.load_state(_below(tensors, "task."))
    trainer.images_seen, trainer.step_index = saved.images_seen, index


def trainer_tensors(trainer: Trainer) -> dict[str, Tensor]:
    """Copies of all tensors of a run by name, on the CPU."""
    tensors = _known_tensors(trainer)
    for name, optimiser in trainer.optimisers.items():
        for key, parameter in trainer.task.networks[name].named_parameters():
            moments = optimiser.state.get(parameter, {})
            tensors |= {f"adam.{name}.{key}.{moment}": value for moment, value in moments.items()}
    return {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}


def _known_tensors(trainer: Trainer) -> dict[str, Tensor]:
    """The tensors that a run has before its first step, not copied; the optimisers' come with steps."""
    tensors: dict[str, Tensor] = {}
    for name, network in trainer.task.networks.items():
        tensors |= {f"network.{name}.{key}": value for key, value in network.state_dict().items()}
    for name, average in trainer.averages.items():
        tensors |= {f"average.{name}.{key}": value for key, value in average.state_dict().items()}
    return tensors | {f"task.{key}": value for key, value in trainer.task.state().items()}


def _known_moments(trainer: Trainer, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """What is wanted of the optimisers' state: all of a parameter's, where a checkpoint has any of it."""
    known: dict[str, Tensor] = {}
    for name, network in trainer.task.networks.items():
        for key, parameter in network.named_parameters():
            kept = trainer.optimisers[name].state_like(parameter)
            moments = {f"adam.{name}.{key}.{moment}": like for moment, like in kept.items()}
            if not tensors.keys().isdisjoint(moments):
                known |= moments
    return known


def prune_states(folder: Path, *, keep_last: int, keep_every_images: int, last_good: int | None = None) -> None:
    """Removes checkpoints: the newest stay, one of every so many images, and the last good one, of so many images."""
    states = list_states(folder)
    kept_at = -1
    for saved in states[:-keep_last]:
        period = saved.images_seen // keep_every_images if keep_every_images else kept_at
        if period > kept_at and saved.images_seen >= keep_every_images > 0:
            kept_at = period
        elif saved.images_seen != last_good:
            shutil.rmtree(saved.folder)


def _restore_optimiser(trainer: Trainer, name: str, tensors: dict[str, Tensor]) -> None:
    optimiser = trainer.optimisers[name]
    for key, parameter in trainer.task.networks[name].named_parameters():
        moments = {moment: tensors.get(f"{key}.{moment}") for moment in optimiser.state_like(parameter)}
        kept = {moment: value for moment, value in moments.items() if value is not None}
        if kept:  # fused Adam wants its counter where it lies, on the CPU
            optimiser.state[parameter] = {
                moment: value if moment == "step" else value.to(parameter) for moment, value in kept.items()
            }


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _agree(first: Tensor | None, second: Tensor | None) -> bool:
    return first is not None and second is not None and first.shape == second.shape and first.dtype == second.dtype
