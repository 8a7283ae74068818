"""FLAME (Li et al. 2017) from the user's own model file, without chumpy and without running the pickle.

Reads `generic_model.pkl`, `FLAME2020.pkl`, `flame2023*.pkl` and `.npz` files of the same tables. Files that come with
FLAME are picked up from the same folder or its neighbours: `landmark_embedding_with_eyes.npy` (68 and 70 points),
`mediapipe_landmark_embedding.npz` (some of the 478), `FLAME_masks.pkl` (regions). What differs from the paper: the
origin is moved to the template's neck joint (`docs/conventions.md`).
"""

import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from flame.errors import InputError
from flame.head_model import HeadModel, HeadParams, HeadTables, LandmarkEmbedding
from flame.numeric_pickle import read_numbers

NUM_VERTICES, NUM_FACES, NUM_SHAPE = 5023, 9976, 300
JOINT_NAMES = ("root", "neck", "jaw", "eye_left", "eye_right")
NECK = 1

PORTRAIT4D_UNITS_PER_METRE = 3.0

EXPRESSION_LIMIT = 3.0
"""Coefficients have unit variance; beyond three deviations faces come apart."""

# degrees, lowest and highest about x, y, z
_LIMITS_DEGREES = {
    "neck": ((-90, 90), (-60, 60), (-80, 80)),
    "jaw": ((-5, 60), (-0.1, 0.1), (-0.1, 0.1)),
    "eyes": ((-50, 50), (-50, 50), (-0.1, 0.1)),
}
_LEFT_EYEBALL, _RIGHT_EYEBALL = (3931, 4477), (4477, 5023)
_REGION_SOURCES = {
    "face": ("face",),
    "left_eyeball": ("left_eyeball",),
    "right_eyeball": ("right_eyeball",),
    "lips": ("lips",),
    "eyelids": ("eye_region",),
    "neck": ("neck", "boundary"),
    "scalp": ("scalp",),
    "ears": ("left_ear", "right_ear"),
    "nose": ("nose",),
}


class Flame(HeadModel):
    """FLAME.

    Attributes beside those of `HeadModel`:
        pose_basis: `[36, V * 3]` offsets per entry of the four local rotations minus the identity.
        origin: `[3]` the neck joint in the file's own coordinates (before any change of unit).
    """

    name = "flame"
    pose_basis: Tensor
    origin: Tensor

    def __init__(self, tables: HeadTables, pose_basis: Tensor, origin: Tensor) -> None:
        super().__init__(tables)
        self.register_buffer("pose_basis", pose_basis, persistent=False)
        self.register_buffer("origin", origin, persistent=False)

    def pose_vectors(self, params: HeadParams) -> Tensor:
        """`[B, 5, 3]`; the root stays still."""
        still = torch.zeros_like(params.neck)
        return torch.stack([still, params.neck, params.jaw, params.eyes[:, 0], params.eyes[:, 1]], 1)

    def pose_correction(self, rotations: Tensor) -> Tensor:
        """Li et al. 2017, eq. 2, the term of the pose."""
        identity = torch.eye(3, dtype=rotations.dtype, device=rotations.device)
        features = (rotations[:, 1:] - identity).flatten(1)
        return (features @ self.pose_basis).reshape(len(rotations), -1, 3)


def limit_rotations(params: HeadParams) -> HeadParams:
    """Squashes neck, jaw and eyes smoothly into what a human can do (`tanh` between the limits of each axis)."""

    def squash(rotation: Tensor, part: str) -> Tensor:
        low, high = rotation.new_tensor(_LIMITS_DEGREES[part]).mul(math.pi / 180).unbind(1)
        return low + (torch.tanh(rotation) + 1) / 2 * (high - low)

    return params.replace(
        neck=squash(params.neck, "neck"), jaw=squash(params.jaw, "jaw"), eyes=squash(params.eyes, "eyes")
    )


