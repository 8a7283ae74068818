"""What the reconstructor and its discriminator minimise, term by term, on heads whose truth is known.

Portrait4D (Deng et al. 2024), section 3.2, in the form of the released training (version 1 and its static variant).
Everything random comes in, so that the samples of a batch can be computed apart.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from flame.geometry.camera import Camera
from flame.heads.pose_field import HeadPoseField
from portrait4d.gan.adversarial import Judge, R1Weights, fake_loss, generator_loss, r1_penalty, real_loss
from portrait4d.gan.density import DensityVariationConfig, density_variation
from portrait4d.gan.discriminator import JudgedImages
from portrait4d.losses.identity import Embedder, identity_term
from portrait4d.losses.pictures import ComparedPictures, Perceptual, over_black, picture_terms, region_map
from portrait4d.losses.volume import depth_term, feature_term, opacity_term, plane_term, surface_term
from portrait4d.ops.resample import resize
from portrait4d.reconstructor.network import PosedField, ReconstructedImages, Reconstructor
from portrait4d.reconstructor.training.loss_config import ReconstructionLossConfig
from portrait4d.render.field import Field, TriPlaneField
from portrait4d.render.planes import TriPlanes
from portrait4d.render.renderer import TRAINING_MAX_POINTS
from portrait4d.runtime.random import RandomSource


@dataclass(frozen=True)
class WantedHeads:
    """What the reconstructor is given and asked for.

    Attributes:
        source: `[B, 3, H, H]` in [-1, 1].
        source_motion: `[B, M]` codes of the sources' motion; `[B, 0]` where none is changed.
        driver_motion: `[B, M]` codes of the motion to show; `[B, 0]` where none is changed.
        motion_scale: `[B, 1, 1]` or one number: 1 moves, 0 leaves the motion as it is in the source, so that not all
            is learned through motion (section 3.2, the disentangled strategy).
        camera: `[B]` that sees the head at rest, world units.
        pose: of the neck; None where it is at rest.
        label: `[B, 25]` of the cameras, for the discriminator.
        correspondence: `[B, 3, H, H]` rendered with these cameras.
        landmarks: `[B, 70, 2]` of the head that is asked for, px from the first pixel's centre, y down.
        surface: `[B, 1, h, h]` how far the fitted face is along the rays, world units, zero where there is none; None
            where nothing was fitted or it does not count.
    """

    source: Tensor
    source_motion: Tensor
    driver_motion: Tensor
    motion_scale: float | Tensor
    camera: Camera
    pose: HeadPoseField | None
    label: Tensor
    correspondence: Tensor
    landmarks: Tensor
    surface: Tensor | None = None


@dataclass(frozen=True)
class TrueVolume:
    """What is known of synthesised heads. C and h are channels and side of the network that made them.

    Attributes:
        depth: `[B, 1, h, h]` along the rays, world units.
        features: `[B, C, h, h]` over the background, in [-1, 1].
        background: `[B, C, h, h]` features behind the person.
        points: `[B, N, 3]` of the head at rest, world units.
        plane_features: `[B, N, C]` there, means over the planes.
    """

    depth: Tensor
    features: Tensor
    background: Tensor
    points: Tensor
    plane_features: Tensor


@dataclass(frozen=True)
class TrueHeads:
    """What it should make.

    Attributes:
        image: `[B, 3, H, H]` in [-1, 1].
        mask: `[B, 1, h, h]` in [-1, 1], h any side.
        volume: of synthesised heads; None for frames of clips.
    """

    image: Tensor
    mask: Tensor
    volume: TrueVolume | None


@dataclass(frozen=True)
class MadeHeads:
    """What it makes: `background` `[B, C, R, R]` in [-1, 1]."""

    planes: TriPlanes
    images: ReconstructedImages
    background: Tensor


def reconstruct(network: Reconstructor, wanted: WantedHeads, *, size: int, random: RandomSource) -> MadeHeads:
    """Heads for training, rendered at `size` px with random samples along the rays."""
    scale = wanted.motion_scale
    source = network.encode(wanted.source, wanted.source_motion, motion_scale=scale, neural_resolution=size)
    planes = network.animate(source, wanted.driver_motion, motion_scale=scale)
    images = network.render(
        planes, source, wanted.camera, pose=wanted.pose, generator=random, max_points=TRAINING_MAX_POINTS
    )
    return MadeHeads(planes, images, 2 * source.background - 1)


def truth_terms(
    made: MadeHeads,
    true: TrueHeads,
    config: ReconstructionLossConfig,
    *,
    images_seen: int,
    perceptual: Perceptual,
    landmarks: Tensor | None = None,
) -> dict[str, Tensor]:
    """`perceptual`, `l1` and `mask`; early `depth`, `feature` and `plane`, where a true volume is known.

    Without a true volume nobody knows what is behind the person: backgrounds are compared around them. `landmarks`
    `[B, 70, 2]` say where eyes and mouth are, if they count more.
    """
    images, volume, size = made.images, true.volume, made.images.features.shape[-1]
    raw, mask = (resize(value, height=size, width=size) for value in (true.image, true.mask))
    share, behind = (mask + 1) / 2, made.background[:, :3]
    if volume is None:
        behind, true_behind = (over_black(value, 1 - share) for value in (behind, raw))
    else:
        background = resize(volume.background, height=size, width=size)
        true_behind = background[:, :3]
    terms = picture_terms(
        ComparedPictures(images.image, images.features[:, :3], images.foreground[:, :3], behind),
        ComparedPictures(true.image, raw, over_black(raw, share), true_behind),
        perceptual,
        weight=_pixel_weight(true.image, landmarks, config),
    )
    terms["perceptual"] = config.perceptual_weight * terms["perceptual"]
    terms["mask"] = config.mask_weight * opacity_term(images.alpha, mask)
    if volume is not None and images_seen < config.volume_images:
        pair = images.foreground, made.background
        terms["depth"] = config.depth_weight * depth_term(images.depth, volume.depth, share)
        terms["feature"] = config.feature_weight * feature_term(*pair, volume.features, background, share)
        terms["plane"] = config.plane_weight * plane_term(made.planes, volume.points, volume.plane_features)
    return terms


def generator_terms(
    network: Reconstructor,
    judge: Judge | None,
    wanted: WantedHeads,
    true: TrueHeads,
    config: ReconstructionLossConfig,
    *,
    images_seen: int,
    perceptual: Perceptual,
    embed: Embedder | None,
    random: RandomSource,
) -> dict[str, Tensor]:
    """The reconstructor's main loss: `truth_terms`, on clips `surface`, later `identity`, last `adversarial`."""
    size = config.resolution_at(images_seen, network.config.neural_resolution)
    made = reconstruct(network, wanted, size=size, random=random)
    terms = truth_terms(made, true, config, images_seen=images_seen, perceptual=perceptual, landmarks=wanted.landmarks)
    if wanted.surface is not None and size == wanted.surface.shape[-1]:
        terms["surface"] = config.surface_weight * surface_term(made.images.depth, wanted.surface)
    if embed is not None and images_seen >= config.volume_images:
        distance = identity_term(embed, made.images.image, true.image, wanted.landmarks)
        terms["identity"] = config.identity_weight * distance
    if judge is not None and config.is_adversarial(images_seen):
        logits = judge(fake_input(made, wanted), wanted.label)
        terms["adversarial"] = config.adversarial_weight * generator_loss(logits)
    return terms


