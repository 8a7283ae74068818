"""Finds where the face tracker's 478 points sit on the open head, by letting the tracker look at renders of it.

Through the pixel under each landmark, each render gives a triangle and barycentric weights. These mean the same place
on every identity, so many identities and views are averaged. Lid and inner-lip points are put on the visible edge
loops, so that the opening of eyes and mouth is measured at their edges; iris points are constructed.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree

from flame.heads.head_model import HeadParams
from flame.heads.open_head import OpenHead
from flame.landmarks.groups import CONTOUR, INNER_LIPS, LEFT_EYE, NUM_MESH, RIGHT_EYE
from flame.landmarks.sets import IBUG_OF_478, PUPILS_OF_478
from open_head.expression import split_loop
from open_head.paint import IRIS_RADIUS
from open_head.portrait import OVERSAMPLING, Portrait, render_portrait
from preprocess.faces.detector import FaceDetector
from preprocess.faces.landmarker import FaceLandmarker

NUM_SKIN_POINTS = 468
_VIEWS = [(0, 0), (0, 0), (12, 0), (-12, 0), (0, 10), (0, -10), (27, 0), (-27, 0), (20, 8), (-20, 8)]
"""Views as (yaw, pitch) in degrees."""
_NUM_IDENTITIES = 14
_IDENTITY_STRENGTH = 0.8
_MIN_FACING = 0.35
"""Cosine between normal and view below which a pixel does not locate a point on the surface well enough."""
_MAX_CONTOUR_YAW = 13


@dataclass(frozen=True)
class Surface:
    """Points on triangles: `faces` `[L]` into the model's faces, `weights` `[L, 3]`."""

    faces: np.ndarray
    weights: np.ndarray


def find_embeddings(model: OpenHead, *, pictures: Path | None = None) -> dict[str, np.ndarray]:
    """Returns the asset's tensors `landmark_{faces,barycentric,valid}_{478,68,70}`."""
    template = model.template.numpy().astype(np.float64)
    places, irises = _observe(model, template)
    places = _symmetrise(places)
    skin = model.faces_of("skin").numpy()
    surface = _project(places, template, model.faces.numpy(), skin)
    for ring, loop in ((RIGHT_EYE, "eye_right_loop"), (LEFT_EYE, "eye_left_loop"), (INNER_LIPS, "lip_inner_loop")):
        _snap(surface, places, np.array(ring), model.loops[loop].numpy(), template, model.faces.numpy(), skin)
    found = _add_irises(surface, irises, model, template)
    subsets = {478: np.arange(478), 68: np.array(IBUG_OF_478), 70: np.array(IBUG_OF_478 + PUPILS_OF_478)}
    tensors = {}
    for count, index in subsets.items():
        tensors[f"landmark_faces_{count}"] = found.faces[index].astype(np.int16)
        tensors[f"landmark_barycentric_{count}"] = found.weights[index].astype(np.float32)
        tensors[f"landmark_valid_{count}"] = np.ones(count, bool)
    if pictures is not None:
        from open_head.overlay import write_overlays

        write_overlays(model, found.faces, found.weights, pictures)
    return tensors


