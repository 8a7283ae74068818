"""The optimiser loop of EG3D's training against that of the official code, through the project's own loop.

Tolerances are those that come with the reference tensors, which were measured by adding 1e-6 of noise to the inputs.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from eg3d_steps import LOOP, STEPS, enlarged, final_resolution, loss_config, make_networks, phase_terms
from golden import Fixture
from golden_steps import note, precise
from portrait4d.eg3d.generator import EG3DGenerator
from portrait4d.eg3d.losses import RealPictures, Wanted
from portrait4d.train.average import AverageConfig
from portrait4d.train.config import OptimiserConfig, RunConfig
from portrait4d.train.distributed import Workers
from portrait4d.train.task import Part, Phase, Step, Task, Terms
from portrait4d.train.trainer import StepReport, Trainer
from replayed_draws import ReplayedDraws

pytestmark = pytest.mark.usefixtures("one_thread")

PHASES = {"generator": "Gmain", "density": "Greg", "discriminator": "Dmain", "r1": "Dreg"}


class LoopTask(Task):
    """The phases of `EG3DTask` over stored samples; gradients that are not finite arise where the official ones did."""

    def __init__(self, shared: Path) -> None:
        self.fixture, self.calls = Fixture.load(shared, LOOP), Fixture.load(shared, STEPS).about["cases"]
        generator, discriminator = (precise(network) for network in make_networks(shared, self.fixture))
        self.networks = {"generator": generator, "discriminator": discriminator}
        self.averaged = ("generator",)
        options = self.fixture.about["kwargs"]
        intervals = {"density": options["G_reg_interval"], "r1": options["D_reg_interval"]}
        self.phases = [
            Phase(
                name, "discriminator" if official[0] == "D" else "generator", self._loss(name), intervals.get(name, 1)
            )
            for name, official in PHASES.items()
        ]
        self.group_size = discriminator.config.group_size or 1
        self.is_bad, self.w = False, torch.empty(0)
        generator.backbone.synthesis.get_parameter("b4.const").register_post_accumulate_grad_hook(self._spoil)

    def _loss(self, name: str) -> Callable[[Part], Terms]:
        def loss(part: Part) -> Terms:
            index, official = part.step.index, PHASES[name]
            self.is_bad = (index, official) == (1, "Gmain")
            batch = part.step.batch_size
            rows = slice(list(PHASES).index(name) * batch, (list(PHASES).index(name) + 1) * batch)
            labels = precise(self.fixture.input("label_pool"))
            label = labels[self.fixture.input("gen_label_index")[index, rows]]
            wanted = Wanted(precise(self.fixture.input("all_gen_z"))[index, rows], label, label.roll(1, 0))
            real = RealPictures(
                enlarged(precise(self.fixture.input("real_img_low"))[index]),
                labels[self.fixture.input("real_label_index")[index]],
            )
            generator, discriminator = self.networks.values()
            assert isinstance(generator, EG3DGenerator)
            config = loss_config(self.fixture)
            schedule = config.at(part.step.images_seen, resolution=final_resolution(self.fixture))
            calls = self.calls[f"{official}_0"]["random_calls"] if official != "Dreg" else ()
            random = ReplayedDraws(f"{LOOP}:it{index}.{official}", calls)
            terms, w = phase_terms(official, generator, discriminator, wanted, real, config, schedule, random)
            if w is not None:
                self.w = w
            return terms

        return loss

    def _spoil(self, parameter: Tensor) -> None:
        if self.is_bad and parameter.grad is not None:
            parameter.grad.view(-1)[:3] = torch.tensor([torch.nan, torch.inf, -torch.inf])

    def finish(self, step: Step, workers: Workers) -> dict[str, float]:
        generator = self.networks["generator"]
        assert isinstance(generator, EG3DGenerator)
        generator.backbone.mapping.update_average(self.w)
        return {}


@pytest.mark.slow
def test_loop(shared: Path) -> None:
    """Iterations 3 and 4 are only counted: Adam without a first moment amplifies rounding to a quarter of a loss."""
    task = LoopTask(shared)
    about = task.fixture.about
    options = about["kwargs"]
    run = RunConfig(
        batch_size=options["batch_size"],
        average=AverageConfig(half_life_images=options["ema_kimg"] * 1000, ramp_up=options["ema_rampup"]),
    )
    adam = {
        name: OptimiserConfig(learning_rate=options[key]["lr"], betas=tuple(options[key]["betas"]))
        for name, key in (("generator", "G_opt"), ("discriminator", "D_opt"))
    }
    trainer = Trainer(task, run, optimisers=adam)
    trainer.images_seen = options["start_nimg"]
    for name, key in (("generator", "G"), ("discriminator", "D")):
        settings = trainer.optimisers[name].param_groups[0]
        assert settings["lr"] == pytest.approx(about["optimiser"][key]["lr"])
        assert settings["betas"] == pytest.approx(about["optimiser"][key]["betas"])
    for iteration in about["iterations"]:
        index = iteration["iteration"]
        average = trainer.averages["generator"]
        assert average.decay(num_images=trainer.images_seen, batch_size=4) == pytest.approx(iteration["ema_beta"])
        report = trainer.step()
        assert list(report.gradient_norms) == [_ours(phase["name"]) for phase in iteration["phases"]]
        assert report.num_bad == (3 if index == 1 else 0)
        steps = trainer.optimisers["generator"].state
        for name, count in iteration["adam_steps_G"].items():
            assert steps[task.networks["generator"].get_parameter(name)]["step"] == count
        if index < 3:
            _compare_losses(iteration, report)
            for key, network in _networks(trainer).items():
                _compare_weights(task.fixture, key, index, network)


def _ours(official: str) -> str:
    return next(name for name, other in PHASES.items() if other == official)


def _networks(trainer: Trainer) -> dict[str, nn.Module]:
    average = trainer.averages["generator"].network
    return {"G": trainer.task.networks["generator"], "D": trainer.task.networks["discriminator"], "G_ema": average}


def _compare_losses(iteration: dict, report: StepReport) -> None:
    for phase in iteration["phases"]:
        name = _ours(phase["name"])
        found = [value * phase["gain"] for term, value in report.terms.items() if term.startswith(f"{name}/")]
        error = max(abs(mine / other - 1) for mine, other in zip(found, phase["backward_scalars"], strict=True))
        note(LOOP, f"{iteration['iteration']}.{name} terms", error)
        assert error < (1e-4 if iteration["iteration"] == 0 else 1e-3), (name, found)
        assert report.gradient_norms[name] == pytest.approx(phase["flat_grad_l2"], rel=1e-3 if error < 1e-4 else 1e-2)


def _compare_weights(fixture: Fixture, key: str, index: int, network: nn.Module) -> None:
    values = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    everything = torch.cat([value.flatten() for value in network.parameters()])
    worst = 0.0
    rows = zip(fixture.about["checksum_rows"][key], fixture.arrays[f"out.{key}.checksums64"][index], strict=True)
    for name, (_, norm, *first) in rows:
        value = (everything if name == "__all_parameters__" else values[name]).detach().double().flatten()
        worst = max(worst, abs(float(value.norm()) / norm - 1))
        if name == "__all_parameters__":  # in another order there
            continue
        assert value[:4].numpy() == pytest.approx(np.array(first[: len(value)]), abs=2e-5 if index == 0 else 5e-3), name
    note(LOOP, f"{index}.{key} norms", worst)
    assert worst < (1e-5 if index == 0 else 1e-3)
