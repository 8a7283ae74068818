"""What generator and discriminator of EG3D minimise, term by term, and how that changes during training.

Chan et al. 2022, sections 4.3 and 4.4, and supplement. Everything random comes in: latent codes, labels, and a source
of numbers for the rest, so that the samples of a batch can be computed apart.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from flame.geometry.camera import Camera
from portrait4d.eg3d.generator import EG3DGenerator, GeneratedImages
from portrait4d.gan.adversarial import Judge, R1Weights, fake_loss, generator_loss, r1_penalty, real_loss
from portrait4d.gan.blur import blur
from portrait4d.gan.density import (
    DensityOrderConfig,
    DensityVariationConfig,
    density_fall,
    density_variation,
)
from portrait4d.gan.discriminator import JudgedImages
from portrait4d.gan.resolution import neural_resolution
from portrait4d.gan.swap import swap_conditions
from portrait4d.gan.training import Fades, GanLossConfig
from portrait4d.ops.resample import resize
from portrait4d.render.field import TriPlaneField
from portrait4d.render.renderer import TRAINING_MAX_POINTS
from portrait4d.runtime.checks import check_choice, check_range
from portrait4d.runtime.random import RandomSource

DensityKind = Literal["l1", "monotonic-detach", "monotonic-fixed"]

_FALL_WEIGHT = 10.0
_FALL_DISTANCE = 1 / 256


@dataclass(frozen=True, kw_only=True)
class EG3DLossConfig(GanLossConfig):
    """Losses and schedules of EG3D."""

    density_kind: DensityKind = "l1"
    """What is asked of density: l1, little change over a small step; monotonic-detach or monotonic-fixed, no fall
    behind a surface (only the point behind learns, or both), and little change over 1/256 of the cube."""

    initial_resolution: int | None = None
    """Side of the rendered picture at the start. Default: that of the generator, all the time."""

    resolution_images: int = 1_000_000
    """Images after which the side is the generator's."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("loss.density_kind", self.density_kind, get_args(DensityKind))
        check_range("loss.resolution_images", self.resolution_images, 0, None)
        check_range("loss.initial_resolution", self.initial_resolution, 4, 512)

    def at(self, images_seen: int, *, resolution: int) -> "Schedule":
        """Where the schedules stand.

        Args:
            images_seen: images before the step.
            resolution: side of the rendered picture in the end.
        """
        side = neural_resolution(
            images_seen,
            initial=self.initial_resolution or resolution,
            final=resolution,
            fade_images=self.resolution_images,
        )
        return Schedule(**vars(self.fades_at(images_seen)), resolution=side)


@dataclass(frozen=True)
class Schedule(Fades):
    """What changes during training; `resolution` is the side of the rendered picture."""

    resolution: int


@dataclass(frozen=True)
class Wanted:
    """What the generator is to make.

    Attributes:
        latent: z `[B, latent_dim]`.
        label: `[B, 25]` the cameras that the heads are seen from, in the generator's axes.
        predecessor: `[B, 25]` the label of the sample before each in the whole batch, see `swap_conditions`.
    """

    latent: Tensor
    label: Tensor
    predecessor: Tensor


@dataclass(frozen=True)
class RealPictures:
    """Pictures of the data: `image` `[B, 3, H, H]` in [-1, 1], `label` `[B, 25]`."""

    image: Tensor
    label: Tensor


def generator_terms(
    generator: EG3DGenerator, judge: Judge, wanted: Wanted, schedule: Schedule, *, random: RandomSource
) -> dict[str, Tensor]:
    """The generator's main loss, `adversarial`."""
    seen, _ = generate(generator, wanted, schedule, random=random)
    return {"adversarial": generator_loss(judge(fake_input(seen, schedule), wanted.label))}