def load_flame(path: Path | str, *, unit: Literal["metre", "portrait4d"] = "metre") -> Flame:
    """FLAME of a user's file.

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
    return _build(content, path, scale)


def _build(content: dict[str, Any], path: Path, scale: float) -> Flame:
    template = _table(content, "v_template", path, (NUM_VERTICES, 3))
    shapes = _shapes(content, path)
    regressor = _table(content, "J_regressor", path, (len(JOINT_NAMES), NUM_VERTICES))
    pose_basis = _table(content, "posedirs", path, (NUM_VERTICES, 3, 36)).reshape(-1, 36).T
    faces = _table(content, "f", path, (NUM_FACES, 3)).astype(np.int64)
    weights = _table(content, "weights", path, (NUM_VERTICES, len(JOINT_NAMES)))
    origin = regressor[NECK] @ template
    centred = template - origin
    num_expression = shapes.shape[2] - NUM_SHAPE
    tables = HeadTables(
        template=_tensor(centred * scale),
        shape_basis=_tensor(shapes[..., :NUM_SHAPE] * scale),
        expression_basis=_tensor(shapes[..., NUM_SHAPE:] * scale),
        faces=torch.from_numpy(faces),
        uv=None,
        skinning_weights=_tensor(weights),
        # the regressor's rows sum to one in released files, but nothing promises it
        joint_template=_tensor((regressor @ template - origin) * scale),
        joint_basis=_tensor(np.einsum("jv,vik->jik", regressor, shapes) * scale),
        joint_names=JOINT_NAMES,
        parents=_parents(content, path),
        expression_names=tuple(f"expression_{index:03d}" for index in range(num_expression)),
        expression_min=torch.full((num_expression,), -EXPRESSION_LIMIT),
        expression_max=torch.full((num_expression,), EXPRESSION_LIMIT),
        landmarks=_landmarks(path),
        regions=_regions(path),
        loops={},
    )
    return Flame(tables, _tensor(pose_basis * scale), _tensor(origin)).eval()


def _table(content: dict[str, Any], key: str, path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """One table in float64, of the expected shape."""
    value = content.get(key)
    if not isinstance(value, np.ndarray) or value.dtype == object:
        raise InputError(f"{path.name} holds no numbers under {key}: expected a FLAME model such as FLAME2020.pkl")
    if value.shape != shape:
        raise InputError(
            f"{path.name}: expected {key} of shape {shape} as in FLAME, got {value.shape}: give a FLAME file"
        )
    return value.astype(np.float64)


def _shapes(content: dict[str, Any], path: Path) -> np.ndarray:
    """Shape and expression directions `[V, 3, 300 + E]`, in one table or in two."""
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


def _landmarks(path: Path) -> dict[int, LandmarkEmbedding]:
    """The embeddings found beside the model."""
    result = {}
    eyes = _beside(path, "landmark_embedding_with_eyes.npy")
    if eyes is not None:
        table = read_numbers(eyes)
        faces = _indices(table["full_lmk_faces_idx"])
        weights = _tensor(np.asarray(table["full_lmk_bary_coords"]).reshape(-1, 3))
        for count in (68, 70):
            if len(faces) >= count:
                result[count] = LandmarkEmbedding(faces[:count], weights[:count], torch.ones(count, dtype=torch.bool))
    mesh = _beside(path, "mediapipe_landmark_embedding.npz")
    if mesh is not None:
        table = read_numbers(mesh)
        index = _indices(table["landmark_indices"])
        faces, weights = torch.zeros(478, dtype=torch.int64), torch.tensor([1.0, 0.0, 0.0]).repeat(478, 1)
        valid = torch.zeros(478, dtype=torch.bool)
        faces[index] = _indices(table["lmk_face_idx"])
        weights[index], valid[index] = _tensor(np.asarray(table["lmk_b_coords"])), True
        result[478] = LandmarkEmbedding(faces, weights, valid)
    return result


def _regions(path: Path) -> dict[str, Tensor]:
    """Masks of `FLAME_masks.pkl` under our names; the eyeballs are known without it."""

    def mask(index: Any) -> Tensor:
        result = torch.zeros(NUM_VERTICES, dtype=torch.bool)
        result[_indices(index)] = True
        return result

    regions = {"left_eyeball": mask(range(*_LEFT_EYEBALL)), "right_eyeball": mask(range(*_RIGHT_EYEBALL))}
    file = _beside(path, "FLAME_masks.pkl")
    if file is not None:
        masks = read_numbers(file)
        for name, sources in _REGION_SOURCES.items():
            found = [masks[source] for source in sources if source in masks]
            if found:
                regions[name] = mask(np.concatenate(found))
    regions["skin"] = ~(regions["left_eyeball"] | regions["right_eyeball"])
    return regions


def _beside(path: Path, name: str) -> Path | None:
    """A companion file in the model's folder, or in a folder `mask` or `geometry` next to it."""
    folder = path.parent
    candidates = [folder / name, *(folder.parent / other / name for other in ("mask", "masks", "geometry"))]
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array.astype(np.float32, order="C"))


def _indices(values: Any) -> Tensor:
    return torch.from_numpy(np.asarray(values).astype(np.int64).reshape(-1))
