"""The common interface of all head models: from parameters to posed vertices, in metres unless a model says otherwise.

A head model is a template, a linear shape basis, a linear expression basis and a small tree of joints with linear
blend skinning (FLAME, Li et al. 2017, eqs. 1-4). Landmarks, regions and loops are buffers of the model, too.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any, Generic

import torch
from torch import Tensor, nn

from flame.errors import InputError
from flame.geometry.rotation import axis_angle_to_matrix
from flame.heads.head_pose import Array, ArrayFields, Other, join
from flame.heads.skinning import blend_skin, chain_transforms


@dataclass(frozen=True)
class HeadParams(ArrayFields, Generic[Array]):
    """The parameters of a head model. Rotations are axis-angle in radians, in the parent joint's frame.

    A head model takes tensors; fits, clips and records hold numpy arrays (`flame.heads.head_pose`).

    Attributes:
        shape: `[B, S]` coefficients of the identity.
        expression: `[B, E]` coefficients, in the range that the model's `expression_min` and `expression_max` state.
        neck: `[B, 3]`.
        jaw: `[B, 3]`.
        eyes: `[B, 2, 3]`, `eyes[:, 0]` the subject's left.
    """

    shape: Array
    expression: Array
    neck: Array
    jaw: Array
    eyes: Array

    @classmethod
    def zeros(cls, model: "HeadModel", batch: int = 1) -> "HeadParams":
        """Returns the template at rest, with the model's dtype and device."""
        new = model.template.new_zeros
        shape, expression = new(batch, model.num_shape), new(batch, model.num_expression)
        return HeadParams(shape, expression, new(batch, 3), new(batch, 3), new(batch, 2, 3))

    @classmethod
    def from_vector437(cls, vector: Other) -> "HeadParams[Other]":
        """Reads Portrait4D's vectors of a frame `[B, 437]`, whose first 25 numbers are the camera label.

        Raises:
            InputError: the vectors have another shape.
        """
        rows: Any = vector
        if rows.ndim != 2 or rows.shape[1] != 437:
            raise InputError(f"expected head parameters [B, 437], got {tuple(rows.shape)}: give the released layout")
        shape, expression, neck, jaw = (rows[:, first:last] for first, last in pairwise((25, 325, 425, 428, 431)))
        return HeadParams(shape, expression, neck, jaw, rows[:, 431:].reshape(-1, 2, 3))

    def to_vector437(self, label25: Array) -> Array:
        """Returns the vectors `[B, 437]` that `from_vector437` reads, with a camera label `[B, 25]` in front.

        Raises:
            InputError: the parameters are not those of FLAME.
        """
        shape, expression, neck, jaw, eyes = self.arrays()
        vector = join([label25, shape, expression, neck, jaw, eyes.reshape(len(eyes), 6)], 1)
        if shape.shape[1] != 300 or vector.shape[1] != 437:
            found = f"{shape.shape[1]} shape and {expression.shape[1]} expression numbers"
            raise InputError(f"expected FLAME's 300 shape and 100 expression numbers, got {found}: track with FLAME")
        return vector

    def map(self, change: Callable[[Array], Other]) -> "HeadParams[Other]":
        """Returns the same parameters with `change` applied to each array."""
        return super().map(change)


@dataclass(frozen=True)
class LandmarkEmbedding:
    """Landmarks as points on triangles.

    Attributes:
        faces: `[L]` int64 triangle indices.
        barycentric: `[L, 3]` weights of the triangle's corners, sum 1.
        valid: `[L]` bool; False where the model has no such point (its position is then meaningless).
    """

    faces: Tensor
    barycentric: Tensor
    valid: Tensor


