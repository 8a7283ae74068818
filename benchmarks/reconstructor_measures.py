"""What is measured of a toy reconstructor: heads of people that it has not seen, with truth drawn for any motion."""

from dataclasses import dataclass, replace

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
from genhead_measures import CONTROLS, move_one
from portrait4d.headparts.head import PartHead
from portrait4d.headparts.masks import distance_map
from portrait4d.losses.embedders import thumbnail
from portrait4d.losses.identity import align_faces
from portrait4d.metrics.control import picture_change, score_control
from portrait4d.reconstructor.motion_codes import parameter_code
from portrait4d.reconstructor.network import ReconstructedImages, Reconstructor
from preprocess.dataset.toy.population import draw_faces, draw_person
from preprocess.dataset.toy.records import DISTANCE, FOV_DEGREES, PIVOT, UNITS_PER_METRE
from preprocess.dataset.toy.render import ToyRenderer
from preprocess.media.image import to_tensor, to_uint8

SEED = 20_000
"""Of the people, who are in no training set: those have small seeds."""

SIDE_DEGREES = 30.0
BATCH = 20


@dataclass(frozen=True)
class Faces:
    """Heads `[N]` as the toy dataset draws them, with the cameras that see them at rest, world units."""

    head: HeadParams
    camera: Camera


class HeldOut:
    """People in whose place nothing was learned.

    Attributes:
        source, driver: their faces, two each; the second is to be shown.
        pictures: uint8 `[N, 64, 64, 3]` of the sources.
        landmarks: `[N, 70, 2]` of the drivers' faces, px from the first pixel's centre.

    Args:
        count: of people.
    """

    def __init__(self, count: int, *, size: int = 64) -> None:
        self.model = load_open_head()
        self._draw = ToyRenderer(self.model, size=size, oversampling=3)
        self.people = [draw_person(self.model, np.random.default_rng([SEED, index])) for index in range(count)]
        drawn = [
            draw_faces(self.model, person, 2, np.random.default_rng([SEED, index, 1]))
            for index, person in enumerate(self.people)
        ]
        self.source, self.driver = (
            _placed(
                HeadParams(*(torch.from_numpy(np.stack(column)) for column in zip(*(
                    [getattr(head, name)[at] for name in ("shape", "expression", "neck", "jaw", "eyes")]
                    for head, _ in drawn
                ), strict=True))),
                np.stack([turns[at] for _, turns in drawn]),
            )
            for at in range(2)
        )  # fmt: skip
        self.pictures, _ = self.draw(self.source)
        self.head = PartHead.from_open_head(origin=PIVOT)
        points = self.head.place(self.model.landmarks(self.model(self.driver.head), count=70))
        pixels, _ = _moved(self.driver.camera, PIVOT).project(points, height=size, width=size)
        self.landmarks = pixels - 0.5

    def draw(self, faces: Faces) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """The truth: pictures `[N, S, S, 3]` and masks `[N, S, S]`."""
        metres = faces.camera.cam2world.clone()
        metres[:, :3, 3] /= UNITS_PER_METRE
        camera, vertices = replace(faces.camera, cam2world=metres), self.model(faces.head).numpy()
        drawn = [self._draw(vertices[i], camera[i], person) for i, person in enumerate(self.people)]
        return np.stack([picture for picture, _ in drawn]), np.stack([mask for _, mask in drawn])

    def controlled(self, name: str, strength: float) -> Faces:
        """Faces from the front with one parameter moved, everything else at rest."""
        count = len(self.people)
        head = move_one(self.model, self.source.head.shape, name, np.full(count, strength))
        return _placed(head, np.zeros((count, 3), np.float32))

    def turned(self, yaw_degrees: float) -> Faces:
        """The driver's faces from a side."""
        turns = np.zeros((len(self.people), 3), np.float32)
        turns[:, 0] = np.radians(yaw_degrees)
        return _placed(self.driver.head, turns)


class Prediction:
    """What a network makes of the sources."""

    def __init__(self, network: Reconstructor, held: HeldOut) -> None:
        self.network, self.held = network, held

    def __call__(self, faces: Faces, *, motion_scale: float = 1.0) -> NDArray[np.uint8]:
        """Pictures of the sources' people with the faces' motion, from their cameras."""
        parts = [self.render(faces, rows, motion_scale=motion_scale)[0] for rows in self.parts()]
        return np.concatenate([to_uint8(images.image) for images in parts])

    def parts(self) -> list[slice]:
        """Of the people, who are rendered some at a time."""
        return [slice(start, start + BATCH) for start in range(0, len(self.held.people), BATCH)]

    @torch.no_grad()
    def render(self, faces: Faces, rows: slice, *, motion_scale: float = 1.0) -> tuple[ReconstructedImages, Camera]:
        """What the network makes of some people, and the cameras in its world."""
        source = torch.cat([to_tensor(picture) for picture in self.held.pictures[rows]])
        own, driver = (_code(each.head, rows) for each in (self.held.source, faces))
        features = self.network.encode(source, own, motion_scale=motion_scale)
        planes = self.network.animate(features, driver, motion_scale=motion_scale)
        camera = self._camera(faces, rows)
        return self.network.render(planes, features, camera), camera

    def _camera(self, faces: Faces, rows: slice) -> Camera:
        return _moved(faces.camera[rows], self.network.config.head_origin)


