"""Bias, activation, gain and clamp in one step (StyleGAN2, section 4 and appendix B; Karras et al. 2020)."""

import math
from collections.abc import Callable
from functools import partial
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from portrait4d.ops.compiled import Backend, can_compile, differentiable_gradients, split_range, takes_compiled

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
    scale: Tensor | None = None,
    noise: Tensor | None = None,
    activation: Activation = "linear",
    gain: float = 1.0,
    clamp: float | None = None,
    leaky_slope: float = 0.2,
    may_overwrite: bool = False,
    backend: Backend = "auto",
) -> Tensor:
    """Computes `clamp(gain * default_gain * activation(x * scale + noise + bias))`.

    Args:
        x: `[B, C, ...]`.
        bias: `[C]`.
        scale: `[B, C]`; None for ones.
        noise: `[B, 1, ...]`, or one for all samples `[1, 1, ...]`; None for zeros.
        activation: the function; `default_gain` follows from it.
        gain: multiplies the activation's own default gain.
        clamp: symmetric limit of the result.
        leaky_slope: slope below zero, for "lrelu".
        may_overwrite: `x` is not needed afterwards; saves memory where no gradient is wanted.
        backend: "torch" defines the result. "numba" needs float32 on a CPU, "lrelu", a bias and pictures with channels
            last; it has the same result, gradients equal up to rounding, and takes a fraction of the time; torch
            computes what is differentiated twice. "auto" takes it where gradients are wanted.
    """
    if activation not in _FUNCTIONS:
        raise ValueError(f"activation must be one of {', '.join(_FUNCTIONS)}; got {activation!r}")
    factor = gain * default_gain(activation)
    can_be = bias is not None and activation == "lrelu" and factor > 0 < leaky_slope and _fits(x, bias, scale, noise)
    needs = "'lrelu', a bias, and a float32 picture on the CPU with channels last"
    if takes_compiled(backend, can_be=can_be, pays=torch.is_grad_enabled(), needs=needs, got=x):
        if noise is not None:
            noise = noise.expand(len(x), -1, -1, -1)
        return _Activate.apply(x, bias, scale, noise, leaky_slope, factor, clamp)  # pyright: ignore[reportReturnType]
    is_in_place = may_overwrite and not torch.is_grad_enabled()
    function = partial(F.leaky_relu, negative_slope=leaky_slope) if activation == "lrelu" else _FUNCTIONS[activation]
    if activation == "lrelu" and not torch.is_grad_enabled() and (is_in_place or bias is not None):
        function = partial(function, inplace=True)
    return _define(x, bias, scale, noise, function, factor, clamp, is_in_place=is_in_place)


def _define(
    x: Tensor,
    bias: Tensor | None,
    scale: Tensor | None,
    noise: Tensor | None,
    function: Callable[[Tensor], Tensor],
    factor: float,
    clamp: float | None,
    *,
    is_in_place: bool = False,
) -> Tensor:
    ones = [1] * (x.ndim - 2)
    if scale is not None:
        scale = scale.to(x.dtype).reshape(*scale.shape, *ones)
        x = x.mul_(scale) if is_in_place else x * scale
    if noise is not None:
        x = x.add_(noise.to(x.dtype)) if is_in_place else x + noise.to(x.dtype)
    if bias is not None:
        bias = bias.to(x.dtype).reshape(-1, *ones)
        x = x.add_(bias) if is_in_place else x + bias
    is_in_place = is_in_place or (bias is not None and not torch.is_grad_enabled())
    x = function(x)
    if factor != 1.0:
        x = x.mul_(factor) if is_in_place else x * factor
    if clamp is not None:
        x = x.clamp_(-clamp, clamp) if is_in_place else x.clamp(-clamp, clamp)
    return x


def _fits(x: Tensor, *others: Tensor | None) -> bool:
    is_last = x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)
    return is_last and can_compile(x, *(other for other in others if other is not None), with_gradients=True)


class _Activate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, bias, scale, noise, slope, factor, clamp):
        from portrait4d.ops.activation_numba import activate

        ctx.save_for_backward(x, bias, scale, noise)
        ctx.constants = slope, factor, clamp
        found = torch.empty_like(x, memory_format=torch.channels_last)
        rows, empty = _as_rows(x), x.new_empty(0)
        scales = empty[:, None] if scale is None else scale.contiguous()
        noises = empty if noise is None else noise.flatten()
        arrays = [tensor.numpy() for tensor in (rows, scales, noises, bias.contiguous())]
        split_range(len(rows), activate, *arrays, *_as_float32(*ctx.constants), _as_rows(found).numpy())
        ctx.found = found.detach()  # kept here: a saved result would be in the graph
        return found

    @staticmethod
    def backward(ctx, given):
        from portrait4d.ops.activation_numba import activate_backward

        inputs = x, bias, scale, noise = ctx.saved_tensors
        slope, factor, clamp = ctx.constants
        if torch.is_grad_enabled():
            function = partial(F.leaky_relu, negative_slope=slope)
            define = partial(_define, function=function, factor=factor, clamp=clamp)
            return *differentiable_gradients(define, inputs, [given], ctx.needs_input_grad[:4]), None, None, None
        of_x, empty = torch.empty_like(x, memory_format=torch.channels_last), x.new_empty(0)
        of_bias = x.new_zeros(len(x), len(bias))
        of_scale = empty[:, None] if scale is None else torch.zeros_like(of_bias)
        of_noise = empty if noise is None else x.new_empty(noise.shape)
        pictures = [_as_rows(x), empty[:, None] if scale is None else scale.contiguous(), _as_rows(ctx.found)]
        pictures.append(_as_rows(given.contiguous(memory_format=torch.channels_last)))
        results = [_as_rows(of_x), of_scale, of_noise.view(-1), of_bias]
        arrays = ([tensor.numpy() for tensor in group] for group in (pictures, results))
        pictures, results = arrays
        split_range(len(x), activate_backward, *pictures, *_as_float32(*ctx.constants), *results)
        gradients = of_x, of_bias.sum(0), None if scale is None else of_scale, None if noise is None else of_noise
        return *gradients, None, None, None


def _as_rows(picture: Tensor) -> Tensor:
    """A picture `[B, C, H, W]` with channels last as `[B * H * W, C]`."""
    return picture.permute(0, 2, 3, 1).flatten(0, 2)


def _as_float32(slope: float, factor: float, clamp: float | None) -> tuple[np.float32, np.float32, np.float32]:
    return np.float32(slope), np.float32(factor), np.float32(np.inf if clamp is None else clamp)