def density_terms(
    generator: EG3DGenerator,
    wanted: Wanted,
    config: EG3DLossConfig,
    *,
    is_swapped: Callable[[], bool],
    random: RandomSource,
) -> dict[str, Tensor]:
    """The generator's regulariser: `fall` where the kind asks for it, and `variation`.

    Args:
        generator: makes the volumes, anew for each term.
        wanted: what they are; the cameras are only conditions.
        config: which regulariser.
        is_swapped: decides whether the whole batch takes its predecessors' labels; asked once for each term.
        random: source of points and of the backbone's noise.
    """
    if config.density_weight == 0:
        return {}
    box_warp = generator.config.render.box_warp
    about = {"batch": len(wanted.latent), "box_warp": box_warp, "generator": random, "like": wanted.latent}

    def volumes() -> TriPlaneField:
        condition = wanted.predecessor if is_swapped() else wanted.label
        styles = generator.map(wanted.latent, condition)
        return TriPlaneField(generator.synthesise(styles, noise="random", generator=random).planes, generator.decoder)

    terms, distance = {}, config.density_distance
    if config.density_kind in ("monotonic-detach", "monotonic-fixed"):
        order = DensityOrderConfig(
            point_range=config.density_range, is_front_fixed=config.density_kind == "monotonic-detach"
        )
        terms["fall"] = _FALL_WEIGHT * density_fall(volumes(), config=order, **about)
        distance = _FALL_DISTANCE
    elif config.density_kind != "l1":
        raise ValueError(f"density kind must be one of {get_args(DensityKind)}, got {config.density_kind!r}")
    variation = DensityVariationConfig(distance=distance, point_range=config.density_range)
    terms["variation"] = config.density_weight * density_variation(volumes(), config=variation, **about)
    return terms


def discriminator_terms(
    generator: EG3DGenerator,
    judge: Judge,
    wanted: Wanted,
    real: RealPictures,
    schedule: Schedule,
    *,
    random: RandomSource,
) -> tuple[dict[str, Tensor], Tensor]:
    """The discriminator's main loss, `fake` and `real`, and the styles w `[B, style_dim]` of the generated heads."""
    with torch.no_grad():
        seen, w = generate(generator, wanted, schedule, random=random)
    fake = fake_loss(judge(fake_input(seen, schedule), wanted.label))
    return {"fake": fake, "real": real_loss(judge(real_input(real.image, schedule), real.label))}, w


def r1_terms(judge: Judge, real: RealPictures, config: EG3DLossConfig, schedule: Schedule) -> dict[str, Tensor]:
    """The gradient penalty, `penalty`, at what the discriminator sees: pictures that are blurred already."""
    if config.r1_gamma == 0:
        return {}
    weights = R1Weights(image=config.r1_gamma)
    return {"penalty": r1_penalty(judge, real_input(real.image, schedule), real.label, weights=weights).mean()}


def generate(
    generator: EG3DGenerator, wanted: Wanted, schedule: Schedule, *, random: RandomSource
) -> tuple[GeneratedImages, Tensor]:
    """Pictures for training, with random noise everywhere, and the styles w `[B, style_dim]` behind them."""
    condition = swap_conditions(wanted.label, wanted.predecessor, schedule.swap_probability, generator=random)
    styles = generator.map(wanted.latent, condition)
    volume = generator.synthesise(styles, noise="random", generator=random)
    camera = Camera.from_label25(wanted.label, axes=generator.config.camera_axes)
    seen = generator.render(
        volume, camera, neural_resolution=schedule.resolution, generator=random, max_points=TRAINING_MAX_POINTS
    )
    return seen, styles[:, 0]


def fake_input(seen: GeneratedImages, schedule: Schedule) -> JudgedImages:
    """What the discriminator sees of generated pictures; the raw one is not blurred, as in the released code."""
    return JudgedImages(blur(seen.image, schedule.blur_sigma), seen.image_raw)


def real_input(image: Tensor, schedule: Schedule) -> JudgedImages:
    """What the discriminator sees of real pictures `[B, 3, H, H]`: blurred, beside a small copy, blurred on its own."""
    small = resize(image, height=schedule.resolution, width=schedule.resolution)
    return JudgedImages(blur(image, schedule.blur_sigma), blur(small, schedule.blur_sigma))
