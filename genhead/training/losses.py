"""What GenHead's generator and discriminator minimise, term by term, and how that changes during training.

Portrait4D (Deng et al. 2024), section 3.1 and supplement, in the form of the released training. Everything random comes
in: latent codes, labels, and a source of numbers for the rest, so that the samples of a batch can be computed apart.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from flame.geometry.camera import Camera
from flame.heads.head_model import HeadParams
from genhead.generator import GenHeadGenerator
from genhead.volume import HeadImages, PreparedHead
from portrait4d.gan.adversarial import Judge, R1Weights, fake_loss, generator_loss, r1_penalty, real_loss
from portrait4d.gan.blur import blur, blur_sigma
from portrait4d.gan.density import DensityVariationConfig, PointRange, draw_point_pairs
from portrait4d.gan.discriminator import JudgedImages
from portrait4d.gan.distortion import distortion
from portrait4d.gan.swap import swap_conditions, swap_probability
from portrait4d.ops.resample import resize
from portrait4d.runtime.checks import check_choice, check_range
from portrait4d.runtime.random import RandomSource

_MAX_POINTS = 2**22
"""Points of the field asked at once in training, where smaller chunks save no memory: all are kept for the gradient."""


@dataclass(frozen=True, kw_only=True)
class GenHeadLossConfig:
    """Losses and schedules of GenHead; the defaults are those of FFHQ at 512, at a batch of 32 pictures."""

    density_weight: float = 0.25
    """Weight of the change of density over a small step; 0 leaves density free."""

    density_distance: float = 0.004
    """Standard deviation of the step, in sides of the cube."""

    density_range: PointRange = "official"
    """Where density is compared: official, [-1, 1] on each axis as in the released training, or cube, where planes
    are."""

    density_points: int = 1000
    """Pairs of points at which it is compared, for each head."""

    density_interval: int = 4
    """Steps from one look at density to the next."""

    face_in_parts_weight: float = 10.0
    """Weight of the face's density where eyes or mouth are, which have planes of their own."""

    distortion_weight: float = 100.0
    """Weight of the spread of density along rays through eyes and mouth (mip-NeRF 360, equation 15)."""

    see_through_weight: float = 100.0
    """Weight of the background seen through eyes and mouth."""

    r1_gamma: float = 1.0
    """Weight of the discriminator's squared gradient at real pictures."""

    r1_gamma_correspondence: float = 10.0
    """The same at correspondence maps."""

    r1_gamma_mask: float = 1.0
    """The same at masks."""

    r1_interval: int = 16
    """Steps from one penalty to the next."""

    blur_sigma: float = 10.0
    """Width in px of the blur over the discriminator's pictures at the start."""

    blur_images: int = 200_000
    """Images after which nothing is blurred. The released code shortens this in proportion to batches below 32."""

    swap_final: float = 0.5
    """Probability that a head is made for another picture's camera and shape, in the end; at the start it is 1."""

    swap_images: int = 1_000_000
    """Images after which the probability stays."""

    def __post_init__(self) -> None:
        weights = ("density", "face_in_parts", "distortion", "see_through")
        gammas = ("r1_gamma", "r1_gamma_correspondence", "r1_gamma_mask")
        for name in (*(f"{name}_weight" for name in weights), *gammas, "density_distance", "blur_sigma"):
            check_range(f"loss.{name}", getattr(self, name), 0.0, 1e6)
        for name in ("blur_images", "swap_images"):
            check_range(f"loss.{name}", getattr(self, name), 0, None)
        for name in ("density_points", "density_interval", "r1_interval"):
            check_range(f"loss.{name}", getattr(self, name), 1, None)
        check_range("loss.swap_final", self.swap_final, 0.0, 1.0)
        check_choice("loss.density_range", self.density_range, get_args(PointRange))

    def at(self, images_seen: int) -> "Schedule":
        """Where the schedules stand after `images_seen` images."""
        return Schedule(
            blur_sigma=blur_sigma(images_seen, initial_sigma=self.blur_sigma, fade_images=self.blur_images),
            swap_probability=swap_probability(images_seen, final=self.swap_final, fade_images=self.swap_images),
        )


