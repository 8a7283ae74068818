"""Building blocks shared by the face networks: convolutions padded as in TensorFlow, and residual blocks.

A block may hold several `branches` that run the same layers with different weights on different inputs. They lie side
by side in the channels, so that one grouped convolution serves all of them.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


class SameConv(nn.Conv2d):
    """Convolution with TensorFlow's SAME padding: the odd pixel of a stride of two goes right and bottom.

    With a stride of two the kernel is one larger than `kernel`, its first row and column being zero; the padding
    is then even on all sides and needs no copy of the input.

    Args:
        in_channels: of all branches together.
        out_channels: of all branches together.
        kernel: side of the square kernel, odd.
        stride: 1 or 2; the input side must be a multiple of it.
        groups: as in `nn.Conv2d`.
    """

    def __init__(self, in_channels: int, out_channels: int, *, kernel: int = 1, stride: int = 1, groups: int = 1):
        side, padding = kernel + stride - 1, kernel // 2
        super().__init__(in_channels, out_channels, side, stride=stride, padding=padding, groups=groups)


class ResidualBlock(nn.Module):
    """The block of BlazeFace: depthwise 3x3, pointwise, plus the (pooled) input, then the activation.

    Channel counts are per branch; the input is `[B, branches * in_channels, H, W]`.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, activation: type[nn.Module], stride: int = 1, branches: int = 1
    ):
        super().__init__()
        self.branches, self.stride, self.in_channels = branches, stride, in_channels
        wide = branches * in_channels
        self.depthwise = SameConv(wide, wide, kernel=3, stride=stride, groups=wide)
        self.pointwise = SameConv(wide, branches * out_channels, groups=branches)
        self.activation = nn.PReLU(branches * out_channels) if activation is nn.PReLU else activation(inplace=True)

    def forward(self, features: Tensor) -> Tensor:
        """Returns `[B, branches * out_channels, H / stride, W / stride]`."""
        update = self.pointwise(self.depthwise(features))
        skip = functional.max_pool2d(features, 2) if self.stride == 2 else features
        # the new channels have no skip; adding to the old ones in place spares a padded copy
        old = update.unflatten(1, (self.branches, -1))[:, :, : self.in_channels]
        old += skip.unflatten(1, (self.branches, -1))
        return self.activation(update)


class SqueezeExcite(nn.Module):
    """Computes a gate `[B, C, 1, 1]` in (0, 1) for the channels of `features [B, C, H, W]` from their means."""

    def __init__(self, channels: int, squeezed: int):
        super().__init__()
        self.squeeze = SameConv(channels, squeezed)
        self.excite = SameConv(squeezed, channels)

    def forward(self, features: Tensor) -> Tensor:
        """Returns the gate."""
        mean = functional.adaptive_avg_pool2d(features, 1)
        return torch.sigmoid(self.excite(functional.relu(self.squeeze(mean))))
