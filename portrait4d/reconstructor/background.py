"""The background network: a U-Net from the photo to features behind the head (Ronneberger et al. 2015)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from portrait4d.reconstructor.encoders import LEAKY_SLOPE, EncoderConfig, append_coordinates


class BackgroundNetwork(nn.Module):
    """Three steps down and four up; the first convolution halves the photo's size and the last step restores it."""

    def __init__(self, out_channels: int = 32, *, encoder: EncoderConfig | None = None) -> None:
        super().__init__()
        encoder = encoder or EncoderConfig()
        c64, c128, c256, c512 = (encoder.divided(width) for width in (64, 128, 256, 512))
        self.input_conv = _activated(5, c64, stride=2)
        self.down_conv_1 = _activated(c64, c64).append(_Downsample(c64, c128))
        self.down_conv_2 = _activated(c128, c128).append(_Downsample(c128, c256))
        self.down_conv_3 = _activated(c256, c256).append(_Downsample(c256, c512))
        self.middle = _activated(c512, c512)
        self.up_conv_1 = _activated(2 * c512, c256).append(_Upsample(c256))
        self.up_conv_2 = _activated(2 * c256, c128).append(_Upsample(c128))
        self.up_conv_3 = _activated(2 * c128, c64).append(_Upsample(c64))
        self.up_conv_4 = _activated(2 * c64, c64).append(_Upsample(c64))
        self.out_conv = nn.Conv2d(c64, out_channels, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """Takes `[B, 3, H, W]` in [-1, 1] to logits `[B, C, H, W]`; H and W are multiples of 16."""
        half = self.input_conv(append_coordinates(image))
        quarter = self.down_conv_1(half)
        eighth = self.down_conv_2(quarter)
        sixteenth = self.down_conv_3(eighth)
        x = self.middle(sixteenth)
        steps = (self.up_conv_1, self.up_conv_2, self.up_conv_3, self.up_conv_4)
        for step, skip in zip(steps, (sixteenth, eighth, quarter, half), strict=True):
            x = step(torch.cat([x, skip], 1))
        return self.out_conv(x)


def _activated(in_channels: int, out_channels: int, *, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1)
    return nn.Sequential(convolution, nn.LeakyReLU(LEAKY_SLOPE, inplace=True))


class _Downsample(nn.Module):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class _Upsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))
