"""FLAME with float32 operations in the order in which the reference tensors were computed (spec networks 6.1, 6.2).

The product's own order is faster and differs in the last bit. That bit matters in one place: where two triangles of the
pose field share their nearest edge, it decides which of them counts.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from flame.heads.head_model import HeadParams
from flame.pickles.numbers import read_numbers

_PARENTS = (-1, 0, 1, 1, 1)
_NECK, _JAW_OPEN = 1, 0.3
_UNIT = 3


class ReferenceFlame:
    """`model(params)` gives posed vertices `[B, V, 3]` around the neck joint, in the released networks' unit.

    Products of matrices round by the kind of processor; parameters and tables in float64 give the same everywhere.
    """

    def __init__(self, path: Path, dtype: torch.dtype = torch.float32) -> None:
        content = read_numbers(path)
        names = ("v_template", "shapedirs", "posedirs", "J_regressor", "weights")
        tables = {name: torch.from_numpy(np.ascontiguousarray(content[name], np.float32)).to(dtype) for name in names}
        self.template, self.basis = tables["v_template"] * _UNIT, tables["shapedirs"] * _UNIT
        self.pose_basis = (
            tables["posedirs"].reshape(-1, 36).T * _UNIT
        )  # transposed in place: the layout decides how a product rounds
        self.regressor, self.weights = tables["J_regressor"].T.contiguous().T, tables["weights"]
        zeros = HeadParams(*(torch.zeros(1, *size, dtype=dtype) for size in ((300,), (100,), (3,), (3,), (2, 3))))
        _, joints = self._skin(zeros.replace(jaw=torch.tensor([[_JAW_OPEN, 0, 0]], dtype=dtype)))
        self.template = self.template - joints[:, _NECK]

    def __call__(self, params: HeadParams) -> Tensor:
        return self._skin(params)[0]

    def _skin(self, params: HeadParams) -> tuple[Tensor, Tensor]:
        batch = len(params)
        turns = torch.stack([torch.zeros_like(params.neck), params.neck, params.jaw, *params.eyes.unbind(1)], 1)
        rotations = _rodrigues(turns.reshape(-1, 3)).reshape(batch, 5, 3, 3)
        coefficients = torch.cat([params.shape, params.expression], 1)
        shaped = self.template + torch.einsum("bk,vik->bvi", coefficients, self.basis)
        joints = torch.einsum("bvi,jv->bji", shaped, self.regressor)
        bent = (rotations[:, 1:] - torch.eye(3, dtype=shaped.dtype)).reshape(batch, -1) @ self.pose_basis
        rest = bent.reshape(batch, -1, 3) + shaped

        steps = torch.cat([joints[:, :1], joints[:, 1:] - joints[:, list(_PARENTS[1:])]], 1)
        local = F.pad(torch.cat([rotations, steps[..., None]], -1), (0, 0, 0, 1))
        local[..., 3, 3] = 1
        chain = [local[:, 0]]
        for joint in range(1, 5):
            chain.append(chain[_PARENTS[joint]] @ local[:, joint])
        world = torch.stack(chain, 1)
        moved = world @ F.pad(joints, (0, 1))[..., None]  # where the chain puts the rest joints, less its translation
        relative = world - F.pad(moved, (3, 0))
        blended = self.weights.expand(batch, -1, -1) @ relative.reshape(batch, 5, 16)
        vertices = blended.reshape(batch, -1, 4, 4) @ F.pad(rest, (0, 1), value=1)[..., None]
        return vertices[..., :3, 0], world[..., :3, 3]


def _rodrigues(turns: Tensor) -> Tensor:
    angle = (turns + 1e-8).norm(dim=1, keepdim=True)
    x, y, z = (turns / angle).unbind(1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], 1).reshape(-1, 3, 3)
    sine, cosine = angle.sin()[..., None], angle.cos()[..., None]
    return torch.eye(3, dtype=turns.dtype) + sine * cross + (1 - cosine) * (cross @ cross)
