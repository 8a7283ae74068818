"""The decoder's two layers over rows of features: torch's definition, and a compiled form with its own gradients."""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from portrait4d.ops.compiled import Backend, can_compile, differentiable_gradients, split_range, takes_compiled

_WIDENING = 0.001
"""The sigmoid is widened a little, so that 0 and 1 are reached (mip-NeRF, Barron et al. 2021, section 3.1)."""

_ROWS_AT_ONCE = 4096
"""Rows whose weight gradients are summed in one: the same sum with any number of threads."""

_MULTIPLE = 4
"""Of channels and hidden units, for the compiled form."""

_MOST_WEIGHTS = 256
"""Size of a first layer above which torch is as fast."""


class Layer(NamedTuple):
    """A fully connected layer: `weight` `[out, in]` and `bias` `[out]`."""

    weight: Tensor
    bias: Tensor


def decode(
    rows: Tensor, first: Layer, density: Layer, colour: Layer, *, backend: Backend = "auto"
) -> tuple[Tensor, Tensor]:
    """Maps rows to raw density and colours in [0, 1].

    Args:
        rows: `[N, C]`.
        first: to the H hidden numbers, which go through a softplus.
        density: from there to one number.
        colour: from there to D numbers, which go through a sigmoid.
        backend: "torch" defines the result. "numba" needs float32 on a CPU and multiples of 4 for C and H; it is equal
            up to rounding; torch computes what is differentiated twice. "auto" takes it for small layers, where it is
            faster.

    Returns:
        Density `[N]` and colours `[N, D]`.
    """
    tensors = rows, *first, *density, *colour
    shape = first.weight.shape
    can_be = can_compile(*tensors, with_gradients=True) and not any(size % _MULTIPLE for size in shape)
    needs = f"float32 on the CPU and multiples of {_MULTIPLE} channels and hidden units"
    if takes_compiled(backend, can_be=can_be, pays=shape.numel() <= _MOST_WEIGHTS, needs=needs, got=first.weight):
        return _Decode.apply(*tensors)  # pyright: ignore[reportReturnType]
    return _define(*tensors)


def _define(
    rows: Tensor,
    first: Tensor,
    first_bias: Tensor,
    density: Tensor,
    density_bias: Tensor,
    colour: Tensor,
    colour_bias: Tensor,
) -> tuple[Tensor, Tensor]:
    hidden = F.softplus(F.linear(rows, first, first_bias))
    colours = torch.sigmoid(F.linear(hidden, colour, colour_bias)) * (1 + 2 * _WIDENING) - _WIDENING
    return F.linear(hidden, density, density_bias)[:, 0], colours


class _Decode(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rows, first, first_bias, density, density_bias, colour, colour_bias):
        from portrait4d.render.decoder_numba import decode as decode_rows

        ctx.set_materialize_grads(False)  # weights of a result that is not used get no gradient, as in torch
        last = torch.cat([density, colour]), torch.cat([density_bias, colour_bias])
        arrays = [tensor.contiguous().numpy() for tensor in (rows, first, first_bias, *last)]
        densities, colours = rows.new_empty(len(rows)), rows.new_empty(len(rows), len(colour))
        split_range(len(rows), decode_rows, *arrays, np.float32(_WIDENING), densities.numpy(), colours.numpy())
        ctx.save_for_backward(rows, first, first_bias, density, density_bias, colour, colour_bias, colours)
        return densities, colours

    @staticmethod
    def backward(ctx, of_density, of_colours):
        *inputs, colours = ctx.saved_tensors
        if torch.is_grad_enabled():
            return differentiable_gradients(_define, inputs, (of_density, of_colours), ctx.needs_input_grad)
        rows, first, first_bias, density, _, colour, _ = (value.contiguous() for value in inputs)
        given = _before_sigmoid(of_density, of_colours, colours)
        last = F.pad(torch.cat([density, colour]), (0, 0, 0, given.shape[1] - 1 - len(colour)))
        of_rows, of_first, of_first_bias, of_last = _gradients(rows, first, first_bias, last, given)
        of_last_bias = given.sum(0)
        stop = 1 + len(colour)
        of_density_layer = (None, None) if of_density is None else (of_last[:1], of_last_bias[:1])
        of_colour_layer = (None, None) if of_colours is None else (of_last[1:stop], of_last_bias[1:stop])
        return of_rows, of_first, of_first_bias, *of_density_layer, *of_colour_layer


def _before_sigmoid(of_density: Tensor | None, of_colours: Tensor | None, colours: Tensor) -> Tensor:
    """The gradient at both last layers, `[N, 1 + D]` with zeros up to a multiple."""
    size = 1 + colours.shape[1]
    found = colours.new_zeros(len(colours), -(-size // _MULTIPLE) * _MULTIPLE)
    if of_density is not None:
        found[:, 0] = of_density
    if of_colours is not None:
        shares = (colours + _WIDENING).div_(1 + 2 * _WIDENING)
        slope = shares.sub_(shares.square()).mul_(1 + 2 * _WIDENING)
        found[:, 1:size] = slope.mul_(of_colours)
    return found


def _gradients(
    rows: Tensor, first: Tensor, first_bias: Tensor, last: Tensor, given: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of rows, first layer, its bias and last layer, whose rows are a multiple, as `given`'s columns are."""
    from portrait4d.render.decoder_numba import decode_backward

    num_parts = -(-len(rows) // _ROWS_AT_ONCE)
    of_rows = torch.empty_like(rows)
    of_first, of_bias = first.new_zeros(num_parts, *first.shape), first.new_zeros(num_parts, len(first))
    of_last = first.new_zeros(num_parts, len(first), len(last))
    arrays = [tensor.numpy() for tensor in (rows, first, first_bias, last, given, of_rows)]

    def add_parts(begin: int, stop: int) -> None:
        for part in range(begin, stop):
            sums = [total[part].numpy() for total in (of_first, of_bias, of_last)]
            start = part * _ROWS_AT_ONCE
            decode_backward(*arrays, *sums, start, min(start + _ROWS_AT_ONCE, len(rows)))

    split_range(num_parts, add_parts)
    return of_rows, of_first.sum(0), of_bias.sum(0), of_last.sum(0).T
