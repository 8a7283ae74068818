"""Augmentation of what a discriminator sees, so that a small set of pictures trains it longer before it knows them all.

Karras et al. 2020, "Training Generative Adversarial Networks with Limited Data", section 2 and appendix B. What
differs: the camera moves with the picture, so that a discriminator with a camera label still sees a true pair; whole
and fractional shifts, rotation and zoom are one warp; rotations are small, since heads do not stand on their tops;
there are no quarter turns, anisotropic scale, luma inversion, filters, noise or cutout.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from flame.geometry.camera import Camera
from flame.heads.head_model import HeadParams
from portrait4d.gan.discriminator import JudgedImages
from portrait4d.gan.warp import mirror_camera, move_camera, warp
from portrait4d.runtime.checks import check_range
from portrait4d.runtime.random import RandomSource, normal, uniform
from preprocess.dataset.reading.flip import HeadMirror


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """How far each transform goes; each is drawn by itself with the probability that is the strength. 0 is never."""

    mirror: float = 0.5
    """Probability of a mirrored picture at strength 1."""

    rotation_degrees: float = 15.0
    """Largest turn in the picture's plane, both ways alike."""

    zoom_octaves: float = 0.2
    """Standard deviation of the zoom's logarithm to base 2."""

    whole_shift: float = 0.125
    """Largest shift by whole pixels of the coarsest picture, in picture sides."""

    shift: float = 0.125
    """Standard deviation of the shift by any distance, in picture sides."""

    brightness: float = 0.2
    """Standard deviation of what is added to all channels; black to white is 2."""

    contrast_octaves: float = 0.5
    """Standard deviation of the contrast's logarithm to base 2."""

    saturation_octaves: float = 1.0
    """Standard deviation of the saturation's logarithm to base 2."""

    hue_degrees: float = 0.0
    """Largest turn of the hue; 180 in the paper, off here, for skin has few hues."""

    def __post_init__(self) -> None:
        check_range("augment.mirror", self.mirror, 0.0, 1.0)
        check_range("augment.rotation_degrees", self.rotation_degrees, 0.0, 180.0)
        check_range("augment.zoom_octaves", self.zoom_octaves, 0.0, 1.0)
        check_range("augment.whole_shift", self.whole_shift, 0.0, 1.0)
        check_range("augment.shift", self.shift, 0.0, 1.0)
        check_range("augment.brightness", self.brightness, 0.0, None)
        check_range("augment.contrast_octaves", self.contrast_octaves, 0.0, None)
        check_range("augment.saturation_octaves", self.saturation_octaves, 0.0, None)
        check_range("augment.hue_degrees", self.hue_degrees, 0.0, 180.0)

    @property
    def has_colour(self) -> bool:
        """Whether any transform changes colours."""
        return max(self.brightness, self.contrast_octaves, self.saturation_octaves, self.hue_degrees) > 0

    @property
    def has_geometry(self) -> bool:
        """Whether any transform moves pixels."""
        return max(self.mirror, self.rotation_degrees, self.zoom_octaves, self.whole_shift, self.shift) > 0


@dataclass(frozen=True)
class Augmentation:
    """What was drawn for the samples of a batch. Pictures, camera and head of a sample all go through the same one.

    For the gradient penalty by the pictures before augmentation, the judge is
    `lambda images, camera: judge(augmentation.of_images(images), augmentation.of_camera(camera))`.

    Attributes:
        is_mirrored: `[B]` bool, mirrored about the picture's middle before it is moved.
        linear: `[B, 2, 2]` rotation and zoom about the picture's centre, x right and y down.
        inverse: `[B, 2, 2]` of `linear`.
        shift: `[B, 2]` after it, in picture sides.
        colour: `[B, 3, 4]` affine map of colours, in [-1, 1] before; None for none.
        moves: False where no sample moves, so that pictures and cameras stay as they are.
    """

    is_mirrored: Tensor
    linear: Tensor
    inverse: Tensor
    shift: Tensor
    colour: Tensor | None
    moves: bool

    def __len__(self) -> int:
        return len(self.is_mirrored)

    def of_images(self, images: JudgedImages) -> JudgedImages:
        """All parts moved alike; colours change in image and raw image, and may leave [-1, 1].

        Differentiable twice. The x coordinate of a mirrored correspondence map changes its sign.
        """
        if len(images) != len(self):
            raise ValueError(f"expected {len(self)} images as drawn, got {len(images)}")
        parts = images.parts()
        if self.moves:
            matrix = self._target_to_source()
            parts = {name: warp(part, matrix) for name, part in parts.items()}
            if "correspondence" in parts:
                parts["correspondence"] = parts["correspondence"] * self._signs(3)[:, :, None, None]
        if self.colour is not None:
            parts |= {name: recolour(parts[name], self.colour) for name in ("image", "image_raw")}
        return replace(images, **parts)

    def of_camera(self, camera: Camera) -> Camera:
        """The cameras of the moved pictures: mirrored, rolled, with other focal lengths and principal points."""
        if len(camera) != len(self):
            raise ValueError(f"expected {len(self)} cameras as drawn, got {len(camera)}")
        if not self.moves:
            return camera
        offset = 0.5 - 0.5 * self.linear.sum(2) + self.shift
        matrix = torch.cat([self.linear, offset[..., None]], 2).to(camera.intrinsics)
        return move_camera(mirror_camera(camera, self.is_mirrored), matrix)

    def of_head(self, head: HeadParams[Tensor], mirror: HeadMirror) -> HeadParams[Tensor]:
        """The heads of the moved pictures: mirrored or the same, since the camera takes all else.

        Args:
            head: B heads; neck, jaw and eyes are rotations.
            mirror: of the head model.
        """
        return mirror_heads(head, mirror, self.is_mirrored) if self.moves else head

    def _target_to_source(self) -> Tensor:
        """`[B, 2, 3]`: `F L^-1 (x - 1/2 - shift) + 1/2`, with F the mirror about the middle."""
        linear = self.inverse * self._signs(2)[..., None]
        offset = 0.5 - linear @ (0.5 + self.shift)[..., None]
        return torch.cat([linear, offset], 2)

    def _signs(self, size: int) -> Tensor:
        """`[B, size]`: -1 for x where mirrored, 1 elsewhere."""
        signs = torch.ones(len(self), size, dtype=self.linear.dtype, device=self.linear.device)
        signs[:, 0] -= 2 * self.is_mirrored.to(signs)
        return signs


