"""Training steps of EG3D against those of the official code: terms, logits, pictures, gradients.

Tolerances are those that come with the reference tensors, which were measured by adding 1e-6 of noise to the inputs.
`w_avg_after` of the single steps is the mean before them; `test_eg3d_loop_golden.py` shows how it moves.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from eg3d_steps import STEPS, enlarged, final_resolution, loss_config, make_networks, note, phase_terms
from golden import Fixture
from official_pickles import EasyDict, build_module, official_names, save_official
from portrait4d.eg3d.generator import EG3DGenerator
from portrait4d.eg3d.losses import DensityKind, RealPictures, Wanted
from portrait4d.eg3d.training_weights import load_start
from portrait4d.gan.discriminator import DualDiscriminator, JudgedImages
from replayed_draws import ReplayedDraws

pytestmark = pytest.mark.usefixtures("one_thread")

SCALAR, TERM = 1e-5, 3e-4
"""Relative: of a loss, of a sample's logit."""


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
    assert named == set(Fixture.load(shared, STEPS).about["cases"])


@pytest.mark.parametrize("case", CASES)
def test_step(shared: Path, case: str) -> None:
    fixture = Fixture.load(shared, STEPS)
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
    judge, random = Recorder(discriminator), ReplayedDraws(f"{STEPS}:{case}", about["random_calls"])
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


def _compare_terms(case: str, about: dict, terms: dict[str, Tensor]) -> None:
    found = [term.item() * about["gain"] for term in terms.values()]
    if about["phase"] == "Dboth":  # there, the penalty was part of the real pictures' loss
        found = [found[0], found[1] + found[2]]
    error = max(abs(ours / theirs - 1) for ours, theirs in zip(found, about["backward_scalars"], strict=True))
    note(STEPS, f"{case}.scalars", error)
    assert error < SCALAR, (found, about["backward_scalars"])


def _compare_logits(fixture: Fixture, case: str, about: dict, judge: Recorder) -> None:
    for index, logits in enumerate(judge.logits[:2]):
        if f"out.{case}.logits{index}" in fixture.arrays:
            expected = torch.from_numpy(fixture.arrays[f"out.{case}.logits{index}"])
            note(STEPS, f"{case}.logits{index}", float((logits.detach() - expected).abs().max()))
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
    note(STEPS, f"{case}.gradient norms, median", float(np.median(norms)))
    note(STEPS, f"{case}.gradient norms, 95 %", float(np.quantile(norms, 0.95)))
    note(STEPS, f"{case}.gradients, worst", max(wholes))
    is_density = about["phase"] == "Greg"  # absolute values: a pair that changes its order flips its gradient
    assert np.quantile(norms, 0.95) < (1e-2 if is_density else 1e-3), sorted(rows.items(), key=lambda item: -item[1])[
        :5
    ]
    assert np.median(norms) < (2e-3 if is_density else 1e-4)
    assert np.quantile(firsts, 0.95) < (2e-2 if is_density else 1e-3)
    assert np.median(wholes) < (2e-2 if is_density else 1e-3)


def test_an_official_file_starts_a_training(shared: Path, tmp_path: Path) -> None:
    """It holds both networks; ours of the same architecture take all of their tensors."""
    fixture = Fixture.load(shared, STEPS)
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
