"""What is trained, as the loop sees it: networks, the phases of a step with their losses, and where the step stands."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from portrait4d.runtime.random import PerSample, derive_seed
from portrait4d.train.distributed import Workers

Terms = Mapping[str, Tensor]
"""The weighted terms of a loss by name, each a mean over the samples of a part; their sum is minimised."""


@dataclass(frozen=True)
class Step:
    """Where a run stands. Schedules, samples and random numbers depend on nothing else.

    Attributes:
        index: steps taken before this one, over all runs in the folder.
        images_seen: samples taken before this step.
        batch_size: samples of this step, over all processes and rounds.
        seed: of the run.
    """

    index: int
    images_seen: int
    batch_size: int
    seed: int

    def shared_generator(self, purpose: str) -> torch.Generator:
        """Random numbers that all samples of the step share, on the CPU; the same in every process."""
        return torch.Generator().manual_seed(derive_seed(self.seed, self.images_seen, purpose))


@dataclass(frozen=True)
class Part:
    """The samples of a batch that are computed at once; the others are computed in other rounds or processes.

    Attributes:
        step: whose batch it is.
        samples: places in the batch, from 0 to `step.batch_size - 1`. Members of a group (see `Task.group_size`) are in
            the same part, in the order that `append_batch_deviation` takes for one.
        device: of the networks.
    """

    step: Step
    samples: tuple[int, ...]
    device: torch.device

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def positions(self) -> tuple[int, ...]:
        """Places of the samples in the run's stream of samples."""
        return tuple(self.step.images_seen + sample for sample in self.samples)

    def random(self, purpose: str) -> PerSample:
        """Random numbers of these samples; those for another purpose are others."""
        return PerSample([derive_seed(self.step.seed, position, purpose) for position in self.positions])


@dataclass(frozen=True)
class Phase:
    """A loss with an optimiser step of its own.

    Attributes:
        name: in statistics.
        trains: name of the network whose parameters move; all others are fixed meanwhile.
        loss: its terms over a part; an empty mapping leaves the phase out of this step.
        interval: steps from one use to the next; the loss is multiplied by it (lazy regularisation, see
            `portrait4d.train.lazy`).
    """

    name: str
    trains: str
    loss: Callable[[Part], Terms]
    interval: int = 1


class Task:
    """Base of everything that the loop can train.

    Attributes:
        networks: in training, by name.
        averaged: names of the networks whose weights are averaged over training.
        phases: of a step, in their order.
        group_size: samples that see each other, as minibatch statistics do; a batch is only split between groups.
        data_digest: identifies the training data; a run resumes with the same data only.
    """

    networks: dict[str, nn.Module]
    averaged: tuple[str, ...] = ()
    phases: Sequence[Phase] = ()
    group_size: int = 1
    data_digest: str = ""

    def rate_share(self, step: Step) -> float:
        """Factor on all learning rates in a step; it must depend on nothing that a run may resume with another of."""
        del step
        return 1.0

    def prefetch(self, positions: Sequence[int]) -> None:
        """Told which samples come next in this process, so that they can be read ahead."""

    def finish(self, step: Step, workers: Workers) -> dict[str, float]:
        """Does what follows the phases of a step: running means, adaptive strengths. Returns statistics of its own."""
        del step, workers
        return {}

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint keeps beside networks, averages and optimisers."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restores what `state` gave."""
        del state

    def save_weights(self, folder: Path, averages: Mapping[str, nn.Module]) -> None:
        """Writes the averaged networks as checkpoints that commands take, `config.json` and tensors, into a folder."""
        del folder, averages

    def draw_grid(self, averages: Mapping[str, nn.Module]) -> NDArray | None:
        """A picture uint8 `[H, W, 3]` of fixed samples, or None where there is nothing to see."""
        del averages
        return None

    def grid_distance(self, averages: Mapping[str, nn.Module]) -> float | None:
        """How far apart pictures of other samples are, see `portrait4d.train.alarms.grid_distance`; None tells nothing.

        It is asked for with each grid, and an alarm watches it.
        """
        del averages

    def describe(self) -> dict[str, Any]:
        """Facts about networks and data for the run folder and `--dry-run`."""
        return {}
