"""The work of every command that trains: a configuration becomes a run, a forecast, or a profile."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from flame.errors import InputError
from portrait4d.runtime.device import check_device
from portrait4d.runtime.memory import peak_memory_mb
from portrait4d.train.config import OptimiserConfig, RunConfig
from portrait4d.train.config_file import plain_values
from portrait4d.train.distributed import Workers, join_workers
from portrait4d.train.run import RunReport, run_training
from portrait4d.train.run_folder import RunFolder
from portrait4d.train.task import Task
from portrait4d.train.trainer import Trainer
from preprocess.files.file_check import check_not_input

_WARM_UP = 1


class Training(Protocol):
    """The whole configuration of a training: a dataclass with a field `train` and the task's own fields."""

    @property
    def train(self) -> RunConfig:
        """How long and in which steps."""
        ...

    @property
    def inputs(self) -> tuple[Path, ...]:
        """Files and folders that are read."""
        ...

    @property
    def warnings(self) -> tuple[str, ...]:
        """What looks wrong in these settings, in words."""
        ...

    def optimisers(self) -> dict[str, OptimiserConfig]:
        """Adam's settings by network."""
        ...

    def make_task(self, device: torch.device) -> Task:
        """Networks at their start, and the data."""
        ...


@dataclass(frozen=True)
class Forecast:
    """What a run would be like, measured over a few steps.

    Attributes:
        parameters: of each network.
        state_mb: size of a checkpoint.
        memory_mb: largest memory of the measured steps.
        seconds_per_kimg: for a thousand images.
        days: for all images of the configuration.
        phases: milliseconds per image of each phase, lazy ones by their share.
        facts: of the task.
    """

    parameters: dict[str, int]
    state_mb: float
    memory_mb: float
    seconds_per_kimg: float
    days: float
    phases: dict[str, float]
    facts: dict[str, Any]


def train(
    training: Training,
    output: str | Path,
    *,
    device: str = "cpu",
    told: Callable[[Mapping[str, Any]], None] | None = None,
) -> RunReport:
    """Trains in a folder, alone or as one of `torchrun`'s processes; resumes what the folder holds.

    Raises:
        InputError: see `portrait4d.train.run.run_training` and the task's own checks of its data.
    """
    check_not_input(Path(output), *training.inputs)
    place = _own_device(device)
    with join_workers(place) as workers, _precision(training.train):
        trainer, folder = _prepare(training, output, place, workers)
        return run_training(trainer, folder, told=told)


def forecast(training: Training, *, device: str = "cpu", steps: int = 3) -> Forecast:
    """Measures a few steps of a training, as they are at its end, after one to warm up; writes nothing.

    Raises:
        InputError: as `train`.
    """
    place = _own_device(device)
    with _precision(training.train):
        trainer = _trainer(training, training.make_task(place), place, Workers())
        parameters = {
            name: sum(value.numel() for value in network.parameters())
            for name, network in trainer.task.networks.items()
        }
        intervals = {phase.name: phase.interval for phase in trainer.task.phases}
        milliseconds: dict[str, list[float]] = {name: [] for name in intervals}
        trainer.images_seen = training.train.total_images  # a start may leave phases out
        for index in range(_WARM_UP + steps):
            trainer.step_index = 0  # all lazy phases are due
            report = trainer.step()
            if index >= _WARM_UP:
                for name, seconds in report.seconds.items():
                    milliseconds[name].append(1000 * seconds / training.train.batch_size)
    phases = {
        name: sorted(values)[len(values) // 2] / intervals[name] for name, values in milliseconds.items() if values
    }
    pace = sum(phases.values())
    averaged = sum(parameters[name] for name in trainer.averages)
    return Forecast(
        parameters=parameters,
        state_mb=round(4 * (3 * sum(parameters.values()) + 2 * averaged) / 2**20, 1),
        memory_mb=round(peak_memory_mb(place)),
        seconds_per_kimg=round(pace, 3),
        days=round(pace * training.train.total_images / 1000 / 86400, 3),
        phases={name: round(value, 3) for name, value in phases.items()},
        facts=trainer.task.describe(),
    )


def profile(training: Training, trace: Path, *, device: str = "cpu", rows: int = 25) -> str:
    """Profiles one step after a warm-up; writes a trace for chrome://tracing and returns a table by operation.

    Raises:
        InputError: as `train`.
    """
    place = _own_device(device)
    activities = [torch.profiler.ProfilerActivity.CPU]
    if place.type == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with _precision(training.train):
        trainer = _trainer(training, training.make_task(place), place, Workers())
        trainer.step()
        trainer.step_index = 0
        with torch.profiler.profile(activities=activities) as profiler:
            trainer.step()
    trace.parent.mkdir(parents=True, exist_ok=True)
    profiler.export_chrome_trace(str(trace))
    order = "self_cuda_time_total" if place.type == "cuda" else "self_cpu_time_total"
    return profiler.key_averages().table(sort_by=order, row_limit=rows)


def _prepare(
    training: Training, output: str | Path, device: torch.device, workers: Workers
) -> tuple[Trainer, RunFolder]:
    task = training.make_task(device)
    defaults = plain_values(type(training)())
    folder = RunFolder(output, plain_values(training), data_digest=task.data_digest, defaults=defaults)
    return _trainer(training, task, device, workers), folder


def _trainer(training: Training, task: Task, device: torch.device, workers: Workers) -> Trainer:
    for network in task.networks.values():
        network.to(device).train()
    return Trainer(task, training.train, optimisers=training.optimisers(), device=device, workers=workers)


def _own_device(device: str) -> torch.device:
    """The device of this process: of several on one machine each takes its own GPU."""
    device = check_device(device)
    if device == "cuda" and "LOCAL_RANK" in os.environ:
        place = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        if place.index >= torch.cuda.device_count():
            raise InputError(
                f"expected a GPU for each process, there are {torch.cuda.device_count()}: lower --nproc-per-node"
            )
        torch.cuda.set_device(place)
        return place
    return torch.device(device)


@contextmanager
def _precision(config: RunConfig) -> Iterator[None]:
    """CUDA's fast products where the configuration asks for them; put back at the end."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    is_fast = config.precision != "fp32"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = is_fast
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
