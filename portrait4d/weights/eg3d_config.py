"""What an EG3D generator is built from; the defaults are the released model for FFHQ at 512.

It lies here because it is the `architecture` of a `config.json`: conversion writes it, the generator reads it.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from flame.errors import InputError
from flame.geometry.camera import Axes
from portrait4d.render.official import official_generator, official_options
from portrait4d.render.planes import PlaneLayout
from portrait4d.render.renderer import RenderConfig
from portrait4d.runtime.settings import read_settings
from portrait4d.stylegan.superresolution import SuperResolutionConfig


@dataclass(frozen=True)
class EG3DConfig:
    """Architecture and rendering of an EG3D generator.

    Attributes:
        latent_dim: size of z.
        condition_dim: size of the label that conditions the mapping, a camera.
        style_dim: size of w.
        num_mapping_layers: fully connected layers of the mapping.
        plane_resolution: pixels of a plane's side.
        plane_channels: channels of a plane, and of the rendered features.
        channel_base: see `num_channels`.
        channel_max: see `num_channels`.
        num_half_resolutions: finest blocks of the backbone that compute in fp16 on CUDA.
        clamp: limit of the backbone's activations, None for none.
        plane_layout: axes of the planes.
        camera_axes: of the labels, which do not state them.
        decoder_lr_multiplier: of the tri-plane decoder.
        condition_scale: multiplies the label; 0 ignores it.
        neural_resolution: side of the rendered feature picture.
        render: how the volume is sampled.
        superresolution: from the feature picture to the result.
        camera_radius: distance of the training cameras to the origin, in world units.
        camera_target: world point that pictures of this network look at.
        camera_focal: of the training cameras, in image widths; no checkpoint states it, the default is that of the
            face networks.
    """

    latent_dim: int = 512
    condition_dim: int = 25
    style_dim: int = 512
    num_mapping_layers: int = 2
    plane_resolution: int = 256
    plane_channels: int = 32
    channel_base: int = 32768
    channel_max: int = 512
    num_half_resolutions: int = 0
    clamp: float | None = None
    plane_layout: PlaneLayout = "eg3d"
    camera_axes: Axes = "opencv"
    decoder_lr_multiplier: float = 1.0
    condition_scale: float = 1.0
    neural_resolution: int = 128
    render: RenderConfig = field(default_factory=RenderConfig)
    superresolution: SuperResolutionConfig = field(default_factory=SuperResolutionConfig)
    camera_radius: float = 2.7
    camera_target: tuple[float, float, float] = (0.0, 0.0, 0.2)
    camera_focal: float = 4.2647

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for `config.json`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "EG3DConfig":
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
    ) -> "EG3DConfig":
        """Config of a released checkpoint.

        Args:
            init_kwargs: constructor arguments of `TriPlaneGenerator`, as the file holds them.
            rendering_kwargs: the module's own, which override those in `init_kwargs`: the authors' scripts change
                them after construction.
            neural_rendering_resolution: the module's own.

        Raises:
            InputError: an option has a value that is not known here. Options without effect here are ignored:
                released files hold several that only training reads.
        """
        options, defaults = official_options(init_kwargs, rendering_kwargs, kind="an EG3D"), cls()
        return cls(
            **official_generator(
                init_kwargs, options, defaults=defaults, neural_resolution=neural_rendering_resolution
            ),
            camera_radius=_number(options.get("avg_camera_radius", defaults.camera_radius)),
            camera_target=_point(options.get("avg_camera_pivot", defaults.camera_target)),
        )


def _number(value: Any) -> float:
    if not isinstance(value, int | float):
        raise InputError(f"expected a number for the camera's place, got {value!r}")
    return float(value)


def _point(values: Any) -> tuple[float, float, float]:
    if not isinstance(values, list | tuple) or len(values) != 3:
        raise InputError(f"expected a camera target of 3 numbers, got {values!r}")
    return _number(values[0]), _number(values[1]), _number(values[2])
