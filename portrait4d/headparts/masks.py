"""Where eyes, mouth and head are in a picture, and the map of correspondences, by rasterisation.

The steps are those with which the released network was trained: eyeballs not hidden by the face; the head where its
closed surface is not seen, which is the opened mouth. Not differentiable.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from flame.geometry.camera import Camera
from flame.heads.head_pose import ArrayFields
from flame.mesh.raster import cover, interpolate, rasterize
from portrait4d.headparts.head import PartHead, PosedHead
from portrait4d.ops.resample import filter_same, resize

_REFERENCE = 512
"""Resolution at which the released network's filters are defined; at others they shrink with the picture."""

_OPENING, _EYE_BLUR, _MOUTH_BLUR = 7, 1.0, 2.0


@dataclass(frozen=True)
class HeadMasks(ArrayFields):
    """Shares of each pixel in [0, 1], `[B, 1, H, H]` each.

    Attributes:
        eye: at the rendered size, eyeballs that the face does not hide.
        mouth: at the rendered size, the inside of the opened mouth.
        head: at the rendered size, the whole head.
        eye_soft: at the rasterised size, blurred.
        mouth_soft: at the rasterised size, cleaned of specks and blurred.
        head_sharp: at the rasterised size.
    """

    eye: Tensor
    mouth: Tensor
    head: Tensor
    eye_soft: Tensor
    mouth_soft: Tensor
    head_sharp: Tensor


@torch.no_grad()
def rasterise_masks(
    head: PartHead, posed: PosedHead, camera: Camera, *, size: int, mask_resolution: int = _REFERENCE
) -> HeadMasks:
    """The masks of a batch of heads.

    Args:
        head: where the parts are.
        posed: the heads.
        camera: one for each; its own field of view is used (the released code takes 12 degrees whatever it says).
        size: side of the rendered picture.
        mask_resolution: side at which is rasterised.
    """
    regions = head.regions
    points = _project(posed.posed, camera, mask_resolution)
    outline = _project(regions.outline.apply(posed.posed), camera, mask_resolution)
    eye = _covers(points, regions.eye_faces, mask_resolution)
    eye = eye * (1 - _covers(points, regions.face_faces, mask_resolution))
    whole = _covers(outline, regions.outline.faces, mask_resolution, cull_backfaces=False)
    inside = whole
    if len(regions.mouth_faces):  # otherwise the inside of an open neck would count
        inside = _covers(points, regions.mouth_faces, mask_resolution, cull_backfaces=False)
    open_mouth = inside * (1 - _covers(points, regions.closed_faces, mask_resolution))
    mouth = _resize(open_mouth, size)
    scale = mask_resolution / _REFERENCE
    cleaned = _blur(_open(open_mouth, max(round(_OPENING * scale), 1)), _MOUTH_BLUR * scale)
    return HeadMasks(
        eye=_resize(eye, size),
        mouth=mouth,
        head=_resize(whole, size),
        eye_soft=_blur(eye, _EYE_BLUR * scale),
        mouth_soft=(cleaned + _resize(mouth, mask_resolution)).clamp(max=1),
        head_sharp=whole,
    )


@torch.no_grad()
def correspondence_map(head: PartHead, posed: PosedHead, camera: Camera, *, size: int = _REFERENCE) -> Tensor:
    """Which place of the canonical head each pixel of the face shows, `[B, 3, size, size]`, zero elsewhere.

    What the discriminator compares a picture with.
    """
    return _draw_face(head, posed, camera, head.map_colours, size=size)


@torch.no_grad()
def distance_map(head: PartHead, posed: PosedHead, camera: Camera, *, size: int) -> Tensor:
    """How far the face is along the ray of each pixel, `[B, 1, size, size]` in world units; zero elsewhere."""
    away = posed.posed - camera.cam2world[:, None, :3, 3]
    return _draw_face(head, posed, camera, away, size=size).norm(dim=1, keepdim=True)


def _draw_face(head: PartHead, posed: PosedHead, camera: Camera, attributes: Tensor, *, size: int) -> Tensor:
    """Attributes of vertices, `[V, C]` or `[B, V, C]`, where pixels see the face: `[B, C, size, size]`, else zero."""
    faces = torch.cat([head.regions.face_faces, head.regions.eye_faces])
    fragments = rasterize(_project(posed.posed, camera, size), faces, height=size, width=size, cull_backfaces=True)
    return interpolate(fragments, faces, attributes).permute(0, 3, 1, 2)


def _covers(points: Tensor, faces: Tensor, size: int, *, cull_backfaces: bool = True) -> Tensor:
    """1 where a pixel's centre sees a triangle of projected vertices, else 0, `[B, 1, size, size]`."""
    is_covered = cover(points, faces, height=size, width=size, cull_backfaces=cull_backfaces)
    return is_covered[:, None].to(points.dtype)


def _project(vertices: Tensor, camera: Camera, size: int) -> Tensor:
    pixels, depth = camera.project(vertices, height=size, width=size)
    return torch.cat([pixels, depth[..., None]], -1)


def _resize(mask: Tensor, size: int) -> Tensor:
    return resize(mask, height=size, width=size)


def _blur(mask: Tensor, sigma: float) -> Tensor:
    """Taps `2^-(i / sigma)^2` out to three sigma."""
    reach = int(3 * sigma)
    if not reach:
        return mask
    steps = torch.arange(-reach, reach + 1, dtype=mask.dtype, device=mask.device)
    taps = torch.exp2(-(steps / sigma).square())
    return filter_same(mask, taps / taps.sum())


def _open(mask: Tensor, width: int) -> Tensor:
    """Erodes and dilates by a square of an odd width."""
    width -= 1 - width % 2
    if width == 1:
        return mask
    shrunk = 1 - F.max_pool2d(1 - mask, width, stride=1, padding=width // 2)
    return F.max_pool2d(shrunk, width, stride=1, padding=width // 2)
