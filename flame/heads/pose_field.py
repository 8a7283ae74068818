"""The field that removes a head's pose: it maps points around a posed head to where they are with the neck at rest.

Portrait4D's surface field for the neck (Deng et al. 2024, section 3.2), as the released networks were trained with it:
each node of two grids follows its nearest triangle of a simplified mesh; near the surface the fine grid is read, away
from it the coarse, smoothed one. A field is built once per head and read at any number of points. Not differentiable in
the head's parameters.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from flame.errors import InputError
from flame.heads.flame_companions import NUM_VERTICES
from flame.heads.head_model import HeadModel, HeadParams
from flame.mesh.nearest_triangle import nearest_triangle
from flame.pickles.numbers import read_numbers

GridBackend = Literal["auto", "gather", "grid_sample"]

FINE, COARSE = 24, 8
"""Nodes along a side of the two grids."""

SURFACE_BAND = 3e-3
"""Squared distance from the surface, in squared Portrait4D units, up to which only the fine grid is read."""

_TENSORS_PREFIX = "deformer.flame_deform.simplify_"
_DECAY = 1000.0
_TINY = 1e-12


@dataclass(frozen=True)
class CoarseMesh:
    """A simplified mesh of C vertices, each a combination of three vertices of a head model.

    Attributes:
        vertices: `[C, 3]` int64, vertices of the head model.
        weights: `[C, 3]`, rows sum to one.
        faces: `[F, 3]` int64, triangles of this mesh.
    """

    vertices: Tensor
    weights: Tensor
    faces: Tensor

    @classmethod
    def read(cls, path: Path | str) -> "CoarseMesh":
        """Reads the released `simplify_baricentric2.npy`.

        Raises:
            InputError: the file holds no simplified mesh of FLAME.
        """
        path = Path(path)
        content = read_numbers(path)
        if not isinstance(content, dict) or not {"idxs", "baris", "faces"} <= set(content):
            raise InputError(f"{path.name}: expected tables idxs, baris and faces, as in simplify_baricentric2.npy")
        try:
            tables = [_integers(content["idxs"]), torch.tensor(content["baris"]).float(), _integers(content["faces"])]
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(
                f"{path.name}: expected numbers under idxs, baris and faces ({error}): get the file again"
            ) from error
        if problem := _find_problem(*tables):
            raise InputError(f"{path.name} is no simplified mesh of FLAME, {problem}: get the file again")
        return cls(*tables)

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "CoarseMesh":
        """Reads the mesh from a released Portrait4D or GenHead network.

        Args:
            tensors: the network's tensors under their official names.

        Raises:
            InputError: a table is missing or has another size, or an index is out of range.
        """
        found = [tensors.get(_TENSORS_PREFIX + name) for name in ("idxs", "baris", "faces")]
        vertices, weights, faces = (table.detach() if table is not None else torch.empty(0) for table in found)
        vertices, weights, faces = vertices.long(), weights.float(), faces.long()
        if problem := _find_problem(vertices, weights, faces):
            raise InputError(
                f"the checkpoint holds no simplified mesh of FLAME under {_TENSORS_PREFIX}idxs, baris and faces, "
                f"{problem}: use a released Portrait4D or GenHead checkpoint"
            )
        return cls(vertices, weights, faces)

    def apply(self, vertices: Tensor) -> Tensor:
        """Returns the vertices `[B, C, 3]` of this mesh for those `[B, V, 3]` of the head model."""
        corners = (vertices.index_select(1, corner) for corner in self.vertices.unbind(1))  # faster than all at once
        first, second, third = (
            corner * weight[:, None] for corner, weight in zip(corners, self.weights.unbind(1), strict=True)
        )
        return first + second + third

    def to(self, device: torch.device | str) -> "CoarseMesh":
        """Moves the mesh to another device."""
        return CoarseMesh(self.vertices.to(device), self.weights.to(device), self.faces.to(device))


@dataclass(frozen=True)
class HeadPoseField:
    """The offsets from a posed head to the head at rest, on two grids of nodes in the same cube.

    Attributes:
        fine: `[B, 24^3, 4]` offset and squared distance to the surface at each node; nodes as in `grid_nodes`.
        coarse: `[B, 8^3, 3]` smoothed offset.
        box_warp: side of the cube that both grids fill, in world units.
    """

    fine: Tensor
    coarse: Tensor
    box_warp: float

    @classmethod
    @torch.no_grad()
    def build(
        cls, model: HeadModel, params: HeadParams, mesh: CoarseMesh, *, box_warp: float, smoothings: int = 2
    ) -> "HeadPoseField":
        """Builds the field of a posed head.

        Args:
            model: the head model, in the unit of the field.
            params: the head's parameters; the field removes the rotation of the neck.
            mesh: the simplified mesh of the head model.
            box_warp: side of the cube that the field covers, in world units.
            smoothings: how many times the coarse grid is box-filtered.
        """
        rested = params.replace(neck=torch.zeros_like(params.neck))
        return cls.between(model(params), model(rested), mesh, box_warp=box_warp, smoothings=smoothings)

    @classmethod
    @torch.no_grad()
    def between(
        cls, posed: Tensor, rested: Tensor, mesh: CoarseMesh, *, box_warp: float, smoothings: int = 2
    ) -> "HeadPoseField":
        """Builds the field that maps posed vertices `[B, V, 3]` of a head model to those at rest, `[B, V, 3]`."""
        posed, rested = mesh.apply(posed), mesh.apply(rested)
        fine, coarse = (
            surface_offsets(
                grid_nodes(count, box_warp=box_warp, like=posed).expand(len(posed), -1, 3), posed, rested, mesh.faces
            )
            for count in (FINE, COARSE)
        )
        return cls(fine, _smooth(coarse[..., :3], smoothings), box_warp)

    def __call__(self, points: Tensor, *, band: float = SURFACE_BAND) -> Tensor:
        """Maps posed world points `[B, N, 3]` to the head at rest; points outside the grids keep their place.

        Args:
            points: `[B, N, 3]` world units.
            band: squared distance from the surface up to which only the fine grid is read.
        """
        near = read_grid(self.fine, points, FINE, box_warp=self.box_warp)
        far = read_grid(self.coarse, points, COARSE, box_warp=self.box_warp)
        share = torch.exp(-_DECAY * F.relu(near[..., 3:] - band))
        return points + share * near[..., :3] + (1 - share) * far

    def __len__(self) -> int:
        return len(self.fine)

    def __getitem__(self, index: slice) -> "HeadPoseField":
        return HeadPoseField(self.fine[index], self.coarse[index], self.box_warp)

    @classmethod
    def concatenate(cls, fields: "Sequence[HeadPoseField]") -> "HeadPoseField":
        """One batch after another, in cubes of one size."""
        if len({field.box_warp for field in fields}) != 1:
            raise ValueError("expected fields in cubes of one size")
        fine, coarse = (torch.cat([getattr(field, name) for field in fields]) for name in ("fine", "coarse"))
        return cls(fine, coarse, fields[0].box_warp)


def grid_nodes(count: int, *, box_warp: float, like: Tensor) -> Tensor:
    """Returns the centres `[count^3, 3]` of the cube's cells, x outermost, z innermost, in the unit of `box_warp`.

    The order of operations is that of the released networks: the last bit decides between equally near triangles.
    """
    line = (torch.arange(count, dtype=like.dtype, device=like.device) * (1 / count) + 0.5 / count - 0.5) * box_warp
    return torch.cartesian_prod(line, line, line)


def plane_coordinates(points: Tensor, triangles: Tensor) -> Tensor:
    """Projects points `[N, 3]` on the planes of triangles `[N, 3, 3]`; returns barycentric coordinates `[N, 3]`.

    They may lie outside the triangle. Those of degenerate triangles are finite, but meaningless.
    """
    a, b, c = triangles.unbind(-2)
    first, second, offset = b - a, c - a, points - a
    aa, ab, bb = first.square().sum(-1), (first * second).sum(-1), second.square().sum(-1)
    ap, bp = (offset * first).sum(-1), (offset * second).sum(-1)
    scale = (aa * bb - ab * ab).clamp(min=_TINY)
    v, w = (bb * ap - ab * bp) / scale, (aa * bp - ab * ap) / scale
    return torch.stack([1 - v - w, v, w], -1)


def unit_normals(triangles: Tensor) -> Tensor:
    """Returns unit normals `[..., 3]` of triangles `[..., 3, 3]`; counter-clockwise triangles face the viewer."""
    a, b, c = triangles.unbind(-2)
    return F.normalize(torch.linalg.cross(b - a, c - a), dim=-1)


def surface_offsets(points: Tensor, posed: Tensor, rested: Tensor, faces: Tensor) -> Tensor:
    """Returns how points move with their nearest triangle of a posed mesh.

    Args:
        points: `[B, N, 3]`.
        posed: `[B, V, 3]` vertices of the posed mesh.
        rested: `[B, V, 3]` the same vertices at rest.
        faces: `[F, 3]` triangles of the mesh.

    Returns:
        `[B, N, 4]`: offset, and squared distance to the posed mesh.
    """
    rows = []
    for places, before, after in zip(points, posed[:, faces], rested[:, faces], strict=True):
        distance, face = nearest_triangle(places, before)
        before, after = before[face], after[face]
        weights = plane_coordinates(places, before)[..., None]
        height = ((places - (weights * before).sum(1)) * unit_normals(before)).sum(-1, keepdim=True)
        moved = (weights * after).sum(1) + height * unit_normals(after)
        rows.append(torch.cat([moved - places, distance[:, None]], 1))
    return torch.stack(rows)


def _smooth(values: Tensor, times: int) -> Tensor:
    """Averages `[B, 8^3, C]` over 3 x 3 x 3 nodes `times` times, with borders repeated."""
    grid = values.transpose(1, 2).unflatten(2, (COARSE, COARSE, COARSE))
    for _ in range(times):
        grid = F.avg_pool3d(F.pad(grid, (1,) * 6, mode="replicate"), 3, stride=1)
    return grid.flatten(2).transpose(1, 2)


def read_grid(values: Tensor, points: Tensor, count: int, *, box_warp: float, backend: GridBackend = "auto") -> Tensor:
    """Interpolates a grid trilinearly at points; values are zero outside the nodes.

    Args:
        values: `[B, count^3, C]` of the nodes, x outermost.
        points: `[B, N, 3]`.
        count: nodes along a side.
        box_warp: side of the cube that the nodes cover, in the unit of the points.
        backend: "gather" is the definition, runs on every device and can be exported; "grid_sample" is torch's own,
            which some devices lack in three dimensions, and takes a sixth of the time on a CPU; "auto" chooses
            "grid_sample" on CPU and CUDA, else "gather".

    Returns:
        `[B, N, C]`.
    """
    if backend not in ("auto", "gather", "grid_sample"):
        raise ValueError(f"backend must be 'auto', 'gather' or 'grid_sample', got {backend!r}")
    if backend == "auto":
        backend = "grid_sample" if points.device.type in ("cpu", "cuda") else "gather"
    if backend == "gather":
        return _gather_grid(values, points, count, box_warp)
    volume = values.transpose(1, 2).unflatten(2, (count, count, count))
    place = (points * (2 * count / (box_warp * (count - 1)))).flip(-1)  # the sampler takes the last axis first
    return F.grid_sample(volume, place[:, :, None, None], align_corners=True)[..., 0, 0].transpose(1, 2)


def _gather_grid(values: Tensor, points: Tensor, count: int, box_warp: float) -> Tensor:
    place = (points / box_warp + 0.5) * count - 0.5
    low = place.floor()
    high_share = place - low
    index = low.long()
    total = torch.zeros((*points.shape[:2], values.shape[2]), dtype=values.dtype, device=values.device)
    for corner in range(8):
        step = torch.tensor([corner >> 2 & 1, corner >> 1 & 1, corner & 1], device=points.device)
        node = index + step
        share = torch.where(step == 1, high_share, 1 - high_share)
        inside = ((node >= 0) & (node < count)).all(-1)
        weight = reduce(torch.mul, share.unbind(-1)) * inside
        node = node.clamp(0, count - 1)
        flat = (node[..., 0] * count + node[..., 1]) * count + node[..., 2]
        rows = torch.stack([table[which] for table, which in zip(values, flat, strict=True)])
        total = total + weight[..., None] * rows
    return total


def _find_problem(vertices: Tensor, weights: Tensor, faces: Tensor) -> str:
    """Returns why three tables are not a `CoarseMesh` of FLAME; empty if they are one."""
    tables = (vertices, weights, faces)
    is_fitting = all(table.ndim == 2 and table.shape[1] == 3 and len(table) for table in tables)
    if not is_fitting or vertices.shape != weights.shape:
        got = ", ".join(str(tuple(table.shape)) if table.numel() else "none" for table in tables)
        return f"expected idxs and baris of shape (730, 3) and faces of shape (1394, 3), got {got}"
    for name, table, count in (("idxs", vertices, NUM_VERTICES), ("faces", faces, len(vertices))):
        low, high = int(table.min()), int(table.max())
        if low < 0 or high >= count:
            return f"expected {name} from 0 to {count - 1}, got {low} to {high}"
    return ""


def _integers(values: Any) -> Tensor:
    return torch.from_numpy(np.array(values, dtype=np.int64))
