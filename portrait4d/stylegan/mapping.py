"""The mapping network: a latent code and a condition become a style `w` (StyleGAN, Karras et al. 2019, section 2)."""

import torch
from torch import Tensor, nn

from portrait4d.stylegan.layers import FullyConnected, normalise_second_moment

_LR_MULTIPLIER = 0.01


class MappingNetwork(nn.Module):
    """Normalised latent and embedded condition, then fully connected layers.

    Args:
        latent_dim: size of z; 0 for a network that takes only the condition (discriminators).
        condition_dim: size of the condition; 0 for none.
        style_dim: size of w.
        num_layers: fully connected layers.
        has_average: keep the running mean of w that truncation pulls to.
    """

    def __init__(
        self,
        latent_dim: int,
        condition_dim: int,
        style_dim: int = 512,
        *,
        num_layers: int = 8,
        has_average: bool = True,
    ) -> None:
        super().__init__()
        if latent_dim == 0 and condition_dim == 0:
            raise ValueError("a mapping network needs a latent code, a condition, or both")
        self.latent_dim, self.condition_dim, self.num_layers = latent_dim, condition_dim, num_layers
        if condition_dim:
            self.embed = FullyConnected(condition_dim, style_dim)
        features = latent_dim + (style_dim if condition_dim else 0)
        for index in range(num_layers):
            layer = FullyConnected(features, style_dim, activation="lrelu", lr_multiplier=_LR_MULTIPLIER)
            setattr(self, f"fc{index}", layer)
            features = style_dim
        if has_average:
            self.register_buffer("w_avg", torch.zeros(style_dim))
        self.w_avg: Tensor

    def forward(self, latent: Tensor | None, condition: Tensor | None = None) -> Tensor:
        """Maps `[B, latent_dim]` and `[B, condition_dim]` to w `[B, style_dim]`."""
        parts = []
        for name, value, dim in (("latent", latent, self.latent_dim), ("condition", condition, self.condition_dim)):
            if dim and (value is None or value.ndim != 2 or value.shape[1] != dim):
                raise ValueError(f"{name} must be [B, {dim}], got {None if value is None else tuple(value.shape)}")
        if latent is not None and condition is not None and len(condition) != len(latent):
            if len(condition) != 1:
                raise ValueError(f"expected 1 or {len(latent)} conditions as there are latents, got {len(condition)}")
            condition = condition.expand(len(latent), -1)
        if self.latent_dim and latent is not None:
            parts.append(normalise_second_moment(latent))
        if self.condition_dim and condition is not None:
            parts.append(normalise_second_moment(self.embed(condition)))
        x = torch.cat(parts, 1)
        for index in range(self.num_layers):
            x = getattr(self, f"fc{index}")(x)
        return x

    @torch.no_grad()
    def update_average(self, w: Tensor, *, decay: float = 0.998) -> None:
        """Moves the running mean towards the mean of w `[B, style_dim]`; training calls it once a batch."""
        self.w_avg.copy_(w.mean(0).lerp(self.w_avg, decay))

    def truncate(self, w: Tensor, psi: float, *, cutoff: int | None = None, num_layers: int) -> Tensor:
        """One style per layer, pulled towards the mean (StyleGAN, appendix B).

        Args:
            w: `[B, style_dim]`.
            psi: 1 keeps w, 0 gives the mean.
            cutoff: number of first layers to pull; None pulls all.
            num_layers: styles to return.

        Returns:
            `[B, num_layers, style_dim]`.
        """
        styles = w[:, None].expand(-1, num_layers, -1)
        if psi == 1.0:
            return styles
        cutoff = num_layers if cutoff is None else cutoff
        pulled = self.w_avg.lerp(styles[:, :cutoff], psi)
        return torch.cat([pulled, styles[:, cutoff:]], 1)
