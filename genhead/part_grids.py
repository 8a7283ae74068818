"""The deformation read off grids: made once for a head, then three reads of a volume for each point.

For training on a CPU, where every sample of every picture looking for its nearest vertices would take longer than the
networks. What differs from `parts.py`: offsets are linear between nodes. The face's nodes beside the skin are exact,
those farther away come from a coarser grid; eyes and mouth have grids around themselves, since nothing of them counts
elsewhere but along the rays through the mouth, where the border's offsets go on.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from genhead.config import Deformation
from genhead.parts import OffsetField, PartFields, VertexField, exact_parts
from portrait4d.headparts.head import PartHead, PosedHead
from portrait4d.ops.compiled import Backend, can_compile, takes_compiled

_NUM_EYE_NODES = (20, 8, 8)
_NUM_MOUTH_NODES = (20, 12, 12)
"""Nodes along x, y, z."""

_MOUTH_MARGIN = 0.04
"""World units that the mouth's grid reaches beyond the lips."""

_COARSENING = 4
"""The face's grid has this many times the nodes a side of the coarse one that fills it away from the skin."""


@dataclass(frozen=True)
class OffsetGrid:
    """Offsets at the nodes of boxes, trilinear between them; outside a box, those of the nearest place inside.

    Attributes:
        values: `[B, 3, X, Y, Z]` offsets, world units.
        low: `[B, 3]` the first node of each box.
        high: `[B, 3]` the last node.
    """

    values: Tensor
    low: Tensor
    high: Tensor

    @classmethod
    def of(cls, field: OffsetField, low: Tensor, high: Tensor, nodes: tuple[int, int, int]) -> "OffsetGrid":
        """A field read at nodes of boxes with corners `low` and `high`, `[B, 3]`."""
        places = _places(low, high, nodes)
        offsets = field(places) - places
        return cls(offsets.transpose(1, 2).unflatten(2, nodes), low, high)

    def __getitem__(self, index: slice) -> "OffsetGrid":
        return OffsetGrid(self.values[index], self.low[index], self.high[index])

    def join(self, others: Sequence[OffsetField]) -> "OffsetGrid":
        """The batch of this field and of others of its kind."""
        grids = [self, *(other for other in others if isinstance(other, OffsetGrid))]
        if len(grids) != 1 + len(others) or len({grid.values.shape[1:] for grid in grids}) > 1:
            raise ValueError("expected grids of the same nodes only, got other forms of deformation among them")
        return OffsetGrid(*(torch.cat([getattr(grid, name) for grid in grids]) for name in ("values", "low", "high")))

    @torch.no_grad()
    def __call__(self, points: Tensor) -> Tensor:  # noqa: D102
        return move_by_grid(points, self.values, self.low, self.high)


def move_by_grid(points: Tensor, values: Tensor, low: Tensor, high: Tensor, *, backend: Backend = "auto") -> Tensor:
    """Adds to points the offsets of a grid, trilinear between nodes; outside, those of the nearest place inside.

    Args:
        points: `[B, N, 3]`.
        values: `[B, 3, X, Y, Z]`, see `OffsetGrid`; read fastest with channels last.
        low: `[B, 3]`.
        high: `[B, 3]`.
        backend: "torch" defines it; "numba" needs float32 on a CPU and two nodes an axis, "auto" takes it there.
    """
    can_be = can_compile(points, values, low, high, with_gradients=True) and min(values.shape[2:]) > 1
    needs = "float32 on the CPU and two nodes an axis"
    if takes_compiled(backend, can_be=can_be, needs=needs, got=values):
        from genhead.grids_numba import move_numba

        return move_numba(points, values, low, high)
    place = (points - low[:, None]) * (2 / (high - low))[:, None] - 1
    place = place.flip(-1)[:, :, None, None]  # the last axis of a volume comes first
    offsets = F.grid_sample(values, place, padding_mode="border", align_corners=True)
    return points + offsets[..., 0, 0].transpose(1, 2)


