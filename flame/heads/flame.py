"""FLAME (Li et al. 2017) from the user's own model file, without chumpy and without running the pickle.

Reads `generic_model.pkl`, `FLAME2020.pkl`, `flame2023*.pkl` and `.npz` files of the same tables, and the tables inside
released networks. Files that come with FLAME are found in the same folder or its neighbours:
`landmark_embedding_with_eyes.npy` (68 and 70 points), `mediapipe_landmark_embedding.npz` (some of the 478; without it,
those that correspond to the 70), `FLAME_masks.pkl` (regions). What differs from the paper: the origin is the template's
neck joint (`docs/conventions.md`).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from flame.errors import InputError
from flame.heads.flame_companions import (
    NUM_VERTICES,
    full_embeddings,
    landmarks_beside,
    regions_beside,
    to_indices,
    to_tensor,
)
from flame.heads.head_model import HeadModel, HeadParams, HeadTables, LandmarkEmbedding
from flame.pickles.numbers import read_numbers

NUM_FACES, NUM_SHAPE = 9976, 300
JOINT_NAMES = ("root", "neck", "jaw", "eye_left", "eye_right")
NECK = 1
_PARENTS = (-1, 0, 1, 1, 1)

PORTRAIT4D_UNITS_PER_METRE = 3.0

EXPRESSION_LIMIT = 3.0
"""Coefficients have unit variance; beyond three standard deviations the surface of the face breaks up."""

# degrees, lowest and highest angle about x, y, z
_LIMITS_DEGREES = {
    "neck": ((-90, 90), (-60, 60), (-80, 80)),
    "jaw": ((-5, 60), (-0.1, 0.1), (-0.1, 0.1)),
    "eyes": ((-50, 50), (-50, 50), (-0.1, 0.1)),
}


class Flame(HeadModel):
    """FLAME: 5023 vertices, 300 shape and 100 expression coefficients, 5 joints.

    Attributes beside those of `HeadModel`:
        pose_basis: `[36, V * 3]` vertex offsets per entry of the four local rotations minus the identity, in the
            model's unit.
        origin: `[3]` the neck joint in the file's own coordinates (before any change of unit).
        units_per_metre: the model's units in a metre; 3 in the world of Portrait4D.
    """

    name = "flame"
    pose_basis: Tensor
    origin: Tensor

    def __init__(self, tables: HeadTables, pose_basis: Tensor, origin: Tensor, *, units_per_metre: float = 1.0) -> None:
        super().__init__(tables)
        self.units_per_metre = units_per_metre
        self.register_buffer("pose_basis", pose_basis, persistent=False)
        self.register_buffer("origin", origin, persistent=False)

    def in_metres(self) -> "Flame":
        """Returns the same head in metres; shape, expression and rotations keep their meaning."""
        if self.units_per_metre == 1.0:
            return self
        scale, tables = 1 / self.units_per_metre, self.tables
        tables = replace(
            tables,
            template=tables.template * scale,
            shape_basis=tables.shape_basis * scale,
            expression_basis=tables.expression_basis * scale,
            joint_template=tables.joint_template * scale,
            joint_basis=tables.joint_basis * scale,
        )
        return Flame(tables, self.pose_basis * scale, self.origin).eval()

    def pose_vectors(self, params: HeadParams) -> Tensor:
        """Returns the local rotation vectors `[B, 5, 3]` in radians; that of the root is zero."""
        still = torch.zeros_like(params.neck)
        return torch.stack([still, params.neck, params.jaw, params.eyes[:, 0], params.eyes[:, 1]], 1)

    def pose_correction(self, rotations: Tensor) -> Tensor:
        """Returns the pose term of Li et al. 2017, eq. 2, `[B, V, 3]`, for local joint rotations `[B, 5, 3, 3]`."""
        identity = torch.eye(3, dtype=rotations.dtype, device=rotations.device)
        features = (rotations[:, 1:] - identity).flatten(1)
        return (features @ self.pose_basis).reshape(len(rotations), -1, 3)


def limit_rotations(params: HeadParams) -> HeadParams:
    """Maps neck, jaw and eyes (radians) smoothly into the human range: by `tanh`, between the limits of each axis."""

    def squash(rotation: Tensor, part: str) -> Tensor:
        low, high = rotation.new_tensor(_LIMITS_DEGREES[part]).mul(math.pi / 180).unbind(1)
        return low + (torch.tanh(rotation) + 1) / 2 * (high - low)

    return params.replace(
        neck=squash(params.neck, "neck"), jaw=squash(params.jaw, "jaw"), eyes=squash(params.eyes, "eyes")
    )


def load_flame(path: Path | str, *, unit: Literal["metre", "portrait4d"] = "metre") -> Flame:
    """Reads FLAME from a user's file.

    Args:
        path: `.pkl` or `.npz`.
        unit: "portrait4d" multiplies all lengths by three, as the released networks expect.

    Raises:
        InputError: the file is not a FLAME model, or holds anything but numbers.
    """
    path = Path(path)
    if unit not in ("metre", "portrait4d"):
        raise InputError(f"expected unit metre or portrait4d, got {unit!r}")
    content = read_numbers(path)
    if not isinstance(content, dict) or "v_template" not in content:
        raise InputError(f"{path.name} holds no table v_template: expected a FLAME model such as FLAME2020.pkl")
    scale = 1.0 if unit == "metre" else PORTRAIT4D_UNITS_PER_METRE
    return flame_of_tables(content, path, scale)


_TENSORS_PREFIX = "deformer.flame_deform.flame_model."


def flame_from_tensors(tensors: Mapping[str, Tensor]) -> Flame:
    """Reads FLAME from a released Portrait4D or GenHead network, which holds it in metres x 3 around the neck joint.

    Args:
        tensors: the network's tensors under their official names.

    Raises:
        InputError: a table is missing or has another size.
    """
    num_joints = len(JOINT_NAMES)

    def table(name: str, *shape: int) -> np.ndarray:
        value = tensors.get(_TENSORS_PREFIX + name)
        if value is None or tuple(value.shape) != shape:
            found = "none" if value is None else f"one of shape {tuple(value.shape)}"
            raise InputError(
                f"expected a FLAME table {_TENSORS_PREFIX}{name} of shape {shape} in the checkpoint, got {found}: "
                "use a released Portrait4D or GenHead checkpoint"
            )
        return value.detach().cpu().double().numpy()

    template = table("v_template", NUM_VERTICES, 3)
    regressor = table("J_regressor", num_joints, NUM_VERTICES)
    parents = tuple(int(parent) for parent in table("parents", num_joints))
    if parents != _PARENTS:
        raise InputError(f"expected joints with the parents {_PARENTS} as in FLAME, got {parents}: use another file")
    numbers = _Numbers(
        template=template,
        shapes=table("shapedirs", NUM_VERTICES, 3, NUM_SHAPE + 100),
        pose_basis=table("posedirs", 36, NUM_VERTICES * 3),
        faces=table("faces_tensor", NUM_FACES, 3).astype(np.int64),
        weights=table("lbs_weights", NUM_VERTICES, num_joints),
        regressor=regressor,
        joints=regressor @ template,
        parents=parents,
    )
    faces, weights = table("full_lmk_faces_idx", 1, 70), table("full_lmk_bary_coords", 1, 70, 3)
    landmarks = full_embeddings(to_indices(faces), to_tensor(weights[0]))
    return _assemble(numbers, landmarks, regions_beside(None), np.zeros(3), PORTRAIT4D_UNITS_PER_METRE)


@dataclass(frozen=True)
class _Numbers:
    """FLAME's tables, float64 and int64, in the unit and around the origin of the resulting model."""

    template: np.ndarray
    shapes: np.ndarray
    pose_basis: np.ndarray
    faces: np.ndarray
    weights: np.ndarray
    regressor: np.ndarray
    joints: np.ndarray
    parents: tuple[int, ...]


