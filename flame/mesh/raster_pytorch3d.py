"""The adapter of pytorch3d to the call of `raster.py`. Its pixels may differ along edges.

It works in normalised device coordinates of its own; the map is written out here and nowhere else.
"""

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


def _in_front(points: Tensor, faces: Tensor) -> tuple[Tensor, Tensor]:
    """Indices and corners of the triangles wholly in front of the camera plane."""
    kept = ((points[:, 2] > NEAR) & points.isfinite().all(1))[faces].all(1).nonzero()[:, 0]
    return kept, faces[kept]


def _nothing(points: Tensor, height: int, width: int) -> Fragments:
    """No triangle in front of the camera: pytorch3d takes no empty mesh."""
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
