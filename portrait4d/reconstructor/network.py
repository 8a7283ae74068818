"""Psi, the whole reconstructor, in the parts that depend on the source, on the motion and on the camera."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import TypeVar

import torch
from torch import Tensor, nn

from flame.geometry.camera import Camera
from flame.heads.pose_field import HeadPoseField
from portrait4d.ops.resample import resize
from portrait4d.reconstructor.background import BackgroundNetwork
from portrait4d.reconstructor.canonicaliser import Canonicaliser, TokenGrid, is_off
from portrait4d.reconstructor.config import ReconstructorConfig
from portrait4d.reconstructor.encoders import DetailEncoder, GlobalEncoder
from portrait4d.reconstructor.plane_decoder import PlaneDecoder
from portrait4d.render.decoder import FieldSamples, TriPlaneDecoder
from portrait4d.render.field import Field, ScaledField, TriPlaneField
from portrait4d.render.planes import TriPlanes
from portrait4d.render.renderer import DEFAULT_MAX_POINTS, render
from portrait4d.runtime.random import RandomSource
from portrait4d.runtime.recompute import Recomputing
from portrait4d.stylegan.superresolution import SuperResolution

Result = TypeVar("Result")


@dataclass(frozen=True)
class SourceFeatures:
    """Everything that depends on the source alone.

    Attributes:
        tokens: `[B, h * w, D]`, without the source's motion.
        height: h of the token grid.
        width: w of the token grid.
        detail: `[B, D, H, W]`, the detail features' part of the plane decoder's first convolution.
        background: `[B, C, R, R]` in [0, 1], at the rendered picture's size.
    """

    tokens: Tensor
    height: int
    width: int
    detail: Tensor
    background: Tensor

    def __len__(self) -> int:
        return len(self.tokens)

    def repeat(self, batch: int) -> "SourceFeatures":
        """One source for `batch` frames, without copying."""
        if len(self) == batch:
            return self
        if len(self) != 1:
            raise ValueError(f"expected one source or {batch}, got {len(self)}")
        return self._map(lambda tensor: tensor.expand(batch, *tensor.shape[1:]))

    def to(self, device: torch.device | str) -> "SourceFeatures":
        """The same features on another device."""
        return self._map(lambda tensor: tensor.to(device))

    def _map(self, change: Callable[[Tensor], Tensor]) -> "SourceFeatures":
        tensors = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return replace(self, **{name: change(value) for name, value in tensors.items() if isinstance(value, Tensor)})


@dataclass(frozen=True)
class ReconstructedImages:
    """What `render` gives; all pictures are nominally in [-1, 1].

    Attributes:
        image: `[B, 3, H, H]`, 512 for the released networks.
        features: `[B, C, R, R]` over the background; the first three channels are RGB.
        foreground: the features over black.
        depth: `[B, 1, R, R]`.
        alpha: `[B, 1, R, R]`, opacity.
        sample_depths: `[B, R * R, K]`, for losses.
        weights: `[B, R * R, K - 1]` of the intervals between samples, for losses.
    """

    image: Tensor
    features: Tensor
    foreground: Tensor
    depth: Tensor
    alpha: Tensor
    sample_depths: Tensor
    weights: Tensor


@dataclass(frozen=True)
class PosedField:
    """A volume seen through a head's pose."""

    rested: Field
    pose: HeadPoseField

    def __call__(self, points: Tensor) -> FieldSamples:  # noqa: D102
        return self.rested(self.pose(points))


