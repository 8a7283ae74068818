"""The official code's training steps of EG3D in our terms: networks, settings, phases."""

from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from golden import Fixture
from golden_steps import generated_weights
from portrait4d.eg3d.generator import EG3DGenerator
from portrait4d.eg3d.losses import (
    EG3DLossConfig,
    RealPictures,
    Schedule,
    Wanted,
    density_terms,
    discriminator_terms,
    generator_terms,
    r1_terms,
)
from portrait4d.gan.discriminator import DualDiscriminator, DualDiscriminatorConfig
from portrait4d.weights.eg3d_config import EG3DConfig
from replayed_draws import ReplayedDraws

STEPS, LOOP = "train_eg3d_small", "train_loop_eg3d_small"


def make_networks(shared: Path, fixture: Fixture) -> tuple[EG3DGenerator, DualDiscriminator]:
    """Both networks with the generated weights."""
    kwargs = fixture.about["kwargs"]
    generator = EG3DGenerator(EG3DConfig.from_official(kwargs["G"]))
    discriminator = DualDiscriminator(DualDiscriminatorConfig.from_official(kwargs["D"]))
    generator.load_state_dict(generated_weights(shared, fixture.name, "G", listed_in=STEPS), strict=True)
    discriminator.load_state_dict(generated_weights(shared, fixture.name, "D", listed_in=STEPS), strict=True)
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
