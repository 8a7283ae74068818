"""Random faces of a head model as a perfect tracker would see them: truth for fits.

How truth is drawn: shapes normal with the standard deviation of the fit's prior (1, the population's, for
`FitConfig.for_noise`). Named actions: each mirrored pair and each action of the middle is on with probability 0.2, its
strength uniform in [0.2, 1]; a pair is on one side only in 15 % of cases, else its sides differ by 15 %; of two opposed
actions one is dropped, the mouth does not close further than the jaw opens; about ten actions of a face are on.
The eyes turn by 0.15 rad, differ by 0.02, the lids follow within 0.06. Principal components instead of named actions
are normal; so is the jaw, which only opens then. Heads turn up to 20 degrees about each axis.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from flame.geometry.camera import DEFAULT_FOV_DEGREES, Camera, fov_to_intrinsics
from flame.geometry.rotation import axis_angle_to_matrix
from flame.heads.expression_names import LOOKS
from flame.heads.head_model import HeadModel, HeadParams
from preprocess.fitting.config import ANTAGONISTS, FitConfig, active_expressions

_CENTRAL = ("mouthLeft", "mouthRight", "jawLeft", "jawRight")
"""Named after a side, but no halves of a pair."""


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

    def noisy(self, noise_px: float, *, seed: int = 1) -> Tensor:
        """Landmarks `[B, 478, 3]` with independent normal errors."""
        generator = torch.Generator().manual_seed(seed)
        return self.landmarks + noise_px * torch.randn(
            self.landmarks.shape, generator=generator, dtype=self.landmarks.dtype
        )


def synthetic_faces(
    model: HeadModel, config: FitConfig, *, people: Tensor, seed: int = 0, fov_degrees: float = DEFAULT_FOV_DEGREES
) -> SyntheticFaces:
    """Faces drawn as the head of this file says.

    `people` `[B]` counts from 0; faces of a person share the shape.
    """
    random = np.random.default_rng(seed)
    batch, num_shape = len(people), min(config.num_shape, model.num_shape)
    shape = torch.zeros(batch, model.num_shape, dtype=torch.float64)
    shapes = random.normal(0, config.shape_sigma, (int(people.max()) + 1, num_shape))
    shape[:, :num_shape] = torch.from_numpy(shapes)[people]
    active = active_expressions(model, config)
    names = [model.expression_names[index] for index in active]
    expression = torch.zeros(batch, model.num_expression, dtype=torch.float64)
    eyes, jaw = torch.zeros(batch, 2, 3, dtype=torch.float64), torch.zeros(batch, 3, dtype=torch.float64)
    for index in range(batch):
        gaze = np.clip(random.normal(0, 0.15, 2), -0.4, 0.4) + random.normal(0, 0.02, (2, 2))
        eyes[index, :, :2] = torch.from_numpy(gaze)
        if config.expression_kind == "unit":
            values = draw_actions(names, gaze, random)
        else:
            values = random.normal(0, config.expression_sigma, len(active))
        expression[index, active] = torch.from_numpy(values)
        if "jaw" in config.joints:
            jaw[index] = torch.from_numpy(random.normal(0, config.jaw_sigma) * [0.5, 1, 1])
            jaw[index, 0] = jaw[index, 0].abs()
    if "eye_left" not in config.joints:
        eyes.zero_()
    head = HeadParams.zeros(model, batch).to(torch.float64)
    head = head.replace(shape=shape, expression=expression, eyes=eyes, jaw=jaw)
    rotation = torch.from_numpy(random.uniform(-0.35, 0.35, (batch, 3)))
    focal = float(fov_to_intrinsics(fov_degrees, like=rotation)[0, 0, 0])
    away = random.uniform(0.29, 0.33, batch) * focal
    translation = torch.from_numpy(np.stack([*random.uniform(-0.02, 0.02, (2, batch)), -away], 1))
    return SyntheticFaces(head, rotation, translation, _seen(model, head, rotation, translation, fov_degrees))


def draw_actions(names: list[str], gaze: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Strengths of named actions for eyes turned by `[2, 2]` radians (subject's left first)."""
    strength = dict.fromkeys(names, 0.0)
    for name in names:
        is_pair = name.endswith("Left") and name not in _CENTRAL
        if name.startswith("eyeLook") or (name.endswith("Right") and name not in _CENTRAL) or random.random() >= 0.2:
            continue
        strength[name] = random.uniform(0.2, 1.0)
        if is_pair:
            sides = np.clip(strength[name] * random.normal(1, 0.15, 2), 0, 1)
            if random.random() < 0.15:
                sides[random.integers(2)] = 0.0
            strength[name], strength[name[:-4] + "Right"] = sides
    for pair in ANTAGONISTS:
        if not pair[0].startswith("eyeLook") and all(strength.get(name, 0) > 0 for name in pair):
            strength[pair[random.integers(2)]] = 0.0
    if "mouthClose" in strength:
        strength["mouthClose"] = min(strength["mouthClose"], strength["jawOpen"])
    for grows, falls, joint, axis in LOOKS:
        if grows in strength:
            look = gaze[int(joint == "eye_right"), axis] / FitConfig.look_radians + random.normal(0, 0.06)
            strength[grows], strength[falls] = np.clip([look, -look], 0, 1)
    return np.array([strength[name] for name in names])


def _seen(model: HeadModel, head: HeadParams, rotation: Tensor, translation: Tensor, fov_degrees: float) -> Tensor:
    points = model.landmarks(model(head.to(model.template.dtype))).double()
    in_camera = points @ axis_angle_to_matrix(rotation).mT + translation[:, None]
    camera = Camera(torch.eye(4).double().repeat(len(points), 1, 1), fov_to_intrinsics(fov_degrees, like=rotation))
    pixels, distance = camera.project(in_camera, height=512, width=512)
    focal = 512 * camera.intrinsics[0, 0, 0]
    depth = (distance - distance.mean(1, keepdim=True)) * focal / distance.mean(1, keepdim=True)
    return torch.cat([pixels, depth[..., None]], -1)
