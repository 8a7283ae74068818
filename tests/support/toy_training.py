"""A training of seconds that has everything the loop must handle: two networks, a lazy phase, groups, random numbers.

As a program it trains in a folder: `python toy_training.py OUTPUT [OVERRIDE...]`, also under `torchrun`.
"""

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from flame.errors import InputError
from portrait4d.stylegan.discriminator import append_batch_deviation
from portrait4d.train.config import OptimiserConfig, RunConfig
from portrait4d.train.config_file import plain_values, read_config_file
from portrait4d.train.distributed import Workers, join_workers
from portrait4d.train.run import RunReport, run_training
from portrait4d.train.run_folder import RunFolder
from portrait4d.train.task import Part, Phase, Step, Task, Terms
from portrait4d.train.trainer import Trainer

GROUP = 2


@dataclass(frozen=True, kw_only=True)
class ToyConfig:
    """Everything of a toy run."""

    train: RunConfig = field(
        default_factory=lambda: RunConfig(
            total_images=160, batch_size=8, report_images=16, checkpoint_images=32, grid_images=0, keep_last=3
        )
    )
    """How it runs."""

    width: int = 6
    """Of both networks."""

    bad_from: int = -1
    """Image from which gradients are not finite."""


class ToyTask(Task):
    """A generator that imitates a line of colours, judged by a network that compares samples in pairs."""

    group_size = GROUP
    averaged = ("generator",)

    def __init__(self, config: ToyConfig) -> None:
        self.config = config
        torch.manual_seed(3)
        self.networks = {
            "generator": nn.Sequential(nn.Linear(4, config.width), nn.SiLU(), nn.Linear(config.width, 3)),
            "discriminator": nn.ModuleDict(
                {"conv": nn.Conv2d(3, config.width, 1), "out": nn.Linear(config.width + 1, 1)}
            ),
        }
        self.mean = torch.zeros(3)
        self._sum = torch.zeros(3)
        self.phases = (
            Phase("generator", "generator", self._generator_loss),
            Phase("discriminator", "discriminator", self._discriminator_loss),
            Phase("r1", "discriminator", self._penalty, interval=4),
        )

    def _fake(self, part: Part, phase: str) -> Tensor:
        random, like = part.random(phase), self.mean
        latent = random.normal((len(part), 4), like)
        return self.networks["generator"](latent) + 0.05 * random.uniform((len(part), 3), like)

    def _real(self, part: Part) -> Tensor:
        along = torch.tensor([position % 10 / 10 for position in part.positions])
        return torch.stack([along, 1 - along, 0.5 * along], 1)

    def _judge(self, colours: Tensor) -> Tensor:
        network = self.networks["discriminator"]
        x = network.get_submodule("conv")(colours[:, :, None, None]).relu()
        return network.get_submodule("out")(append_batch_deviation(x, group_size=GROUP).flatten(1))

    def _generator_loss(self, part: Part) -> Terms:
        loss = nn.functional.softplus(-self._judge(self._fake(part, "generator"))).mean()
        if 0 <= self.config.bad_from <= part.step.images_seen:
            loss = loss * torch.nan
        return {"adversarial": loss, "size": 0.01 * self._fake(part, "size").square().mean()}

    def _discriminator_loss(self, part: Part) -> Terms:
        fake = self._fake(part, "discriminator").detach()
        self._sum += fake.sum(0)
        softplus = nn.functional.softplus
        return {"fake": softplus(self._judge(fake)).mean(), "real": softplus(-self._judge(self._real(part))).mean()}

    def _penalty(self, part: Part) -> Terms:
        real = self._real(part).requires_grad_()
        (gradient,) = torch.autograd.grad(self._judge(real).sum(), real, create_graph=True)
        return {"penalty": gradient.square().sum(1).mean()}

    def finish(self, step: Step, workers: Workers) -> dict[str, float]:
        self.mean.lerp_(workers.sum_(self._sum) / step.batch_size, 0.1)
        self._sum = torch.zeros(3)
        return {"mean_red": float(self.mean[0])}

    def state(self) -> dict[str, Tensor]:
        return {"mean": self.mean}

    def load_state(self, state: dict[str, Tensor]) -> None:
        self.mean.copy_(state["mean"])


def make_trainer(config: ToyConfig, workers: Workers | None = None) -> Trainer:
    """A trainer at step 0."""
    adam = OptimiserConfig(learning_rate=0.01)
    optimisers = {"generator": replace(adam, muon=("0",)), "discriminator": adam}
    return Trainer(ToyTask(config), config.train, optimisers=optimisers, workers=workers)


def train_toy(output: Path, config: ToyConfig, workers: Workers | None = None) -> RunReport:
    """Trains in a folder."""
    return run_training(make_trainer(config, workers), RunFolder(output, plain_values(config), data_digest="toy"))


def main() -> None:
    torch.set_num_threads(1)
    output, *overrides = sys.argv[1:]
    with join_workers(torch.device("cpu")) as workers:
        try:
            report = train_toy(Path(output), read_config_file(ToyConfig, None, overrides), workers)
        except InputError as error:
            sys.exit(f"rank {workers.rank}: {error}")
        print(f"rank {workers.rank}: {report.images_seen} images", flush=True)


if __name__ == "__main__":
    main()
