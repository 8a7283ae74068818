"""Networks of the losses in their released sizes with random weights: what they cost does not depend on the weights.

LPIPS over VGG-16 (Zhang et al. 2018; Simonyan and Zisserman 2015, configuration D) and ArcFace's ResNet-50 (Deng et al.
2019, section 3.1) as insightface's packs hold it. Both are fixed; only the made pictures get gradients.
"""

import torch
from torch import Tensor, nn

_VGG = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Widths of the convolutions of each level; the last of each is compared."""

_ARCFACE = ((64, 3), (128, 4), (256, 14), (512, 3))
"""Width and blocks of each stage."""

_ARCFACE_SIDE, _CODE_SIZE = 112, 512


class VggDistance(nn.Module):
    """Distances `[B]` of two batches of pictures `[B, 3, H, W]`."""

    def __init__(self) -> None:
        super().__init__()
        levels, before = [], 3
        for index, widths in enumerate(_VGG):
            layers: list[nn.Module] = [nn.MaxPool2d(2)] if index else []
            for width in widths:
                layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU(inplace=True)]
                before = width
            levels.append(nn.Sequential(*layers))
        self.levels = nn.ModuleList(levels)
        self.weights = nn.ModuleList(nn.Conv2d(widths[-1], 1, 1, bias=False) for widths in _VGG)
        self.register_buffer("shift", torch.zeros(1, 3, 1, 1))
        self.register_buffer("scale", torch.ones(1, 3, 1, 1))
        self.shift: Tensor
        self.scale: Tensor
        self.eval().requires_grad_(False)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:  # noqa: D102
        pairs = zip(self._features(first), self._features(second), self.weights, strict=True)
        distances = [
            weight((_normalised(one) - _normalised(other)) ** 2).mean((2, 3), keepdim=True)
            for one, other, weight in pairs
        ]
        return torch.stack(distances).sum(0).flatten()

    def _features(self, picture: Tensor) -> list[Tensor]:
        x, found = (picture - self.shift) / self.scale, []
        for level in self.levels:
            x = level(x)
            found.append(x)
        return found


class FaceVectors(nn.Module):
    """Vectors `[B, 512]` of aligned faces `[B, 3, 112, 112]`."""

    def __init__(self) -> None:
        super().__init__()
        before = _ARCFACE[0][0]
        layers: list[nn.Module] = [nn.Conv2d(3, before, 3, padding=1), nn.PReLU(before)]
        for width, count in _ARCFACE:
            for index in range(count):
                layers.append(_FaceBlock(before, width, stride=1 if index else 2))
                before = width
        side = _ARCFACE_SIDE // 2 ** len(_ARCFACE)
        layers += [nn.BatchNorm2d(before), nn.Flatten(), nn.Linear(before * side**2, _CODE_SIZE)]
        self.layers = nn.Sequential(*layers, nn.BatchNorm1d(_CODE_SIZE))
        self.eval().requires_grad_(False)

    def forward(self, faces: Tensor) -> Tensor:  # noqa: D102
        return self.layers(faces)


class _FaceBlock(nn.Module):
    """Norm, convolution, PReLU and convolution beside a skip; norms behind convolutions are folded into them."""

    def __init__(self, before: int, width: int, *, stride: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.BatchNorm2d(before),
            nn.Conv2d(before, width, 3, padding=1),
            nn.PReLU(width),
            nn.Conv2d(width, width, 3, stride=stride, padding=1),
        )
        self.skip = nn.Identity() if stride == 1 else nn.Conv2d(before, width, 1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        return self.main(x) + self.skip(x)


def _normalised(features: Tensor) -> Tensor:
    return features / torch.sqrt(torch.sum(features**2, dim=1, keepdim=True) + 1e-20)