@torch.no_grad()
def _observe(model: OpenHead, template: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean template positions `[468, 3]` and mean offsets `[10, 2]` (y up) of iris points from their centre."""
    detector, landmarker = FaceDetector(), FaceLandmarker()
    generator = torch.Generator().manual_seed(4)
    total, weight, irises = np.zeros((NUM_SKIN_POINTS, 3)), np.zeros(NUM_SKIN_POINTS), []
    for identity in range(_NUM_IDENTITIES):
        params = HeadParams.zeros(model)
        if identity > 0:
            shape = _IDENTITY_STRENGTH * torch.randn(1, model.num_shape, generator=generator)
            params = params.replace(shape=shape)
        for yaw, pitch in _VIEWS:
            portrait = render_portrait(model, params, yaw_degrees=yaw, pitch_degrees=pitch)
            points = landmarker(portrait.image, detector(portrait.image)[0])
            points = landmarker(portrait.image, points).points
            position, trust = _unproject(model, template, portrait, points, yaw)
            total += position * trust[:, None]
            weight += trust
            if yaw == 0:
                centre = np.repeat(points[list(PUPILS_OF_478), :2], 5, 0)
                irises.append((points[NUM_MESH:, :2] - centre) * [1, -1])
    if (weight == 0).any():
        raise ValueError(f"no view shows landmarks {np.nonzero(weight == 0)[0].tolist()}")
    return total / weight[:, None], np.mean(irises, 0)


def _unproject(
    model: OpenHead, template: np.ndarray, portrait: Portrait, points: np.ndarray, yaw: float
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the template position `[468, 3]` under each landmark and its weight `[468]`, zero where not usable."""
    fragments = portrait.fragments
    face_id = fragments.face_id.numpy()
    is_skin = (face_id >= 0) & np.isin(portrait.faces.numpy()[face_id], model.faces_of("skin").numpy())
    rows, columns = is_skin.nonzero()
    pixels = np.stack([columns, rows], 1) + 0.5
    distance, nearest = cKDTree(pixels).query(points[:NUM_SKIN_POINTS, :2] * OVERSAMPLING)
    row, column = rows[nearest], columns[nearest]
    corners = model.faces.numpy()[portrait.faces.numpy()[face_id[row, column]]]
    weights = fragments.barycentric.numpy()[row, column]
    position = (template[corners] * weights[..., None]).sum(1)
    facing = _facing(portrait.vertices.numpy()[corners], portrait.camera.world2cam[0].numpy())
    is_contour = np.isin(np.arange(NUM_SKIN_POINTS), CONTOUR)
    usable = np.where(is_contour, abs(yaw) < _MAX_CONTOUR_YAW, facing > _MIN_FACING) & (distance < 8)
    return position, np.where(is_contour, 1.0, facing.clip(0) ** 2) * usable


def _facing(corners: np.ndarray, world2cam: np.ndarray) -> np.ndarray:
    """Returns the cosine `[L]` between the normals of triangles `[L, 3, 3]` and the direction to the camera."""
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    to_camera = -world2cam[:3, :3].T @ world2cam[:3, 3] - corners.mean(1)
    lengths = np.linalg.norm(normal, axis=1) * np.linalg.norm(to_camera, axis=1)
    return (normal * to_camera).sum(1) / lengths.clip(1e-12)


def _symmetrise(places: np.ndarray) -> np.ndarray:
    """Averages each point with the mirror image of its partner; partners are found by position."""
    mirrored = places * [-1, 1, 1]
    cost = np.linalg.norm(places[:, None] - mirrored[None], axis=2)
    _, partner = linear_sum_assignment(cost**2)
    if (partner[partner] != np.arange(len(partner))).any():
        raise ValueError("the landmarks do not pair up left and right")
    return (places + mirrored[partner]) / 2


def _project(places: np.ndarray, template: np.ndarray, faces: np.ndarray, allowed: np.ndarray) -> Surface:
    """Finds the nearest points on the allowed triangles."""
    centres = template[faces[allowed]].mean(1)
    _, near = cKDTree(centres).query(places, k=24)
    best_face, best_weights = np.zeros(len(places), int), np.zeros((len(places), 3))
    best_distance = np.full(len(places), np.inf)
    for candidate in near.T:
        corners = template[faces[allowed[candidate]]]
        weights = _closest_weights(places, corners)
        distance = np.linalg.norm((corners * weights[..., None]).sum(1) - places, axis=1)
        better = distance < best_distance
        best_distance[better], best_weights[better] = distance[better], weights[better]
        best_face[better] = allowed[candidate][better]
    return Surface(best_face, best_weights)


def _closest_weights(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Returns the weights `[L, 3]` of the point of each triangle `[L, 3, 3]` that is closest to each point `[L, 3]`."""
    origin, first, second = corners[:, 0], corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    gram = np.stack([np.stack([(a * b).sum(1) for b in (first, second)], 1) for a in (first, second)], 1)
    right = np.stack([(first * (points - origin)).sum(1), (second * (points - origin)).sum(1)], 1)
    inside = np.linalg.solve(gram, right[..., None])[..., 0]
    weights = np.concatenate([1 - inside.sum(1, keepdims=True), inside], 1)
    best = np.where((weights >= 0).all(1), 0.0, np.inf)
    for i, j in ((0, 1), (1, 2), (2, 0)):
        edge = corners[:, j] - corners[:, i]
        along = (((points - corners[:, i]) * edge).sum(1) / (edge * edge).sum(1)).clip(0, 1)
        distance = np.linalg.norm(corners[:, i] + along[:, None] * edge - points, axis=1)
        on_edge = np.zeros_like(weights)
        on_edge[:, i], on_edge[:, j] = 1 - along, along
        better = (distance < best) & (best > 0)
        weights[better], best[better] = on_edge[better], distance[better]
    return weights


def _snap(
    surface: Surface,
    places: np.ndarray,
    ring: np.ndarray,
    loop: np.ndarray,
    template: np.ndarray,
    faces: np.ndarray,
    allowed: np.ndarray,
) -> None:
    """Moves a ring of landmarks (corner, lower edge, corner, upper edge) onto the loop, at the same fraction of x."""
    half = len(ring) // 2
    first, second = places[ring[0], 0], places[ring[half], 0]
    upper, lower = split_loop(loop, template)
    for position, landmark in enumerate(ring):
        line = lower if position <= half else upper
        line = line[np.argsort(template[line, 0], kind="stable")]
        ends = (line[0], line[-1]) if first < second else (line[-1], line[0])
        fraction = (places[landmark, 0] - first) / (second - first)
        x = template[ends[0], 0] + fraction * (template[ends[1], 0] - template[ends[0], 0])
        segment = int(np.clip(np.searchsorted(template[line, 0], x) - 1, 0, len(line) - 2))
        low, high = line[segment], line[segment + 1]
        share = np.clip((x - template[low, 0]) / max(template[high, 0] - template[low, 0], 1e-9), 0, 1)
        corners = faces[allowed]
        face = allowed[((corners == low).any(1) & (corners == high).any(1)).nonzero()[0][0]]
        surface.faces[landmark] = face
        surface.weights[landmark] = (faces[face] == low) * (1 - share) + (faces[face] == high) * share


def _add_irises(surface: Surface, offsets: np.ndarray, model: OpenHead, template: np.ndarray) -> Surface:
    """Appends the iris points: the front pole of each eyeball and four points around it, in the tracker's order."""
    faces, weights = list(surface.faces), list(surface.weights)
    for eye, (joint, part) in enumerate(((5, "eyeball_right"), (4, "eyeball_left"))):
        centre = model.joint_template[joint].numpy()
        own = model.faces_of(part).numpy()
        for offset in offsets[5 * eye : 5 * eye + 5]:
            axis = np.abs(offset) == np.abs(offset).max()
            step = np.where(axis & (offset != 0), np.sign(offset), 0) * IRIS_RADIUS
            face, share = _hit_from_front(centre[:2] + step, template[model.faces[own].numpy()])
            faces.append(own[face])
            weights.append(share)
    return Surface(np.array(faces), np.array(weights))


def _hit_from_front(place: np.ndarray, corners: np.ndarray) -> tuple[int, np.ndarray]:
    """Returns the front triangle of `[F, 3, 3]` over the point `[2]` of the xy plane, and the weights there."""
    matrix = np.concatenate([corners[..., :2].transpose(0, 2, 1), np.ones((len(corners), 1, 3))], 1)
    weights = np.full((len(corners), 3), -1.0)
    regular = np.abs(np.linalg.det(matrix)) > 1e-12
    weights[regular] = np.linalg.solve(matrix[regular], np.append(place, 1.0)[None, :, None])[..., 0]
    depth = np.where((weights > -1e-6).all(1), (weights * corners[..., 2]).sum(1), -np.inf)
    face = int(depth.argmax())
    share = weights[face].clip(0)
    return face, share / share.sum()
