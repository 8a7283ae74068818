"""What a GenHead generator is built from; the defaults are the released model for FFHQ at 512.

`GenHeadConfig.toy()` is one that trains on two CPU cores.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from flame.errors import InputError
from portrait4d.headparts.head import OPEN_HEAD_ORIGIN
from portrait4d.headparts.views import CAMERA_RADIUS
from portrait4d.render.official import official_generator, official_options
from portrait4d.render.renderer import RenderConfig
from portrait4d.runtime.checks import check_range
from portrait4d.runtime.settings import read_settings
from portrait4d.stylegan.superresolution import SuperResolutionConfig

Deformation = Literal["exact", "grid"]
"""How points find their places at rest: each by itself, or read off grids that are made once for a head."""

HeadKind = Literal["flame", "open"]

BOX_WARP = 1.3
OPEN_HEAD_FOV_DEGREES = 13.5


@dataclass(frozen=True)
class BackgroundConfig:
    """Architecture of the network behind the head; the defaults are the released ones, whatever the head's are.

    Attributes:
        resolution: pixels of its picture's side.
        num_mapping_layers: fully connected layers of the mapping.
        channel_base: see `num_channels`.
        channel_max: see `num_channels`.
        num_half_resolutions: finest blocks that compute in fp16 on CUDA.
        clamp: limit of the activations, None for none.
        margin: pixels that are cut off its picture's sides, where convolutions see the zeros beyond them. Ours, for
            small pictures; the released network cuts nothing.
    """

    resolution: int = 64
    num_mapping_layers: int = 8
    channel_base: int = 16384
    channel_max: int = 512
    num_half_resolutions: int = 4
    clamp: float | None = 256.0
    margin: int = 0

    def __post_init__(self) -> None:
        check_range("background.margin", self.margin, 0, self.resolution // 2 - 1)


def _default_render() -> RenderConfig:
    return RenderConfig(range_mode="plane", box_warp=BOX_WARP, is_noise_shared=True)


@dataclass(frozen=True)
class GenHeadConfig:
    """Architecture and rendering of a GenHead generator.

    Attributes:
        latent_dim: size of z.
        condition_dim: size of the label that conditions the mapping: a camera's 25 numbers and the head's shape.
        style_dim: size of w.
        num_mapping_layers: fully connected layers of the mapping.
        plane_resolution: pixels of a plane's side.
        plane_channels: channels of a plane, and of the rendered features; the backbone makes six such planes.
        has_plane_mean: a learned picture is added to the planes of every head; the released network has none, but a
            small one learns a face much sooner with it.
        channel_base: see `num_channels`.
        channel_max: see `num_channels`.
        num_half_resolutions: finest blocks of the backbone that compute in fp16 on CUDA.
        clamp: limit of the backbone's activations, None for none.
        decoder_channels: hidden channels of the tri-plane decoder.
        decoder_lr_multiplier: of the tri-plane decoder.
        condition_scale: multiplies the label; 0 ignores it.
        neural_resolution: side of the rendered feature picture.
        soft_fusion_above: rendered pictures with a longer side blend the mouth and the face by their densities.
        mask_resolution: side at which eyes and mouth are rasterised.
        background: the network behind the head.
        render: how the volume is sampled.
        superresolution: from the feature picture to the result.
        head: the head model whose parameters move the volume.
        head_origin: the world's origin in the head model's coordinates, metres.
        deformation: see `Deformation`.
        grid_resolution: nodes along a side of the cube, for "grid".
        camera_radius: distance of the training cameras to the origin, in world units.
        camera_fov_degrees: their field of view.
    """

    latent_dim: int = 512
    condition_dim: int = 325
    style_dim: int = 512
    num_mapping_layers: int = 2
    plane_resolution: int = 256
    plane_channels: int = 32
    has_plane_mean: bool = False
    channel_base: int = 32768
    channel_max: int = 512
    num_half_resolutions: int = 0
    clamp: float | None = None
    decoder_channels: int = 64
    decoder_lr_multiplier: float = 1.0
    condition_scale: float = 1.0
    neural_resolution: int = 64
    soft_fusion_above: int = 64
    mask_resolution: int = 512
    background: BackgroundConfig = field(default_factory=BackgroundConfig)
    render: RenderConfig = field(default_factory=_default_render)
    superresolution: SuperResolutionConfig = field(default_factory=lambda: SuperResolutionConfig(style_source="ones"))
    head: HeadKind = "flame"
    head_origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    deformation: Deformation = "exact"
    grid_resolution: int = 48
    camera_radius: float = CAMERA_RADIUS
    camera_fov_degrees: float = 12.0

    @classmethod
    def toy(cls, *, num_samples: int = 8, has_superresolution: bool = True) -> "GenHeadConfig":
        """A generator of the open head at 64 whose GAN steps take tens of milliseconds an image on a CPU.

        Args:
            num_samples: along a ray, in each of the two passes.
            has_superresolution: enlarge a picture of 32 by one block; otherwise the picture of 32 is the result.
        """
        return cls(
            latent_dim=64,
            style_dim=64,
            plane_resolution=64,
            plane_channels=8,
            channel_base=1024,
            channel_max=32,
            decoder_channels=16,
            neural_resolution=32,
            mask_resolution=128,
            background=BackgroundConfig(32, 2, channel_base=512, channel_max=32, num_half_resolutions=0, clamp=None),
            render=RenderConfig(
                range_mode="plane",
                box_warp=BOX_WARP,
                num_coarse=num_samples,
                num_fine=num_samples,
                is_noise_shared=True,
            ),
            superresolution=SuperResolutionConfig(
                kind="2x64" if has_superresolution else "none", style_source="ones", noise="none", is_half=False
            ),
            head="open",
            head_origin=OPEN_HEAD_ORIGIN,
            deformation="grid",
            camera_fov_degrees=OPEN_HEAD_FOV_DEGREES,
        )

    @property
    def resolution(self) -> int:
        """Side of the result."""
        return self.superresolution.resolution or self.neural_resolution

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for `config.json`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "GenHeadConfig":
        """The inverse of `to_dict`; missing keys take their defaults.

        Raises:
            InputError: an unknown key, with the nearest known one, or a value of another kind.
        """
        return read_settings(cls, values)

    @classmethod
    def from_official(
        cls,
        init_kwargs: Mapping[str, Any],
        *,
        rendering_kwargs: Mapping[str, Any] | None = None,
        neural_rendering_resolution: int | None = None,
    ) -> "GenHeadConfig":
        """Config of a released checkpoint; arguments as in `EG3DConfig.from_official`.

        Raises:
            InputError: an option has a value that is not known here, or names a part that the released model lacks.
        """
        options = official_options(init_kwargs, rendering_kwargs, kind="a GenHead")
        for name, expected in {"has_superresolution": True, "has_background": True, "dynamic_texture": False}.items():
            if init_kwargs.get(name, expected) != expected:
                raise InputError(f"expected {name} {expected}, got {init_kwargs[name]!r}: no released GenHead is so")
        defaults = cls()
        channels = init_kwargs.get("triplane_channels", 6 * defaults.plane_channels)
        if channels % 6:
            raise InputError(f"expected triplane_channels for six planes, got {channels}: not a GenHead checkpoint")
        return cls(
            **official_generator(
                init_kwargs, options, defaults=defaults, neural_resolution=neural_rendering_resolution
            ),
            plane_resolution=init_kwargs.get("triplane_resolution", defaults.plane_resolution),
            plane_channels=channels // 6,
        )