def measure(network: Reconstructor, held: HeldOut) -> dict[str, float]:
    """All numbers of one network."""
    predict = Prediction(network, held)
    true, mask = held.draw(held.driver)
    made = predict(held.driver)
    found = compare(made, true, mask, held)
    found["whole dB"] = psnr(made, true)
    depth = torch.cat([predict.render(held.driver, rows)[0].depth for rows in predict.parts()])
    found["depth mm"] = depth_error(depth, true_depth(held, size=depth.shape[-1]))
    sides = []
    for degrees in (-SIDE_DEGREES, SIDE_DEGREES):
        faces = held.turned(degrees)
        picture, share = held.draw(faces)
        sides.append(psnr(predict(faces), picture, share))
    found["sides dB"] = float(np.mean(sides))
    for name in (*CONTROLS, "gaze"):
        low, high = (held.controlled(name, strength) for strength in (-1.0 if name == "gaze" else 0.0, 1.0))
        true_change = picture_change(held.draw(low)[0], held.draw(high)[0])
        score = score_control(picture_change(predict(low), predict(high)), true_change)
        found[f"{name} gain"], found[f"{name} direction"] = score.gain, score.direction
        if name == "jaw":
            moved = picture_change(predict(low, motion_scale=0.0), predict(high, motion_scale=0.0))
            found["change at motion scale 0"] = float(np.abs(moved).max())
    return {name: round(value, 4) for name, value in found.items()}


def compare(made: NDArray, true: NDArray, mask: NDArray, held: HeldOut) -> dict[str, float]:
    """How like the truth pictures `[N, S, S, 3]` are: foreground, absolute difference, identity by thumbnails."""
    share = (mask > 127).astype(np.float64)
    difference = np.abs(made.astype(np.float64) - true).mean(-1)
    faces = [align_faces(_tensor(pictures), held.landmarks) for pictures in (made, true)]
    alike = torch.cosine_similarity(thumbnail(faces[0]), thumbnail(faces[1])).mean()
    return {
        "foreground dB": psnr(made, true, mask),
        "foreground L1": float(((difference * share).sum((1, 2)) / share.sum((1, 2))).mean() / 255),
        "identity": float(alike),
    }


def baselines(held: HeldOut) -> dict[str, dict[str, float]]:
    """The same of the mean picture and of the copied source."""
    true, mask = held.draw(held.driver)
    mean = np.broadcast_to(held.pictures.astype(np.float64).mean(0), true.shape)
    return {
        "mean picture": compare(mean.astype(np.uint8), true, mask, held),
        "source copied": compare(held.pictures, true, mask, held),
    }


def true_depth(held: HeldOut, *, size: int) -> Tensor:
    """How far the drivers' faces are along the rays, `[N, 1, size, size]` world units; zero where there is no face."""
    return distance_map(held.head, held.head.pose(held.driver.head), _moved(held.driver.camera, PIVOT), size=size)


def depth_error(depth: Tensor, true: Tensor) -> float:
    """Mean difference where both are known, millimetres, the mean offset of each picture left out."""
    errors = []
    for found, wanted in zip(depth, true, strict=True):
        known = (wanted > 0) & (found > 0)
        if known.any():
            difference = (found - wanted)[known]
            errors.append((difference - difference.mean()).abs().mean())
    return float(torch.stack(errors).mean()) / UNITS_PER_METRE * 1000


def _tensor(pictures: NDArray) -> Tensor:
    return torch.cat([to_tensor(picture) for picture in pictures])


def psnr(made: NDArray, true: NDArray, mask: NDArray | None = None) -> float:
    """Mean over pictures, dB; where the mask is above a half, or everywhere."""
    error = np.square(made.astype(np.float64) - true).mean(-1)
    weight = np.ones_like(error) if mask is None else (mask > 127).astype(np.float64)
    means = (error * weight).sum((1, 2)) / weight.sum((1, 2))
    return float((10 * np.log10(255**2 / np.maximum(means, 1e-9))).mean())


def _moved(camera: Camera, origin: tuple[float, float, float]) -> Camera:
    """Cameras in a world around another origin, metres."""
    cam2world = camera.cam2world.clone()
    cam2world[:, :3, 3] -= torch.tensor(origin) * UNITS_PER_METRE
    return replace(camera, cam2world=cam2world)


def _code(head: HeadParams, rows: slice) -> Tensor:
    return parameter_code(head.expression[rows], head.jaw[rows], head.eyes[rows])


def _placed(head: HeadParams, turns: NDArray[np.float32]) -> Faces:
    """In front of the toy dataset's camera, turned by yaw, pitch and roll."""
    matrix = euler_degrees_to_matrix(*torch.rad2deg(torch.from_numpy(turns)).unbind(1))
    translation = torch.tensor([0.0, 0.0, -DISTANCE]) - matrix @ torch.tensor(PIVOT)
    pose = HeadPose(rotation=matrix_to_axis_angle(matrix), translation=translation)
    frames = FrameParameters.from_head_pose(pose, head, units_per_metre=UNITS_PER_METRE, fov_degrees=FOV_DEGREES)
    return Faces(frames.resting_head().head, frames.camera)
