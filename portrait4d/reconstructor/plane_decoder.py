"""G_T: reenacted and detail features become the picture that holds the three planes (Portrait4D, section 3.3)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from portrait4d.ops.winograd import Convolution3x3, conv3x3
from portrait4d.reconstructor.attention import PatchEmbedding, SelfBlock, tokens_to_grid
from portrait4d.reconstructor.encoders import LEAKY_SLOPE, NUM_DETAIL_CHANNELS

NUM_REENACTED_CHANNELS = 96


class PlaneDecoder(nn.Module):
    """Convolutions, one transformer block at half size, and convolutions again.

    The first convolution takes both inputs as channels; being linear, it is the sum of one convolution of each, and the
    part of the detail features depends on the source alone: see `prepare`.
    """

    def __init__(self, dim: int = 1024, *, out_channels: int = 96) -> None:
        super().__init__()
        activation = nn.LeakyReLU(LEAKY_SLOPE, inplace=True)
        self.convs1 = nn.Sequential(
            Convolution3x3(NUM_REENACTED_CHANNELS + NUM_DETAIL_CHANNELS, 256),
            activation,
            Convolution3x3(256, 128),
            activation,
        )
        self.patch_embed = PatchEmbedding(128, dim)
        self.trans_blocks = nn.ModuleList([SelfBlock(dim, num_heads=2, reduction=2)])
        self.convs2 = nn.Sequential(
            Convolution3x3(dim // 4 + NUM_REENACTED_CHANNELS, 256),
            activation,
            Convolution3x3(256, 128),
            activation,
            Convolution3x3(128, 128),
            activation,
        )
        self.conv_last = Convolution3x3(128, out_channels)

    def prepare(self, detail: Tensor) -> Tensor:
        """The detail features' part of the first convolution: `[B, 96, H, W]` to `[B, 256, H, W]`, bias included."""
        first = self.convs1[0]
        assert isinstance(first, nn.Conv2d)
        return conv3x3(detail, first.weight[:, NUM_REENACTED_CHANNELS:], first.bias)

    def forward(self, reenacted: Tensor, prepared: Tensor) -> Tensor:
        """Takes F_re `[B, 96, H, W]` and prepared detail `[B, 256, H, W]` to `[B, 96, H, W]`."""
        first = self.convs1[0]
        assert isinstance(first, nn.Conv2d)
        x = conv3x3(reenacted, first.weight[:, :NUM_REENACTED_CHANNELS]) + prepared
        for layer in list(self.convs1)[1:]:
            x = layer(x)
        height, width = x.shape[2] // 2, x.shape[3] // 2
        tokens = self.patch_embed(x)
        for block in self.trans_blocks:
            tokens = block(tokens, height=height, width=width)
        grid = tokens_to_grid(tokens, height=height, width=width)
        x = torch.cat([F.pixel_shuffle(grid, 2), reenacted], 1)
        return self.conv_last(self.convs2(x.contiguous(memory_format=torch.channels_last)))
