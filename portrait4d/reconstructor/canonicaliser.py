"""Phi_de and Phi_re: the source's motion is taken out of its features, the driver's is put in.

Portrait4D (Deng et al. 2024), section 3.3. The first blocks take the source's motion alone, the last ones the
driver's, so that `neutralise` runs once per source.
"""

from dataclasses import dataclass, replace

import torch.nn.functional as F
from torch import Tensor, nn

from portrait4d.ops.winograd import Convolution3x3
from portrait4d.reconstructor.attention import CrossBlock, PatchEmbedding, tokens_to_grid
from portrait4d.reconstructor.encoders import LEAKY_SLOPE, EncoderConfig


@dataclass(frozen=True)
class CanonicaliserConfig:
    """Sizes of the canonicaliser; the defaults are the released networks'.

    Attributes:
        in_channels: channels of the features; None takes those of the global encoder.
        dim: size of a token.
        motion_dim: size of a motion code.
        hidden_dim: size of the layers between code and tokens.
        motion_grid: side of the square of motion tokens.
        num_heads: heads of each attention.
        num_neutral_blocks: blocks that take the source's motion.
        num_motion_blocks: blocks that take the driver's motion.
        num_map_layers: linear layers between code and tokens.
    """

    in_channels: int | None = None
    dim: int = 1024
    motion_dim: int = 548
    hidden_dim: int = 512
    motion_grid: int = 8
    num_heads: int = 4
    num_neutral_blocks: int = 4
    num_motion_blocks: int = 4
    num_map_layers: int = 2


@dataclass(frozen=True)
class TokenGrid:
    """Tokens `[B, height * width, D]` of a grid, in row-major order."""

    tokens: Tensor
    height: int
    width: int


class Canonicaliser(nn.Module):
    """Both transformers: `neutralise`, then `reenact`."""

    def __init__(self, config: CanonicaliserConfig, encoder: EncoderConfig | None = None) -> None:
        super().__init__()
        self.config, encoder = config, encoder or EncoderConfig()
        hidden, out = encoder.divided(128), encoder.detail_channels
        self.maps = _motion_map(config)
        self.maps_neutral = _motion_map(config)
        self.proj_y_neutral = nn.Linear(config.hidden_dim, config.motion_grid**2 * config.dim)
        self.proj_y = nn.Linear(config.hidden_dim, config.motion_grid**2 * config.dim)
        self.patch_embed = PatchEmbedding(config.in_channels or encoder.global_channels, config.dim)

        def blocks(count: int) -> nn.ModuleList:
            return nn.ModuleList(CrossBlock(config.dim, num_heads=config.num_heads) for _ in range(count))

        self.trans_blocks_neutral = blocks(config.num_neutral_blocks)
        self.trans_blocks_motion = blocks(config.num_motion_blocks)
        self.convs = nn.Sequential(
            nn.UpsamplingBilinear2d(scale_factor=2),
            Convolution3x3(config.dim // 4, hidden),
            nn.ReLU(inplace=True),
            nn.UpsamplingBilinear2d(scale_factor=2),
            Convolution3x3(hidden, hidden),
            nn.ReLU(inplace=True),
            Convolution3x3(hidden, out),
        )

    def neutralise(
        self, features: Tensor, source_motion: Tensor | None, *, motion_scale: float | Tensor = 1.0
    ) -> TokenGrid:
        """Takes the source's motion out; runs once per source.

        Args:
            features: global features `[B, C, H, W]`.
            source_motion: `[B, M]`; None where `motion_scale` is the number 0.
            motion_scale: see `CrossBlock`.

        Returns:
            Neutral tokens on a grid of half the features' size.
        """
        height, width = features.shape[2] // 2, features.shape[3] // 2
        grid = TokenGrid(self.patch_embed(features), height, width)
        motion = None if is_off(motion_scale) else self._tokens(source_motion, self.maps_neutral, self.proj_y_neutral)
        return _run(self.trans_blocks_neutral, grid, motion, motion_scale)

    def reenact(
        self, neutral: TokenGrid, driver_motion: Tensor | None, *, motion_scale: float | Tensor = 1.0
    ) -> Tensor:
        """Puts the driver's motion in: F_re `[B, C, 8 * h, 8 * w]` of a token grid of h x w.

        Args:
            neutral: what `neutralise` returned.
            driver_motion: `[B, M]`; None where `motion_scale` is the number 0.
            motion_scale: see `CrossBlock`.
        """
        return self.convs(self.reenact_coarse(neutral, driver_motion, motion_scale=motion_scale))

    def reenact_coarse(
        self, neutral: TokenGrid, driver_motion: Tensor | None, *, motion_scale: float | Tensor = 1.0
    ) -> Tensor:
        """The result of `reenact` before its convolutions, `[B, D / 4, 2 * h, 2 * w]`."""
        motion = None if is_off(motion_scale) else self._tokens(driver_motion, self.maps, self.proj_y)
        grid = _run(self.trans_blocks_motion, neutral, motion, motion_scale)
        return F.pixel_shuffle(tokens_to_grid(grid.tokens, height=grid.height, width=grid.width), 2)

    def _tokens(self, code: Tensor | None, layers: nn.Module, projection: nn.Linear) -> Tensor:
        """Maps a code `[B, M]` to tokens `[B, grid * grid, D]`."""
        dim = self.config.motion_dim
        if code is None or code.ndim != 2 or code.shape[1] != dim:
            raise ValueError(f"motion code must be [B, {dim}], got {None if code is None else tuple(code.shape)}")
        return projection(layers(code)).unflatten(1, (self.config.motion_grid**2, -1))


def is_off(motion_scale: float | Tensor) -> bool:
    """Whether a scale leaves all motion out, so that no codes are needed."""
    return not isinstance(motion_scale, Tensor) and motion_scale == 0


def _run(blocks: nn.ModuleList, grid: TokenGrid, motion: Tensor | None, motion_scale: float | Tensor) -> TokenGrid:
    tokens = grid.tokens
    for block in blocks:
        tokens = block(tokens, motion, motion_scale=motion_scale, height=grid.height, width=grid.width)
    return replace(grid, tokens=tokens)


def _motion_map(config: CanonicaliserConfig) -> nn.Sequential:
    widths = [config.motion_dim, *[config.hidden_dim] * config.num_map_layers]
    layers: list[nn.Module] = []
    for before, after in zip(widths[:-1], widths[1:], strict=True):
        layers += [nn.Linear(before, after), nn.LeakyReLU(LEAKY_SLOPE)]
    return nn.Sequential(*layers)
