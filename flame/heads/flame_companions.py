"""The files that accompany a FLAME file: landmark embeddings, region masks, a simplified mesh."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flame.heads.head_model import LandmarkEmbedding
from flame.landmarks.sets import IBUG_OF_478, NUM_CONTOUR, PUPILS_OF_478
from flame.pickles.numbers import read_numbers

NUM_VERTICES = 5023
_SIMPLIFIED_MESH = "simplify_baricentric2.npy"
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


def landmarks_beside(path: Path) -> dict[int, LandmarkEmbedding]:
    """Returns the embeddings found beside a FLAME file, by number of landmarks."""
    result = {}
    eyes = _beside(path, "landmark_embedding_with_eyes.npy")
    if eyes is not None:
        table = read_numbers(eyes)
        weights = to_tensor(np.asarray(table["full_lmk_bary_coords"]).reshape(-1, 3))
        result |= full_embeddings(to_indices(table["full_lmk_faces_idx"]), weights)
    mesh = _beside(path, "mediapipe_landmark_embedding.npz")
    if mesh is not None:
        table = read_numbers(mesh)
        index = to_indices(table["landmark_indices"])
        faces, weights = torch.zeros(478, dtype=torch.int64), torch.tensor([1.0, 0.0, 0.0]).repeat(478, 1)
        valid = torch.zeros(478, dtype=torch.bool)
        faces[index] = to_indices(table["lmk_face_idx"])
        weights[index], valid[index] = to_tensor(np.asarray(table["lmk_b_coords"])), True
        if 70 in result:  # that file has no irises
            pupils = list(PUPILS_OF_478)
            faces[pupils], weights[pupils] = result[70].faces[68:], result[70].barycentric[68:]
            valid[pupils] = True
        result[478] = LandmarkEmbedding(faces, weights, valid)
    return result


def regions_beside(path: Path | None) -> dict[str, Tensor]:
    """Returns the masks `[V]` of `FLAME_masks.pkl` under our names; the eyeballs are known without that file."""

    def mask(index: Any) -> Tensor:
        result = torch.zeros(NUM_VERTICES, dtype=torch.bool)
        result[to_indices(index)] = True
        return result

    regions = {"left_eyeball": mask(range(*_LEFT_EYEBALL)), "right_eyeball": mask(range(*_RIGHT_EYEBALL))}
    file = None if path is None else _beside(path, "FLAME_masks.pkl")
    if file is not None:
        masks = read_numbers(file)
        for name, sources in _REGION_SOURCES.items():
            found = [masks[source] for source in sources if source in masks]
            if found:
                regions[name] = mask(np.concatenate(found))
    regions["skin"] = ~(regions["left_eyeball"] | regions["right_eyeball"])
    return regions


def simplified_mesh_beside(path: Path) -> Path | None:
    """Returns `simplify_baricentric2.npy` beside a FLAME file, or in the folder above, where Portrait4D has it."""
    above = path.parent.parent / _SIMPLIFIED_MESH
    return _beside(path, _SIMPLIFIED_MESH) or (above if above.is_file() else None)


def full_embeddings(faces: Tensor, weights: Tensor) -> dict[int, LandmarkEmbedding]:
    """Returns the embeddings of the 68 landmarks and, where the pupils are given, of the 70 and the tracker's 478.

    Args:
        faces: `[68 or 70]` triangle indices.
        weights: `[68 or 70, 3]` barycentric coordinates.
    """
    found = {
        count: LandmarkEmbedding(faces[:count], weights[:count], torch.ones(count, dtype=torch.bool))
        for count in (68, 70)
        if len(faces) >= count
    }
    return found | {478: tracker_embedding(found[70])} if 70 in found else found


def tracker_embedding(seventy: LandmarkEmbedding) -> LandmarkEmbedding:
    """Returns the part of the 478 landmarks that follows from an embedding of 70: features and pupils, no contour."""
    known = torch.tensor((IBUG_OF_478 + PUPILS_OF_478)[NUM_CONTOUR:], device=seventy.faces.device)
    faces = seventy.faces.new_zeros(478)
    barycentric = seventy.barycentric.new_tensor([1.0, 0.0, 0.0]).repeat(478, 1)
    valid = seventy.valid.new_zeros(478)
    faces[known] = seventy.faces[NUM_CONTOUR:]
    barycentric[known] = seventy.barycentric[NUM_CONTOUR:]
    valid[known] = seventy.valid[NUM_CONTOUR:]
    return LandmarkEmbedding(faces, barycentric, valid)


def to_tensor(array: np.ndarray) -> Tensor:
    """Returns an array as a float32 tensor in row-major order."""
    return torch.from_numpy(array.astype(np.float32, order="C"))


def to_indices(values: Any) -> Tensor:
    """Returns integers of any shape as a flat int64 tensor."""
    return torch.from_numpy(np.asarray(values).astype(np.int64).reshape(-1))


def _beside(path: Path, name: str) -> Path | None:
    """Returns a companion file in the model's folder, or in a folder `mask`, `masks` or `geometry` next to it."""
    folder = path.parent
    candidates = [folder / name, *(folder.parent / other / name for other in ("mask", "masks", "geometry"))]
    return next((candidate for candidate in candidates if candidate.is_file()), None)
