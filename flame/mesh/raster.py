"""Mesh rasteriser: which triangle covers each pixel centre, where, and how deep.

The torch version defines the operation; `numba` gives the same pixels on the CPU, some fifty times faster. A pixel
centre on an edge belongs to exactly one of the two triangles that share the edge (top-left rule), so closed
surfaces have neither holes nor double hits. Triangles that reach the camera plane are dropped, not clipped.
"""

from importlib.util import find_spec
from typing import Literal

import torch
from torch import Tensor

from flame.errors import InputError
from flame.mesh.fragments import NEAR, Fragments

Backend = Literal["auto", "torch", "numba", "pytorch3d"]

_MAX_CANDIDATES = 2_000_000
"""(triangle, pixel) pairs that the torch backend looks at in one go; bounds its memory."""


def rasterize(
    points: Tensor,
    faces: Tensor,
    *,
    height: int,
    width: int,
    cull_backfaces: bool = False,
    backend: Backend = "auto",
) -> Fragments:
    """Rasterises projected triangles with a z-buffer. Not differentiable; see `differentiable_barycentric`.

    Args:
        points: `[V, 3]` or `[B, V, 3]` = (x, y in pixels from the image's top-left corner, depth > 0).
        faces: `[F, 3]` int64. With y down, a triangle seen from its front runs counter-clockwise in the picture.
        height: of the picture, px.
        width: of the picture, px.
        cull_backfaces: drop triangles seen from behind.
        backend: "auto" takes numba on the CPU if installed, else torch; pytorch3d is taken by name only.

    Raises:
        InputError: the backend was asked for by name and is not installed or does not fit the device.
    """
    _check_shapes(points, faces)
    run = _backend_function(backend, points.device)
    points = points.detach()
    if points.ndim == 2:
        return run(points, faces, height, width, cull_backfaces)
    items = [run(item, faces, height, width, cull_backfaces) for item in points]
    return Fragments(
        torch.stack([item.face_id for item in items]),
        torch.stack([item.barycentric for item in items]),
        torch.stack([item.depth for item in items]),
    )


def cover(
    points: Tensor,
    faces: Tensor,
    *,
    height: int,
    width: int,
    cull_backfaces: bool = False,
    backend: Backend = "auto",
) -> Tensor:
    """Whether pixels see a triangle, bool `[H, W]` or `[B, H, W]`: where `rasterize` hits something.

    Arguments and errors are those of `rasterize`. Numba does not look which triangle is nearest, so it is faster.
    """
    _check_shapes(points, faces)
    if _choose_backend(backend, points.device) != "numba":
        fragments = rasterize(points, faces, height=height, width=width, cull_backfaces=cull_backfaces, backend=backend)
        return fragments.face_id >= 0
    from flame.mesh.raster_numba import cover_numba

    points = points.detach()
    if points.ndim == 2:
        return cover_numba(points, faces, height, width, cull_backfaces)
    return torch.stack([cover_numba(item, faces, height, width, cull_backfaces) for item in points])


def interpolate(fragments: Fragments, faces: Tensor, attributes: Tensor) -> Tensor:
    """Per-vertex attributes seen by each pixel; differentiable in the attributes.

    Args:
        fragments: of one image, or of a batch.
        faces: `[F, 3]`.
        attributes: `[V, C]`, or `[B, V, C]` for a batch.

    Returns:
        `[H, W, C]` or `[B, H, W, C]`, zero where nothing was hit.
    """
    is_hit = fragments.face_id >= 0
    result = attributes.new_zeros(*fragments.face_id.shape, attributes.shape[-1])
    corners = faces[fragments.face_id[is_hit]]  # [N, 3]
    values = attributes[corners] if attributes.ndim == 2 else attributes[is_hit.nonzero()[:, 0, None], corners]
    weights = fragments.barycentric[is_hit].to(values)
    result[is_hit] = (values * weights[..., None]).sum(1)
    return result