@dataclass(frozen=True)
class HeadTables:
    """All tables of a head model, as its reader passes them to the constructor. Lengths are in the model's unit.

    Attributes:
        template: `[V, 3]` vertices at rest.
        shape_basis: `[V, 3, S]` offsets per unit of a shape coefficient.
        expression_basis: `[V, 3, E]` offsets per unit of an expression coefficient.
        faces: `[F, 3]` int64, counter-clockwise from outside.
        uv: `[V, 2]` texture coordinates, or None.
        skinning_weights: `[V, J]`, rows sum to one.
        joint_template: `[J, 3]` joint positions of the template.
        joint_basis: `[J, 3, S + E]` offsets of the joints, which are linear in shape and expression.
        joint_names: length J.
        parents: length J, a parent before its children, -1 for the root.
        expression_names: length E.
        expression_min: `[E]` smallest coefficients.
        expression_max: `[E]` largest coefficients.
        landmarks: by number of points.
        regions: bool `[V]` by name.
        loops: ordered closed vertex loops, int64 by name.
    """

    template: Tensor
    shape_basis: Tensor
    expression_basis: Tensor
    faces: Tensor
    uv: Tensor | None
    skinning_weights: Tensor
    joint_template: Tensor
    joint_basis: Tensor
    joint_names: tuple[str, ...]
    parents: tuple[int, ...]
    expression_names: tuple[str, ...]
    expression_min: Tensor
    expression_max: Tensor
    landmarks: Mapping[int, LandmarkEmbedding]
    regions: Mapping[str, Tensor]
    loops: Mapping[str, Tensor]


