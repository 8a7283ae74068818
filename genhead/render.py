"""Rendering of a head whose eyes and mouth live in planes of their own, blended sample by sample.

Portrait4D (Deng et al. 2024), section 3.1, in the form of the released network: one decoder reads both sets of planes,
and raw densities are blended by the rasterised masks before the sum along the ray. Two things differ, neither in the
result: the planes of the parts are read only where a mask lets them count, and the fields are built once for both
passes.
"""

from dataclasses import dataclass, fields
from typing import TypeVar

import torch
from torch import Tensor

from flame.geometry.camera import Camera
from genhead.parts import PartFields
from portrait4d.headparts.masks import HeadMasks
from portrait4d.render.decoder import FieldSamples, TriPlaneDecoder
from portrait4d.render.march import Marched, march
from portrait4d.render.planes import TriPlanes
from portrait4d.render.rays import Rays, cast_rays
from portrait4d.render.renderer import (
    DEFAULT_MAX_POINTS,
    RenderConfig,
    choose_range,
    finish_march,
    place_samples,
)
from portrait4d.render.sampling import MIDPOINTS, RandomNoise, weighted_depths
from portrait4d.render.shares import interval_weights
from portrait4d.runtime.random import RandomSource


@dataclass(frozen=True)
class PartVolume:
    """The planes of B heads and the decoder that reads them.

    Attributes:
        parts: planes of eyes and mouth.
        face: planes of everything else.
        decoder: of both.
    """

    parts: TriPlanes
    face: TriPlanes
    decoder: TriPlaneDecoder


@dataclass(frozen=True)
class PartSamples:
    """What regularisers read of single samples; K even samples along each ray, M by weight.

    Attributes:
        eye_density: `[B, R, K + M]` raw density of the face inside the eyes' boxes, zero elsewhere; even samples, then
            those by weight, not sorted.
        mouth_density: `[B, R, K + M]` raw density of the face times the mouth's mask, in the same order.
        points: `[B, R * K, 3]` even samples, world units.
        face_features: `[B, R * K, C]` of the face's planes there, before the decoder.
        eye_mask: `[B, R, K]` the eyes' mask inside their boxes.
        mouth_mask: `[B, R, K]` the mouth's mask.
    """

    eye_density: Tensor
    mouth_density: Tensor
    points: Tensor
    face_features: Tensor
    eye_mask: Tensor
    mouth_mask: Tensor


Part = TypeVar("Part", Marched, PartSamples)


@dataclass(frozen=True)
class PartRendering:
    """What a camera sees.

    Attributes:
        features: `[B, C, H, W]` in [0, 1], over black.
        depth: `[B, 1, H, W]` mean distance along the ray, world units.
        alpha: `[B, 1, H, W]` opacity.
        sample_depths: `[B, H * W, K + M]` distances of all samples, ascending.
        weights: `[B, H * W, K + M - 1]` of the intervals between them.
        samples: single samples, if they were asked for.
    """

    features: Tensor
    depth: Tensor
    alpha: Tensor
    sample_depths: Tensor
    weights: Tensor
    samples: PartSamples | None


@dataclass(frozen=True)
class _Asked:
    """Values at samples `[B, R, K]`; `points` and `face_features` in rows `[B, R * K, ...]`."""

    density: Tensor
    features: Tensor
    face_density: Tensor
    in_boxes: Tensor
    points: Tensor
    face_features: Tensor