def flame_of_tables(content: dict[str, Any], path: Path, scale: float) -> Flame:
    """Builds FLAME of the tables of a model file.

    Args:
        content: arrays by the names of the file.
        path: what messages name, and beside which landmarks and masks are looked for.
        scale: units of the result in a metre.

    Raises:
        InputError: a table is missing or has another size.
    """
    template = _table(content, "v_template", path, (NUM_VERTICES, 3))
    regressor = _table(content, "J_regressor", path, (len(JOINT_NAMES), NUM_VERTICES))
    pose_basis = _table(content, "posedirs", path, (NUM_VERTICES, 3, 36)).reshape(-1, 36).T
    origin = regressor[NECK] @ template
    numbers = _Numbers(
        template=(template - origin) * scale,
        shapes=_shapes(content, path) * scale,
        pose_basis=pose_basis * scale,
        faces=_table(content, "f", path, (NUM_FACES, 3)).astype(np.int64),
        weights=_table(content, "weights", path, (NUM_VERTICES, len(JOINT_NAMES))),
        regressor=regressor,
        # the regressor's rows sum to one in released files, but the format does not require it
        joints=(regressor @ template - origin) * scale,
        parents=_parents(content, path),
    )
    return _assemble(numbers, landmarks_beside(path), regions_beside(path), origin, scale)