def differentiable_barycentric(points: Tensor, faces: Tensor, face_id: Tensor) -> Tensor:
    """Perspective-correct barycentrics as a function of the points, for a fixed visibility.

    Args:
        points: `[V, 3]` as in `rasterize`.
        faces: `[F, 3]`.
        face_id: `[H, W]`.

    Returns:
        `[H, W, 3]`, zero where nothing was hit; differentiable in the points.
    """
    is_hit = face_id >= 0
    rows, columns = is_hit.nonzero(as_tuple=True)
    corners = points[faces[face_id[is_hit]]]  # [N, 3 corners, 3]
    x, y = columns.to(points) + 0.5, rows.to(points) + 0.5
    offset = corners[..., :2] - torch.stack([x, y], -1)[:, None]
    following, last = offset.roll(-1, 1), offset.roll(-2, 1)
    areas = following[..., 0] * last[..., 1] - following[..., 1] * last[..., 0]  # of the edge opposite each corner
    weights = areas / corners[..., 2]
    result = points.new_zeros(*face_id.shape, 3)
    result[is_hit] = weights / weights.sum(-1, keepdim=True)
    return result


def _check_shapes(points: Tensor, faces: Tensor) -> None:
    if points.shape[-1] != 3 or points.ndim not in (2, 3):
        raise ValueError(f"points must be [V, 3] or [B, V, 3] (x, y, depth), got {tuple(points.shape)}")
    if faces.ndim != 2 or faces.shape[1] != 3:
        raise ValueError(f"faces must be [F, 3], got {tuple(faces.shape)}")


def _choose_backend(backend: Backend, device: torch.device) -> Backend:
    """The backend itself, or what "auto" stands for; refuses what is not there."""
    if backend == "auto":
        return _best_backend(device)
    if backend not in ("torch", "numba", "pytorch3d"):
        raise InputError(f"expected rasteriser auto, torch, numba or pytorch3d, got {backend!r}")
    if backend != "torch" and find_spec(backend) is None:
        raise InputError(f"rasteriser {backend} was asked for and is not installed: install it or use backend='auto'")
    if backend == "numba" and device.type != "cpu":
        raise InputError(f"rasteriser numba works on cpu, the points are on {device}: use backend='auto'")
    return backend


def _backend_function(backend: Backend, device: torch.device):
    backend = _choose_backend(backend, device)
    if backend == "torch":
        return _rasterize_torch
    if backend == "numba":
        from flame.mesh.raster_numba import rasterize_numba

        return rasterize_numba
    from flame.mesh.raster_pytorch3d import rasterize_pytorch3d

    return rasterize_pytorch3d


def _best_backend(device: torch.device) -> Backend:
    # pytorch3d is not compared with the torch version on a GPU yet: by name only.
    return "numba" if device.type == "cpu" and find_spec("numba") else "torch"


def _rasterize_torch(points: Tensor, faces: Tensor, height: int, width: int, cull_backfaces: bool) -> Fragments:
    """Definition: float64 edge functions, nearest float32 depth wins, then the lowest face index."""
    face_ids, corners = _front_triangles(points, faces, cull_backfaces)
    low, high = _pixel_boxes(corners, height, width)
    counts = (high - low).clamp(min=0).prod(1)
    # depth bits in the high word order like the depths, since depths are positive
    nothing = torch.iinfo(torch.int64).max
    buffer = torch.full((height * width,), nothing, dtype=torch.int64, device=points.device)
    for chunk in _chunks(counts):
        triangle, row, column = _candidates(low[chunk], high[chunk], counts[chunk])
        edges = _edge_functions(corners[chunk][triangle], column + 0.5, row + 0.5)
        inside = (edges >= 0).all(1)
        triangle, row, column = triangle[inside], row[inside], column[inside]
        depth = _depth(edges[inside], corners[chunk][triangle])
        key = (depth.view(torch.int32).to(torch.int64) << 32) | face_ids[chunk][triangle]
        buffer.scatter_reduce_(0, row * width + column, key, "amin")
    is_hit = buffer != nothing
    face_id = torch.where(is_hit, buffer & 0xFFFFFFFF, -1).reshape(height, width)
    bits = (buffer >> 32).to(torch.int32).view(torch.float32)
    depth = torch.where(is_hit, bits, torch.inf).reshape(height, width).to(points.dtype)
    barycentric = differentiable_barycentric(points.double(), faces, face_id).to(points.dtype)
    return Fragments(face_id, barycentric, depth)


