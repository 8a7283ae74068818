"""One toy person seen from several sides under one lamp of the room: what a turned head truly looks like."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from flame.geometry.camera import Camera
from flame.geometry.rotation import axis_angle_to_matrix, euler_degrees_to_matrix, matrix_to_axis_angle
from flame.heads.frame_parameters import FrameParameters
from flame.heads.head_model import HeadParams
from flame.heads.head_pose import HeadPose
from flame.heads.open_head import OpenHead
from portrait4d.engines.base import Avatar
from preprocess.dataset.toy.population import Person, draw_person
from preprocess.dataset.toy.records import DISTANCE, FOV_DEGREES, PIVOT, UNITS_PER_METRE
from preprocess.dataset.toy.render import ToyRenderer
from preprocess.tracking.head_landmarks import face_centre
from preprocess.tracking.tracker import TrackedFrame

SIZE = 384


def toy_views(
    model: OpenHead, yaws: Sequence[float], *, seed: int, to_light: tuple[float, float, float], ambient: float
) -> list[NDArray[np.uint8]]:
    """Pictures [SIZE, SIZE, 3] of a neutral head turned by each yaw in degrees (> 0 nose to the viewer's right).

    Args:
        model: the open head.
        yaws: of the pictures.
        seed: of the person.
        to_light: direction of the lamp in camera space.
        ambient: light from everywhere; the lamp's strength is 1 less that.
    """
    person = _lit(draw_person(model, np.random.default_rng(seed)), to_light, ambient)
    count = len(yaws)
    matrix = euler_degrees_to_matrix(torch.tensor(yaws, dtype=torch.float32), torch.zeros(count), torch.zeros(count))
    translation = torch.tensor([0.0, 0.0, -DISTANCE]) - matrix @ torch.tensor(PIVOT)
    none = HeadParams.zeros(model, batch=count)
    head = none.replace(shape=torch.from_numpy(person.shape).repeat(count, 1))
    pose = HeadPose(rotation=matrix_to_axis_angle(matrix), translation=translation)
    view = FrameParameters.from_head_pose(
        pose, head, units_per_metre=UNITS_PER_METRE, fov_degrees=FOV_DEGREES
    ).resting_head()
    vertices, draw = model(view.head), ToyRenderer(model, size=SIZE, oversampling=2)
    pictures = []
    for index in range(count):
        cam2world = view.camera[index].cam2world.clone()
        cam2world[:, :3, 3] /= UNITS_PER_METRE
        camera = Camera(cam2world, view.camera[index].intrinsics)
        pictures.append(draw(vertices[index].numpy(), camera, person)[0])
    return pictures


def placed(model: OpenHead, avatar: Avatar, frame: TrackedFrame) -> HeadPose:
    """Where the avatar's head is in a picture of the same person that was tracked in the avatar's crop."""
    rotation = torch.from_numpy(frame.motion.rotation)
    turn = axis_angle_to_matrix(rotation)
    centre, own = (face_centre(model, motion) for motion in (frame.motion, avatar.motion))
    return HeadPose(
        rotation=rotation, translation=torch.from_numpy(frame.motion.translation) + (centre - own) @ turn[0].T
    )


def _lit(person: Person, to_light: tuple[float, float, float], ambient: float) -> Person:
    direction = np.array(to_light, np.float32)
    place = replace(
        person.place,
        to_light=direction / np.linalg.norm(direction),
        lamp=np.full(3, 1 - ambient, np.float32),
        ambient=np.full(3, ambient, np.float32),
        corners=np.full((2, 2, 3), 0.2, np.float32),
    )
    return replace(person, place=place)
