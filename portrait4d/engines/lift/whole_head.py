"""The whole head of an avatar: the open head in the source's shape, closed at the neck, with the photo on it.

Where the photo shows the head, its pixels are the texture. Elsewhere, at the back and under the chin, colours are
continued smoothly over the surface (harmonic: each vertex is the mean of its neighbours), so that hair stays the colour
of hair. The hair's own form is not known: it lies on the scalp.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from scipy.ndimage import distance_transform_edt
from scipy.sparse.linalg import spsolve

from flame.heads.head_model import HeadParams
from flame.heads.open_head import OpenHead
from flame.mesh.raster import interpolate, rasterize
from portrait4d.engines.lift.avatar import LiftAvatar
from portrait4d.engines.lift.view import SourceView
from preprocess.media.mesh_files import vertex_normals
from preprocess.media.rigged_glb import RiggedMesh

TEXTURE_SIZE = 2048
PARTS = (
    *("skin", "mouth_cavity", "eye_cavity_left", "eye_cavity_right", "eyeball_left", "eyeball_right"),
    *("tongue", "teeth_upper", "teeth_lower"),
)
"""Without the lashes, which would need a texture of hairs."""

_USUAL_COLOURS = {
    "mouth_cavity": (90, 40, 38),
    "eyeball_left": (232, 228, 224),
    "eyeball_right": (232, 228, 224),
    "tongue": (168, 92, 90),
    "teeth_upper": (228, 222, 208),
    "teeth_lower": (222, 215, 200),
}
"""sRGB of the parts that a photo shows little or nothing of."""

_FACING = (0.1, 0.4)
"""Cosines between surface and view from which the photo counts for nothing, and for all."""

_DEPTH_TOLERANCE = 0.004  # metres behind the nearest surface that count as seen
_SMOOTHING = 0.02  # of the known colours, against noise in single vertices


@dataclass(frozen=True)
class _Seen:
    """What the photo shows of each vertex: `screen` [V, 3] canvas pixels and depth; `facing` [V] cosine to the view."""

    screen: torch.Tensor
    facing: torch.Tensor


def whole_head(avatar: LiftAvatar, model: OpenHead) -> RiggedMesh:
    """Makes the closed head of an avatar, neutral and at rest, with the ARKit expressions and all joints.

    Args:
        avatar: of the engine lift, on any device.
        model: the open head.
    """
    source = avatar.to("cpu")
    neutral = HeadParams.zeros(model).replace(shape=source.motion.params(model, 0).shape)
    faces, texture_faces, parts = _kept_faces(model)
    texture = _bake(source, model, faces, texture_faces, parts)
    # one glTF vertex for each pair of a vertex and a place in the texture
    corners = np.stack([faces.reshape(-1), texture_faces.reshape(-1)], 1)
    pairs, index = np.unique(corners, axis=0, return_inverse=True)
    uv = model.texture.numpy()[pairs[:, 1]] * [1, -1] + [0, 1]
    vertex_of, new_faces = pairs[:, 0], index.reshape(-1, 3)
    loop = _border(faces[np.isin(parts, _closed_parts(model))])
    vertices = model.shaped(neutral.shape, neutral.expression)[0].numpy()
    basis = model.expression_basis.numpy()
    names = [name for name in model.expression_names if "/" not in name]
    neck_uv = _median_place(texture, uv[[np.flatnonzero(vertex_of == vertex)[0] for vertex in loop[:, 0]]])

    def per_vertex(values: NDArray) -> NDArray:
        """Values `[V, ...]` of the model for the vertices of the file; the last is the middle of the neck's cut."""
        middle = values[loop[:, 0]].mean(0, keepdims=True)
        return np.concatenate([values[vertex_of], values[loop[:, 0]], middle]).astype(np.float32)

    start, middle = len(pairs), len(pairs) + len(loop)
    place = {int(vertex): start + number for number, vertex in enumerate(loop[:, 0])}
    cap = np.array([[place[int(end)], place[int(begin)], middle] for begin, end in loop])
    normals = vertex_normals(vertices, faces)
    shared = per_vertex(normals)
    shared[start:] = (0, -1, 0)
    return RiggedMesh(
        vertices=per_vertex(vertices),
        normals=shared,
        faces=np.concatenate([new_faces, cap]),
        uv=np.concatenate([uv, np.tile(neck_uv, (len(loop) + 1, 1))]).astype(np.float32),
        texture=texture,
        targets={name: per_vertex(basis[..., model.expression_names.index(name)]) for name in names},
        joint_names=model.joint_names,
        parents=model.parents,
        joints=model.rest_joints(neutral.shape, neutral.expression)[0].numpy(),
        weights=per_vertex(model.skinning_weights.numpy()),
    )


