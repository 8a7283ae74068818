"""The background network: a U-Net from the photo to features behind the head (Ronneberger et al. 2015)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from portrait4d.reconstructor.encoders import LEAKY_SLOPE, append_coordinates

NUM_BACKGROUND_CHANNELS = 32


class BackgroundNetwork(nn.Module):
    """Three steps down and four up; the first convolution halves the photo's size and the last step restores it."""

    def __init__(self) -> None:
        super().__init__()
        self.input_conv = _activated(5, 64, stride=2)
        self.down_conv_1 = _activated(64, 64).append(_Downsample(64, 128))
        self.down_conv_2 = _activated(128, 128).append(_Downsample(128, 256))
        self.down_conv_3 = _activated(256, 256).append(_Downsample(256, 512))
        self.middle = _activated(512, 512)
        self.up_conv_1 = _activated(1024, 256).append(_Upsample(256))
        self.up_conv_2 = _activated(512, 128).append(_Upsample(128))
        self.up_conv_3 = _activated(256, 64).append(_Upsample(64))
        self.up_conv_4 = _activated(128, 64).append(_Upsample(64))
        self.out_conv = nn.Conv2d(64, NUM_BACKGROUND_CHANNELS, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """Takes `[B, 3, H, W]` in [-1, 1] to logits `[B, 32, H, W]`; H and W are multiples of 16."""
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
