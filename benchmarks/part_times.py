"""CPU seconds of the parts of a training step of the reconstructor, each without the parts inside it."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from statistics import median
from unittest.mock import patch

import torch

import portrait4d.reconstructor.training.task as task_module
from portrait4d.reconstructor.training.task import ReconstructorTask, ReconstructorTraining
from portrait4d.train.trainer import Trainer
from reconstructor_parts import PARTS, named_parts, within

STEP_PARTS = ("samples", *PARTS, "losses", "backward", "optimiser", "rest")

_WARM_UP, _BETWEEN = 1, 1
"""Steps before the first that counts; the index of each, between two looks at density."""


class PartTimer:
    """Seconds by part, from when it is made; time outside of all parts is the rest's.

    Args:
        clock: seconds of the process.
    """

    def __init__(self, clock: Callable[[], float] = time.process_time) -> None:
        self._clock, self._part, self._since = clock, "rest", clock()
        self._seconds: dict[str, float] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time that passes meanwhile is of this part."""
        before = self._change(name)
        try:
            yield
        finally:
            self._change(before)

    def take(self) -> dict[str, float]:
        """Seconds by part since the last call."""
        self._change(self._part)
        taken, self._seconds = self._seconds, {}
        return taken

    def _change(self, name: str) -> str:
        now, before = self._clock(), self._part
        self._seconds[before] = self._seconds.get(before, 0.0) + now - self._since
        self._part, self._since = name, now
        return before


def time_step(config: ReconstructorTraining, *, steps: int) -> dict[str, float]:
    """Median CPU milliseconds an image by part, over steps of the main phase as they are at the end of the run."""
    device = torch.device("cpu")
    task = config.make_task(device)
    for network in task.networks.values():
        network.train()
    trainer = Trainer(task, config.train, optimisers=config.optimisers(), device=device)
    trainer.images_seen = config.train.total_images
    timer, found = PartTimer(), []
    with _timed(task, trainer, timer):
        for index in range(_WARM_UP + steps):
            trainer.step_index = _BETWEEN
            timer.take()
            trainer.step()
            if index >= _WARM_UP:
                found.append(timer.take())
    scale = 1000 / config.train.batch_size
    return {name: scale * median(seconds.get(name, 0.0) for seconds in found) for name in STEP_PARTS}


@contextmanager
def _timed(task: ReconstructorTask, trainer: Trainer, timer: PartTimer) -> Iterator[None]:
    """All parts of a step enter the timer."""
    places = [
        (task.samples, "at", "samples"),
        (task.samples, "prefetch", "samples"),
        (task.batches, "wanted", "samples"),
        (task.batches, "true", "samples"),
        (task_module, "generator_terms", "losses"),
        (torch.Tensor, "backward", "backward"),
        (trainer.optimisers["reconstructor"], "step", "optimiser"),
    ]
    with ExitStack() as stack:
        stack.enter_context(named_parts(task.network, timer.part))
        for owner, method, name in places:
            stack.enter_context(patch.object(owner, method, within(getattr(owner, method), timer.part, name)))
        yield
