"""Renders the open head as a face that a face tracker accepts: skin, lips, brows, dark hair, irises, soft light."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from flame.geometry.camera import Camera
from flame.heads.head_model import HeadParams
from flame.heads.open_head import OpenHead
from flame.mesh.raster import Fragments, interpolate, rasterize
from open_head.paint import paint_surface, smooth_normals

SIZE = 512
OVERSAMPLING = 2
_DISTANCE, _FOV_DEGREES = 1.6, 13.0
_BACKGROUND = (0.45, 0.48, 0.52)


@dataclass(frozen=True)
class Portrait:
    """A picture of the head and what each of its pixels shows.

    Attributes:
        image: uint8 `[SIZE, SIZE, 3]`.
        fragments: at `OVERSAMPLING` times the size, without lashes.
        faces: `[F']` the drawn triangles as rows of `model.faces`.
        vertices: `[V, 3]` posed.
        camera: of the picture.
    """

    image: np.ndarray
    fragments: Fragments
    faces: Tensor
    vertices: Tensor
    camera: Camera


def render_portrait(model: OpenHead, params: HeadParams, *, yaw_degrees: float, pitch_degrees: float) -> Portrait:
    """Renders one picture."""
    vertices = model(params)[0]
    target = vertices[model.regions["face"]].mean(0) - torch.tensor([0.0, 0.0, 0.06])
    yaw, pitch = torch.tensor([yaw_degrees]), torch.tensor([pitch_degrees])
    camera = Camera.orbit(yaw, pitch, radius=_DISTANCE, target=target, fov_degrees=_FOV_DEGREES)
    size = SIZE * OVERSAMPLING
    pixels, depth = camera.project(vertices[None], height=size, width=size)
    points = torch.cat([pixels[0], depth[0, :, None]], 1)
    drawn = model.faces_of(*(part for part in model.part_names if not part.startswith("lashes")))
    faces = model.faces[drawn]
    fragments = rasterize(points, faces, height=size, width=size)
    albedo = paint_surface(model, fragments, faces, model.face_parts[drawn])
    light = _shade(vertices, model, fragments, faces, camera)
    image = albedo * light[..., None]
    image[fragments.face_id < 0] = torch.tensor(_BACKGROUND)
    small = torch.nn.functional.avg_pool2d(image.permute(2, 0, 1)[None], OVERSAMPLING)[0].permute(1, 2, 0)
    return Portrait((small.clamp(0, 1) * 255).round().byte().numpy(), fragments, drawn, vertices, camera)


def _shade(vertices: Tensor, model: OpenHead, fragments: Fragments, faces: Tensor, camera: Camera) -> Tensor:
    """Returns soft frontal light from above, `[H, W]`."""
    smooth = smooth_normals(vertices, model.faces) @ camera.world2cam[0, :3, :3].T
    seen = torch.nn.functional.normalize(interpolate(fragments, faces, smooth), dim=-1)
    direction = torch.nn.functional.normalize(torch.tensor([0.15, 0.5, 1.0]), dim=0)
    return 0.45 + 0.6 * (seen @ direction).clamp(min=0)