def draw_augmentation(
    num_samples: int,
    *,
    strength: float,
    side: int,
    generator: RandomSource,
    like: Tensor,
    config: AugmentConfig | None = None,
) -> Augmentation:
    """Draws transforms; the numbers of a sample do not depend on the other samples.

    Args:
        num_samples: B.
        strength: probability of each transform, in [0, 1]; at 0 nothing is drawn and nothing changes.
        side: of the coarsest part, in pixels; whole shifts are multiples of its pixels.
        generator: source of the transforms.
        like: gives the dtype and device.
        config: how far each goes.
    """
    config = config or AugmentConfig()
    if not 0.0 <= strength <= 1.0:
        raise ValueError(f"strength must be in [0, 1], got {strength}")
    if strength == 0.0:
        eye = torch.eye(2, dtype=like.dtype, device=like.device).expand(num_samples, 2, 2)
        is_mirrored = torch.zeros(num_samples, dtype=torch.bool, device=like.device)
        return Augmentation(is_mirrored, eye, eye, torch.zeros_like(eye[:, 0]), None, False)
    # all numbers at once and in one order, so that one transform's reach does not change what another draws
    even, bell = uniform(generator, (num_samples, 13), like), normal(generator, (num_samples, 6), like)
    is_mirrored, gates, even = even[:, 0] < strength * config.mirror, even[:, 1:9] < strength, 2 * even[:, 9:] - 1
    zoom, whole, rotation, shift, brightness, contrast, saturation, hue = gates.to(like).unbind(1)
    octaves = zoom * bell[:, 0] * config.zoom_octaves
    radians = rotation * even[:, 0] * math.radians(config.rotation_degrees)
    whole_shift = whole[:, None] * (even[:, 1:3] * config.whole_shift * side).round() / side
    turn = _turn(radians)
    colour = _colour_map(
        brightness * bell[:, 3] * config.brightness,
        (contrast * bell[:, 4] * config.contrast_octaves).exp2(),
        (saturation * bell[:, 5] * config.saturation_octaves).exp2(),
        hue * even[:, 3] * math.radians(config.hue_degrees),
    )
    return Augmentation(
        is_mirrored,
        octaves.exp2()[:, None, None] * turn,
        (-octaves).exp2()[:, None, None] * turn.transpose(1, 2),
        whole_shift + shift[:, None] * bell[:, 1:3] * config.shift,
        colour if config.has_colour else None,
        config.has_geometry,
    )


def mirror_heads(head: HeadParams[Tensor], mirror: HeadMirror, is_mirrored: Tensor) -> HeadParams[Tensor]:
    """Some heads of a batch in the mirror, as `HeadMirror.mirrored` does with one.

    Args:
        head: B heads.
        mirror: of the head model.
        is_mirrored: `[B]` bool; the others stay.
    """
    signs = head.neck.new_tensor([1.0, -1.0, -1.0])
    shape, expression = (torch.from_numpy(matrix).to(head.shape) for matrix in (mirror.shape, mirror.expression))
    chosen = is_mirrored[:, None]
    return HeadParams(
        shape=torch.where(chosen, head.shape @ shape, head.shape),
        expression=torch.where(chosen, head.expression @ expression, head.expression),
        neck=torch.where(chosen, head.neck * signs, head.neck),
        jaw=torch.where(chosen, head.jaw * signs, head.jaw),
        eyes=torch.where(chosen[..., None], head.eyes.flip(1) * signs, head.eyes),
    )


def recolour(picture: Tensor, colour: Tensor) -> Tensor:
    """Colours `[B, 3, H, W]` through affine maps `[B, 3, 4]`."""
    colour = colour.to(picture)
    return torch.einsum("bij,bjhw->bihw", colour[:, :, :3], picture) + colour[:, :, 3, None, None]


def _turn(radians: Tensor) -> Tensor:
    """`[B, 2, 2]`, clockwise in the picture for positive angles."""
    cosine, sine = radians.cos(), radians.sin()
    return torch.stack([torch.stack([cosine, -sine], 1), torch.stack([sine, cosine], 1)], 1)


def _colour_map(brightness: Tensor, contrast: Tensor, saturation: Tensor, hue_radians: Tensor) -> Tensor:
    """`[B, 3, 4]`: adds brightness, scales about mid grey by contrast, turns and scales about the greys.

    With P the projection off the axis v of greys: `c (I + (s cos h - 1) P + s sin h [v]x)`, the identity bit by bit
    where all are at rest.
    """
    eye = torch.eye(3, dtype=contrast.dtype, device=contrast.device)
    off_grey = eye - 1 / 3
    crossed = contrast.new_tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / math.sqrt(3)
    kept = (saturation * hue_radians.cos() - 1)[:, None, None] * off_grey
    turned = (saturation * hue_radians.sin())[:, None, None] * crossed
    linear = contrast[:, None, None] * (eye + kept + turned)
    offset = (contrast * brightness)[:, None].expand(-1, 3)
    return torch.cat([linear, offset[..., None]], 2)
