"""Makes the records of a toy dataset, as `portrait4d data ffhq` would have found them in photos.

What a record holds: the camera (OpenGL axes, metres x 3 from the neck joint) sees the head at rest, and the neck
repeats the turn: use one of the two, see `flame.heads.frame_parameters`. Before the camera the head turns about
`PIVOT`, a point of the open head in metres, which is the middle of every picture, `DISTANCE` away; the neck does not
bend. Shape, expression, jaw and eyes are those that were drawn. The 478 landmarks are the model's own, exact; the mask
is how much of a pixel head and hair cover. `quality` holds the head's turns in public degrees. The key of a picture is
`PERSON-NUMBER`, like those of a clip's frames; `source` names the seed and the person.
"""

import hashlib

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flame.geometry.camera import Camera
from flame.geometry.rotation import euler_degrees_to_matrix, matrix_to_axis_angle
from flame.heads.frame_parameters import FrameParameters
from flame.heads.head_model import HeadParams
from flame.heads.head_pose import HeadPose
from flame.heads.open_head import load_open_head
from preprocess.dataset.records.record import DatasetInfo, Record
from preprocess.dataset.toy.follow import follow_motion
from preprocess.dataset.toy.options import ToyOptions
from preprocess.dataset.toy.population import draw_faces, draw_person
from preprocess.dataset.toy.render import ToyRenderer
from preprocess.tracking.motion import Motion

UNITS_PER_METRE = 3.0
PIVOT = (0.0, 0.10, 0.045)
"""Metres from the neck joint: the middle of the head and its hair."""
DISTANCE = 4.2 / UNITS_PER_METRE
"""Metres from the camera to the pivot."""
FOV_DEGREES = 13.5

_KEY_LENGTH = 16


def toy_info(options: ToyOptions) -> DatasetInfo:
    """The description of a toy dataset."""
    return DatasetInfo(
        "open", "CC0-1.0", units_per_metre=UNITS_PER_METRE, crop="toy", image_size=options.size, landmarks="478",
        detector="none", mask="drawn",
    )  # fmt: skip


class ToyRecords:
    """Makes the pictures of one person after the other."""

    def __init__(self, options: ToyOptions) -> None:
        self._options = options
        self._model = load_open_head()
        self._motions = [Motion.load(path) for path in options.motions]
        for motion in self._motions:
            motion.check_model(self._model)
        self._render = ToyRenderer(self._model, size=options.size, oversampling=options.oversampling)

    def __call__(self, identity: int) -> list[Record]:
        """The records of a person; they depend on the options and the number alone."""
        options = self._options
        random = np.random.default_rng([options.seed, identity])
        person = draw_person(self._model, random)
        if self._motions:
            drawn, turns = follow_motion(self._motions, person, options.pictures_per_identity, random)
        else:
            drawn, turns = draw_faces(self._model, person, options.pictures_per_identity, random)
        frames = _frames(drawn, turns)
        view = frames.resting_head()
        vertices = self._model(view.head)
        landmarks = self._landmarks(vertices, view.camera)
        code = hashlib.sha256(f"toy face {options.seed} {identity}".encode()).hexdigest()[:_KEY_LENGTH]
        records = []
        for index in range(len(turns)):
            image, mask = self._render(vertices[index].numpy(), _in_metres(view.camera[index]), person)
            degrees = np.degrees(turns[index].astype(np.float64))
            names = ("yaw_degrees", "pitch_degrees", "roll_degrees")
            records.append(
                Record(
                    key=f"{code}-{index:06d}",
                    source=f"toy-{options.seed}-{identity:06d}",
                    image=image,
                    mask=mask,
                    crop_matrix=np.eye(3),
                    source_size=(options.size, options.size),
                    landmarks=landmarks[index],
                    camera=frames.camera[index].to_label25(axes="opengl")[0].numpy(),
                    head=frames.head.row(index).map(Tensor.numpy),
                    quality={name: round(float(value), 5) for name, value in zip(names, degrees, strict=True)},
                )
            )
        return records

    def _landmarks(self, vertices: Tensor, camera: Camera) -> NDArray[np.float32]:
        """`[N, 478, 3]` px; z counts from the mean."""
        size = self._options.size
        points = self._model.landmarks(vertices) * UNITS_PER_METRE
        pixels, depth = camera.project(points, height=size, width=size)
        middle = depth.mean(1, keepdim=True)
        z = (depth / middle - 1) * camera.intrinsics[:, :1, 0] * size
        return torch.cat([pixels, z[..., None]], 2).numpy()


def _frames(head: HeadParams[NDArray[np.float32]], turns: NDArray[np.float32]) -> FrameParameters:
    """The faces where they are in front of the camera; `turns` `[N, 3]` yaw, pitch, roll in radians."""
    matrix = euler_degrees_to_matrix(*torch.rad2deg(torch.from_numpy(turns)).unbind(1))
    translation = torch.tensor([0.0, 0.0, -DISTANCE]) - matrix @ torch.tensor(PIVOT)
    pose = HeadPose(rotation=matrix_to_axis_angle(matrix), translation=translation)
    heads = head.map(torch.from_numpy)
    return FrameParameters.from_head_pose(pose, heads, units_per_metre=UNITS_PER_METRE, fov_degrees=FOV_DEGREES)


def _in_metres(camera: Camera) -> Camera:
    cam2world = camera.cam2world.clone()
    cam2world[:, :3, 3] /= UNITS_PER_METRE
    return Camera(cam2world, camera.intrinsics)
