"""Random faces of a head model as a perfect tracker would see them: truth for fits."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import ndtr, ndtri
from torch import Tensor

from flame.camera import DEFAULT_FOV_DEGREES, Camera, fov_to_intrinsics
from flame.head_model import HeadModel, HeadParams
from flame.rotation import axis_angle_to_matrix
from preprocess.fit_config import FitConfig, active_expressions, make_prior


@dataclass(frozen=True)
class SyntheticFaces:
    """B faces, the truth and what is seen of it.

    Attributes:
        head: the parameters, neck at rest.
        rotation: `[B, 3]` and translation: `[B, 3]` metres of the head in camera space.
        landmarks: `[B, 478, 3]` crop px without noise.
    """

    head: HeadParams
    rotation: Tensor
    translation: Tensor
    landmarks: Tensor


def synthetic_faces(
    model: HeadModel, config: FitConfig, *, people: Tensor, seed: int = 0, fov_degrees: float = DEFAULT_FOV_DEGREES
) -> SyntheticFaces:
    """Faces whose shape and expression come from the prior of a fit, turned up to 20 degrees about each axis.

    Args:
        people: `[B]` from 0; faces of a person share the shape.
    """
    random = np.random.default_rng(seed)
    batch = len(people)
    shape = torch.zeros(batch, model.num_shape, dtype=torch.float64)
    shapes = random.normal(0, config.shape_sigma, (int(people.max()) + 1, config.num_shape))
    shape[:, : config.num_shape] = torch.from_numpy(shapes)[people]
    own = torch.from_numpy(np.stack([_own(model, config, random) for _ in range(batch)]))
    active = active_expressions(model, config)
    expression = torch.zeros(batch, model.num_expression, dtype=torch.float64)
    expression[:, active] = own[:, : len(active)]
    head = HeadParams.zeros(model, batch).to(torch.float64).replace(shape=shape, expression=expression)
    column = len(active)
    for joint in config.joints:
        axes = 2 if joint.startswith("eye") else 3
        values = own[:, column : column + axes]
        column += axes
        place = head.jaw if joint == "jaw" else head.eyes[:, int(joint == "eye_right")]
        place[:, :axes] = values
    rotation = torch.from_numpy(random.uniform(-0.35, 0.35, (batch, 3)))
    focal = float(fov_to_intrinsics(fov_degrees, like=rotation)[0, 0, 0])
    away = random.uniform(0.29, 0.33, batch) * focal
    translation = torch.from_numpy(np.stack([*random.uniform(-0.02, 0.02, (2, batch)), -away], 1))
    return SyntheticFaces(head, rotation, translation, _seen(model, head, rotation, translation, fov_degrees))


def _seen(model: HeadModel, head: HeadParams, rotation: Tensor, translation: Tensor, fov_degrees: float) -> Tensor:
    points = model.landmarks(model(head.to(model.template.dtype))).double()
    in_camera = points @ axis_angle_to_matrix(rotation).mT + translation[:, None]
    camera = Camera(torch.eye(4).double().repeat(len(points), 1, 1), fov_to_intrinsics(fov_degrees, like=rotation))
    pixels, distance = camera.project(in_camera, height=512, width=512)
    focal = 512 * camera.intrinsics[0, 0, 0]
    depth = (distance - distance.mean(1, keepdim=True)) * focal / distance.mean(1, keepdim=True)
    return torch.cat([pixels, depth[..., None]], -1)


def _own(model: HeadModel, config: FitConfig, random: np.random.Generator) -> np.ndarray:
    """A draw from the prior of expression and joint angles inside its box, by Gibbs sampling."""
    prior = make_prior(model, config)
    value = np.clip(np.zeros(len(prior.linear)), prior.lower, prior.upper)
    for _ in range(60):
        for index in random.permutation(len(value)):
            precision = prior.hessian[index, index]
            pull = prior.hessian[index] @ value - precision * value[index] + prior.linear[index]
            middle, spread = -pull / precision, precision**-0.5
            value[index] = _truncated(
                random, float(middle), float(spread), float(prior.lower[index]), float(prior.upper[index])
            )
    return value


def _truncated(random: np.random.Generator, middle: float, spread: float, lower: float, upper: float) -> float:
    """A normal number between two bounds."""
    low, high = ndtr((lower - middle) / spread), ndtr((upper - middle) / spread)
    if high - low < 1e-12:
        return lower if middle < lower else upper
    return float(np.clip(middle + spread * ndtri(random.uniform(low, high)), lower, upper))
