"""Training steps of EG3D against those of the official code: terms, logits, pictures, gradients, the optimiser loop.

Tolerances are those that come with the reference tensors, which were measured by adding 1e-6 of noise to the inputs.
`w_avg_after` of the single steps is the mean before them, so that the loop alone shows how it moves.
"""

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from golden import MEASURED, Fixture, rules
from official_pickles import EasyDict, build_module, official_names, save_official
from portrait4d.eg3d.generator import EG3DGenerator
from portrait4d.eg3d.losses import (
    DensityKind,
    EG3DLossConfig,
    RealPictures,
    Schedule,
    Wanted,
    density_terms,
    discriminator_terms,
    generator_terms,
    r1_terms,
)
from portrait4d.eg3d.training_weights import load_start
from portrait4d.gan.discriminator import DualDiscriminator, DualDiscriminatorConfig, JudgedImages
from portrait4d.train.average import AverageConfig
from portrait4d.train.config import OptimiserConfig, RunConfig
from portrait4d.train.distributed import Workers
from portrait4d.train.task import Part, Phase, Step, Task, Terms
from portrait4d.train.trainer import StepReport, Trainer
from portrait4d.weights.eg3d_config import EG3DConfig
from replayed_draws import ReplayedDraws

FIXTURE = "train_eg3d_small"
SCALAR, TERM = 1e-5, 3e-4
"""Relative: of a loss, of a sample's logit."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As the reference tensors were made."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Recorder(nn.Module):
    """A discriminator that keeps what it saw and said."""

    def __init__(self, discriminator: DualDiscriminator) -> None:
        super().__init__()
        self.discriminator = discriminator
        self.seen: list[JudgedImages] = []
        self.logits: list[Tensor] = []

    def forward(self, images: JudgedImages, condition: Tensor) -> Tensor:
        self.seen.append(images)
        self.logits.append(self.discriminator(images, condition))
        return self.logits[-1]


@cache
def _values(folder: Path, name: str, network: str) -> dict[str, Tensor]:
    about = Fixture.load(folder, name).about
    rule = rules(folder / "spec" / "golden")
    prefix = about["param_prefix"][network]
    entries = Fixture.load(folder, FIXTURE).about["params"][network]
    return {
        key: torch.from_numpy(rule.param_value(prefix + key, entry["shape"], entry["rule"]))
        for key, entry in entries.items()
        if entry["rule"][0] != "fixed"
    }


def make_networks(shared: Path, fixture: Fixture) -> tuple[EG3DGenerator, DualDiscriminator]:
    """Both networks with the generated weights."""
    kwargs = fixture.about["kwargs"]
    generator = EG3DGenerator(EG3DConfig.from_official(kwargs["G"]))
    discriminator = DualDiscriminator(DualDiscriminatorConfig.from_official(kwargs["D"]))
    generator.load_state_dict(_values(shared, fixture.name, "G"), strict=True)
    discriminator.load_state_dict(_values(shared, fixture.name, "D"), strict=True)
    return generator, discriminator


def loss_config(fixture: Fixture, **changes: object) -> EG3DLossConfig:
    """The fixture's own; the density regulariser's settings lie among the renderer's."""
    official, render = fixture.about["kwargs"]["loss"], fixture.about["kwargs"]["G"]["rendering_kwargs"]
    settings = {
        "density_weight": render["density_reg"],
        "density_distance": render["density_reg_p_dist"],
        "r1_gamma": official["r1_gamma"],
        "blur_sigma": official["blur_init_sigma"],
        "blur_images": int(official["blur_fade_kimg"] * 1000),
        "swap_final": official["gpc_reg_prob"],
        "swap_images": official["gpc_reg_fade_kimg"] * 1000,
        "initial_resolution": official["neural_rendering_resolution_initial"],
        "resolution_images": official["neural_rendering_resolution_fade_kimg"] * 1000,
    }
    return EG3DLossConfig(**(settings | changes))  # pyright: ignore[reportArgumentType]


def final_resolution(fixture: Fixture) -> int:
    """Side of the rendered picture in the end."""
    return fixture.about["kwargs"]["loss"]["neural_rendering_resolution_final"]


def enlarged(low: Tensor) -> Tensor:
    """The real pictures, as the fixtures derive them."""
    return F.interpolate(low, size=128, mode="bilinear", align_corners=False)


