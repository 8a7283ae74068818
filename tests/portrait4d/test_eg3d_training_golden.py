"""Training steps of EG3D against those of the official code: terms, logits, pictures, gradients.

`w_avg_after` of the single steps is the mean before them; `test_eg3d_loop_golden.py` shows how it moves.
"""

from pathlib import Path

import pytest
import torch

from eg3d_steps import STEPS, enlarged, final_resolution, loss_config, make_networks, phase_terms
from golden import Fixture
from golden_steps import Recorder, backward_losses, compare_gradients, compare_judged, compare_scalars
from official_pickles import EasyDict, build_module, official_names, save_official
from portrait4d.eg3d.generator import EG3DGenerator
from portrait4d.eg3d.losses import DensityKind, RealPictures, Wanted
from portrait4d.eg3d.training_weights import load_start
from portrait4d.gan.discriminator import DualDiscriminator
from replayed_draws import ReplayedDraws

pytestmark = pytest.mark.usefixtures("one_thread")

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

    losses = backward_losses(about["phase"], terms)
    compare_scalars(fixture, case, losses)
    compare_judged(fixture, case, judge, {"image": "image", "image_raw": "image_raw"})
    (torch.stack(losses).sum() * about["gain"]).backward()
    compare_gradients(fixture, case, trained, is_loose=about["phase"] == "Greg")


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
