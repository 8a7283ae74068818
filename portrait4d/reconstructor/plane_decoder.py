"""G_T: reenacted and detail features become the picture that holds the three planes (Portrait4D, section 3.3)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from portrait4d.ops.winograd import Convolution3x3, conv3x3
from portrait4d.reconstructor.attention import PatchEmbedding, SelfBlock, tokens_to_grid
from portrait4d.reconstructor.encoders import LEAKY_SLOPE, EncoderConfig


class PlaneDecoder(nn.Module):
    """Convolutions, one transformer block at half size, and convolutions again.

    The first convolution takes both inputs as channels; being linear, it is the sum of one convolution of each, and the
    part of the detail features depends on the source alone: see `prepare`.
    """

    def __init__(self, dim: int = 1024, *, out_channels: int = 96, encoder: EncoderConfig | None = None) -> None:
        super().__init__()
        encoder = encoder or EncoderConfig()
        self.in_channels = encoder.detail_channels
        wide, narrow = encoder.divided(256), encoder.divided(128)
        activation = nn.LeakyReLU(LEAKY_SLOPE, inplace=True)
        self.convs1 = nn.Sequential(
            Convolution3x3(2 * self.in_channels, wide),
            activation,
            Convolution3x3(wide, narrow),
            activation,
        )
        self.patch_embed = PatchEmbedding(narrow, dim)
        self.trans_blocks = nn.ModuleList([SelfBlock(dim, num_heads=2, reduction=2)])
        self.convs2 = nn.Sequential(
            Convolution3x3(dim // 4 + self.in_channels, wide),
            activation,
            Convolution3x3(wide, narrow),
            activation,
            Convolution3x3(narrow, narrow),
            activation,
        )
        self.conv_last = Convolution3x3(narrow, out_channels)

    def prepare(self, detail: Tensor) -> Tensor:
        """The detail features' part of the first convolution: `[B, C, H, W]` to `[B, D, H, W]`, bias included."""
        first = self.convs1[0]
        assert isinstance(first, nn.Conv2d)
        return conv3x3(detail, first.weight[:, self.in_channels :], first.bias)

    def forward(self, reenacted: Tensor, prepared: Tensor) -> Tensor:
        """Takes F_re `[B, C, H, W]` and prepared detail `[B, D, H, W]` to the planes' picture at their size."""
        first = self.convs1[0]
        assert isinstance(first, nn.Conv2d)
        x = conv3x3(reenacted, first.weight[:, : self.in_channels]) + prepared
        for layer in list(self.convs1)[1:]:
            x = layer(x)
        height, width = x.shape[2] // 2, x.shape[3] // 2
        tokens = self.patch_embed(x)
        for block in self.trans_blocks:
            tokens = block(tokens, height=height, width=width)
        grid = tokens_to_grid(tokens, height=height, width=width)
        x = torch.cat([F.pixel_shuffle(grid, 2), reenacted], 1)
        return self.conv_last(self.convs2(x.contiguous(memory_format=torch.channels_last)))