@dataclass(frozen=True)
class Schedule:
    """What changes during training.

    Attributes:
        blur_sigma: of the discriminator's pictures, px.
        swap_probability: that a head is made for its predecessor's camera and shape.
    """

    blur_sigma: float
    swap_probability: float


@dataclass(frozen=True)
class SeenHeads:
    """What follows from heads and cameras alone, without a network.

    Attributes:
        prepared: deformation and masks.
        correspondence: `[B, 3, H, H]`, see `genhead.masks.correspondence_map`.
    """

    prepared: PreparedHead
    correspondence: Tensor

    @classmethod
    def of(cls, generator: GenHeadGenerator, params: HeadParams, camera: Camera) -> "SeenHeads":
        """Of B heads, each with its camera."""
        posed = generator.head.pose(params)
        return cls(generator.prepare(camera, posed), generator.correspondences(posed, camera))


@dataclass(frozen=True)
class WantedHeads:
    """What the generator is to make.

    Attributes:
        latent: z `[B, latent_dim]`, of the head and of its background.
        camera: `[B]` that the heads are seen from, at rest.
        params: shape, expression, jaw and eyes; the neck at rest.
        predecessor: `[B, 25 + S]` the condition of the sample before each in the whole batch, see `swap_conditions`.
        seen: what follows from cameras and parameters.
    """

    latent: Tensor
    camera: Camera
    params: HeadParams
    predecessor: Tensor
    seen: SeenHeads

    @property
    def condition(self) -> Tensor:
        """`[B, 25 + S]` of the samples themselves."""
        return torch.cat([self.label, self.params.shape], 1)

    @property
    def label(self) -> Tensor:
        """`[B, 25]` of the cameras."""
        return self.camera.to_label25(axes="opengl").to(self.latent)


@dataclass(frozen=True)
class RealHeads:
    """Pictures of the data and what was fitted to them.

    Attributes:
        image: `[B, 3, H, H]` in [-1, 1].
        mask: `[B, 1, H, H]` in [-1, 1], 1 on the person.
        label: `[B, 25]` of the camera that sees the head at rest.
        correspondence: `[B, 3, H, H]` rendered from the fitted head.
    """

    image: Tensor
    mask: Tensor
    label: Tensor
    correspondence: Tensor


@dataclass(frozen=True)
class MadeHeads:
    """Generated pictures with what the losses read beside them."""

    images: HeadImages
    correspondence: Tensor
    w: Tensor


def generator_terms(
    generator: GenHeadGenerator,
    judge: Judge,
    wanted: WantedHeads,
    config: GenHeadLossConfig,
    schedule: Schedule,
    *,
    random: RandomSource,
) -> dict[str, Tensor]:
    """The generator's main loss: `adversarial`, and what keeps the parts in their planes."""
    made = generate(generator, wanted, schedule, random=random, keeps_samples=True)
    terms = {"adversarial": generator_loss(judge(fake_input(made, schedule), wanted.label))}
    return terms | part_terms(made.images, config)


def part_terms(images: HeadImages, config: GenHeadLossConfig) -> dict[str, Tensor]:
    """Regularisers of eyes and mouth; each is a mean over all rays, whatever the masks cover.

    `face_in_eye`: the face's planes are empty where the eyes' count; `eye_spread`: density along a ray is one surface;
    `eye_see_through`: which is opaque. The same for the mouth.
    """
    samples = images.samples
    if samples is None:
        raise ValueError("part_terms needs single samples: render with keeps_samples")
    spread = distortion(images.sample_depths, images.weights)
    left = (1 - images.alpha).flatten(1)
    terms = {}
    for name, density, mask in (
        ("eye", samples.eye_density, images.masks.eye),
        ("mouth", samples.mouth_density, images.masks.mouth),
    ):
        rays = mask.flatten(1)
        terms[f"face_in_{name}"] = config.face_in_parts_weight * (F.softplus(density) * rays[..., None]).mean()
        terms[f"{name}_spread"] = config.distortion_weight * (spread * rays).mean()
        terms[f"{name}_see_through"] = config.see_through_weight * (left * rays).mean()
    return terms


