"""Mirrors records: the picture and everything known about it, in a mirror at x = 0 of the head.

With `S = diag(-1, 1, 1)` a point `p` becomes `S p`, a rotation `R` becomes `S R S` (axis-angle: y and z change sign),
and a camera `C` becomes `S C S`. Left and right parts change places.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from flame.errors import InputError
from flame.heads.head_model import HeadModel, HeadParams
from flame.heads.open_head import OpenHead, load_open_head
from flame.landmarks.mirror_tables import MIRRORED_LANDMARKS
from preprocess.dataset.records.record import Record

_SIGNED_QUALITIES = ("yaw", "roll")
_ROTATION_SIGNS = np.array([1, -1, -1], np.float32)


@dataclass(frozen=True)
class HeadMirror:
    """Maps a head's shape and expression to those of its mirror image, `shape' = shape @ matrix`; its own inverse.

    Attributes:
        shape: `[S, S]` float32.
        expression: `[E, E]` float32.
        residual_mm: largest distance of a vertex from where it should be, over unit parameters; 0 for the open head.
    """

    shape: NDArray[np.float32]
    expression: NDArray[np.float32]
    residual_mm: float

    def mirrored(self, head: HeadParams[NDArray[np.float32]]) -> HeadParams[NDArray[np.float32]]:
        """One head, without a batch axis, in the mirror."""
        shape, expression = head.shape @ self.shape, head.expression @ self.expression
        return _turned_back(head).replace(shape=shape, expression=expression)


def open_head_mirror(model: OpenHead | None = None) -> HeadMirror:
    """Returns the mirror of the open head: each component keeps or changes its sign, expressions swap sides."""
    model = model or load_open_head()
    mirrored = _mirrored_basis(model.shape_basis, model.mirror)
    # a component and its mirror image are equal or opposite to the last bit; the residual below would tell
    signs = torch.sign((mirrored * model.shape_basis).sum((0, 1)))
    columns = [model.expression_names.index(_other_side(name)) for name in model.expression_names]
    shape, expression = torch.diag(signs), torch.eye(model.num_expression).to(signs)[columns]
    return _measured(model, model.mirror, shape, expression)


def fit_head_mirror(model: HeadModel, vertex_mirror: torch.Tensor) -> HeadMirror:
    """Fits the mirror of any head model by least squares; for FLAME, whose components mix both sides.

    In an orthonormal basis Q of the components the reflection P becomes `Q' P Q`, symmetric with eigenvalues in
    [-1, 1]. Each is rounded to -1 or 1, so that mirroring twice is the identity. `residual_mm` measures what remains:
    what the components cannot mirror, and the template's own asymmetry.

    Args:
        model: the head model.
        vertex_mirror: `[V]` int64, each vertex's partner across x = 0; see `mirror_partners`.
    """
    matrices = [
        _least_squares_mirror(basis.double(), vertex_mirror) for basis in (model.shape_basis, model.expression_basis)
    ]
    return _measured(model, vertex_mirror, *matrices)


def mirror_partners(model: HeadModel, *, tolerance_mm: float = 5.0) -> torch.Tensor:
    """Returns `[V]` int64: the vertex nearest to each one's mirror image in the template.

    Raises:
        InputError: partners are not mutual or too far apart: the mesh is not symmetric.
    """
    template = model.template.double()
    distance, partner = torch.cdist(template * template.new_tensor([-1, 1, 1]), template).min(1)
    worst = 1000 * float(distance.max()) / model.units_per_metre
    mutual = partner[partner] == torch.arange(len(partner), device=partner.device)
    if worst > tolerance_mm or not mutual.all():
        raise InputError(
            f"expected a symmetric mesh of {model.name}, got {int((~mutual).sum())} vertices without a partner and "
            f"{worst:.1f} mm between others: give the table of partners"
        )
    return partner


def flip_record(record: Record, mirror: HeadMirror) -> Record:
    """Returns the record of the mirrored picture under the same key; mirroring twice restores the record.

    `crop_matrix` becomes a reflection, which maps px of the unchanged source to px of the mirrored picture.

    Raises:
        InputError: the record has a motion code (a network's output, which cannot be mirrored), or the mirror is for
            another head model.
    """
    if record.code.size:
        raise InputError(f"{record.key}: a motion code cannot be mirrored: encode the mirrored picture")
    has_head = record.shape.size > 0 or record.expression.size > 0  # EG3D's records have none, so any mirror fits
    if has_head and (len(record.shape), len(record.expression)) != (len(mirror.shape), len(mirror.expression)):
        expected, got = (len(mirror.shape), len(mirror.expression)), (len(record.shape), len(record.expression))
        raise InputError(f"{record.key}: expected {expected} shape and expression numbers, got {got}: give its mirror")
    side = record.image.shape[1]
    table = MIRRORED_LANDMARKS[len(record.landmarks)]
    landmarks = record.landmarks[np.array(table, np.intp)]
    landmarks[:, 0] = side - landmarks[:, 0]
    return replace(
        record,
        image=np.ascontiguousarray(record.image[:, ::-1]),
        mask=np.ascontiguousarray(record.mask[:, ::-1]),
        crop_matrix=np.array([[-1.0, 0, side], [0, 1, 0], [0, 0, 1]]) @ record.crop_matrix,
        landmarks=landmarks,
        camera=mirror_label(record.camera),
        head=mirror.mirrored(record.head) if has_head else _turned_back(record.head),
        quality={
            _other_side(name): -value if name.startswith(_SIGNED_QUALITIES) else value
            for name, value in record.quality.items()
        },
    )


def _turned_back(head: HeadParams[NDArray[np.float32]]) -> HeadParams[NDArray[np.float32]]:
    """One head whose rotations are seen in the mirror."""
    neck, jaw, eyes = (turn * _ROTATION_SIGNS for turn in (head.neck, head.jaw, head.eyes[::-1]))
    return head.replace(neck=neck, jaw=jaw, eyes=eyes)


def mirror_label(label: NDArray) -> NDArray:
    """Returns the camera label(s) `[..., 25]` of the mirrored picture; the same in OpenGL and OpenCV axes."""
    mirrored = np.array(label)
    mirrored[..., [1, 2, 3, 4, 8]] *= -1  # S C S: the entries that mix x with y, z or the origin
    mirrored[..., 17] *= -1  # skew
    mirrored[..., 18] = 1 - mirrored[..., 18]
    return mirrored


def _other_side(name: str) -> str:
    for left, right in (("Left", "Right"), ("left", "right")):
        if left in name:
            return name.replace(left, right)
        if right in name:
            return name.replace(right, left)
    return name


def _mirrored_basis(basis: torch.Tensor, vertex_mirror: torch.Tensor) -> torch.Tensor:
    return basis[vertex_mirror] * basis.new_tensor([-1, 1, 1])[:, None]


def _least_squares_mirror(basis: torch.Tensor, vertex_mirror: torch.Tensor) -> torch.Tensor:
    directions, coordinates = torch.linalg.qr(basis.flatten(0, 1))
    reflected = _mirrored_basis(directions.reshape(basis.shape), vertex_mirror).flatten(0, 1)
    symmetric = directions.T @ reflected
    values, vectors = torch.linalg.eigh((symmetric + symmetric.T) / 2)
    signs = torch.where(values < 0, -1.0, 1.0).to(values)
    reflection = vectors @ torch.diag(signs) @ vectors.T
    return torch.linalg.solve(coordinates, reflection @ coordinates).T  # rows: parameters before


def _measured(
    model: HeadModel, vertex_mirror: torch.Tensor, shape: torch.Tensor, expression: torch.Tensor
) -> HeadMirror:
    template = model.template[:, :, None].double()
    errors = [_mirrored_basis(template, vertex_mirror) - template]
    for basis, matrix in ((model.shape_basis, shape), (model.expression_basis, expression)):
        errors.append(_mirrored_basis(basis.double(), vertex_mirror) - basis.double() @ matrix.double().T)
    worst = max(float(error.norm(dim=1).max()) for error in errors if error.numel())
    return HeadMirror(shape.float().numpy(), expression.float().numpy(), 1000 * worst / model.units_per_metre)
