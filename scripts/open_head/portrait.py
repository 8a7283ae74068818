"""Renders the open head as a face that a face tracker accepts: skin, lips, brows, dark hair, irises, soft light."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from flame.camera import Camera
from flame.head_model import HeadParams
from flame.open_head import OpenHead
from flame.raster import Fragments, interpolate, rasterize

SIZE = 512
OVERSAMPLING = 2
_DISTANCE, _FOV_DEGREES = 1.6, 13.0
IRIS_RADIUS = 0.00585
"""Metres; half the visible iris diameter of an adult."""
_PUPIL_RADIUS = 0.0020

_SKIN, _LIPS, _MOUTH = (0.83, 0.64, 0.54), (0.70, 0.38, 0.36), (0.35, 0.12, 0.12)
_SCLERA, _IRIS, _PUPIL = (0.93, 0.92, 0.91), (0.30, 0.20, 0.12), (0.03, 0.03, 0.03)
_HAIR, _LASH, _TEETH = (0.20, 0.15, 0.11), (0.12, 0.09, 0.08), (0.9, 0.88, 0.83)
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
    """One picture."""
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
    albedo = _albedo(model, fragments, faces, model.face_parts[drawn])
    light = _shade(vertices, model, fragments, faces, camera)
    image = albedo * light[..., None]
    image[fragments.face_id < 0] = torch.tensor(_BACKGROUND)
    small = torch.nn.functional.avg_pool2d(image.permute(2, 0, 1)[None], OVERSAMPLING)[0].permute(1, 2, 0)
    return Portrait((small.clamp(0, 1) * 255).round().byte().numpy(), fragments, drawn, vertices, camera)


def _shade(vertices: Tensor, model: OpenHead, fragments: Fragments, faces: Tensor, camera: Camera) -> Tensor:
    """Soft frontal light from above, `[H, W]`."""
    corners = vertices[model.faces]
    normals = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    smooth = torch.zeros_like(vertices).index_add_(0, model.faces.ravel(), normals.repeat_interleave(3, 0))
    smooth = torch.nn.functional.normalize(smooth, dim=1) @ camera.world2cam[0, :3, :3].T
    seen = torch.nn.functional.normalize(interpolate(fragments, faces, smooth), dim=-1)
    direction = torch.nn.functional.normalize(torch.tensor([0.15, 0.5, 1.0]), dim=0)
    return 0.45 + 0.6 * (seen @ direction).clamp(min=0)


def _albedo(model: OpenHead, fragments: Fragments, faces: Tensor, parts: Tensor) -> Tensor:
    """`[H, W, 3]` painted in the template's coordinates, so that paint sticks to the surface."""
    place = interpolate(fragments, faces, model.template)
    part = parts[fragments.face_id.clamp(min=0)]
    masks = torch.stack([model.regions[name].float() for name in ("lips", "scalp")], 1)
    lips, scalp = interpolate(fragments, faces, masks).unbind(-1)
    colour = torch.tensor(_SKIN).expand(*part.shape, 3).clone()
    colour = torch.lerp(colour, torch.tensor(_LIPS), lips[..., None])
    hair = torch.maximum(scalp, _brows(model, place))
    colour = torch.lerp(colour, torch.tensor(_HAIR), hair[..., None])
    for name, paint in {
        "mouth_cavity": _MOUTH,
        "tongue": _LIPS,
        "teeth_upper": _TEETH,
        "teeth_lower": _TEETH,
        "eye_cavity_left": _LASH,
        "eye_cavity_right": _LASH,
    }.items():
        colour[part == model.part_names.index(name)] = torch.tensor(paint)
    for index, name in ((4, "eyeball_left"), (5, "eyeball_right")):
        eye = part == model.part_names.index(name)
        offset = (place[eye] - model.joint_template[index])[:, :2].norm(dim=1)
        paint = torch.tensor(_SCLERA).expand(len(offset), 3).clone()
        paint[offset < IRIS_RADIUS] = torch.tensor(_IRIS)
        paint[offset < _PUPIL_RADIUS] = torch.tensor(_PUPIL)
        colour[eye] = paint
    return colour


def _brows(model: OpenHead, place: Tensor) -> Tensor:
    """Darkness of the brows: an arch above each eye, thin towards the temple."""
    eye = model.joint_template[4]
    along = ((place[..., 0].abs() - 0.012) / 0.044).clamp(-0.5, 1.5)  # 0 at the nose, 1 at the temple
    height = eye[1] + 0.0185 + 0.006 * torch.sin(along.clamp(0, 1) * 2.6) - 0.003 * along
    half_width = 0.0042 - 0.0022 * along.clamp(0, 1)
    inside = (along > 0) & (along < 1) & (place[..., 2] > 0.06)
    softness = (1 - ((place[..., 1] - height) / half_width) ** 2).clamp(0, 1).sqrt()
    return torch.where(inside, 0.85 * softness, torch.zeros_like(softness))