def density_terms(
    generator: GenHeadGenerator,
    wanted: WantedHeads,
    config: GenHeadLossConfig,
    *,
    is_swapped: Callable[[], bool],
    random: RandomSource,
) -> dict[str, Tensor]:
    """The generator's regulariser, `variation`: density changes little over a small step, in each part.

    Args:
        generator: makes the volumes.
        wanted: what they are; the cameras are only conditions.
        config: how points are drawn.
        is_swapped: decides whether the whole batch takes its predecessors' conditions.
        random: source of points and of the backbone's noise.
    """
    if config.density_weight == 0:
        return {}
    condition = wanted.predecessor if is_swapped() else wanted.condition
    pairs = draw_point_pairs(
        len(wanted.latent),
        generator.config.render.box_warp,
        generator=random,
        config=DensityVariationConfig(config.density_points, config.density_distance, config.density_range),
        like=wanted.latent,
    )
    styles = generator.map(wanted.latent, condition)
    planes = generator.synthesise_planes(styles, noise="random", generator=random)
    values = generator.query(planes, torch.cat(pairs, 1), wanted.seen.prepared.parts)
    changes = [(first - second).abs().mean() for first, second in (part.density.chunk(2, 1) for part in values)]
    return {"variation": config.density_weight * torch.stack(changes).mean()}


def discriminator_terms(
    generator: GenHeadGenerator,
    judge: Judge,
    wanted: WantedHeads,
    real: RealHeads,
    schedule: Schedule,
    *,
    random: RandomSource,
) -> tuple[dict[str, Tensor], MadeHeads, Tensor]:
    """The discriminator's main loss, `fake` and `real`, what was generated, and the logits of real pictures."""
    with torch.no_grad():
        made = generate(generator, wanted, schedule, random=random)
    fake = fake_loss(judge(fake_input(made, schedule), wanted.label))
    size = made.images.image_raw.shape[-1]
    logits = judge(real_input(real, schedule, size=size), real.label)
    return {"fake": fake, "real": real_loss(logits)}, made, logits.detach()


def r1_terms(
    judge: Judge, real: RealHeads, config: GenHeadLossConfig, schedule: Schedule, *, size: int
) -> dict[str, Tensor]:
    """The gradient penalty, `penalty`, at what the discriminator sees: pictures that are blurred already."""
    gammas = config.r1_gamma, config.r1_gamma_correspondence, config.r1_gamma_mask
    if not any(gammas):
        return {}
    weights = R1Weights(*gammas)
    images = real_input(real, schedule, size=size)
    return {"penalty": r1_penalty(judge, images, real.label, weights=weights).mean()}


def generate(
    generator: GenHeadGenerator,
    wanted: WantedHeads,
    schedule: Schedule,
    *,
    random: RandomSource,
    keeps_samples: bool = False,
) -> MadeHeads:
    """Pictures for training, with random noise everywhere."""
    condition = swap_conditions(wanted.condition, wanted.predecessor, schedule.swap_probability, generator=random)
    styles = generator.map(wanted.latent, condition)
    volume = generator.synthesise(styles, wanted.latent, noise="random", generator=random)
    images = generator.render(
        volume,
        wanted.camera,
        wanted.seen.prepared,
        keeps_samples=keeps_samples,
        generator=random,
        max_points=_MAX_POINTS,
    )
    return MadeHeads(images, wanted.seen.correspondence, styles[:, 0])


def fake_input(made: MadeHeads, schedule: Schedule) -> JudgedImages:
    """What the discriminator sees of generated pictures; only the result is blurred, as in the released code."""
    images = made.images
    image = blur(images.image, schedule.blur_sigma)
    return JudgedImages(image, images.image_raw, made.correspondence, 2 * images.alpha - 1)


def real_input(real: RealHeads, schedule: Schedule, *, size: int) -> JudgedImages:
    """What the discriminator sees of real pictures: blurred, with small copies of picture and mask, blurred themselves.

    Args:
        real: the pictures.
        schedule: where the blur stands.
        size: side of the small copies.
    """
    sigma = schedule.blur_sigma
    small, mask = (resize(value, height=size, width=size) for value in (real.image, real.mask))
    return JudgedImages(blur(real.image, sigma), blur(small, sigma), real.correspondence, blur(mask, sigma))
