"""The landmarks of a head at rest, from tables that are kept: live driving asks for them many times a frame."""

from __future__ import annotations

from collections import OrderedDict
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from flame.heads.head_model import HeadModel

_KEPT_SHAPES = 8


def landmark_positions(model: HeadModel, shape: Tensor, expression: Tensor) -> Tensor:
    """The 478 landmarks [T, 478, 3] of the head at rest, metres, for one shape [S] and expressions [T, E].

    Not differentiable in the shape.
    """
    table = _tables.get(model)
    if table is None:
        table = _tables[model] = _LandmarkTable(model)
    return table.base(model, shape) + (expression @ table.basis.T).reshape(len(expression), -1, 3)


class _LandmarkTable:
    """What the landmarks of a head model depend on.

    Attributes:
        basis: [478 * 3, E] metres per unit of expression.
    """

    def __init__(self, model: HeadModel) -> None:
        embedding = model.landmark_embedding(478)
        self._corners, self._weights = model.faces[embedding.faces], embedding.barycentric[..., None]
        self._bases: OrderedDict[bytes, Tensor] = OrderedDict()  # of the shapes that were asked for last
        with torch.inference_mode(False), torch.no_grad():  # used inside and outside of inference mode
            basis = (model.expression_basis[self._corners] * self._weights[..., None]).sum(1)
            self.basis = basis.reshape(-1, basis.shape[-1])

    def base(self, model: HeadModel, shape: Tensor) -> Tensor:
        """The landmarks [478, 3] of a shape [S] at zero expression, metres."""
        key = shape.numpy().tobytes()
        base = self._bases.get(key)
        if base is None:
            with torch.inference_mode(False), torch.no_grad():
                neutral = torch.zeros(1, model.num_expression)
                whole = model.shaped(shape[None].clone(), neutral)[0]
                base = (whole[self._corners] * self._weights).sum(1)
            self._bases[key] = base
            if len(self._bases) > _KEPT_SHAPES:
                self._bases.popitem(last=False)
        return base


_tables: WeakKeyDictionary[HeadModel, _LandmarkTable] = WeakKeyDictionary()
