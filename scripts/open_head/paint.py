"""Colours the open head's surface in the template's coordinates, so that colours move with it."""

import torch
from torch import Tensor

from flame.heads.open_head import OpenHead
from flame.mesh.raster import Fragments, interpolate

IRIS_RADIUS = 0.00585
"""In metres: half the visible iris diameter of an adult."""
_PUPIL_RADIUS = 0.0020

_SKIN, _LIPS, _MOUTH = (0.83, 0.64, 0.54), (0.70, 0.38, 0.36), (0.35, 0.12, 0.12)
_SCLERA, _IRIS, _PUPIL = (0.93, 0.92, 0.91), (0.30, 0.20, 0.12), (0.03, 0.03, 0.03)
_HAIR, _LASH, _TEETH = (0.20, 0.15, 0.11), (0.12, 0.09, 0.08), (0.9, 0.88, 0.83)


def paint_surface(model: OpenHead, fragments: Fragments, faces: Tensor, parts: Tensor) -> Tensor:
    """Returns the albedo `[H, W, 3]` in [0, 1] of what each pixel sees.

    Args:
        model: the open head.
        fragments: what each pixel sees.
        faces: `[F', 3]` the drawn triangles.
        parts: `[F']` their parts.
    """
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


def smooth_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Returns unit normals `[V, 3]` of posed vertices `[V, 3]`; triangles are weighted by area."""
    corners = vertices[faces]
    normals = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    summed = torch.zeros_like(vertices).index_add_(0, faces.ravel(), normals.repeat_interleave(3, 0))
    return torch.nn.functional.normalize(summed, dim=1)


def _brows(model: OpenHead, place: Tensor) -> Tensor:
    """Returns the darkness of the brows: an arch above each eye, thin towards the temple."""
    eye = model.joint_template[4]
    along = ((place[..., 0].abs() - 0.012) / 0.044).clamp(-0.5, 1.5)  # 0 at the nose, 1 at the temple
    height = eye[1] + 0.0185 + 0.006 * torch.sin(along.clamp(0, 1) * 2.6) - 0.003 * along
    half_width = 0.0042 - 0.0022 * along.clamp(0, 1)
    inside = (along > 0) & (along < 1) & (place[..., 2] > 0.06)
    softness = (1 - ((place[..., 1] - height) / half_width) ** 2).clamp(0, 1).sqrt()
    return torch.where(inside, 0.85 * softness, torch.zeros_like(softness))
