"""The rival of the batched fit: the same objective by automatic derivatives, minimised by Adam in two stages.

Portrait4D's preprocessing fits FLAME so (Deng et al. 2024, released code): 1500 steps for the head's place, 3000 for
everything, learning rate 0.001, lengths in metres x 3, the best state seen is kept. The objective here is not theirs
but that of `preprocess.fitting.batched.fit` without depths and without outliers, written anew from its description.
`AutomaticObjective` evaluates the landmarks alone, `MeshObjective` poses the whole head for them, as the released code
does in every step.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from flame.geometry.camera import fov_to_intrinsics
from flame.geometry.rotation import axis_angle_to_matrix, matrix_to_axis_angle
from flame.heads.head_model import HeadModel, HeadParams
from flame.heads.head_pose import ArrayFields, HeadPose
from flame.landmarks.groups import EYE_CORNERS, IRIS_CENTRES, LID_PAIRS, LIP_PAIRS, OUTER_EYE_CORNERS
from preprocess.fitting.batched.fit import BatchFit
from preprocess.fitting.config import FitConfig, active_expressions, joint_axes, make_prior
from preprocess.fitting.landmark_model import LandmarkModel

STAGES = (1500, 3000)
RELEASED_RATE = 1e-3
_UNITS_PER_METRE = 3.0


@dataclass(frozen=True, kw_only=True)
class Unknowns(ArrayFields):
    """Of B images of B people.

    Attributes:
        pose: counted from the start, applied after its rotation; the translation in metres x 3.
        own: `[B, E + A]` expressions, then joint angles: what the fit frees of a `HeadParams`.
        shape: `[B, K]`.
    """

    pose: HeadPose
    own: Tensor
    shape: Tensor

    def copy(self) -> "Unknowns":
        """The same values, free of the graph."""
        return self.map(lambda array: array.detach().clone())


@dataclass(frozen=True)
class Start:
    """Where both fits begin: rotation `[B, 3, 3]` and translation `[B, 3]` of the mean head at rest, metres."""

    rotation: Tensor
    translation: Tensor


class AutomaticObjective:
    """Half the squared residuals and the prior, per image, with automatic derivatives."""

    def __init__(
        self,
        model: HeadModel,
        config: FitConfig,
        landmarks: Tensor,
        start: Start,
        *,
        crop_size: int = 512,
        fov_degrees: float = 12.0,
    ) -> None:
        """Keeps what the loss is computed from.

        Args:
            model: in metres, without pose correctives.
            config: its outliers and depths are ignored.
            landmarks: `[B, 478, 2 or 3]` crop px, all known; the tables get their device and dtype.
            start: of the fit; its distance is the mean of the prior of the distance.
            crop_size: px.
            fov_degrees: of the camera.
        """
        self._model, self._config, self._active = model, config, active_expressions(model, config)
        points = LandmarkModel(model, expressions=self._active, num_shape=config.num_shape, joints=config.joints)
        self._start, self._size, self._num_expression = start, crop_size, points.num_expression

        def table(values: object) -> Tensor:
            return torch.as_tensor(values).to(landmarks)

        self._mean, self._basis = table(points.mean), table(points.basis).permute(2, 1, 0).flatten(1)  # [E + S, L * 3]
        if any(joint.correction is not None for joint in points.joints):
            raise ValueError("expected a head model without pose correctives, such as the open head")
        self._joints = [
            (torch.as_tensor(joint.rows).to(landmarks.device), table(joint.arm_mean), table(joint.arm_basis))
            for joint in points.joints
        ]
        self._axes = joint_axes(config)
        self._focal_px = crop_size * fov_to_intrinsics(fov_degrees, like=landmarks)[0, 0, 0]
        right, left = OUTER_EYE_CORNERS
        self._target = landmarks[..., :2]
        distance = (self._target[:, right] - self._target[:, left]).norm(dim=-1)
        noise = config.sigma * distance if config.noise_px is None else torch.full_like(distance, config.noise_px)
        self._unit = (1 / noise)[:, None, None]
        weights = torch.from_numpy(config.weights.per_landmark() * points.valid)
        unit = (config.num_independent or float(points.valid.sum())) / float(weights.sum())
        self._weights = table(weights * unit)
        pairs = [(upper, lower, lower) for upper, lower in LID_PAIRS + LIP_PAIRS]
        looks = [(iris, *EYE_CORNERS[side]) for side, iris in IRIS_CENTRES.items()]
        self._plus, self._minus, self._other = torch.tensor(pairs + looks, device=landmarks.device).T
        counted = [config.opening_weight] * len(pairs) + [config.gaze_weight] * len(looks)
        self._difference_weights = table(counted) * unit
        prior = make_prior(model, config)
        self._hessian, self._linear = table(prior.hessian), table(prior.linear)
        self.lower, self.upper = table(prior.lower), table(prior.upper)
        self._shape_weight = config.shape_sigma**-2
        self._distance_weight = (config.distance_sigma * start.translation[:, 2]) ** -2

    def zeros(self) -> Unknowns:
        """The start."""
        batch, new = len(self._target), self._mean.new_zeros
        num_shape = len(self._basis) - self._num_expression
        pose = HeadPose(rotation=new(batch, 3), translation=new(batch, 3))
        return Unknowns(pose=pose, own=new(batch, len(self._linear)), shape=new(batch, num_shape))

    def pose(self, unknowns: Unknowns) -> tuple[Tensor, Tensor]:
        """Rotation `[B, 3, 3]` and translation `[B, 3]` in metres of the head in camera space."""
        rotation = axis_angle_to_matrix(unknowns.pose.rotation) @ self._start.rotation
        return rotation, self._start.translation + unknowns.pose.translation / _UNITS_PER_METRE

    def unknowns_of(self, fit: BatchFit) -> Unknowns:
        """A fit of the same images."""
        turn = matrix_to_axis_angle(axis_angle_to_matrix(fit.pose.rotation) @ self._start.rotation.mT)
        move = (fit.pose.translation - self._start.translation) * _UNITS_PER_METRE
        turns = {"jaw": fit.head.jaw, "eye_left": fit.head.eyes[:, 0], "eye_right": fit.head.eyes[:, 1]}
        angles = [turns[self._config.joints[joint]][:, [axis]] for joint, axis in self._axes]
        num_shape = len(self._basis) - self._num_expression
        return Unknowns(
            pose=HeadPose(rotation=turn, translation=move),
            own=torch.cat([fit.head.expression[:, self._active], *angles], 1),
            shape=fit.head.shape[:, :num_shape],
        )

    def pixels(self, unknowns: Unknowns) -> Tensor:
        """Landmarks `[B, 478, 2]`, crop px."""
        rotation, translation = self.pose(unknowns)
        x, y, z = (self.points(unknowns) @ rotation.mT + translation[:, None]).unbind(-1)
        scale = self._focal_px / -z
        return torch.stack([self._size / 2 + x * scale, self._size / 2 - y * scale], -1)

    def points(self, unknowns: Unknowns) -> Tensor:
        """Landmarks `[B, 478, 3]` in head axes, metres."""
        coefficients = torch.cat([unknowns.own[:, : self._num_expression], unknowns.shape], 1)
        points = self._mean + (coefficients @ self._basis).reshape(len(coefficients), -1, 3)
        turns = self.joint_turns(unknowns)
        for index, (rows, mean, basis) in enumerate(self._joints):
            change = axis_angle_to_matrix(turns[:, index]) - torch.eye(3).to(points)
            arm = mean + (coefficients @ basis.flatten(0, 1).T).reshape(-1, *mean.shape)
            points = points.index_add(1, rows, arm @ change.mT)
        return points

    def joint_turns(self, unknowns: Unknowns) -> Tensor:
        """Rotation vectors `[B, M, 3]` of the joints."""
        turns = [[torch.zeros_like(unknowns.own[:, 0])] * 3 for _ in self._joints]
        for column, (joint, axis) in enumerate(self._axes, start=self._num_expression):
            turns[joint][axis] = unknowns.own[:, column]
        return torch.stack([torch.stack(turn, 1) for turn in turns], 1)

    def loss(self, unknowns: Unknowns) -> Tensor:
        """`[B]`, in squared standard deviations."""
        error = (self.pixels(unknowns) - self._target) * self._unit
        between = error[:, self._plus] - 0.5 * (error[:, self._minus] + error[:, self._other])
        seen = (error**2).sum(-1) @ self._weights + (between**2).sum(-1) @ self._difference_weights
        distance = unknowns.pose.translation[:, 2] / _UNITS_PER_METRE
        # coefficients count for as strong as they look, against the head at its expected distance
        nearness = (self._start.translation[:, 2] / (self._start.translation[:, 2] + distance))[:, None]
        expression, angles = unknowns.own.tensor_split([self._num_expression], 1)
        own = torch.cat([expression * nearness, angles], 1)
        prior = ((0.5 * own @ self._hessian + self._linear) * own).sum(1)
        prior = prior + 0.5 * self._shape_weight * ((unknowns.shape * nearness) ** 2).sum(1)
        return 0.5 * seen + prior + 0.5 * self._distance_weight * distance**2


class MeshObjective(AutomaticObjective):
    """The same from landmarks on the whole posed mesh."""

    def points(self, unknowns: Unknowns) -> Tensor:
        """Landmarks of the posed mesh."""
        head = HeadParams.zeros(self._model, len(unknowns.own)).to(unknowns.own.dtype)
        expression, shape = head.expression.clone(), head.shape.clone()
        expression[:, self._active] = unknowns.own[:, : self._num_expression]
        shape[:, : unknowns.shape.shape[1]] = unknowns.shape
        turns = dict(zip(self._config.joints, self.joint_turns(unknowns).unbind(1), strict=True))
        eyes = torch.stack([turns["eye_left"], turns["eye_right"]], 1)
        head = head.replace(expression=expression, shape=shape, jaw=turns.get("jaw", head.jaw), eyes=eyes)
        return self._model.landmarks(self._model(head))


@dataclass(frozen=True)
class AdamRun:
    """What Adam did.

    Attributes:
        best: the state of least loss of each image.
        losses: `[N + 1]` sum over images of the least loss so far, the start first.
        wall, cpu: `[N + 1]` seconds since the start.
    """

    best: Unknowns
    losses: Tensor
    wall: Tensor
    cpu: Tensor

    def first_at(self, loss: float) -> int | None:
        """Steps taken until the sum is no greater; None if never."""
        reached = torch.nonzero(self.losses <= loss)
        return int(reached[0]) if len(reached) else None


def run_adam(
    objective: AutomaticObjective,
    *,
    rate: float,
    stages: tuple[int, int] = STAGES,
    until: Callable[[float], bool] | None = None,
) -> AdamRun:
    """The two stages from the start.

    Args:
        objective: what is minimised; hard limits are kept by clamping after every step.
        rate: learning rate.
        stages: steps for the pose, steps for everything.
        until: of the sum of least losses; stops early.
    """
    state = objective.zeros()
    kept, best = state.copy(), torch.full_like(state.own[:, 0], torch.inf)
    losses, wall, cpu = [], [], []
    began, began_cpu = time.perf_counter(), time.process_time()

    def note(loss: Tensor) -> bool:
        is_better = (loss < best)[:, None]
        with torch.no_grad():
            for target, value in zip(kept.arrays(), state.arrays(), strict=True):
                target.copy_(torch.where(is_better, value, target))
            torch.minimum(best, loss.detach(), out=best)
        losses.append(float(best.double().sum()))
        wall.append(time.perf_counter() - began)
        cpu.append(time.process_time() - began_cpu)
        return until is not None and until(losses[-1])

    def ended() -> AdamRun:
        return AdamRun(kept.copy(), *(torch.tensor(values, dtype=torch.float64) for values in (losses, wall, cpu)))

    pose = state.pose.arrays()
    for parts, steps in zip((pose, [*pose, state.own, state.shape]), stages, strict=True):
        for part in parts:
            part.requires_grad_()
        adam = torch.optim.Adam(parts, lr=rate, foreach=True)
        for _ in range(steps):
            adam.zero_grad(set_to_none=True)
            loss = objective.loss(state)
            if note(loss):
                return ended()
            loss.sum().backward()
            adam.step()
            with torch.no_grad():
                state.own.clamp_(objective.lower, objective.upper)
    with torch.no_grad():
        note(objective.loss(state))
    return ended()