def density_terms(
    network: Reconstructor, wanted: WantedHeads, config: ReconstructionLossConfig, *, random: RandomSource
) -> dict[str, Tensor]:
    """`variation`: density changes little over a small step."""
    if config.density_weight == 0:
        return {}
    scale = wanted.motion_scale
    source = network.encode(wanted.source, wanted.source_motion, motion_scale=scale)
    planes = network.animate(source, wanted.driver_motion, motion_scale=scale)
    field: Field = TriPlaneField(planes, network.decoder)
    if wanted.pose is not None:
        field = PosedField(field, wanted.pose)
    change = density_variation(
        field,
        batch=len(wanted.source),
        box_warp=network.config.render.box_warp,
        generator=random,
        config=DensityVariationConfig(config.density_points, config.density_distance, config.density_range),
        like=wanted.source,
    )
    return {"variation": config.density_weight * change}


def discriminator_terms(
    network: Reconstructor,
    judge: Judge,
    wanted: WantedHeads,
    true: TrueHeads,
    config: ReconstructionLossConfig,
    *,
    images_seen: int,
    random: RandomSource,
) -> dict[str, Tensor]:
    """The discriminator's main loss, `fake` and `real`; nothing before there is an adversary."""
    if not config.is_adversarial(images_seen):
        return {}
    size = config.resolution_at(images_seen, network.config.neural_resolution)
    with torch.no_grad():
        fake = fake_input(reconstruct(network, wanted, size=size, random=random), wanted)
    real = real_input(true, wanted, size=size)
    return {"fake": fake_loss(judge(fake, wanted.label)), "real": real_loss(judge(real, wanted.label))}


def r1_terms(
    judge: Judge, wanted: WantedHeads, true: TrueHeads, config: ReconstructionLossConfig, *, size: int
) -> dict[str, Tensor]:
    """The gradient penalty at true pictures, `penalty`."""
    weights = R1Weights(config.r1_gamma, config.r1_gamma_correspondence, config.r1_gamma_mask)
    images = real_input(true, wanted, size=size)
    return {"penalty": r1_penalty(judge, images, wanted.label, weights=weights).mean()}


def _pixel_weight(image: Tensor, landmarks: Tensor | None, config: ReconstructionLossConfig) -> Tensor | None:
    if landmarks is None or not config.region_weight:
        return None
    side = image.shape[-1]
    return 1 + config.region_weight * region_map(landmarks, size=side, side=side)


def fake_input(made: MadeHeads, wanted: WantedHeads) -> JudgedImages:
    """What the discriminator sees of reconstructed heads."""
    images = made.images
    return JudgedImages(images.image, images.features[:, :3], wanted.correspondence, 2 * images.alpha - 1)


def real_input(true: TrueHeads, wanted: WantedHeads, *, size: int) -> JudgedImages:
    """What it sees of true ones, with small copies of picture and mask."""
    small, mask = (resize(value, height=size, width=size) for value in (true.image, true.mask))
    return JudgedImages(true.image, small, wanted.correspondence, mask)
