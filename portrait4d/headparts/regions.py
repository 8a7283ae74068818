"""Regions of a head model that the part fields and masks of GenHead follow.

For FLAME they come from its companion files or out of a released network's buffers, for the open head from its own
parts. All indices are of the head model's vertices.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flame.errors import InputError
from flame.heads.flame import Flame
from flame.heads.open_head import OpenHead
from flame.heads.pose_field import CoarseMesh
from flame.pickles.numbers import read_numbers

NUM_NEIGHBOURS = 10
"""Entries of a ring: the vertex, its neighbours, filling."""

_PREFIX = "deformer.flame_deform."
_CLUSTER_METRES = 0.012
_FILES = ("FLAME_masks.pkl", "flame_addition_info_new_smallface.npy", "simplify_baricentric2.npy")


@dataclass(frozen=True)
class PartRegions:
    """Where the parts of a head are.

    Attributes:
        left_eye: `[E]` vertices of the subject's left eyeball.
        right_eye: `[E]` of the right one.
        skin: `[N]` vertices that the face field follows.
        lips: `[L]` vertices that the mouth field follows.
        rings: `[V, K]` each vertex and its neighbours, filled up with V.
        eye_faces: `[T, 3]` triangles of both eyeballs.
        face_faces: `[T, 3]` triangles of the face in front, without the eyeballs.
        closed_faces: `[T, 3]` triangles that hide the inside of the mouth where it is closed.
        mouth_faces: `[T, 3]` triangles inside the mouth; none for FLAME, whose open mouth is where the head is seen
            and no closed surface.
        pose_mesh: the simplified mesh that the head-pose field follows.
        outline: the mesh that covers the whole head in the picture.
    """

    left_eye: Tensor
    right_eye: Tensor
    skin: Tensor
    lips: Tensor
    rings: Tensor
    eye_faces: Tensor
    face_faces: Tensor
    closed_faces: Tensor
    mouth_faces: Tensor
    pose_mesh: CoarseMesh
    outline: CoarseMesh


def flame_regions(model: Flame, path: Path | str) -> PartRegions:
    """Regions of FLAME from the files that come with Portrait4D's.

    Args:
        model: FLAME.
        path: its file; `FLAME_masks.pkl`, `flame_addition_info_new_smallface.npy` and `simplify_baricentric2.npy` lie
            beside it, in the folder above, or in a folder `mask` or `geometry` there.

    Raises:
        InputError: a file is missing, or lacks a table.
    """
    folder = Path(path).parent
    places = [folder, folder.parent, *(folder.parent / name for name in ("mask", "masks", "geometry"))]
    paths = {name: next((at / name for at in places if (at / name).is_file()), None) for name in _FILES}
    missing = [name for name, found in paths.items() if found is None]
    if missing:
        raise InputError(f"expected {', '.join(missing)} in {folder}: put the files of Portrait4D's FLAME folder there")
    masks_path, addition_path, coarse_path = (found for found in paths.values() if found is not None)
    masks, addition = read_numbers(masks_path), read_numbers(addition_path)
    for source, table, names in (
        (masks_path, masks, ("face", "lips", "noinmouth")),
        (addition_path, addition, ("eye_idxs", "face_idxs", "vertices_region_idxs")),
    ):
        lacking = [name for name in names if name not in table]
        if lacking:
            raise InputError(f"{source.name} lacks {', '.join(lacking)}: take the file that comes with Portrait4D")
    return _flame(
        model.faces,
        eyes=_integers(addition["eye_idxs"]),
        skin=_integers(addition["face_idxs"]),
        lips=_integers(masks["lips"]),
        closed=_integers(masks["noinmouth"]),
        face=_integers(masks["face"]),
        rings=_integers(addition["vertices_region_idxs"]),
        mesh=CoarseMesh.read(coarse_path),
    )


def flame_regions_from_tensors(tensors: Mapping[str, Tensor]) -> PartRegions:
    """Regions out of a released GenHead or Portrait4D network, whose tensors are given under their official names.

    The vertices of the face are not among them, but their places in the canonical head are, in order.

    Raises:
        InputError: a table is missing, or they contradict each other.
    """

    def table(name: str) -> Tensor:
        if _PREFIX + name not in tensors:
            raise InputError(f"the checkpoint lacks {_PREFIX}{name}: use a released GenHead checkpoint")
        return tensors[_PREFIX + name].detach().cpu()

    canonical, eyes = table("canonical_shape")[0], table("eye_idxs").long()
    faces = table("flame_model.faces_tensor").long()
    face = _find_rows(canonical, table("canonical_shape_face_only")[0])
    face = face[~torch.isin(face, eyes)]
    counts = {
        "masked_face_wo_eye_faces": _faces_within(faces, face),
        "masked_noinmouth_faces": _faces_within(faces, table("noinmouth_idxs").long()),
        "masked_eye_faces": _faces_within(faces, eyes),
    }
    for name, found in counts.items():
        if len(table(name)) != len(found):
            raise InputError(
                f"the checkpoint's {_PREFIX}{name} has {len(table(name))} triangles, its vertices give {len(found)}: "
                "use a released GenHead checkpoint"
            )
    return _flame(
        faces,
        eyes=eyes,
        skin=table("face_idxs").long(),
        lips=table("lips_idxs").long(),
        closed=table("noinmouth_idxs").long(),
        face=face,
        rings=table("vertices_region_idxs").long(),
        mesh=CoarseMesh.from_tensors(tensors),
    )


def open_head_regions(model: OpenHead) -> PartRegions:
    """Regions of the open head, from its parts.

    The mouth's cavity, teeth and tongue are what is seen through an open mouth; the cavities behind the eyes count as
    closed. The pose mesh keeps one vertex of each cell of space.
    """
    regions, parts = model.regions, model.faces
    left, right, lips = (regions[name].nonzero()[:, 0] for name in ("left_eyeball", "right_eyeball", "lips"))
    skin_faces = parts[model.faces_of("skin")]
    eye_faces = parts[model.faces_of("eyeball_left", "eyeball_right")]
    closed = ("skin", "eyeball_left", "eyeball_right", "eye_cavity_left", "eye_cavity_right")
    surface = torch.cat([skin_faces, eye_faces])
    return PartRegions(
        left_eye=left,
        right_eye=right,
        skin=regions["skin"].nonzero()[:, 0],
        lips=lips,
        rings=rings_of(parts, model.num_vertices),
        eye_faces=eye_faces,
        face_faces=skin_faces[regions["face"][skin_faces].all(1)],
        closed_faces=parts[model.faces_of(*closed)],
        mouth_faces=parts[model.faces_of("mouth_cavity", "tongue", "teeth_upper", "teeth_lower")],
        pose_mesh=simplify(model.template, surface, cell=_CLUSTER_METRES),
        outline=whole_mesh(model.num_vertices, surface),
    )


def rings_of(faces: Tensor, num_vertices: int) -> Tensor:
    """Each vertex and its neighbours in ascending order, `[V, 10]`, filled with V; more neighbours are left out."""
    edges = torch.cat([faces[:, [a, b]] for a in range(3) for b in range(3) if a != b]).unique(dim=0)
    first = torch.searchsorted(edges[:, 0].contiguous(), torch.arange(num_vertices, device=faces.device))
    place = torch.arange(len(edges), device=faces.device) - first[edges[:, 0]]
    rings = torch.full((num_vertices, NUM_NEIGHBOURS), num_vertices, device=faces.device)
    rings[:, 0] = torch.arange(num_vertices, device=faces.device)
    kept = place < NUM_NEIGHBOURS - 1
    rings[edges[kept, 0], place[kept] + 1] = edges[kept, 1]
    return rings


def whole_mesh(num_vertices: int, faces: Tensor) -> CoarseMesh:
    """Triangles of a head model as a "simplified" mesh of all its vertices."""
    index = torch.arange(num_vertices, device=faces.device)
    weights = torch.tensor([1.0, 0.0, 0.0], device=faces.device).expand(num_vertices, 3)
    return CoarseMesh(index[:, None].expand(-1, 3).contiguous(), weights.contiguous(), faces)


def simplify(vertices: Tensor, faces: Tensor, *, cell: float) -> CoarseMesh:
    """A mesh of fewer vertices: of those in one cell of a grid, the one nearest to their mean stands for all.

    Args:
        vertices: `[V, 3]`.
        faces: `[T, 3]`.
        cell: side of a cell, in the unit of the vertices.
    """
    used = faces.unique()
    keys = (vertices[used] / cell).floor().long()
    _, group = torch.unique(keys, dim=0, return_inverse=True)
    num_groups = int(group.max()) + 1
    sums = torch.zeros(num_groups, 3, dtype=vertices.dtype, device=vertices.device).index_add(0, group, vertices[used])
    means = sums / torch.bincount(group, minlength=num_groups)[:, None]
    distance = (vertices[used] - means[group]).norm(dim=1)
    far_first = distance.argsort(descending=True, stable=True)
    nearest = dict(zip(group[far_first].tolist(), used[far_first].tolist(), strict=True))  # the last one stays
    kept = torch.tensor([nearest[index] for index in range(num_groups)], device=vertices.device)
    of_vertex = torch.full((len(vertices),), -1, device=vertices.device)
    of_vertex[used] = group
    small = of_vertex[faces]
    is_flat = (small[:, 0] == small[:, 1]) | (small[:, 1] == small[:, 2]) | (small[:, 0] == small[:, 2])
    small = small[~is_flat]
    turned = torch.stack([small.roll(-shift, 1) for shift in range(3)], 1)
    smallest_first = turned[torch.arange(len(small), device=small.device), small.argmin(1)]
    weights = torch.tensor([1.0, 0.0, 0.0], device=vertices.device).repeat(num_groups, 1)
    return CoarseMesh(kept[:, None].repeat(1, 3), weights, smallest_first.unique(dim=0))


def _flame(
    faces: Tensor,
    *,
    eyes: Tensor,
    skin: Tensor,
    lips: Tensor,
    closed: Tensor,
    face: Tensor,
    rings: Tensor,
    mesh: CoarseMesh,
) -> PartRegions:
    half = len(eyes) // 2
    return PartRegions(
        left_eye=eyes[:half],
        right_eye=eyes[half:],
        skin=skin,
        lips=lips,
        rings=rings,
        eye_faces=_faces_within(faces, eyes),
        face_faces=_faces_within(faces, face),
        closed_faces=_faces_within(faces, closed),
        mouth_faces=faces[:0],
        pose_mesh=mesh,
        outline=mesh,
    )


def _faces_within(faces: Tensor, vertices: Tensor) -> Tensor:
    """Triangles all of whose corners are among the vertices."""
    return faces[torch.isin(faces, vertices).all(1)]


def _find_rows(table: Tensor, rows: Tensor) -> Tensor:
    """Indices of rows in a table that holds them in the same order."""
    found, start = [], 0
    places: dict[tuple[float, ...], list[int]] = {}
    for index, row in enumerate(map(tuple, table.tolist())):
        places.setdefault(row, []).append(index)
    for row in map(tuple, rows.tolist()):
        later = [index for index in places.get(row, ()) if index >= start]
        if not later:
            raise InputError(
                "the checkpoint's face is no part of its canonical head, in order: use a released GenHead checkpoint"
            )
        found.append(later[0])
        start = later[0] + 1
    return torch.tensor(found, dtype=torch.int64)


def _integers(values: Any) -> Tensor:
    return torch.from_numpy(np.array(values, dtype=np.int64))
