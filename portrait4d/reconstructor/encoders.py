"""The two appearance encoders: coarse features of a wide receptive field, fine ones at half the picture's size."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEAKY_SLOPE = 0.01

NUM_GLOBAL_CHANNELS, NUM_DETAIL_CHANNELS = 256, 96
"""Of the released networks, before division, see `EncoderConfig`."""


@dataclass(frozen=True)
class EncoderConfig:
    """Sizes of the convolutions that read the source; the defaults are the released networks'.

    Attributes:
        width_divisor: all convolutions of the reconstructor have so many times fewer channels.
        num_blocks: residual blocks of the four stages of the global encoder.
        rates: dilations of its pyramid pooling, in pixels of an eighth of the picture's size.
    """

    width_divisor: int = 1
    num_blocks: tuple[int, int, int, int] = (3, 4, 6, 3)
    rates: tuple[int, ...] = (12, 24, 36)

    def __post_init__(self) -> None:
        # 16 would leave 4 channels, and oneDNN (torch 2.13) writes outside its memory in the backward pass of a 1x1
        # convolution with stride 2 of 4 channels that come last
        if self.width_divisor not in (1, 2, 4, 8):
            raise ValueError(f"expected encoder.width_divisor 1, 2, 4 or 8, got {self.width_divisor}")

    @property
    def global_channels(self) -> int:
        """Of the global features."""
        return self.divided(NUM_GLOBAL_CHANNELS)

    @property
    def detail_channels(self) -> int:
        """Of the detail features."""
        return self.divided(NUM_DETAIL_CHANNELS)

    def divided(self, width: int) -> int:
        """Channels where the released networks have `width`."""
        return width // self.width_divisor


def append_coordinates(image: Tensor) -> Tensor:
    """Appends two channels to `[B, C, H, W]`: x and y, from -1 to 1 at the outer pixels' centres.

    The result is channels last; the convolutions after it keep that format and are faster with it.
    """
    batch, _, height, width = image.shape
    x = torch.linspace(-1, 1, width, dtype=image.dtype, device=image.device)
    y = torch.linspace(-1, 1, height, dtype=image.dtype, device=image.device)
    grid = torch.stack([x.expand(height, width), y[:, None].expand(height, width)])
    joined = torch.cat([image, grid.expand(batch, -1, -1, -1)], 1)
    return joined.contiguous(memory_format=torch.channels_last)


class GlobalEncoder(nn.Module):
    """ResNet-34 with dilated last stages (stride 8) and atrous pyramid pooling, without norms and biases.

    He et al. 2016; DeepLabV3, Chen et al. 2017, section 3.3. Not torchvision's or timm's ResNet: their blocks have
    norms, and the first convolution of a dilated stage keeps dilation 1.
    """

    def __init__(self, config: EncoderConfig | None = None) -> None:
        super().__init__()
        config = config or EncoderConfig()
        channels = config.global_channels
        self.encoder = _ResNet34(config)
        self.decoder = nn.Sequential(
            _PyramidPooling(config.divided(512), channels, rates=config.rates),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.ReLU(inplace=True),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Takes `[B, 3, H, W]` in [-1, 1] to `[B, 256, H / 8, W / 8]`."""
        return self.decoder(self.encoder(append_coordinates(image)))


class DetailEncoder(nn.Module):
    """Five convolutions, the first with stride 2."""

    def __init__(self, config: EncoderConfig | None = None) -> None:
        super().__init__()
        config = config or EncoderConfig()
        first, channels = config.divided(64), config.detail_channels
        layers: list[nn.Module] = [nn.Conv2d(5, first, 7, stride=2, padding=3), nn.LeakyReLU(LEAKY_SLOPE, inplace=True)]
        for width in (first, *[channels] * 3):
            layers += [nn.Conv2d(width, channels, 3, padding=1), nn.LeakyReLU(LEAKY_SLOPE, inplace=True)]
        self.encoder = nn.Sequential(*layers)

    def forward(self, image: Tensor) -> Tensor:
        """Takes `[B, 3, H, W]` in [-1, 1] to `[B, 96, H / 2, W / 2]`."""
        return self.encoder(append_coordinates(image))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a skip, without norms (He et al. 2016, figure 2)."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        spread = {"padding": dilation, "dilation": dilation, "bias": False}
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, **spread)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, **spread)
        self.downsample: nn.Module | None = None
        if in_channels != out_channels:
            self.downsample = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False))

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        skip = x if self.downsample is None else self.downsample(x)
        return F.relu(self.conv2(F.relu(self.conv1(x))) + skip)


class _ResNet34(nn.Module):
    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        first, second, third, fourth = (config.divided(width) for width in (64, 128, 256, 512))
        blocks = config.num_blocks
        self.conv1 = nn.Conv2d(5, first, 7, stride=2, padding=3, bias=False)
        self.layer1 = _stage(blocks[0], first, first)
        self.layer2 = _stage(blocks[1], first, second, stride=2)
        self.layer3 = _stage(blocks[2], second, third, dilation=2)
        self.layer4 = _stage(blocks[3], third, fourth, dilation=4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 3, stride=2, padding=1)
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))


def _stage(num_blocks: int, in_channels: int, out_channels: int, *, stride: int = 1, dilation: int = 1) -> nn.Module:
    first = ResidualBlock(in_channels, out_channels, stride=stride, dilation=dilation)
    rest = [ResidualBlock(out_channels, out_channels, dilation=dilation) for _ in range(num_blocks - 1)]
    return nn.Sequential(first, *rest)


class _PyramidPooling(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, *, rates: tuple[int, ...]) -> None:
        super().__init__()
        branches = [nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.ReLU(inplace=True))]
        for rate in rates:
            convolution = nn.Conv2d(in_channels, out_channels, 3, padding=rate, dilation=rate, bias=False)
            branches.append(nn.Sequential(convolution, nn.ReLU(inplace=True)))
        pooled = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        branches.append(nn.Sequential(nn.AdaptiveAvgPool2d(1), pooled, nn.ReLU(inplace=True)))
        self.convs = nn.ModuleList(branches)
        merged = nn.Conv2d(len(branches) * out_channels, out_channels, 1, bias=False)
        self.project = nn.Sequential(merged, nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        views = [branch(x) for branch in self.convs]
        views[-1] = views[-1].expand_as(views[0])
        return self.project(torch.cat(views, 1))
