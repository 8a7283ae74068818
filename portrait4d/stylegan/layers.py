"""Linear and convolution layers whose weights are scaled at run time ("equalised learning rate").

Karras et al. 2018 (progressive GAN), section 4.1; layers of StyleGAN2.
"""

import math

import torch
from torch import Tensor, nn

from portrait4d.ops.activation import Activation, bias_act
from portrait4d.ops.convolution import resampling_conv
from portrait4d.ops.resample import make_filter


class FullyConnected(nn.Module):
    """Computes `activation(x @ (weight * lr_multiplier / sqrt(in)) + bias * lr_multiplier)` on `[B, in]`."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        activation: Activation = "linear",
        lr_multiplier: float = 1.0,
        initial_bias: float = 0.0,
    ) -> None:
        super().__init__()
        self.activation: Activation = activation
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / lr_multiplier)
        self.bias = nn.Parameter(torch.full((out_features,), initial_bias))
        self.weight_gain = lr_multiplier / math.sqrt(in_features)
        self.bias_gain = lr_multiplier

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        weight, bias = (value.to(x.dtype) for value in self.scaled())
        if self.activation == "linear":
            return torch.nn.functional.linear(x, weight, bias)
        return bias_act(x @ weight.T, bias, activation=self.activation, may_overwrite=True)

    def scaled(self) -> tuple[Tensor, Tensor]:
        """Weight `[out, in]` and bias `[out]` as they are applied."""
        return self.weight * self.weight_gain, self.bias * self.bias_gain


class Conv2d(nn.Module):
    """Convolution, optional resampling, bias and activation on `[B, C, H, W]`; the discriminator's layer."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int,
        has_bias: bool = True,
        activation: Activation = "linear",
        down: int = 1,
        clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.activation: Activation = activation
        self.down = down
        self.clamp = clamp
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if has_bias else None
        self.weight_gain = 1.0 / math.sqrt(in_channels * kernel_size**2)
        self.register_buffer("kernel", make_filter(), persistent=False)
        self.kernel: Tensor

    def forward(self, x: Tensor, gain: float = 1.0) -> Tensor:
        """Convolves `[B, C, H, W]`; `gain` multiplies the result and the clamp."""
        weight = (self.weight * self.weight_gain).to(x.dtype)
        x = resampling_conv(x, weight, kernel=self.kernel, down=self.down)
        clamp = None if self.clamp is None else self.clamp * gain
        return bias_act(x, self.bias, activation=self.activation, gain=gain, clamp=clamp, may_overwrite=True)


def normalise_second_moment(x: Tensor) -> Tensor:
    """Scales each row of `[B, D]` to a mean square of one."""
    return x * (x.square().mean(1, keepdim=True) + 1e-8).rsqrt()
