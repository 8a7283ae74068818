"""The state of a running fit in one safetensors file: planes, decoder, Adam's moments, random state, step, history."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from flame.errors import InputError, printable
from portrait4d.scene.fitter import SceneFitter
from preprocess.files.atomic import atomic_path

CHECKPOINT = "checkpoint.safetensors"


@dataclass
class FitRecord:
    """What a checkpoint records of a fit beside its tensors.

    Attributes:
        wall_seconds: spent on steps so far, over all runs.
        cpu_seconds: of all threads, spent on the same.
        history: rows of step, PSNR of the rays fitted since the last row, PSNR of some held-out rays.
    """

    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)


def save_checkpoint(folder: Path, fitter: SceneFitter, record: FitRecord, *, job: dict[str, Any]) -> None:
    """Writes the state; `job` is what must be the same for another run to resume from it."""
    tensors = {f"scene.{name}": value.detach().contiguous() for name, value in fitter.scene.state_dict().items()}
    for number, state in fitter.optimizer.state_dict()["state"].items():
        tensors |= {f"adam.{number}.{name}": value.contiguous() for name, value in state.items()}
    tensors["generator"] = fitter.generator.get_state()
    said = {"job": job, "step_index": fitter.step_index, "record": vars(record)}
    with atomic_path(folder / CHECKPOINT) as temporary:
        save_file(tensors, temporary, metadata={"fit": json.dumps(said)})


def restore_checkpoint(folder: Path, fitter: SceneFitter, *, job: dict[str, Any]) -> FitRecord | None:
    """Puts a saved state into the fitter; None if there is none.

    Raises:
        InputError: the file is damaged, lacks a part of the state, or is of another job.
    """
    path = folder / CHECKPOINT
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            said = json.loads(file.metadata()["fit"])
            said_job = dict(said["job"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: expected the state of a fit, got a damaged file: remove it to start again"
        ) from error
    odd = sorted(key for key in {*job, *said_job} if job.get(key) != said_job.get(key))
    if odd:
        changes = ", ".join(f"{key} {said_job.get(key)} -> {job.get(key)}" for key in odd)
        raise InputError(f"{folder} holds a fit with other settings ({changes}): choose another folder or remove it")
    try:
        record = FitRecord(**said["record"])
        step_index = int(said["step_index"])
        _restore_tensors(fitter, tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        first_line = str(error).partition("\n")[0][:100]
        reason = f"{error} is missing" if isinstance(error, KeyError) else first_line
        raise InputError(
            f"{path}: expected the whole state of a fit, got a damaged file ({printable(reason)}): remove it to start "
            "again"
        ) from error
    fitter.step_index = step_index
    return record


def _restore_tensors(fitter: SceneFitter, tensors: dict[str, Tensor]) -> None:
    """Puts planes, decoder, Adam's moments and the random state of a file into the fitter.

    Raises:
        KeyError: a tensor is missing.
        RuntimeError, TypeError: a tensor has another shape or type.
    """
    names = [name for name, _ in fitter.scene.named_parameters()]
    fitter.scene.load_state_dict({name: tensors[f"scene.{name}"] for name in names})
    state = fitter.optimizer.state_dict()
    moments = ("step", "exp_avg", "exp_avg_sq")
    state["state"] = {
        number: {name: tensors[f"adam.{number}.{name}"] for name in moments} for number in range(len(names))
    }
    fitter.optimizer.load_state_dict(state)
    fitter.generator.set_state(tensors["generator"])