def _kept_faces(model: OpenHead) -> tuple[NDArray, NDArray, NDArray]:
    """The triangles of `PARTS`: corners as vertices [F, 3], as texture points [F, 3], and their part [F]."""
    kept = model.faces_of(*PARTS)
    return model.faces[kept].numpy(), model.texture_faces[kept].numpy(), model.face_parts[kept].numpy()


def _closed_parts(model: OpenHead) -> list[int]:
    """The parts that together are one surface, open only at the neck."""
    return [model.part_names.index(name) for name in PARTS[:4]]


def _border(faces: NDArray) -> NDArray:
    """The directed edges [N, 2] of triangles that no other triangle has in the other direction, in their order."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    known = {(int(begin), int(end)) for begin, end in edges}
    following = {begin: end for begin, end in known if (end, begin) not in known}
    first = min(following)
    ordered, vertex = [], first
    while True:
        ordered.append((vertex, following[vertex]))
        vertex = following[vertex]
        if vertex == first:
            break
    if len(ordered) != len(following):
        raise ValueError(
            f"expected one loop around the neck, got {len(following)} edges of which one has {len(ordered)}"
        )
    return np.array(ordered)


def _median_place(texture: NDArray, places: NDArray) -> NDArray:
    """Of places [N, 2] in a texture, the one of median brightness."""
    column, row = np.clip((places * TEXTURE_SIZE).astype(int), 0, TEXTURE_SIZE - 1).T
    return places[np.argsort(texture[row, column].sum(-1))[len(places) // 2]]


def _bake(avatar: LiftAvatar, model: OpenHead, faces: NDArray, texture_faces: NDArray, parts: NDArray) -> NDArray:
    """The texture uint8 [S, S, 3]."""
    seen = _look(avatar, model, faces)
    triangles = torch.from_numpy(faces)
    points = torch.cat(
        [model.texture * torch.tensor([1.0, -1.0]) + torch.tensor([0.0, 1.0]), torch.ones(len(model.texture), 1)], 1
    )
    points[:, :2] *= TEXTURE_SIZE
    cover = rasterize(points, torch.from_numpy(texture_faces), height=TEXTURE_SIZE, width=TEXTURE_SIZE)
    screen = interpolate(cover, triangles, seen.screen).numpy()
    facing = interpolate(cover, triangles, seen.facing[:, None])[..., 0].numpy()
    hit = cover.face_id.numpy() >= 0
    part = np.where(hit, parts[np.maximum(cover.face_id.numpy(), 0)], -1)
    weight = np.clip((facing - _FACING[0]) / (_FACING[1] - _FACING[0]), 0, 1)
    weight = weight * weight * (3 - 2 * weight)
    person, under = avatar.person.float().numpy(), avatar.under.float().numpy()
    nearest = _depth_map(seen.screen, triangles, person.shape[0])
    visible = screen[..., 2] < _sampled(nearest, screen, cv2.INTER_NEAREST) + _DEPTH_TOLERANCE
    eyes = np.isin(part, [model.part_names.index(name) for name in ("eyeball_left", "eyeball_right")])
    skin = part == model.part_names.index("skin")
    photo, opacity = _straight(_sampled(person, screen, cv2.INTER_LINEAR))
    eye, eye_opacity = _straight(_sampled(under, screen, cv2.INTER_LINEAR))
    colour = np.where(eyes[..., None], eye, photo)
    weight = np.where(eyes, weight * (eye_opacity > 0.5), np.where(skin, weight * visible * (opacity > 0.6), 0.0))
    known = _vertex_colours(model, faces, parts, person, seen, nearest)
    base = interpolate(cover, triangles, torch.from_numpy(known)).numpy()
    texture = base + weight[..., None] * (colour - base)
    index = np.asarray(distance_transform_edt(~hit, return_distances=False, return_indices=True))
    filled = texture[index[0], index[1]]  # islands grow outwards, so that smaller versions of the texture do not darken
    return np.rint(np.clip(filled, 0, 1) * 255).astype(np.uint8)


def _look(avatar: LiftAvatar, model: OpenHead, faces: NDArray) -> _Seen:
    """Projects the head as the photo shows it, with its expression and gaze, onto the canvas."""
    view = SourceView.of(avatar.motion)
    vertices = model(avatar.motion.params(model, 0))[0]
    camera = view.to_camera(vertices)
    normals = torch.from_numpy(vertex_normals(camera.numpy(), faces))
    towards = -camera / camera.norm(dim=1, keepdim=True)
    return _Seen(view.to_canvas(vertices), (normals * towards).sum(1))


def _depth_map(screen: torch.Tensor, faces: torch.Tensor, side: int) -> NDArray[np.float32]:
    """Depth [side, side] of the nearest surface, metres; inf where there is none."""
    return rasterize(screen, faces, height=side, width=side).depth.numpy().astype(np.float32)


def _sampled(canvas: NDArray, screen: NDArray, interpolation: int) -> NDArray:
    """Values of a canvas [H, W, ...] at places [..., 2 or 3] in its pixels."""
    flat = screen.reshape(1, -1, screen.shape[-1]).astype(np.float32)
    parts = []
    for start in range(0, flat.shape[1], 32_000):  # OpenCV takes no longer rows
        places = flat[:, start : start + 32_000]
        parts.append(
            cv2.remap(
                canvas, places[..., 0] - 0.5, places[..., 1] - 0.5, interpolation, borderMode=cv2.BORDER_REPLICATE
            )
        )
    return np.concatenate(parts, axis=1).reshape(*screen.shape[:-1], *canvas.shape[2:])


def _straight(premultiplied: NDArray) -> tuple[NDArray, NDArray]:
    """Colours [..., 3] and opacity [...] of premultiplied [..., 4]."""
    opacity = premultiplied[..., 3]
    return np.clip(premultiplied[..., :3] / np.maximum(opacity, 0.05)[..., None], 0, 1), opacity


def _vertex_colours(
    model: OpenHead, faces: NDArray, parts: NDArray, person: NDArray, seen: _Seen, nearest: NDArray
) -> NDArray[np.float32]:
    """Colours [V, 3] in [0, 1] of all vertices: the photo's where it shows the skin, continued elsewhere."""
    screen = seen.screen.numpy()
    photo, opacity = _straight(_sampled(person, screen, cv2.INTER_LINEAR))
    visible = screen[:, 2] < _sampled(nearest, screen, cv2.INTER_NEAREST) + _DEPTH_TOLERANCE
    trust = np.clip((seen.facing.numpy() - 0.3) / 0.3, 0, 1) * visible * (opacity > 0.9)
    closed = faces[np.isin(parts, _closed_parts(model))]
    edges = np.concatenate([closed[:, [0, 1]], closed[:, [1, 2]], closed[:, [2, 0]]])
    count = len(screen)
    links = sparse.coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), (count, count)).tocsr()
    links = ((links + links.T) > 0).astype(float)
    laplacian = sparse.diags(np.asarray(links.sum(1)).ravel()) - links
    is_skin = np.zeros(count, bool)
    is_skin[closed] = True
    trust = np.where(is_skin, trust, 1.0)  # the other parts get their colours below
    system = (sparse.diags(trust) + _SMOOTHING * laplacian).tocsc()
    colours = np.asarray(spsolve(system, trust[:, None] * photo))
    for name, usual in _USUAL_COLOURS.items():
        own = faces[parts == model.part_names.index(name)]
        colours[np.setdiff1d(own, faces[parts == model.part_names.index("skin")])] = np.array(usual) / 255
    return np.clip(colours, 0, 1).astype(np.float32)
