"""What a Portrait4D reconstructor is built from; the defaults are the released models (v1, static and v2 alike)."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from portrait4d.reconstructor.canonicaliser import CanonicaliserConfig
from portrait4d.render.official import official_render, official_superresolution
from portrait4d.render.renderer import RenderConfig
from portrait4d.runtime.settings import read_settings
from portrait4d.stylegan.superresolution import SuperResolutionConfig

BOX_WARP = 1.3


@dataclass(frozen=True)
class ReconstructorConfig:
    """Architecture and rendering of a reconstructor.

    Attributes:
        canonicaliser: the two transformers.
        plane_decoder_dim: size of a token in the plane decoder's transformer.
        neural_resolution: side of the rendered feature picture.
        decoder_lr_multiplier: of the tri-plane decoder.
        render: how the volume is sampled.
        superresolution: from the feature picture to the result.
    """

    canonicaliser: CanonicaliserConfig = field(default_factory=CanonicaliserConfig)
    plane_decoder_dim: int = 1024
    neural_resolution: int = 128
    decoder_lr_multiplier: float = 1.0
    render: RenderConfig = field(
        default_factory=lambda: RenderConfig(range_mode="plane", box_warp=BOX_WARP, is_noise_shared=True)
    )
    superresolution: SuperResolutionConfig = field(default_factory=SuperResolutionConfig)

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
