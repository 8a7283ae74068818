"""The StyleGAN2 network that makes tri-planes: mapping and synthesis (EG3D, Chan et al. 2022, section 4.2)."""

from typing import Protocol

from torch import nn

from portrait4d.stylegan.mapping import MappingNetwork
from portrait4d.stylegan.synthesis import SynthesisNetwork


class BackboneConfig(Protocol):
    """What a generator's config says of its backbone; see `EG3DConfig` for the meanings."""

    @property
    def latent_dim(self) -> int: ...  # noqa: D102
    @property
    def condition_dim(self) -> int: ...  # noqa: D102
    @property
    def style_dim(self) -> int: ...  # noqa: D102
    @property
    def num_mapping_layers(self) -> int: ...  # noqa: D102
    @property
    def plane_resolution(self) -> int: ...  # noqa: D102
    @property
    def plane_channels(self) -> int: ...  # noqa: D102
    @property
    def channel_base(self) -> int: ...  # noqa: D102
    @property
    def channel_max(self) -> int: ...  # noqa: D102
    @property
    def num_half_resolutions(self) -> int: ...  # noqa: D102
    @property
    def clamp(self) -> float | None: ...  # noqa: D102


class Backbone(nn.Module):
    """The mapping network and the synthesis network of the planes.

    Args:
        config: of the generator.
        num_planes: 3, or 6 for GenHead's two sets.
    """

    def __init__(self, config: BackboneConfig, *, num_planes: int = 3) -> None:
        super().__init__()
        self.mapping = MappingNetwork(
            config.latent_dim, config.condition_dim, config.style_dim, num_layers=config.num_mapping_layers
        )
        self.synthesis = SynthesisNetwork(
            style_dim=config.style_dim,
            resolution=config.plane_resolution,
            picture_channels=num_planes * config.plane_channels,
            channel_base=config.channel_base,
            channel_max=config.channel_max,
            num_half_resolutions=config.num_half_resolutions,
            clamp=config.clamp,
        )