def build_parts(
    head: PartHead, posed: PosedHead, *, box_warp: float, deformation: Deformation, grid_resolution: int
) -> PartFields:
    """The deformation of posed heads.

    Args:
        head: where the parts are.
        posed: the heads.
        box_warp: side of the volume's cube, world units.
        deformation: "exact", or "grid" for one read off grids.
        grid_resolution: nodes of the face's grid along a side of the cube.
    """
    exact = exact_parts(head, posed, box_warp=box_warp)
    if deformation == "exact":
        return exact
    if deformation == "grid":
        return grid_parts(head, posed, exact, box_warp=box_warp, resolution=grid_resolution)
    raise ValueError(f"deformation must be 'exact' or 'grid', got {deformation!r}")


@torch.no_grad()
def grid_parts(head: PartHead, posed: PosedHead, exact: PartFields, *, box_warp: float, resolution: int) -> PartFields:
    """The exact deformation, its three fields replaced by grids."""
    lips = posed.mouth[:, head.regions.lips]
    margin = _MOUTH_MARGIN
    assert isinstance(exact.face, VertexField)
    return replace(
        exact,
        eye=OffsetGrid.of(exact.eye, exact.box_low.amin(1), exact.box_high.amax(1), _NUM_EYE_NODES),
        face=_face_grid(exact.face, box_warp=box_warp, resolution=resolution),
        mouth=OffsetGrid.of(exact.mouth, lips.amin(1) - margin, lips.amax(1) + margin, _NUM_MOUTH_NODES),
    )


def _face_grid(field: VertexField, *, box_warp: float, resolution: int) -> OffsetGrid:
    """Offsets over the cube: a coarse grid enlarged, then the corners of the cells with skin in them set exactly."""
    batch = len(field.vertices)
    high = field.vertices.new_full((batch, 3), box_warp / 2)
    few = -(-resolution // _COARSENING)
    coarse = OffsetGrid.of(field, -high, high, (few, few, few))
    size = (resolution, resolution, resolution)
    values = _enlarge(coarse.values.permute(0, 2, 3, 4, 1), resolution)
    places = _places(-high[:1], high[:1], size)[0]
    skin = field.vertices[:, field.candidates]
    for index, rows in enumerate(_near_nodes(skin, box_warp=box_warp, resolution=resolution)):
        own = VertexField(field.vertices[index, None], field.offsets[index, None], field.candidates, field.rings)
        near = places[rows]
        values[index].flatten(0, 2)[rows] = own(near[None])[0] - near
    return OffsetGrid(values.permute(0, 4, 1, 2, 3), -high, high)


def _enlarge(values: Tensor, count: int) -> Tensor:
    """Trilinear values `[B, n, n, n, C]` at `count` nodes a side, by one matrix per axis (faster than torch's own)."""
    few = values.shape[1]
    place = torch.linspace(0, few - 1, count, dtype=values.dtype, device=values.device)
    nodes = torch.arange(few, dtype=values.dtype, device=values.device)
    shares = (1 - (place[:, None] - nodes).abs()).clamp(min=0)
    along_z = shares @ values  # [B, n, n, N, C]
    along_yz = shares @ along_z.flatten(3)  # [B, n, N, N * C]
    return (shares @ along_yz.flatten(2)).unflatten(2, (count, count, -1))  # [B, N, N, N, C]


def _near_nodes(skin: Tensor, *, box_warp: float, resolution: int) -> list[Tensor]:
    """Flat indices of the corners of the cells in which vertices `[B, N, 3]` lie, for each of the batch."""
    cell = ((skin / box_warp + 0.5) * (resolution - 1)).floor().long().clamp(0, resolution - 2)
    first = (cell[..., 0] * resolution + cell[..., 1]) * resolution + cell[..., 2]
    beyond = torch.tensor([0, 1], device=skin.device)
    corners = (beyond[:, None] * resolution + beyond).flatten()[:, None] * resolution + beyond
    near = torch.zeros(len(skin), resolution**3, dtype=torch.bool, device=skin.device)
    near.scatter_(1, (first[..., None] + corners.flatten()).flatten(1), True)
    return [row.nonzero()[:, 0] for row in near]


def _places(low: Tensor, high: Tensor, nodes: tuple[int, int, int]) -> Tensor:
    """World places of nodes `[B, X * Y * Z, 3]`, x outermost."""
    lines = [torch.linspace(0, 1, count, dtype=low.dtype, device=low.device) for count in nodes]
    return low[:, None] + torch.cartesian_prod(*lines) * (high - low)[:, None]