def phase_terms(
    phase: str,
    generator: EG3DGenerator,
    judge: nn.Module,
    wanted: Wanted,
    real: RealPictures,
    config: EG3DLossConfig,
    schedule: Schedule,
    random: ReplayedDraws,
) -> tuple[dict[str, Tensor], Tensor | None]:
    """Terms of an official phase, and the styles whose mean it takes."""
    terms, w = {}, None
    if phase in ("Gmain", "Gboth"):
        terms |= generator_terms(generator, judge, wanted, schedule, random=random)
    if phase in ("Greg", "Gboth"):

        def is_swapped() -> bool:
            return random.choose(schedule.swap_probability)

        terms |= density_terms(generator, wanted, config, is_swapped=is_swapped, random=random)
    if phase in ("Dmain", "Dboth"):
        found, w = discriminator_terms(generator, judge, wanted, real, schedule, random=random)
        terms |= found
    if phase in ("Dreg", "Dboth"):
        terms |= r1_terms(judge, real, config, schedule)
    return terms, w


CASES = [
    "Dreg_140k",
    "Greg_0",
    "Dmain_0",
    *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in (
            *("Gmain_0", "Gmain_140k", "Gmain_1000k", "Gboth_140k"),
            *("Greg_1000k", "Greg_monotonic_detach", "Greg_monotonic_fixed"),
            *("Dmain_140k", "Dmain_1000k", "Dreg_1000k", "Dboth_140k"),
        )
    ),
]


def test_all_cases_are_tested(shared: Path) -> None:
    named = {case if isinstance(case, str) else case.values[0] for case in CASES}
    assert named == set(Fixture.load(shared, FIXTURE).about["cases"])


@pytest.mark.parametrize("case", CASES)
def test_step(shared: Path, case: str) -> None:
    fixture = Fixture.load(shared, FIXTURE)
    about = fixture.about["cases"][case]
    kind: DensityKind = about["reg_type"]
    config = loss_config(fixture, density_kind=kind)
    schedule = config.at(about["cur_nimg"], resolution=final_resolution(fixture))
    assert schedule.blur_sigma == about["blur_sigma"]
    assert schedule.swap_probability == pytest.approx(about["swapping_prob"])
    assert schedule.resolution == about["neural_rendering_resolution"]

    generator, discriminator = make_networks(shared, fixture)
    trained = {"G": generator, "D": discriminator}[about["trained_module"]]
    generator.requires_grad_(trained is generator)
    discriminator.requires_grad_(trained is discriminator)
    judge, random = Recorder(discriminator), ReplayedDraws(f"{FIXTURE}:{case}", about["random_calls"])
    label = fixture.input("gen_c")
    wanted = Wanted(fixture.input("z"), label, label.roll(1, 0))
    real = RealPictures(enlarged(fixture.input("real_img_low")), fixture.input("real_c"))
    terms, _ = phase_terms(about["phase"], generator, judge, wanted, real, config, schedule, random)
    assert all("training/loss.py" not in str(call) for call in random.left)
    assert {shape[1] for _, shape in random.left} <= {2000, 4000}  # directions, which the official code does not use

    _compare_terms(case, about, terms)
    _compare_logits(fixture, case, about, judge)
    (torch.stack(list(terms.values())).sum() * about["gain"]).backward()
    _compare_gradients(fixture, case, about, trained)


def _note(case: str, output: str, error: float) -> None:
    MEASURED.append({"fixture": FIXTURE, "output": f"{case}.{output}", "error": error, "std": 1.0, "scale": 1.0})


def _compare_terms(case: str, about: dict, terms: dict[str, Tensor]) -> None:
    found = [term.item() * about["gain"] for term in terms.values()]
    if about["phase"] == "Dboth":  # there, the penalty was part of the real pictures' loss
        found = [found[0], found[1] + found[2]]
    error = max(abs(ours / theirs - 1) for ours, theirs in zip(found, about["backward_scalars"], strict=True))
    _note(case, "scalars", error)
    assert error < SCALAR, (found, about["backward_scalars"])


def _compare_logits(fixture: Fixture, case: str, about: dict, judge: Recorder) -> None:
    for index, logits in enumerate(judge.logits[:2]):
        if f"out.{case}.logits{index}" in fixture.arrays:
            expected = torch.from_numpy(fixture.arrays[f"out.{case}.logits{index}"])
            _note(case, f"logits{index}", float((logits.detach() - expected).abs().max()))
            assert logits.detach().allclose(expected, rtol=TERM, atol=1e-5)
    for part, name in (("image", "image"), ("image_raw", "image_raw")):
        if f"{case}.gen.{name}" in fixture.about["outputs"]:
            assert fixture.error(f"{case}.gen.{name}", getattr(judge.seen[0], part)) < 5e-4


