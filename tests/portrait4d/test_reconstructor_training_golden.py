"""Training steps of the reconstructor against those of the official code: terms, logits, pictures, gradients.

Perceptual distance and face recogniser are the simple ones that come with the reference tensors.
"""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from flame.geometry.camera import Camera
from golden import Fixture
from golden_reconstruction import (
    SIZE,
    compare_terms,
    correspondence,
    enlarged,
    fill,
    from_below,
    make_embedder,
    make_networks,
    perceptual,
)
from golden_steps import (
    Recorder,
    backward_losses,
    compare_gradients,
    compare_judged,
    compare_scalars,
    precise,
)
from portrait4d.gan.discriminator import DualDiscriminator
from portrait4d.losses.identity import Embedder
from portrait4d.reconstructor.network import Reconstructor
from portrait4d.reconstructor.training.loss_config import ReconstructionLossConfig
from portrait4d.reconstructor.training.losses import (
    TrueHeads,
    TrueVolume,
    WantedHeads,
    density_terms,
    discriminator_terms,
    generator_terms,
    r1_terms,
)
from replayed_draws import ReplayedDraws

pytestmark = pytest.mark.usefixtures("one_thread")

STEPS = "train_recon_v1_small"
FINAL = 48
SLOW = ("Gmain_1500k_dynamic", "Dreg_1500k", "Dmain_500k_dynamic")
LONG = ("Gmain_100k_dynamic", "Gmain_600k_dynamic", "Gmain_100k_static", "Dmain_1500k_dynamic")
LONG = (*LONG, "Greg_1500k_dynamic", "Greg_1500k_static")
CASES = [pytest.param(name, marks=pytest.mark.slow) for name in SLOW]
CASES += [pytest.param(name, marks=pytest.mark.long) for name in LONG]
LOSS = ReconstructionLossConfig(resolution_initial=SIZE)


@pytest.fixture(scope="module")
def fixture(shared: Path) -> Fixture:
    return Fixture.load(shared, STEPS)


@pytest.fixture(scope="module")
def networks(fixture: Fixture) -> tuple[Reconstructor, DualDiscriminator]:
    network, discriminator = make_networks(fixture, size=FINAL)
    return precise(network), precise(discriminator)


@pytest.fixture(autouse=True)
def fresh(shared: Path, networks: tuple[Reconstructor, DualDiscriminator]) -> None:
    """Generated weights without gradients, before every case."""
    for network, key in zip(networks, ("G", "D"), strict=True):
        fill(network, shared, STEPS, key)


@pytest.fixture(scope="module")
def wanted(fixture: Fixture, synthetic_flame: Path) -> WantedHeads:
    camera = Camera.from_label25(torch.from_numpy(fixture.arrays["out.real_c_recon"]), axes="opengl")
    landmarks = from_below(torch.from_numpy(fixture.arrays["out.Gmain_1500k_dynamic.gen.landmarks"]))
    wanted = WantedHeads(
        source=enlarged(fixture.input("img_app_low")),
        source_motion=fixture.input("motions_app"),
        driver_motion=fixture.input("motions"),
        motion_scale=1.0,
        camera=camera,
        pose=None,
        label=fixture.input("c_compose"),
        correspondence=correspondence(fixture, synthetic_flame / "geometry" / "generic_model.pkl", camera),
        landmarks=landmarks,
    )
    return precise(wanted)


@pytest.fixture(scope="module")
def true(fixture: Fixture) -> TrueHeads:
    low = fixture.input("seg_low").clamp(-1, 1)
    mask = F.interpolate(low, size=SIZE, mode="bilinear", align_corners=False)
    names = ("depth", "feature", "feature_bg", "triplane_points", "triplane_feature")
    volume = TrueVolume(*(fixture.input(name) for name in names))
    return precise(TrueHeads(enlarged(fixture.input("img_recon_low")), mask, volume))


@pytest.fixture(scope="module")
def embed(shared: Path) -> Embedder:
    return make_embedder(shared, STEPS)


@pytest.mark.parametrize("case", CASES)
def test_step(
    fixture: Fixture,
    networks: tuple[Reconstructor, DualDiscriminator],
    wanted: WantedHeads,
    true: TrueHeads,
    embed: Embedder,
    case: str,
) -> None:
    network, discriminator = networks
    about = fixture.about["cases"][case]
    wanted = _with_motion(wanted, about)
    random, judge, images = (
        ReplayedDraws(f"{STEPS}:{case}", about["random_calls"]),
        Recorder(discriminator),
        about["cur_nimg"],
    )
    phase = about["phase"]
    trained = network if phase.startswith("G") else discriminator
    for each in networks:
        each.requires_grad_(each is trained)
    if phase == "Gmain":
        terms = generator_terms(
            network, judge, wanted, true, LOSS, images_seen=images, perceptual=perceptual, embed=embed, random=random
        )
        compare_terms(about, terms)
    elif phase == "Greg":
        terms = density_terms(network, wanted, LOSS, random=random)
    elif phase == "Dmain":
        terms = discriminator_terms(network, judge, wanted, true, LOSS, images_seen=images, random=random)
    else:
        terms = r1_terms(judge, wanted, true, LOSS, size=LOSS.resolution_at(images, FINAL))
    if not about["backward_scalars"]:
        assert not terms
        return
    losses = backward_losses(phase, terms)
    compare_scalars(fixture, case, losses)
    for loss in losses:
        (loss * about["gain"]).backward()
    if judge.seen:
        compare_judged(fixture, case, judge, {"image": "image_sr", "image_raw": "image", "mask": "seg"})
    compare_gradients(fixture, case, trained, is_loose=phase.startswith("G"))


def _with_motion(wanted: WantedHeads, about: dict) -> WantedHeads:
    """Half of the samples move where the case says so, the others never do; none does without motion."""
    moves = [1.0, 1.0, 0.0, 0.0] if about["half_static"] else [0.0] * 4
    return replace(wanted, motion_scale=torch.tensor(moves)[:, None, None])
