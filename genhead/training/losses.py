"""What GenHead's generator and discriminator minimise, term by term, and how that changes during training.

Portrait4D (Deng et al. 2024), section 3.1 and supplement, in the form of the released training. Everything random comes
in: latent codes, labels, and a source of numbers for the rest, so that the samples of a batch can be computed apart.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from flame.geometry.camera import Camera
from flame.heads.head_model import HeadParams
from genhead.generator import GenHeadGenerator
from genhead.volume import HeadImages, PreparedHead
from portrait4d.gan.adversarial import Judge, R1Weights, fake_loss, generator_loss, r1_penalty, real_loss
from portrait4d.gan.blur import blur
from portrait4d.gan.density import DensityVariationConfig, draw_point_pairs
from portrait4d.gan.discriminator import JudgedImages
from portrait4d.gan.distortion import distortion
from portrait4d.gan.swap import swap_conditions
from portrait4d.gan.training import Fades, GanLossConfig
from portrait4d.headparts.head import PosedHead
from portrait4d.ops.resample import resize
from portrait4d.render.renderer import TRAINING_MAX_POINTS
from portrait4d.runtime.checks import check_range
from portrait4d.runtime.random import RandomSource


@dataclass(frozen=True, kw_only=True)
class GenHeadLossConfig(GanLossConfig):
    """Losses and schedules of GenHead."""

    density_points: int = 1000
    """Pairs of points at which density is compared, for each head."""

    face_in_parts_weight: float = 10.0
    """Weight of the face's density where eyes or mouth are, which have planes of their own."""

    distortion_weight: float = 100.0
    """Weight of the spread of density along rays through eyes and mouth (mip-NeRF 360, equation 15)."""

    see_through_weight: float = 100.0
    """Weight of the background seen through eyes and mouth."""

    r1_gamma_correspondence: float = 10.0
    """Weight of the discriminator's squared gradient at correspondence maps."""

    r1_gamma_mask: float = 1.0
    """The same at masks."""

    def __post_init__(self) -> None:
        super().__post_init__()
        weights = ("face_in_parts_weight", "distortion_weight", "see_through_weight")
        for name in (*weights, "r1_gamma_correspondence", "r1_gamma_mask"):
            check_range(f"loss.{name}", getattr(self, name), 0.0, 1e6)
        check_range("loss.density_points", self.density_points, 1, None)


@dataclass(frozen=True)
class SeenHeads:
    """What follows from heads and cameras alone, without a network.

    Attributes:
        posed: the heads.
        prepared: deformation and masks.
        correspondence: `[B, 3, H, H]`, see `portrait4d.headparts.masks.correspondence_map`.
    """

    posed: PosedHead
    prepared: PreparedHead
    correspondence: Tensor

    @classmethod
    def of(cls, generator: GenHeadGenerator, params: HeadParams, camera: Camera) -> "SeenHeads":
        """Of B heads, each with its camera."""
        posed = generator.head.pose(params)
        return cls(posed, generator.prepare(camera, posed), generator.correspondences(posed, camera))


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


@dataclass(frozen=True)
class Fakes:
    """Generated pictures as the discriminator learns from them, without a way back to the generator.

    Attributes:
        images: blurred.
        label: `[B, 25]` of their cameras.
        w: `[B, style_dim]` of their heads.
    """

    images: JudgedImages
    label: Tensor
    w: Tensor

    @classmethod
    def of(cls, made: MadeHeads, label: Tensor, fades: Fades) -> "Fakes":
        """Pictures that were made for `label`."""
        return cls(fake_input(made, fades).detached(), label, made.w.detach())


def generator_terms(
    generator: GenHeadGenerator,
    judge: Judge,
    wanted: WantedHeads,
    config: GenHeadLossConfig,
    fades: Fades,
    *,
    random: RandomSource,
) -> tuple[dict[str, Tensor], MadeHeads]:
    """The generator's main loss, `adversarial` and what keeps the parts in their planes, and what was generated."""
    made = generate(generator, wanted, fades, random=random, keeps_samples=True)
    terms = {"adversarial": generator_loss(judge(fake_input(made, fades), wanted.label))}
    return terms | part_terms(made.images, config), made


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


def discriminator_terms(judge: Judge, fakes: Fakes, real: RealHeads, fades: Fades) -> tuple[dict[str, Tensor], Tensor]:
    """The discriminator's main loss, `fake` and `real`, and the logits of real pictures."""
    fake = fake_loss(judge(fakes.images, fakes.label))
    logits = judge(real_input(real, fades, size=fakes.images.image_raw.shape[-1]), real.label)
    return {"fake": fake, "real": real_loss(logits)}, logits.detach()


def r1_terms(judge: Judge, real: RealHeads, config: GenHeadLossConfig, fades: Fades, *, size: int) -> dict[str, Tensor]:
    """The gradient penalty, `penalty`, at what the discriminator sees: pictures that are blurred already."""
    gammas = config.r1_gamma, config.r1_gamma_correspondence, config.r1_gamma_mask
    if not any(gammas):
        return {}
    weights = R1Weights(*gammas)
    images = real_input(real, fades, size=size)
    return {"penalty": r1_penalty(judge, images, real.label, weights=weights).mean()}


def generate(
    generator: GenHeadGenerator,
    wanted: WantedHeads,
    fades: Fades,
    *,
    random: RandomSource,
    keeps_samples: bool = False,
) -> MadeHeads:
    """Pictures for training, with random noise everywhere."""
    condition = swap_conditions(wanted.condition, wanted.predecessor, fades.swap_probability, generator=random)
    styles = generator.map(wanted.latent, condition)
    volume = generator.synthesise(styles, wanted.latent, noise="random", generator=random)
    images = generator.render(
        volume,
        wanted.camera,
        wanted.seen.prepared,
        keeps_samples=keeps_samples,
        generator=random,
        max_points=TRAINING_MAX_POINTS,
    )
    return MadeHeads(images, wanted.seen.correspondence, styles[:, 0])


def fake_input(made: MadeHeads, fades: Fades) -> JudgedImages:
    """What the discriminator sees of generated pictures; only the result is blurred, as in the released code."""
    images = made.images
    image = blur(images.image, fades.blur_sigma)
    return JudgedImages(image, images.image_raw, made.correspondence, 2 * images.alpha - 1)


def real_input(real: RealHeads, fades: Fades, *, size: int) -> JudgedImages:
    """What the discriminator sees of real pictures: blurred, with small copies of picture and mask, blurred themselves.

    Args:
        real: the pictures.
        fades: where the blur stands.
        size: side of the small copies.
    """
    sigma = fades.blur_sigma
    small, mask = (resize(value, height=size, width=size) for value in (real.image, real.mask))
    return JudgedImages(blur(real.image, sigma), blur(small, sigma), real.correspondence, blur(mask, sigma))