def render_parts(
    volume: PartVolume,
    fields_of_parts: PartFields,
    masks: HeadMasks,
    camera: Camera,
    config: RenderConfig,
    *,
    size: int,
    is_fusion_soft: bool,
    keeps_samples: bool = False,
    generator: RandomSource | None = None,
    max_points: int = DEFAULT_MAX_POINTS,
) -> PartRendering:
    """Renders a picture of features.

    Args:
        volume: of B heads.
        fields_of_parts: their deformation.
        masks: at the rendered size.
        camera: one for each head.
        config: how rays are sampled.
        size: side of the picture.
        is_fusion_soft: in the mouth, add both densities and blend colours by them; otherwise the mouth's planes count.
        keeps_samples: give single samples, too, which take memory.
        generator: source of the sampling noise; None takes fixed samples.
        max_points: points sampled at once; the result does not depend on it.
    """
    rays = cast_rays(camera, height=size, width=size)
    depth_range = choose_range(rays, config, world2cam=camera.world2cam)
    noise = MIDPOINTS if generator is None else RandomNoise(generator)
    coarse, quantiles = place_samples(rays, config, depth_range, noise)
    scene = PartScene(volume, fields_of_parts, is_fusion_soft)
    eye, mouth = (mask.flatten(1)[..., None] for mask in (masks.eye, masks.mouth))
    at_once = max(max_points // (len(rays) * max(config.num_coarse, config.num_fine)), 1)
    marched_parts: list[Marched] = []
    sample_parts: list[PartSamples] = []
    for start in range(0, rays.num_rays, at_once):
        part = slice(start, start + at_once)
        marched, samples = scene.two_passes(
            rays.select(part), coarse[:, part], quantiles[:, part], eye[:, part], mouth[:, part], keeps_samples
        )
        marched_parts.append(marched)
        if samples is not None:
            sample_parts.append(samples)
    marched = finish_march(_join(marched_parts), depth_range.hits, has_white_background=config.has_white_background)
    features = marched.features.transpose(1, 2).unflatten(2, (size, size))
    depth, alpha = (value[:, None].unflatten(2, (size, size)) for value in (marched.depth, marched.opacity))
    samples = _join(sample_parts) if keeps_samples else None
    return PartRendering(features, depth, alpha, marched.sample_depths, marched.weights, samples)


@dataclass(frozen=True)
class PartScene:
    """What does not change from ray to ray.

    Attributes:
        volume: of B heads.
        deform: their deformation.
        is_fusion_soft: see `render_parts`.
    """

    volume: PartVolume
    deform: PartFields
    is_fusion_soft: bool

    def two_passes(
        self, rays: Rays, coarse: Tensor, quantiles: Tensor, eye: Tensor, mouth: Tensor, keeps_samples: bool
    ) -> tuple[Marched, PartSamples | None]:
        """Even samples, then those by weight; shapes as for `render_parts`, masks `[B, R, 1]`."""
        first = self.ask(rays, coarse, eye, mouth)
        asked, depths, is_sorted = [first], coarse, True
        if quantiles.shape[-1]:
            weights = interval_weights(coarse, first.density.detach())
            fine = weighted_depths(coarse, weights, quantiles)
            asked.append(self.ask(rays, fine, eye, mouth))
            depths, is_sorted = torch.cat([coarse, fine], 2), False
        density = torch.cat([part.density for part in asked], 2)
        features = torch.cat([part.features for part in asked], 2)
        marched = march(depths, density, features, is_sorted=is_sorted)
        if not keeps_samples:
            return marched, None
        face_density = torch.cat([part.face_density for part in asked], 2)
        in_boxes = torch.cat([part.in_boxes for part in asked], 2)
        samples = PartSamples(
            eye_density=face_density * in_boxes,
            mouth_density=face_density * mouth,
            points=first.points,
            face_features=first.face_features,
            eye_mask=eye * first.in_boxes,
            mouth_mask=mouth.expand_as(coarse),
        )
        return marched, samples

    def ask(self, rays: Rays, depths: Tensor, eye: Tensor, mouth: Tensor) -> _Asked:
        """Blended density and features, and what the face alone has."""
        shape = depths.shape[1:]
        points = rays.at(depths).flatten(1, 2)
        eye, mouth = (mask.expand_as(depths).flatten(1) for mask in (eye, mouth))
        blended, face, in_boxes, face_features = self._blend(points, eye, mouth)
        density, colours, face_density, in_boxes = (
            value.unflatten(1, shape) for value in (*blended, face.density, in_boxes)
        )
        return _Asked(density, colours, face_density, in_boxes, points, face_features)

    def at(self, points: Tensor, eye: Tensor, mouth: Tensor) -> FieldSamples:
        """The head at world points `[B, N, 3]` that lie before masks of eyes and mouth, shares `[B, N]`."""
        return self._blend(points, eye, mouth)[0]

    def _blend(self, points: Tensor, eye: Tensor, mouth: Tensor) -> tuple[FieldSamples, FieldSamples, Tensor, Tensor]:
        """The whole and the face alone at points `[B, N, 3]`, whether in a box, and features of the face's planes."""
        rested = self.deform.rest(points)
        in_boxes = self.deform.in_eye_boxes(rested).to(points.dtype)
        face_features = self.volume.face.sample(self.deform.face(rested))
        face = self.volume.decoder(face_features)
        blended = self._with_parts(face, rested, eye * in_boxes, mouth, in_boxes)
        return blended, face, in_boxes, face_features

    def _with_parts(
        self, face: FieldSamples, rested: Tensor, eye: Tensor, mouth: Tensor, in_boxes: Tensor
    ) -> FieldSamples:
        """Samples `[B, N]` of the face with those of eyes and mouth blended in where a mask is above zero."""
        chosen = choose_rows((eye > 0) | (mouth > 0))
        if not chosen.shape[1]:
            return face
        rows = chosen[..., None].expand(-1, -1, 3)
        eye, mouth, in_boxes = (value.gather(1, chosen) for value in (eye, mouth, in_boxes))
        places = rested.gather(1, rows)
        places = torch.where((mouth > 0)[..., None], self.deform.mouth(places), self.deform.eye(places))
        part = self.volume.decoder(self.volume.parts.sample(places))
        density = part.density * (in_boxes + mouth)
        wide = chosen[..., None].expand(-1, -1, face.features.shape[-1])
        old_density, old_colours = face.density.gather(1, chosen), face.features.gather(1, wide)
        rest = 1 - eye - mouth
        new_density = density * eye + density * mouth + old_density * rest
        shares, rest = (eye + mouth)[..., None], rest[..., None]
        new_colours = part.features * shares + old_colours * rest
        if self.is_fusion_soft:
            is_mouth = mouth > 0
            share = torch.softmax(torch.stack([density, old_density], -1), -1)
            soft = share[..., :1] * part.features + share[..., 1:] * old_colours
            new_density = torch.where(is_mouth, density + old_density, new_density)
            new_colours = torch.where(is_mouth[..., None], soft, new_colours)
        return FieldSamples(face.density.scatter(1, chosen, new_density), face.features.scatter(1, wide, new_colours))


def choose_rows(wanted: Tensor) -> Tensor:
    """Ascending indices `[B, M]` of the rows wanted in `[B, N]`, M the most of any; shorter ones get others, too."""
    if not wanted.numel():
        return torch.empty(len(wanted), 0, dtype=torch.int64, device=wanted.device)
    counts = wanted.sum(1, keepdim=True)
    most = int(counts.max())
    others = (~wanted).cumsum(1, dtype=torch.int32)  # the first ones fill up
    return (wanted | (others <= most - counts)).nonzero()[:, 1].view(len(wanted), most)


def _join(parts: list[Part]) -> Part:
    """One after another along the rays."""
    if len(parts) == 1:
        return parts[0]
    columns = {column.name: [getattr(part, column.name) for part in parts] for column in fields(parts[0])}
    return type(parts[0])(**{name: torch.cat(values, 1) for name, values in columns.items()})
