"""Adapters of pytorch3d and nvdiffrast to the call of `raster.py`. Their pixels may differ along edges.

Both work in normalised device coordinates of their own; the maps are written out here and nowhere else.
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor

from flame.mesh.fragments import NEAR, Fragments


def rasterize_pytorch3d(points: Tensor, faces: Tensor, height: int, width: int, cull_backfaces: bool) -> Fragments:
    """One image. pytorch3d: x left, y up, the shorter side spans [-1, 1]."""
    from pytorch3d.renderer.mesh.rasterize_meshes import (  # pyright: ignore[reportMissingImports]
        rasterize_meshes,
    )
    from pytorch3d.structures import Meshes  # pyright: ignore[reportMissingImports]

    kept, triangles = _in_front(points, faces)
    if len(kept) == 0:
        return _nothing(points, height, width)
    half = min(height, width) / 2
    x, y = (width / 2 - points[:, 0]) / half, (height / 2 - points[:, 1]) / half
    meshes = Meshes([torch.stack([x, y, points[:, 2]], -1).float()], [triangles])
    face_id, depth, barycentric, _ = rasterize_meshes(
        meshes,
        image_size=(height, width),
        blur_radius=0.0,
        faces_per_pixel=1,
        perspective_correct=True,
        cull_backfaces=cull_backfaces,
    )
    return _fragments(points, kept, face_id[0, ..., 0], barycentric[0, ..., 0, :], depth[0, ..., 0])


def rasterize_nvdiffrast(points: Tensor, faces: Tensor, height: int, width: int, cull_backfaces: bool) -> Fragments:
    """One image. nvdiffrast: clip coordinates, row 0 at y = -1, so y down needs no flip."""
    import nvdiffrast.torch as dr  # pyright: ignore[reportMissingImports]

    kept, triangles = _in_front(points, faces)
    if len(kept) == 0:
        return _nothing(points, height, width)
    depth = points[:, 2]
    near, far = 0.5 * depth[triangles].min(), 2 * depth[triangles].max()
    x, y = points[:, 0] * (2 / width) - 1, points[:, 1] * (2 / height) - 1
    z = (far + near) / (far - near) - 2 * far * near / (far - near) / depth
    clip = torch.stack([x * depth, y * depth, z * depth, depth], -1).float()
    found, _ = dr.rasterize(_nvdiffrast_context(points.device), clip[None], triangles.int(), (height, width))
    face_id = found[0, ..., 3].long() - 1
    first, second = found[0, ..., 0], found[0, ..., 1]
    barycentric = torch.stack([first, second, 1 - first - second], -1)
    corners = triangles[face_id.clamp(min=0)]
    pixel_depth = (barycentric * depth[corners]).sum(-1)
    if cull_backfaces:
        a, b, c = (points[corners[..., index], :2] for index in range(3))
        area = (b - a)[..., 0] * (c - a)[..., 1] - (b - a)[..., 1] * (c - a)[..., 0]
        face_id = torch.where(area < 0, face_id, -1)  # only right for closed surfaces: nothing lies behind a back face
    return _fragments(points, kept, face_id, barycentric, pixel_depth)


@cache
def _nvdiffrast_context(device: torch.device) -> Any:
    """One per device: making it costs much more than drawing an image."""
    import nvdiffrast.torch as dr  # pyright: ignore[reportMissingImports]

    return dr.RasterizeCudaContext(device)


def _in_front(points: Tensor, faces: Tensor) -> tuple[Tensor, Tensor]:
    """Indices and corners of the triangles wholly in front of the camera plane."""
    kept = ((points[:, 2] > NEAR) & points.isfinite().all(1))[faces].all(1).nonzero()[:, 0]
    return kept, faces[kept]


def _nothing(points: Tensor, height: int, width: int) -> Fragments:
    """No triangle in front of the camera: neither library takes an empty mesh."""
    return Fragments(
        torch.full((height, width), -1, dtype=torch.int64, device=points.device),
        points.new_zeros(height, width, 3),
        points.new_full((height, width), torch.inf),
    )


def _fragments(points: Tensor, kept: Tensor, face_id: Tensor, barycentric: Tensor, depth: Tensor) -> Fragments:
    """Back to indices into all faces, with the empty values of `Fragments`."""
    is_hit = face_id >= 0
    face_id = torch.where(is_hit, kept[face_id.clamp(min=0)], -1)
    barycentric = torch.where(is_hit[..., None], barycentric, 0).to(points.dtype)
    return Fragments(face_id, barycentric, torch.where(is_hit, depth, torch.inf).to(points.dtype))
