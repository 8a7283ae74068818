"""The two appearance encoders: coarse features of a wide receptive field, fine ones at half the picture's size."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEAKY_SLOPE = 0.01

NUM_GLOBAL_CHANNELS, NUM_DETAIL_CHANNELS = 256, 96


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

    def __init__(self) -> None:
        super().__init__()
        self.encoder = _ResNet34()
        self.decoder = nn.Sequential(
            _PyramidPooling(512, NUM_GLOBAL_CHANNELS, rates=(12, 24, 36)),
            nn.Conv2d(NUM_GLOBAL_CHANNELS, NUM_GLOBAL_CHANNELS, 3, padding=1, bias=False),
            nn.ReLU(inplace=True),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Takes `[B, 3, H, W]` in [-1, 1] to `[B, 256, H / 8, W / 8]`."""
        return self.decoder(self.encoder(append_coordinates(image)))


class DetailEncoder(nn.Module):
    """Five convolutions, the first with stride 2."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(5, 64, 7, stride=2, padding=3), nn.LeakyReLU(LEAKY_SLOPE, inplace=True)]
        for width in (64, *[NUM_DETAIL_CHANNELS] * 3):
            layers += [nn.Conv2d(width, NUM_DETAIL_CHANNELS, 3, padding=1), nn.LeakyReLU(LEAKY_SLOPE, inplace=True)]
        self.encoder = nn.Sequential(*layers)

    def forward(self, image: Tensor) -> Tensor:
        """Takes `[B, 3, H, W]` in [-1, 1] to `[B, 96, H / 2, W / 2]`."""
        return self.encoder(append_coordinates(image))


class _BasicBlock(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        spread = {"padding": dilation, "dilation": dilation, "bias": False}
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, **spread)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, **spread)
        self.downsample: nn.Module | None = None
        if in_channels != out_channels:
            self.downsample = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        skip = x if self.downsample is None else self.downsample(x)
        return F.relu(self.conv2(F.relu(self.conv1(x))) + skip)


class _ResNet34(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(5, 64, 7, stride=2, padding=3, bias=False)
        self.layer1 = _stage(3, 64, 64)
        self.layer2 = _stage(4, 64, 128, stride=2)
        self.layer3 = _stage(6, 128, 256, dilation=2)
        self.layer4 = _stage(3, 256, 512, dilation=4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 3, stride=2, padding=1)
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))


def _stage(num_blocks: int, in_channels: int, out_channels: int, *, stride: int = 1, dilation: int = 1) -> nn.Module:
    first = _BasicBlock(in_channels, out_channels, stride=stride, dilation=dilation)
    rest = [_BasicBlock(out_channels, out_channels, dilation=dilation) for _ in range(num_blocks - 1)]
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
