"""The loop: batches, phases, optimisers, averages. Everything it does depends on the seed and the images seen alone."""

import time
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from flame.errors import InputError
from portrait4d.train.average import WeightAverage
from portrait4d.train.config import OptimiserConfig, RunConfig
from portrait4d.train.distributed import Workers, reduce_gradients, split_batch
from portrait4d.train.lazy import AdamSettings, LazyRegularisation
from portrait4d.train.muon import MuonAdam
from portrait4d.train.task import Part, Phase, Step, Task


@dataclass(frozen=True)
class StepReport:
    """What a step was like.

    Attributes:
        terms: `phase/term`, mean over the batch.
        gradient_norms: of each phase, over all its parameters, as the optimiser gets them: multiplied by the interval,
            numbers that were not finite replaced.
        num_bad: numbers in the gradients that were not finite.
        seconds: of each phase.
    """

    terms: dict[str, float]
    gradient_norms: dict[str, float]
    num_bad: int
    seconds: dict[str, float]


class Trainer:
    """Networks in training, with their optimisers, averages and counters.

    Attributes:
        task: what is trained.
        optimisers: of each network, see `MuonAdam`.
        averages: of the networks that the task names.
        images_seen: samples so far.
        step_index: steps so far.
        bad_steps: steps in a row whose gradients were not finite.
    """

    def __init__(
        self,
        task: Task,
        config: RunConfig,
        *,
        optimisers: dict[str, OptimiserConfig],
        device: torch.device | str = "cpu",
        workers: Workers | None = None,
    ) -> None:
        self.task, self.config = task, config
        self.device, self.workers = torch.device(device), workers or Workers()
        rounds = config.num_rounds(num_workers=self.workers.count, group_size=task.group_size)
        parts = split_batch(config.batch_size, parts=rounds * self.workers.count, group_size=task.group_size)
        self.parts = parts[self.workers.rank * rounds : (self.workers.rank + 1) * rounds]
        self.optimisers = {
            name: _optimiser(network, optimisers[name], _regularisation_interval(task, name))
            for name, network in task.networks.items()
        }
        self._parameters = {name: list(network.parameters()) for name, network in task.networks.items()}
        self._rates = {
            name: [group["lr"] for group in optimiser.param_groups] for name, optimiser in self.optimisers.items()
        }
        self.averages = {name: WeightAverage(task.networks[name], config.average) for name in task.averaged}
        self.images_seen = self.step_index = self.bad_steps = 0

    def step(self) -> StepReport:
        """Takes one step over `config.batch_size` samples.

        Raises:
            InputError: gradients were not finite for too many steps in a row, or another process was lost.
        """
        step = Step(self.step_index, self.images_seen, self.config.batch_size, self.config.seed)
        parts = [Part(step, samples, self.device) for samples in self.parts]
        self.task.prefetch(self._next_positions())
        self._set_rates(self.task.rate_share(step))
        terms: dict[str, float] = {}
        norms: dict[str, float] = {}
        seconds: dict[str, float] = {}
        num_bad = 0
        for phase in self.task.phases:
            if not LazyRegularisation(phase.interval).is_due(step.index):
                continue
            began = time.perf_counter()
            found, bad, norm = self._take(phase, parts)
            if found:
                terms |= {f"{phase.name}/{name}": value for name, value in found.items()}
                norms[phase.name], num_bad = norm, num_bad + bad
            seconds[phase.name] = time.perf_counter() - began
        terms |= self.task.finish(step, self.workers)
        for name, average in self.averages.items():
            average.update(self.task.networks[name], num_images=self.images_seen, batch_size=self.config.batch_size)
        self.images_seen += self.config.batch_size
        self.step_index += 1
        self._limit_bad_steps(num_bad)
        return StepReport(terms, norms, num_bad, seconds)

    def _take(self, phase: Phase, parts: list[Part]) -> tuple[dict[str, float], int, float]:
        """One optimiser step: the mean terms over all samples, numbers that were not finite, the gradient's norm."""
        for name, parameters in self._parameters.items():
            for parameter in parameters:
                parameter.requires_grad_(name == phase.trains)
        optimiser = self.optimisers[phase.trains]
        optimiser.zero_grad(set_to_none=True)
        sums: dict[str, Tensor] = {}
        for part in parts:
            share = len(part) / self.config.batch_size
            terms = phase.loss(part)
            if terms:
                torch.stack(list(terms.values())).sum().mul(share * phase.interval).backward()
            for name, value in terms.items():
                sums[name] = sums.get(name, 0.0) + share * value.detach()
        if not sums:
            return {}, 0, 0.0
        parameters = self._parameters[phase.trains]
        num_bad = reduce_gradients(parameters, self.workers)
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        optimiser.step()
        means = self.workers.sum_(torch.stack(list(sums.values())).float())
        return dict(zip(sums, means.tolist(), strict=True)), num_bad, float(norm)

    def _set_rates(self, share: float) -> None:
        for name, optimiser in self.optimisers.items():
            for group, rate in zip(optimiser.param_groups, self._rates[name], strict=True):
                group["lr"] = rate * share

    def _next_positions(self) -> list[int]:
        """Samples that this process needs in this step and in the next."""
        starts = [self.images_seen, self.images_seen + self.config.batch_size]
        return [start + sample for start in starts for samples in self.parts for sample in samples]

    def _limit_bad_steps(self, num_bad: int) -> None:
        self.bad_steps = self.bad_steps + 1 if num_bad else 0
        if self.bad_steps >= self.config.max_bad_steps:
            raise InputError(
                f"gradients were not finite in {self.bad_steps} steps in a row, the last at {self.images_seen} images: "
                "lower the learning rate or raise the penalty on the gradient, and resume from the last checkpoint"
            )


def _regularisation_interval(task: Task, network: str) -> int:
    """Interval of the network's lazy phase, 1 without one."""
    return max((phase.interval for phase in task.phases if phase.trains == network), default=1)


def _optimiser(network: nn.Module, config: OptimiserConfig, interval: int) -> MuonAdam:
    """Adam with the official correction for a lazy phase; a group of parameters for each kind of step and each rate.

    On a CPU, the fused form takes a quarter of the time.
    """
    plain = AdamSettings(config.learning_rate, config.betas)
    settings = LazyRegularisation(interval).correct(plain) if interval > 1 else plain
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        rate = next((factor for start, factor in config.rates.items() if _starts(name, start)), 1.0)
        is_muon = parameter.ndim > 1 and any(_starts(name, start) for start in config.muon)
        groups.setdefault((is_muon, rate), []).append(parameter)
    learning_rates = {False: settings.learning_rate, True: config.muon_rate}
    return MuonAdam(
        [
            {"params": members, "is_muon": is_muon, "lr": rate * learning_rates[is_muon]}
            for (is_muon, rate), members in groups.items()
        ],
        lr=settings.learning_rate,
        betas=settings.betas,
        eps=config.epsilon,
        fused=all(parameter.device.type == "cpu" for parameter in network.parameters()) or None,
    )


def _starts(name: str, pattern: str) -> bool:
    return fnmatchcase(name, f"{pattern}*")
