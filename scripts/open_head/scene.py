"""Makes a still scene of the open head seen from many sides, with exact cameras, in the two common formats.

Unit: metre, y up, the face towards +z. `train/` and `test/` hold the pictures, each with an EG3D `dataset.json` (OpenCV
axes); `transforms_train.json` and `transforms_test.json` beside them hold the same in NeRF's format (OpenGL axes).
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from flame.geometry.camera import Camera
from flame.heads.head_model import HeadParams
from flame.heads.open_head import OpenHead
from flame.mesh.raster import Fragments, interpolate, rasterize
from open_head.paint import paint_surface, smooth_normals
from portrait4d.scene.orbit import turntable
from preprocess.files.atomic import atomic_path
from preprocess.media.image import write_png

RADIUS, FOV_DEGREES = 1.0, 22.0
OVERSAMPLING = 3
_AZIMUTH_DEGREES, _ELEVATION_DEGREES = (-100.0, 100.0), (-20.0, 40.0)
_TEST_SHARE = 0.85
"""Test cameras stay within this share of the angles, so that each has training cameras near it."""
_LIGHTS = (((0.4, 0.6, 1.0), 0.5), ((-1.0, 0.2, -0.2), 0.3), ((1.0, 0.3, -0.6), 0.2))
"""Direction in the world and strength of each light."""
_AMBIENT = 0.42
_FACES = (
    ("mouthSmileLeft", "mouthSmileRight"),
    ("browInnerUp",),
    ("jawOpen",),
    ("cheekPuff",),
    ("eyeWideLeft", "eyeWideRight"),
    ("noseSneerLeft",),
)
_STRENGTH = 0.5


@dataclass(frozen=True)
class Head:
    """A posed open head and how its surface varies.

    Attributes:
        vertices: `[V, 3]` metres.
        normals: `[V, 3]`.
        faces: `[F', 3]` drawn triangles.
        parts: `[F']` of the triangles.
        waves: `[W, 5]` wave vector in 1/metre, phase, strength of the smooth variation of the albedo.
    """

    model: OpenHead
    vertices: Tensor
    normals: Tensor
    faces: Tensor
    parts: Tensor
    waves: Tensor


def random_head(model: OpenHead, generator: torch.Generator) -> Head:
    """Returns a head with a random shape, expression and complexion."""
    params = HeadParams.zeros(model)
    shape = 0.7 * torch.randn(params.shape.shape, generator=generator)
    expression = torch.zeros_like(params.expression)
    for names in _FACES:
        value = _STRENGTH * torch.rand(1, generator=generator)
        expression[0, [model.expression_names.index(name) for name in names]] = value
    drawn = model.faces_of(*(part for part in model.part_names if not part.startswith("lashes")))
    direction = F.normalize(torch.randn(12, 3, generator=generator), dim=1)
    frequency = 2 * math.pi * (4 + 26 * torch.rand(12, 1, generator=generator))
    phase = 2 * math.pi * torch.rand(12, 1, generator=generator)
    strength = torch.full((12, 1), 0.025)
    waves = torch.cat([direction * frequency, phase, strength], 1)
    vertices = model(params.replace(shape=shape, expression=expression))[0]
    normals = smooth_normals(vertices, model.faces)
    return Head(model, vertices, normals, model.faces[drawn], model.face_parts[drawn], waves)


def spread_cameras(count: int, *, share: float, offset: float, target: Tensor) -> Camera:
    """Returns cameras spread evenly over a part of the sphere: front, sides, a little from below, more from above.

    Args:
        count: number of cameras.
        share: of the angles that is used, around their middle.
        offset: start in the sequence, so that two calls give different cameras.
        target: `[3]` world point that they look at.
    """
    index = torch.arange(count, dtype=torch.float64)[:, None] + offset
    place = (index * torch.tensor([0.7548776662466927, 0.5698402909980532], dtype=torch.float64)) % 1.0  # R2 sequence
    place = 0.5 + share * (place - 0.5)
    low, high = torch.tensor([_AZIMUTH_DEGREES, _ELEVATION_DEGREES], dtype=torch.float64).T
    azimuth, elevation = (low + place * (high - low)).T
    return turntable(azimuth, elevation, radius=RADIUS, target=target.double(), fov_degrees=FOV_DEGREES)


def draw(head: Head, camera: Camera, *, size: int, background: float) -> np.ndarray:
    """Draws the picture uint8 `[size, size, 3]` of a camera `[1]`; `background` is a grey in [0, 1]."""
    side = size * OVERSAMPLING
    pixels, depth = camera.to(torch.float32).project(head.vertices[None], height=side, width=side)
    fragments = rasterize(torch.cat([pixels[0], depth[0, :, None]], 1), head.faces, height=side, width=side)
    albedo = paint_surface(head.model, fragments, head.faces, head.parts) * _variation(head, fragments)
    image = albedo * _light(head, fragments)
    image[fragments.face_id < 0] = background
    small = F.avg_pool2d(image.permute(2, 0, 1)[None], OVERSAMPLING)[0].permute(1, 2, 0)
    return (small.clamp(0, 1) * 255).round().byte().numpy()


def write_scene(folder: Path, *, num_train: int, num_test: int, size: int, is_white: bool, seed: int) -> None:
    """Draws and writes the whole scene; the same arguments give the same files."""
    from flame.heads.open_head import load_open_head

    head = random_head(load_open_head(), torch.Generator().manual_seed(seed))
    target = 0.5 * (head.vertices.amin(0) + head.vertices.amax(0))
    for split, count, share, offset in (("train", num_train, 1.0, 0.5), ("test", num_test, _TEST_SHARE, 1000.25)):
        cameras = spread_cameras(count, share=share, offset=offset, target=target)
        names = [f"{index:03d}.png" for index in range(count)]
        for index, name in enumerate(names):
            write_png(folder / split / name, draw(head, cameras[index], size=size, background=float(is_white)))
        labels = cameras.to_label25(axes="opencv").tolist()
        _write_json(folder / split / "dataset.json", {"labels": list(zip(names, labels, strict=True)), "unit": "metre"})
        frames = [
            {"file_path": f"./{split}/{Path(name).stem}", "transform_matrix": matrix}
            for name, matrix in zip(names, cameras.cam2world.tolist(), strict=True)
        ]
        transforms = {"camera_angle_x": math.radians(FOV_DEGREES), "unit": "metre", "frames": frames}
        _write_json(folder / f"transforms_{split}.json", transforms)


def _variation(head: Head, fragments: Fragments) -> Tensor:
    """Returns a factor on the albedo `[H, W, 1]`: a sum of waves through the template's space."""
    place = interpolate(fragments, head.faces, head.model.template)
    vectors, phase, strength = head.waves[:, :3], head.waves[:, 3], head.waves[:, 4]
    return 1.0 + (strength * torch.sin(place @ vectors.T + phase)).sum(-1, keepdim=True)


def _light(head: Head, fragments: Fragments) -> Tensor:
    """Returns diffuse light `[H, W, 1]`, fixed in the world: no surface point's colour depends on the camera."""
    normals = F.normalize(interpolate(fragments, head.faces, head.normals), dim=-1)
    light = torch.full_like(normals[..., :1], _AMBIENT)
    for direction, strength in _LIGHTS:
        towards = F.normalize(torch.tensor(direction), dim=0)
        light = light + strength * (normals @ towards)[..., None].clamp(min=0)
    return light


def _write_json(path: Path, values: dict[str, Any]) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(values, indent=1))
