"""Draws a person of a toy dataset: rasterised, painted in the template's coordinates, lit, averaged to pixels."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array

from flame.geometry.camera import Camera
from flame.heads.open_head import OpenHead
from flame.mesh.raster import rasterize
from preprocess.dataset.toy.paint import Paint
from preprocess.dataset.toy.population import Person, Place

_WRAP = 0.25
"""The lamp also reaches a little behind the horizon: soft shadows."""


class ToyRenderer:
    """Draws heads at one size.

    Args:
        model: the open head.
        size: side of the pictures, px.
        oversampling: each pixel is the mean of this many squared.
    """

    def __init__(self, model: OpenHead, *, size: int, oversampling: int) -> None:
        self.size, self.oversampling = size, oversampling
        drawn = model.faces_of(*(name for name in model.part_names if name != "lashes_lower"))
        self._triangles = model.faces[drawn]
        self._faces = self._triangles.numpy()
        self._paint = Paint(model, model.face_parts[drawn].numpy())
        corners = self._faces.ravel()
        columns = np.repeat(np.arange(len(self._faces)), 3)
        ones = np.ones(len(corners), np.float32)
        self._sum_of_faces = coo_array((ones, (corners, columns)), (model.num_vertices, len(self._faces))).tocsr()
        steps = ((np.arange(size) + 0.5) / size).astype(np.float32)
        self._grid = np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 2)

    def __call__(
        self, vertices: NDArray[np.float32], camera: Camera, person: Person
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Draws one picture.

        Args:
            vertices: `[V, 3]` without hair, world of the camera in metres.
            camera: one.
            person: colours and place.

        Returns:
            The picture `[S, S, 3]` and its mask `[S, S]`, 255 = person.
        """
        side = self.size * self.oversampling
        vertices = vertices + self._paint.lift(self._normals(vertices), person.look)
        pixels, depth = camera.project(torch.from_numpy(vertices)[None], height=side, width=side)
        fragments = rasterize(torch.cat([pixels[0], depth[0, :, None]], 1), self._triangles, height=side, width=side)
        seen = np.flatnonzero(fragments.face_id.numpy().ravel() >= 0)
        face = fragments.face_id.numpy().ravel()[seen]
        weights = fragments.barycentric.numpy().reshape(-1, 3)[seen].astype(np.float32)
        to_camera = camera.world2cam[0, :3, :3].numpy().astype(np.float32)
        albedo = self._paint(face, self._mix(self._paint.attributes, face, weights), person.look)
        normals = self._mix(self._normals(vertices) @ to_camera.T, face, weights)
        colour = np.zeros((side * side, 4), np.float32)
        colour[seen, :3] = albedo * _light(normals, person.place)
        colour[seen, 3] = 1
        return self._develop(colour, person.place)

    def _mix(self, values: NDArray, face: NDArray, weights: NDArray) -> NDArray[np.float32]:
        """What `[N]` pixels see of values `[V, C]`."""
        corners = self._faces[face]
        first, second, third = (values[corners[:, corner]] * weights[:, corner, None] for corner in range(3))
        return first + second + third

    def _normals(self, vertices: NDArray[np.float32]) -> NDArray[np.float32]:
        corners = vertices[self._faces]
        summed = self._sum_of_faces @ np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        normals = summed / np.maximum(np.linalg.norm(summed, axis=1, keepdims=True), 1e-12)
        return normals.astype(np.float32)

    def _develop(self, colour: NDArray[np.float32], place: Place) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Averages `[side * side, 4]`, sets it before the background, and applies the curve of sRGB, as a square."""
        size, times = self.size, self.oversampling
        mean = colour.reshape(size, times, size, times, 4).mean((1, 3))
        linear = mean[..., :3] + (1 - mean[..., 3:]) * self._background(place)
        picture = np.sqrt(np.clip(linear, 0, 1))
        return _to_bytes(picture), _to_bytes(mean[..., 3])

    def _background(self, place: Place) -> NDArray[np.float32]:
        across, down = self._grid[:, :1], self._grid[:, 1:]
        (top_left, top_right), (bottom_left, bottom_right) = place.corners
        top, bottom = top_left + across * (top_right - top_left), bottom_left + across * (bottom_right - bottom_left)
        colour = (top * (1 - down) + bottom * down) * (1 + place.pattern(self._grid))
        colour = np.clip(colour, 0, 1).astype(np.float32)
        return colour.reshape(self.size, self.size, 3)


def _light(normals: NDArray[np.float32], place: Place) -> NDArray[np.float32]:
    """`[N, 3]`."""
    normals = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-6)
    towards = np.clip((normals @ place.to_light + _WRAP) / (1 + _WRAP), 0, None)
    return (place.ambient + towards[:, None] * place.lamp).astype(np.float32)


def _to_bytes(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.rint(values * 255).astype(np.uint8)
