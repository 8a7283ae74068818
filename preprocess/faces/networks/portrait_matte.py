"""MediaPipe's selfie segmentation: an encoder like MobileNetV3 (Howard et al. 2019) and a gated decoder."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from preprocess.faces.networks.blocks import SameConv, SqueezeExcite

INPUT_SIZE = 256


class InvertedResidual(nn.Module):
    """Expands, convolves depthwise, optionally gates, and projects; adds the input where the shapes agree."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        expanded: int,
        kernel: int,
        stride: int,
        squeezed: int,
        activation: Literal["relu", "hardswish"],
    ):
        super().__init__()
        self.activate = nn.ReLU(inplace=True) if activation == "relu" else nn.Hardswish(inplace=True)
        self.has_skip = stride == 1 and in_channels == out_channels
        self.expand = SameConv(in_channels, expanded)
        self.depthwise = SameConv(expanded, expanded, kernel=kernel, stride=stride, groups=expanded)
        self.gate = SqueezeExcite(expanded, squeezed) if squeezed else None
        self.project = SameConv(expanded, out_channels)

    def forward(self, features: Tensor) -> Tensor:
        """Returns `[B, out_channels, H / stride, W / stride]`."""
        hidden = self.activate(self.depthwise(self.activate(self.expand(features))))
        if self.gate is not None:
            hidden = hidden * self.gate(hidden)
        update = self.project(hidden)
        return update + features if self.has_skip else update


class DecoderStage(nn.Module):
    """Doubles the resolution: adds coarse features to gated encoder features of the finer level."""

    def __init__(self, coarse_channels: int, channels: int):
        super().__init__()
        self.reduce = SameConv(coarse_channels, channels)
        self.gate = SqueezeExcite(channels, channels)
        self.mix = SameConv(channels, channels)
        self.smooth = SameConv(channels, channels, kernel=3, groups=channels)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """Returns `[B, channels, H, W]` as `fine`, of `coarse` `[B, coarse_channels, H / 2, W / 2]`."""
        # the 1x1 convolution commutes with the upsampling and is four times cheaper before it
        reduced = functional.interpolate(self.reduce(coarse), scale_factor=2, mode="bilinear", align_corners=False)
        gated = fine * self.gate(fine + reduced) + reduced
        mixed = functional.relu(self.mix(gated), inplace=True)
        return mixed + functional.relu(self.smooth(mixed), inplace=True)


class PortraitMatteNetwork(nn.Module):
    """Maps images `[B, 3, 256, 256]` in [0, 1] to the probability `[B, 1, 256, 256]` of belonging to a person."""

    def __init__(self):
        super().__init__()
        self.stem = SameConv(3, 16, kernel=3, stride=2)
        self.level4 = InvertedResidual(
            16, 16, expanded=16, kernel=3, stride=2, squeezed=8, activation="relu"
        )  # levels are named by their stride
        self.level8 = nn.Sequential(
            InvertedResidual(16, 24, expanded=72, kernel=3, stride=2, squeezed=0, activation="relu"),
            InvertedResidual(24, 24, expanded=88, kernel=3, stride=1, squeezed=0, activation="relu"),
        )
        self.level16 = nn.Sequential(
            _deep(24, expanded=96, stride=2, squeezed=24),
            _deep(32, expanded=128, stride=1, squeezed=32),
            _deep(32, expanded=128, stride=1, squeezed=32),
            _deep(32, expanded=96, stride=1, squeezed=24),
            _deep(32, expanded=96, stride=1, squeezed=24),
        )
        self.context = SameConv(32, 128)
        self.context_gate = SameConv(32, 128)
        self.decode8 = DecoderStage(128, 24)
        self.decode4 = DecoderStage(24, 16)
        self.decode2 = DecoderStage(16, 16)
        self.matte = SameConv(16, 4)  # the four pixels under each cell, as a transposed convolution of stride two

    def forward(self, images: Tensor) -> Tensor:
        """Returns the probability."""
        level2 = functional.hardswish(self.stem(images), inplace=True)
        level4 = self.level4(level2)
        level8 = self.level8(level4)
        level16 = self.level16(level8)
        gate = torch.sigmoid(self.context_gate(functional.adaptive_avg_pool2d(level16, 1)))
        context = functional.relu(self.context(level16)) * gate
        decoded = self.decode2(self.decode4(self.decode8(context, level8), level4), level2)
        return torch.sigmoid(functional.pixel_shuffle(self.matte(decoded), 2))


def _deep(in_channels: int, *, expanded: int, stride: int, squeezed: int) -> InvertedResidual:
    return InvertedResidual(
        in_channels, 32, expanded=expanded, kernel=5, stride=stride, squeezed=squeezed, activation="hardswish"
    )
