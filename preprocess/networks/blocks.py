"""Building blocks shared by the face networks: TensorFlow-padded convolutions and residual blocks.

A block may hold several `branches` that run the same layers with different weights on different
inputs; they lie side by side in the channels, so that one grouped convolution serves all of them.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


class SameConv(nn.Conv2d):
    """Convolution with TensorFlow's SAME padding: the odd pixel of a stride of two goes right and bottom.

    Args:
        in_channels, out_channels: of all branches together.
        kernel: side of the square kernel.
        stride: 1 or 2; the input side must be a multiple of it.
        groups: as in `nn.Conv2d`.
    """

    def __init__(self, in_channels: int, out_channels: int, *, kernel: int = 1, stride: int = 1, groups: int = 1):
        super().__init__(in_channels, out_channels, kernel, stride=stride, groups=groups)
        before, after = (kernel - stride) // 2, (kernel - stride + 1) // 2
        self.uneven_padding = (before, after, before, after) if before != after else None
        self.padding = (before, before) if before == after and kernel > 1 else (0, 0)

    def forward(self, input: Tensor) -> Tensor:
        if self.uneven_padding is not None:
            input = functional.pad(input, self.uneven_padding)
        return super().forward(input)


class ResidualBlock(nn.Module):
    """BlazeFace block: depthwise 3x3, pointwise, plus the (pooled, channel-padded) input, then the activation.

    Channel counts are per branch; input `[B, branches * in_channels, H, W]`.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, activation: type[nn.Module], stride: int = 1, branches: int = 1
    ):
        super().__init__()
        self.branches, self.stride = branches, stride
        self.new_channels = out_channels - in_channels
        wide = branches * in_channels
        self.depthwise = SameConv(wide, wide, kernel=3, stride=stride, groups=wide)
        self.pointwise = SameConv(wide, branches * out_channels, groups=branches)
        self.activation = nn.PReLU(branches * out_channels) if activation is nn.PReLU else activation()

    def forward(self, features: Tensor) -> Tensor:
        update = self.pointwise(self.depthwise(features))
        skip = functional.max_pool2d(features, 2) if self.stride == 2 else features
        if self.new_channels:
            skip = self._pad_channels(skip)
        return self.activation(update.add_(skip))

    def _pad_channels(self, features: Tensor) -> Tensor:
        height, width = features.shape[-2:]
        split = features.unflatten(1, (self.branches, -1))
        return functional.pad(split, (0, 0, 0, 0, 0, self.new_channels)).reshape(len(features), -1, height, width)


class SqueezeExcite(nn.Module):
    """Gate `[B, C, 1, 1]` in (0, 1) for the channels of `features [B, C, H, W]`, from their means."""

    def __init__(self, channels: int, squeezed: int):
        super().__init__()
        self.squeeze = SameConv(channels, squeezed)
        self.excite = SameConv(squeezed, channels)

    def forward(self, features: Tensor) -> Tensor:
        mean = features.mean(dim=(2, 3), keepdim=True)
        return torch.sigmoid(self.excite(functional.relu(self.squeeze(mean))))