def _front_triangles(points: Tensor, faces: Tensor, cull_backfaces: bool) -> tuple[Tensor, Tensor]:
    """Indices `[M]` and float64 corners `[M, 3, 3]` of the drawable triangles, all wound to a positive area."""
    corners = points.double()[faces]
    first, second = corners[:, 1, :2] - corners[:, 0, :2], corners[:, 2, :2] - corners[:, 0, :2]
    area = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]
    keep = (corners[..., 2] > NEAR).all(1) & corners.isfinite().all(2).all(1) & (area != 0)
    if cull_backfaces:
        keep &= area < 0  # y points down, so counter-clockwise to the eye is a negative area
    flipped = torch.where((area < 0)[:, None, None], corners[:, [0, 2, 1]], corners)
    return keep.nonzero()[:, 0], flipped[keep]


def _pixel_boxes(corners: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Half-open (row, column) ranges `[M, 2]` of the pixel centres inside each triangle's bounding box."""
    limit = torch.tensor([height, width], device=corners.device, dtype=torch.float64)
    rows_columns = corners[..., [1, 0]]
    zero = torch.zeros_like(limit)
    low = torch.minimum(torch.maximum((rows_columns.amin(1) - 0.5).ceil(), zero), limit)
    high = torch.minimum(torch.maximum((rows_columns.amax(1) - 0.5).floor() + 1, zero), limit)
    return low.long(), high.long()


def _chunks(counts: Tensor) -> list[Tensor]:
    """Splits the triangles so that each part has a bounded number of candidate pixels."""
    used = counts.nonzero()[:, 0]
    if len(used) == 0:
        return []
    part = counts[used].cumsum(0) // _MAX_CANDIDATES
    sizes = torch.unique_consecutive(part, return_counts=True)[1]
    return list(used.split(sizes.tolist()))


def _candidates(low: Tensor, high: Tensor, counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """All (triangle, row, column) in the boxes."""
    triangle = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
    start = (counts.cumsum(0) - counts)[triangle]
    position = torch.arange(len(triangle), device=counts.device) - start
    box_width = (high - low)[triangle, 1]
    row = torch.div(position, box_width, rounding_mode="floor")
    return triangle, low[triangle, 0] + row, low[triangle, 1] + position - row * box_width


def _edge_functions(corners: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Signed doubled areas `[N, 3]` opposite each corner, -1 where a zero belongs to the neighbour.

    Each edge is evaluated from its smaller to its larger end and the sign put back, so two triangles that share it see
    exactly opposite numbers.
    """
    start, end = corners[:, [1, 2, 0], :2], corners[:, [2, 0, 1], :2]
    swap = (start[..., 0] > end[..., 0]) | ((start[..., 0] == end[..., 0]) & (start[..., 1] > end[..., 1]))
    lower = torch.where(swap[..., None], end, start)
    upper = torch.where(swap[..., None], start, end)
    step = upper - lower
    value = step[..., 0] * (y[:, None] - lower[..., 1]) - step[..., 1] * (x[:, None] - lower[..., 0])
    value = torch.where(swap, -value, value)
    # an edge owns its points if it runs in the upper half of directions: one of the two opposite directions does
    return torch.where((value == 0) & swap, -1.0, value)


def _depth(edges: Tensor, corners: Tensor) -> Tensor:
    """Perspective-correct depth `[N]` float32: 1 / depth is linear in the picture."""
    inverse = edges[:, 0] / corners[:, 0, 2] + edges[:, 1] / corners[:, 1, 2] + edges[:, 2] / corners[:, 2, 2]
    return ((edges[:, 0] + edges[:, 1] + edges[:, 2]) / inverse).float()
