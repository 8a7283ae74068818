"""What a Portrait4D reconstructor is built from; the defaults are the released models (v1, static and v2 alike)."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from flame.errors import InputError
from portrait4d.reconstructor.canonicaliser import CanonicaliserConfig
from portrait4d.reconstructor.encoders import EncoderConfig
from portrait4d.render.official import official_render, official_superresolution
from portrait4d.render.renderer import RenderConfig
from portrait4d.runtime.settings import read_settings
from portrait4d.stylegan.superresolution import SuperResolutionConfig

BOX_WARP = 1.3

MotionKind = Literal["pd-fgc", "parameters"]
"""What a motion code is: PD-FGC's 548 numbers, read off pictures, or the head model's expression, jaw and eyes."""

HeadKind = Literal["flame", "open"]


@dataclass(frozen=True)
class ReconstructorConfig:
    """Architecture and rendering of a reconstructor.

    Attributes:
        encoder: the convolutions that read the source.
        source_resolution: side to which a source is resized before it is encoded; None takes it as it comes. The
            planes have half of it.
        canonicaliser: the two transformers.
        plane_decoder_dim: size of a token in the plane decoder's transformer.
        plane_channels: channels of a plane, and of the rendered features.
        has_plane_mean: a learned picture is added to the planes of every head; the released networks have none, but
            a small one learns a face much sooner with it.
        motion_basis: learned pictures that a driver's motion code blends, added to the planes of every head, so that a
            mean head moves before the transformers have learned whose head it is; the released networks have none.
        decoder_channels: hidden channels of the tri-plane decoder.
        style_dim: size of the style that super-resolution takes from a buffer.
        neural_resolution: side of the rendered feature picture.
        decoder_lr_multiplier: of the tri-plane decoder.
        render: how the volume is sampled.
        superresolution: from the feature picture to the result.
        motion: see `MotionKind`.
        head: the head model whose pose, and with "parameters" whose motion, it takes.
        head_origin: the world's origin in the head model's coordinates, metres.
        camera_fov_degrees: field of view of the sources it learned from.
        camera_radius: distance of their cameras from the origin, world units.
    """

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    source_resolution: int | None = None
    canonicaliser: CanonicaliserConfig = field(default_factory=CanonicaliserConfig)
    plane_decoder_dim: int = 1024
    plane_channels: int = 32
    has_plane_mean: bool = False
    motion_basis: int = 0
    decoder_channels: int = 64
    style_dim: int = 512
    neural_resolution: int = 128
    decoder_lr_multiplier: float = 1.0
    render: RenderConfig = field(
        default_factory=lambda: RenderConfig(range_mode="plane", box_warp=BOX_WARP, is_noise_shared=True)
    )
    superresolution: SuperResolutionConfig = field(default_factory=SuperResolutionConfig)
    motion: MotionKind = "pd-fgc"
    head: HeadKind = "flame"
    head_origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    camera_fov_degrees: float = 12.0
    camera_radius: float = 4.2

    def __post_init__(self) -> None:
        if (self.has_plane_mean or self.motion_basis) and self.source_resolution is None:
            raise InputError("expected source_resolution beside has_plane_mean or motion_basis, got none: set it")
        if self.motion_basis < 0:
            raise InputError(f"expected motion_basis of 0 or more, got {self.motion_basis}")
        if self.source_resolution is not None and self.source_resolution % 16:
            raise InputError(f"expected source_resolution as a multiple of 16, got {self.source_resolution}")

    @property
    def resolution(self) -> int:
        """Side of the result."""
        return self.superresolution.resolution or self.neural_resolution

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for `config.json`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ReconstructorConfig":
        """The inverse of `to_dict`; missing keys take their defaults.

        Raises:
            InputError: an unknown key, with the nearest known one.
        """
        return read_settings(cls, values)

    @classmethod
    def from_official(
        cls,
        init_kwargs: Mapping[str, Any],
        *,
        rendering_kwargs: Mapping[str, Any] | None = None,
        neural_rendering_resolution: int | None = None,
    ) -> "ReconstructorConfig":
        """Config of a released checkpoint; arguments as in `EG3DConfig.from_official`."""
        options = dict(rendering_kwargs if rendering_kwargs is not None else init_kwargs.get("rendering_kwargs", {}))
        return cls(
            canonicaliser=CanonicaliserConfig(
                motion_dim=init_kwargs.get("mot_dims", 548),
                num_neutral_blocks=init_kwargs.get("num_blocks_neutral", 4),
                num_motion_blocks=init_kwargs.get("num_blocks_motion", 4),
                num_map_layers=init_kwargs.get("motion_map_layers", 2),
            ),
            neural_resolution=neural_rendering_resolution or 128,
            decoder_lr_multiplier=options.get("decoder_lr_mul", 1.0),
            render=official_render(options),
            superresolution=official_superresolution(init_kwargs, options),
        )