class Reconstructor(Recomputing):
    """The whole network: `encode` the source, `animate` it, `render` the result."""

    def __init__(self, config: ReconstructorConfig) -> None:
        super().__init__()
        self.config = config
        encoder, channels = config.encoder, config.plane_channels
        self.encoder_global = GlobalEncoder(encoder)
        self.encoder_detail = DetailEncoder(encoder)
        self.encoder_canonical = Canonicaliser(config.canonicaliser, encoder)
        self.generator_triplane = PlaneDecoder(config.plane_decoder_dim, out_channels=3 * channels, encoder=encoder)
        self.background = BackgroundNetwork(channels, encoder=encoder)
        side = (config.source_resolution or 0) // 2
        if config.has_plane_mean:
            self.plane_mean = nn.Parameter(torch.zeros(3 * channels, side, side))
        if config.motion_basis:
            self.motion_basis = nn.Parameter(torch.zeros(config.motion_basis, 3 * channels, side, side))
            self.motion_weights = nn.Linear(config.canonicaliser.motion_dim, config.motion_basis, bias=False)
        self.decoder = TriPlaneDecoder(
            channels,
            channels,
            hidden_channels=config.decoder_channels,
            layout="split",
            lr_multiplier=config.decoder_lr_multiplier,
        )
        self.superresolution = SuperResolution(config.superresolution, in_channels=channels, style_dim=config.style_dim)
        self.register_buffer("w_avg", torch.zeros(config.style_dim))
        self.w_avg: Tensor

    def encode(
        self,
        image: Tensor,
        source_motion: Tensor | None,
        *,
        motion_scale: float | Tensor = 1.0,
        neural_resolution: int | None = None,
    ) -> SourceFeatures:
        """Computes what depends on the source alone.

        Args:
            image: aligned crop `[B, 3, H, W]` in [-1, 1], 512 for released weights.
            source_motion: `[B, M]`; None where `motion_scale` is the number 0 (static reconstruction).
            motion_scale: see `CrossBlock`.
            neural_resolution: side of the rendered picture, which training lets grow; None takes the configured one.
        """
        if side := self.config.source_resolution:
            image = resize(image, height=side, width=side)
        features = self._run(self.encoder_global, image)
        neutral = self._run(self.encoder_canonical.neutralise, features, source_motion, motion_scale=motion_scale)
        detail = self.generator_triplane.prepare(self._run(self.encoder_detail, image))
        background = self._run(self._draw_background, image, neural_resolution or self.config.neural_resolution)
        return SourceFeatures(neutral.tokens, neutral.height, neutral.width, detail, background)

    def animate(
        self, source: SourceFeatures, driver_motion: Tensor | None, *, motion_scale: float | Tensor = 1.0
    ) -> TriPlanes:
        """Computes planes of the source with the driver's motion.

        Args:
            source: what `encode` returned.
            driver_motion: `[B, M]`, any number of frames for one source; None where `motion_scale` is the number 0.
            motion_scale: see `CrossBlock`.
        """
        if driver_motion is not None:
            source = source.repeat(len(driver_motion))
        neutral = TokenGrid(source.tokens, source.height, source.width)
        reenacted = self._run(self.encoder_canonical.reenact, neutral, driver_motion, motion_scale=motion_scale)
        picture = self._run(self.generator_triplane, reenacted, source.detail)
        if self.config.has_plane_mean:
            picture = picture + self.plane_mean
        if self.config.motion_basis and driver_motion is not None and not is_off(motion_scale):
            weights = self.motion_weights(driver_motion)[:, :, None] * motion_scale
            picture = picture + torch.einsum("brk,rchw->bchw", weights, self.motion_basis)
        return TriPlanes.from_picture(picture, layout="orthogonal", box_warp=self.config.render.box_warp)

    def _draw_background(self, image: Tensor, size: int) -> Tensor:
        """What is behind the person, `[B, C, size, size]` in [0, 1]."""
        return resize(torch.sigmoid(self.background(image)), height=size, width=size, antialias=0.0)

    def _run(self, part: Callable[..., Result], *arguments: object, **options: object) -> Result:
        """Calls a part that draws no random numbers, see `Recomputing`."""
        return self.run_part(lambda *given, generator: part(*given, **options), *arguments, generator=None)

    def render(
        self,
        planes: TriPlanes,
        source: SourceFeatures,
        camera: Camera,
        *,
        pose: HeadPoseField | None = None,
        box_scale: Tensor | None = None,
        generator: RandomSource | None = None,
        max_points: int = DEFAULT_MAX_POINTS,
    ) -> ReconstructedImages:
        """Renders animated planes from a camera.

        Args:
            planes: what `animate` returned.
            source: what `encode` returned; gives the background.
            camera: one for each of the planes; world in Portrait4D's unit.
            pose: maps points of the posed head to the head at rest; None where the camera holds the pose.
            box_scale: `[B, 1, 1]` factor on the cube that the planes fill and the rays cross; None is 1.
            generator: source of the sampling noise; None gives the same picture every time.
            max_points: see `portrait4d.render.renderer.render`.
        """
        source, config = source.repeat(len(planes)), self.config
        volume: Field = TriPlaneField(planes, self.decoder)
        if box_scale is not None:
            volume = ScaledField(volume, box_scale)
        if pose is not None:
            volume = PosedField(volume, pose)
        size = source.background.shape[-1]
        seen = self.run_part(
            render,
            volume,
            camera.to(planes.features.device, planes.features.dtype),
            config.render,
            height=size,
            width=size,
            generator=generator,
            max_points=max_points,
            box_scale=1.0 if box_scale is None else box_scale,
        )
        features = 2 * (seen.features + (1 - seen.alpha) * source.background) - 1
        image = self._run(self.superresolution, features[:, :3], features, self.w_avg)
        return ReconstructedImages(
            image, features, 2 * seen.features - 1, seen.depth, seen.alpha, seen.sample_depths, seen.weights
        )
