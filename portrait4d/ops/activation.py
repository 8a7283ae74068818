"""Bias, activation, gain and clamp in one step (StyleGAN2, section 4 and appendix B; Karras et al. 2020)."""

import math
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Activation = Literal["linear", "relu", "lrelu", "tanh", "sigmoid", "elu", "selu", "softplus", "swish"]

_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda x: x,
    "relu": torch.relu,
    "lrelu": F.leaky_relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "elu": F.elu,
    "selu": F.selu,
    "softplus": F.softplus,
    "swish": F.silu,
}

# Gains that keep the variance of a unit normal input: sqrt(2) where half of the signal is cut off.
_GAINS = {"relu": math.sqrt(2), "lrelu": math.sqrt(2), "swish": math.sqrt(2)}


def default_gain(activation: Activation) -> float:
    """The factor after an activation that keeps the variance of its input."""
    return _GAINS.get(activation, 1.0)


def bias_act(
    x: Tensor,
    bias: Tensor | None = None,
    *,
    activation: Activation = "linear",
    gain: float = 1.0,
    clamp: float | None = None,
    leaky_slope: float = 0.2,
    may_overwrite: bool = False,
) -> Tensor:
    """Computes `clamp(gain * default_gain * activation(x + bias))`.

    Args:
        x: `[B, C, ...]`.
        bias: `[C]`.
        activation: the function; `default_gain` follows from it.
        gain: multiplies the activation's own default gain.
        clamp: symmetric limit of the result.
        leaky_slope: slope below zero, for "lrelu".
        may_overwrite: `x` is not needed afterwards; saves memory where no gradient is wanted.
    """
    if activation not in _FUNCTIONS:
        raise ValueError(f"activation must be one of {', '.join(_FUNCTIONS)}; got {activation!r}")
    is_in_place = may_overwrite and not torch.is_grad_enabled()
    if bias is not None:
        bias = bias.to(x.dtype).reshape(-1, *[1] * (x.ndim - 2))
        x = x.add_(bias) if is_in_place else x + bias
        is_in_place = not torch.is_grad_enabled()
    is_leaky = activation == "lrelu"
    x = F.leaky_relu(x, leaky_slope, inplace=is_in_place) if is_leaky else _FUNCTIONS[activation](x)
    factor = gain * default_gain(activation)
    if factor != 1.0:
        x = x.mul_(factor) if is_in_place else x * factor
    if clamp is not None:
        x = x.clamp_(-clamp, clamp) if is_in_place else x.clamp(-clamp, clamp)
    return x