def _assemble(
    numbers: _Numbers,
    landmarks: dict[int, LandmarkEmbedding],
    regions: dict[str, Tensor],
    origin: np.ndarray,
    units_per_metre: float,
) -> Flame:
    num_expression = numbers.shapes.shape[2] - NUM_SHAPE
    tables = HeadTables(
        template=to_tensor(numbers.template),
        shape_basis=to_tensor(numbers.shapes[..., :NUM_SHAPE]),
        expression_basis=to_tensor(numbers.shapes[..., NUM_SHAPE:]),
        faces=torch.from_numpy(numbers.faces),
        uv=None,
        skinning_weights=to_tensor(numbers.weights),
        joint_template=to_tensor(numbers.joints),
        joint_basis=to_tensor(np.einsum("jv,vik->jik", numbers.regressor, numbers.shapes)),
        joint_names=JOINT_NAMES,
        parents=numbers.parents,
        expression_names=tuple(f"expression_{index:03d}" for index in range(num_expression)),
        expression_min=torch.full((num_expression,), -EXPRESSION_LIMIT),
        expression_max=torch.full((num_expression,), EXPRESSION_LIMIT),
        landmarks=landmarks,
        regions=regions,
        loops={},
    )
    return Flame(tables, to_tensor(numbers.pose_basis), to_tensor(origin), units_per_metre=units_per_metre).eval()


def _table(content: dict[str, Any], key: str, path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Returns one table in float64, of the expected shape."""
    value = content.get(key)
    if not isinstance(value, np.ndarray) or value.dtype == object:
        raise InputError(f"{path.name} has no numeric table {key}: expected a FLAME model such as FLAME2020.pkl")
    if value.shape != shape:
        raise InputError(
            f"{path.name}: expected {key} of shape {shape} as in FLAME, got {value.shape}: give a FLAME file"
        )
    return value.astype(np.float64)


def _shapes(content: dict[str, Any], path: Path) -> np.ndarray:
    """Returns shape and expression directions `[V, 3, 300 + E]`, which a file holds in one table or in two."""
    value = content.get("shapedirs")
    if not isinstance(value, np.ndarray) or value.ndim != 3 or value.shape[:2] != (NUM_VERTICES, 3):
        found = value.shape if isinstance(value, np.ndarray) else "nothing"
        raise InputError(f"{path.name}: expected shapedirs of shape (5023, 3, 400), got {found}: give a FLAME file")
    second = next((content[key] for key in ("expressiondirs", "expressdirs", "exprdirs") if key in content), None)
    if isinstance(second, np.ndarray) and value.shape[2] == NUM_SHAPE and second.shape[:2] == value.shape[:2]:
        value = np.concatenate([value, second], 2)
    if value.shape[2] <= NUM_SHAPE:
        raise InputError(
            f"{path.name}: expected 300 shape and 100 expression directions, got {value.shape[2]} in all: "
            "give the full model file"
        )
    return value.astype(np.float64)


def _parents(content: dict[str, Any], path: Path) -> tuple[int, ...]:
    table = _table(content, "kintree_table", path, (2, len(JOINT_NAMES))).astype(np.int64)
    order = {int(joint): index for index, joint in enumerate(table[1])}
    parents = tuple(order.get(int(parent), -1) for parent in table[0])
    if parents[0] != -1 or any(not 0 <= parent < index for index, parent in enumerate(parents) if index):
        raise InputError(f"{path.name}: the joints in kintree_table are not a tree in order: give a FLAME file")
    return parents
