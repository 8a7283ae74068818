"""The StyleGAN2 network of what is behind GenHead's heads."""

from torch import Tensor, nn

from genhead.config import GenHeadConfig
from portrait4d.runtime.random import RandomSource
from portrait4d.stylegan.mapping import MappingNetwork
from portrait4d.stylegan.synthesis import Noise, SynthesisNetwork


class HeadBackground(nn.Module):
    """What is behind the head, of the same latent code and no condition."""

    def __init__(self, config: GenHeadConfig) -> None:
        super().__init__()
        self.config = own = config.background
        self.mapping = MappingNetwork(config.latent_dim, 0, config.style_dim, num_layers=own.num_mapping_layers)
        self.synthesis = SynthesisNetwork(
            style_dim=config.style_dim,
            resolution=own.resolution,
            picture_channels=config.plane_channels,
            channel_base=own.channel_base,
            channel_max=own.channel_max,
            num_half_resolutions=own.num_half_resolutions,
            clamp=own.clamp,
        )

    def forward(self, latent: Tensor, *, noise: Noise, generator: RandomSource | None) -> Tensor:
        """Raw features `[B, C, h, h]` of latent codes `[B, latent_dim]`; h is the resolution without both margins."""
        w = self.mapping(latent)
        styles = w[:, None].expand(-1, self.synthesis.num_styles, -1)
        inside = slice(self.config.margin, self.config.resolution - self.config.margin)
        return self.synthesis(styles, noise=noise, generator=generator)[:, :, inside, inside]