class HeadModel(nn.Module, ABC):
    """A head model. It holds the tables of `HeadTables` under the same names, the tensors as buffers."""

    name: str
    units_per_metre: float = 1.0
    # annotated again for type checkers: a module can inherit neither a frozen dataclass nor its constructor
    template: Tensor
    shape_basis: Tensor
    expression_basis: Tensor
    faces: Tensor
    uv: Tensor | None
    skinning_weights: Tensor
    joint_template: Tensor
    joint_basis: Tensor
    joint_names: tuple[str, ...]
    parents: tuple[int, ...]
    expression_names: tuple[str, ...]
    expression_min: Tensor
    expression_max: Tensor

    def __init__(self, tables: HeadTables) -> None:
        super().__init__()
        for field in fields(tables):
            table = getattr(tables, field.name)
            if table is None or isinstance(table, Tensor):
                self.register_buffer(field.name, table, persistent=False)
            elif isinstance(table, tuple):
                setattr(self, field.name, table)
        for count, embedding in tables.landmarks.items():
            for part in ("faces", "barycentric", "valid"):
                self.register_buffer(f"landmark_{part}_{count}", getattr(embedding, part), persistent=False)
        self._landmark_counts = tuple(tables.landmarks)
        self._region_names, self._loop_names = tuple(tables.regions), tuple(tables.loops)
        for name, mask in tables.regions.items():
            self.register_buffer(f"region_{name}", mask, persistent=False)
        for name, loop in tables.loops.items():
            self.register_buffer(f"loop_{name}", loop, persistent=False)

    @property
    def num_vertices(self) -> int:
        """V, the vertices of the mesh."""
        return self.template.shape[0]

    @property
    def num_shape(self) -> int:
        """S, the shape parameters."""
        return self.shape_basis.shape[2]

    @property
    def num_expression(self) -> int:
        """E, the expression parameters."""
        return self.expression_basis.shape[2]

    @property
    def tables(self) -> HeadTables:
        """The tables of the model; their tensors are its own buffers, not copies."""
        own = {field.name: getattr(self, field.name) for field in fields(HeadTables) if field.name != "landmarks"}
        landmarks = {count: self.landmark_embedding(count) for count in self._landmark_counts}
        return HeadTables(**own, landmarks=landmarks)

    @property
    def regions(self) -> dict[str, Tensor]:
        """Bool masks `[V]` by name: face, lips, eyelids, ...; their number depends on the model."""
        return {name: self.get_buffer(f"region_{name}") for name in self._region_names}

    @property
    def loops(self) -> dict[str, Tensor]:
        """Ordered closed loops of vertex indices by name; the first vertex is not repeated."""
        return {name: self.get_buffer(f"loop_{name}") for name in self._loop_names}

    def landmark_embedding(self, count: int) -> LandmarkEmbedding:
        """Returns where `count` landmarks (478, 68 or 70) lie on the surface.

        Raises:
            InputError: the model has no set of that many landmarks.
        """
        if count not in self._landmark_counts:
            raise InputError(
                f"head model {self.name} has landmark sets {sorted(self._landmark_counts)}, not {count}: "
                "use one of these or the open head"
            )
        parts = (self.get_buffer(f"landmark_{part}_{count}") for part in ("faces", "barycentric", "valid"))
        return LandmarkEmbedding(*parts)

    def in_metres(self) -> "HeadModel":
        """Returns the same head in metres: the model itself, or a copy if its unit is another."""
        return self

    @abstractmethod
    def pose_vectors(self, params: HeadParams) -> Tensor:
        """Returns the local rotation vectors of all joints `[B, J, 3]`, radians, in the order of `joint_names`."""

    def pose_correction(self, rotations: Tensor) -> Tensor | None:
        """Returns pose correctives `[B, V, 3]` of local joint rotations `[B, J, 3, 3]`; None if the model has none."""
        del rotations
        return None

    def shaped(self, shape: Tensor, expression: Tensor) -> Tensor:
        """Returns rest vertices `[B, V, 3]` of shape `[B, S]` and expression `[B, E]`, before skinning."""
        offsets = _linear(self.shape_basis, shape) + _linear(self.expression_basis, expression)
        return self.template + offsets

    def rest_joints(self, shape: Tensor, expression: Tensor) -> Tensor:
        """Returns joint positions `[B, J, 3]` before any rotation, of shape `[B, S]` and expression `[B, E]`."""
        return self.joint_template + _linear(self.joint_basis, torch.cat([shape, expression], 1))

    def joint_transforms(self, params: HeadParams) -> Tensor:
        """Returns the rest-to-posed transform of each joint, `[B, J, 4, 4]`."""
        return self.transforms_of(params, axis_angle_to_matrix(self.pose_vectors(params)))

    def transforms_of(self, params: HeadParams, rotations: Tensor) -> Tensor:
        """Returns rest-to-posed transforms `[B, J, 4, 4]` for given local joint rotations `[B, J, 3, 3]`."""
        return chain_transforms(rotations, self.rest_joints(params.shape, params.expression), self.parents)

    def joints(self, params: HeadParams) -> Tensor:
        """Returns posed joint positions `[B, J, 3]`."""
        transforms = self.joint_transforms(params)
        rest = self.rest_joints(params.shape, params.expression)
        return (transforms[..., :3, :3] @ rest[..., None])[..., 0] + transforms[..., :3, 3]

    def skin(self, rest_vertices: Tensor, transforms: Tensor, *, vertex_indices: Tensor | None = None) -> Tensor:
        """Skins rest vertices `[B, V, 3]`; of a subset `[B, N, 3]`, `vertex_indices` `[N]` says which they are."""
        weights = self.skinning_weights if vertex_indices is None else self.skinning_weights[vertex_indices]
        return blend_skin(rest_vertices, transforms, weights)

    def forward(self, params: HeadParams) -> Tensor:
        """Returns posed vertices `[B, V, 3]` in the model's unit."""
        return self.posed(params, axis_angle_to_matrix(self.pose_vectors(params)))

    def posed(self, params: HeadParams, rotations: Tensor) -> Tensor:
        """Returns posed vertices `[B, V, 3]` for given local joint rotations `[B, J, 3, 3]`."""
        rest = self.shaped(params.shape, params.expression)
        correction = self.pose_correction(rotations)
        if correction is not None:
            rest = rest + correction
        return self.skin(rest, self.transforms_of(params, rotations))

    def landmarks(self, vertices: Tensor, *, count: int = 478) -> Tensor:
        """Returns landmark positions `[B, L, 3]` on posed vertices `[B, V, 3]`.

        Raises:
            InputError: the model has no set of `count` landmarks.
        """
        embedding = self.landmark_embedding(count)
        corners = vertices[:, self.faces[embedding.faces]]  # [B, L, 3, 3]
        return (corners * embedding.barycentric[..., None]).sum(2)


def expression_index(model: HeadModel, names: Sequence[str]) -> list[int]:
    """Returns the columns of the named expressions.

    Raises:
        InputError: the model lacks some of them; it lists these.
    """
    unknown = [name for name in names if name not in model.expression_names]
    if unknown:
        raise InputError(f"head model {model.name} has no expression {', '.join(unknown)}: see expression_names")
    return [model.expression_names.index(name) for name in names]


def _linear(basis: Tensor, coefficients: Tensor) -> Tensor:
    """Returns `sum_k basis[..., k] coefficients[:, k]`: `[N, 3, K]`, `[B, K]` -> `[B, N, 3]`."""
    if coefficients.shape[1] != basis.shape[2]:
        raise ValueError(f"expected {basis.shape[2]} coefficients, got {coefficients.shape[1]}")
    return (coefficients @ basis.flatten(0, 1).T).reshape(-1, *basis.shape[:2])