def _compare_gradients(fixture: Fixture, case: str, about: dict, trained: nn.Module) -> None:
    parameters = dict(trained.named_parameters())
    assert {name for name, value in parameters.items() if value.grad is None} == set(about["no_grad_params"])
    order = about.get("grad_params", fixture.about["grad_param_order"][about["trained_module"]])
    stats = fixture.arrays[f"out.{case}.grad_stats"].astype(np.float64)
    largest = stats[:, 0].max()
    norms, rows, firsts = [], {}, []
    for name, row in zip(order, stats, strict=True):
        gradient = parameters[name].grad
        assert gradient is not None
        if row[0] > 1e-6 * largest:
            norms.append(abs(float(gradient.double().norm()) / row[0] - 1))
            rows[name] = norms[-1]
            first = gradient.double().flatten()[:8].numpy()
            firsts.append(float(np.linalg.norm(first - row[2 : 2 + len(first)]) / row[0]))
    wholes = []
    for name, gradient in ((name, value.grad) for name, value in parameters.items() if value.grad is not None):
        for key in (f"out.{case}.grad.{name}", f"out.{case}.grad.{name}.sampled"):
            if key in fixture.arrays:
                expected, found = fixture.arrays[key].astype(np.float64), gradient.double().numpy()
                if key.endswith(".sampled"):
                    places = fixture.about["outputs"][f"{case}.grad.{name}"]["slice"]
                    found = found[tuple(slice(start, None, step) for start, step in places)]
                wholes.append(float(np.linalg.norm(found - expected) / max(np.linalg.norm(expected), 1e-30)))
    _note(case, "gradient norms, median", float(np.median(norms)))
    _note(case, "gradient norms, 95 %", float(np.quantile(norms, 0.95)))
    _note(case, "gradients, worst", max(wholes))
    is_density = about["phase"] == "Greg"  # absolute values: a pair that changes its order flips its gradient
    assert np.quantile(norms, 0.95) < (1e-2 if is_density else 1e-3), sorted(rows.items(), key=lambda item: -item[1])[
        :5
    ]
    assert np.median(norms) < (2e-3 if is_density else 1e-4)
    assert np.quantile(firsts, 0.95) < (2e-2 if is_density else 1e-3)
    assert np.median(wholes) < (2e-2 if is_density else 1e-3)


def test_an_official_file_starts_a_training(shared: Path, tmp_path: Path) -> None:
    """It holds both networks; ours of the same architecture take all of their tensors."""
    fixture = Fixture.load(shared, FIXTURE)
    generator, discriminator = make_networks(shared, fixture)
    kwargs = fixture.about["kwargs"]
    with official_names() as plain:
        modules = {}
        for key, network, name in (
            ("G_ema", generator, "TriPlaneGenerator"),
            ("D", discriminator, "DualDiscriminator"),
        ):
            parameters = {name for name, _ in network.named_parameters()}
            tensors = {name: value.detach() for name, value in network.state_dict().items()}
            modules[key] = build_module(
                tensors, parameters, class_names={"": name}, plain=plain, init_kwargs=kwargs[key[0]]
            )
        render = EasyDict(kwargs["G"]["rendering_kwargs"])
        modules["G_ema"].__dict__.update(rendering_kwargs=render, neural_rendering_resolution=48)
        path = save_official(tmp_path / "network.pkl", modules)
    other_generator, other_discriminator = EG3DGenerator(generator.config), DualDiscriminator(discriminator.config)
    load_start(path, other_generator, other_discriminator)
    for ours, theirs in ((other_generator, generator), (other_discriminator, discriminator)):
        assert all(torch.equal(value, theirs.state_dict()[name]) for name, value in ours.state_dict().items())


# --- the optimiser loop -------------------------------------------------------------------------

LOOP = "train_loop_eg3d_small"
PHASES = {"generator": "Gmain", "density": "Greg", "discriminator": "Dmain", "r1": "Dreg"}


class LoopTask(Task):
    """The phases of `EG3DTask` over stored samples; gradients that are not finite arise where the official ones did."""

    def __init__(self, shared: Path) -> None:
        self.fixture, self.calls = Fixture.load(shared, LOOP), Fixture.load(shared, FIXTURE).about["cases"]
        generator, discriminator = make_networks(shared, self.fixture)
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
            labels = self.fixture.input("label_pool")
            label = labels[self.fixture.input("gen_label_index")[index, rows]]
            wanted = Wanted(self.fixture.input("all_gen_z")[index, rows], label, label.roll(1, 0))
            real = RealPictures(
                enlarged(self.fixture.input("real_img_low")[index]),
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
        _note(f"loop {iteration['iteration']}", f"{name} terms", error)
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
    _note(f"loop {index}", f"{key} norms", worst)
    assert worst < (1e-5 if index == 0 else 1e-3)
