"""Fits a head model to the landmarks of many images in one call: batched Levenberg-Marquardt, on any torch device.

The objective is that of `preprocess.fit` (landmarks, lid and lip openings, gaze, priors, limits). Images of one person
share the shape; images of different people never touch each other. Damping after Marquardt 1963, per person.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from flame.camera import DEFAULT_FOV_DEGREES, Camera
from flame.errors import InputError
from flame.frame_parameters import FrameParameters
from flame.head_model import HeadModel, HeadParams
from flame.rotation import axis_angle_to_matrix, matrix_to_axis_angle
from preprocess.batch_residuals import BatchResiduals, BatchState, Target
from preprocess.batch_solve import BatchNormal, solve_batch
from preprocess.batch_start import rigid_starts
from preprocess.fit_config import FitConfig, active_expressions, make_prior
from preprocess.landmark_groups import NUM_LANDMARKS, OUTER_EYE_CORNERS
from preprocess.landmark_model import LandmarkModel
from preprocess.residuals import Residuals

MAX_ITERATIONS = 30
_TOLERANCE = 1e-5
"""Of the cost (of 1 where it is less), in squared standard deviations: a fit whose next step gains less has settled."""

_FIRST_DAMPING, _LEAST_DAMPING, _SETTLED_DAMPING = 1e-3, 1e-7, 1e-2
_MAX_TURN = 0.5
_ROBUST_FROM = 5
"""Outliers lose weight from this iteration on, or once the plain cost has settled."""


@dataclass(frozen=True)
class BatchFit:
    """A head model in B images.

    Attributes:
        shape: `[B, S]`, the same for all images of a person. expression: `[B, E]`. Full length of the head model.
        rotation: `[B, 3]` axis-angle and translation: `[B, 3]` metres of the head in camera space (OpenGL axes).
        jaw: `[B, 3]` and eyes: `[B, 2, 3]` (subject's left first), radians.
        error: `[B]` mean distance of the known face mesh landmarks, as a fraction of the outer-eye distance.
        iterations: `[B]` and converged: `[B]` bool, of the image's person.
        fov_degrees: of the camera, over the side of the crop.
    """

    shape: Tensor
    expression: Tensor
    rotation: Tensor
    translation: Tensor
    jaw: Tensor
    eyes: Tensor
    error: Tensor
    iterations: Tensor
    converged: Tensor
    fov_degrees: float

    def head(self) -> HeadParams:
        """The head at rest in front of a moving camera: no neck."""
        return HeadParams(self.shape, self.expression, torch.zeros_like(self.rotation), self.jaw, self.eyes)

    def frame_parameters(self, *, units_per_metre: float = 3.0) -> FrameParameters:
        """As released files state frames: `.to_vector437()` for FLAME, `.camera.to_label25` for any head model."""
        frames = FrameParameters.from_head_pose(
            self.rotation, self.translation, self.head(), units_per_metre=units_per_metre
        )
        camera = Camera.from_head_pose(self.rotation, self.translation * units_per_metre, fov_degrees=self.fov_degrees)
        return replace(frames, camera=camera)


class BatchFitter:
    """The tables of a head model that fits share; make one and keep it."""

    def __init__(
        self,
        model: HeadModel,
        *,
        crop_size: int = 512,
        config: FitConfig | None = None,
        fov_degrees: float = DEFAULT_FOV_DEGREES,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Args:
        model: the head model, in metres; only read here.
        crop_size: side of the crop that landmarks are given in, px.
        config: `FitConfig.for_model(model)` by default.
        fov_degrees: of the camera, over the side of the crop.
        device: where the fit runs.
        dtype: of landmarks and derivatives; the small systems of equations are solved in float64.
        """
        self.config, self.fov_degrees = config or FitConfig.for_model(model), fov_degrees
        self._like = torch.zeros(0, device=device, dtype=dtype)
        self._sizes = model.num_shape, model.num_expression
        active = active_expressions(model, self.config)
        landmark_model = LandmarkModel(
            model, expressions=active, num_shape=self.config.num_shape, joints=self.config.joints
        )
        residuals = Residuals(landmark_model, self.config, crop_size=crop_size, fov_degrees=fov_degrees)
        self.residuals = BatchResiduals(residuals, self.config, like=self._like)
        self._active = torch.from_numpy(active).to(device)
        prior = make_prior(model, self.config)
        exact = [
            torch.from_numpy(table).to(device) for table in (prior.hessian, prior.linear, prior.lower, prior.upper)
        ]
        self._prior_hessian, self._prior_linear, self._lower, self._upper = exact

    def fit(self, landmarks: Tensor, *, people: Tensor | None = None, is_clip: bool = False) -> BatchFit:
        """Fits B images.

        Args:
            landmarks: `[B, 478, 3]` crop px (x right, y down, depth away from the viewer up to a constant), NaN where
                unknown; `landmarks_of_set` makes them of other sets.
            people: `[B]` which person an image shows, any integers; images of one person share the shape. By default
                everyone is another.
            is_clip: images of one person that follow each other are consecutive frames: expressions change little.

        Raises:
            InputError: landmarks have another shape, or an image lacks what a fit needs.
        """
        landmarks, person = self._checked(landmarks, people)
        target = self.residuals.target(landmarks, person)
        state = rigid_starts(self.residuals, target, num_people=int(person.max()) + 1)
        objective = _Objective(self, target, state.translation[:, 2].double(), is_clip=is_clip)
        for _ in range(self.config.pose_iterations):
            state = objective.align(state)
        state, iterations, converged = _minimise(objective, state)
        return self._result(state, target, iterations[person], converged[person])

    def _checked(self, landmarks: Tensor, people: Tensor | None) -> tuple[Tensor, Tensor]:
        if landmarks.ndim != 3 or landmarks.shape[1:] != (NUM_LANDMARKS, 3) or not len(landmarks):
            raise InputError(f"expected landmarks [B, {NUM_LANDMARKS}, 3], got {list(landmarks.shape)}")
        landmarks = landmarks.to(self._like)
        if not landmarks[:, list(OUTER_EYE_CORNERS), :2].isfinite().all():
            raise InputError("expected both outer eye corners in every image, got NaN: leave these images out")
        if people is None:
            return landmarks, torch.arange(len(landmarks), device=self._like.device)
        if people.shape != (len(landmarks),) or people.is_floating_point():
            raise InputError(f"expected people [{len(landmarks)}] of integers, got {people.dtype} {list(people.shape)}")
        return landmarks, people.to(self._like.device).unique(return_inverse=True)[1]

    def _result(self, state: BatchState, target: Target, iterations: Tensor, converged: Tensor) -> BatchFit:
        batch = len(state.own)
        shape = self._like.new_zeros(batch, self._sizes[0])
        shape[:, : self.residuals.num_shape] = state.shape[target.person]
        expression = self._like.new_zeros(batch, self._sizes[1])
        expression[:, self._active] = state.own[:, : self.residuals.num_expression]
        turns = dict(zip(self.config.joints, self.residuals.joint_turns(state.own).unbind(1), strict=True))
        still = self._like.new_zeros(batch, 3)
        pixels = self.residuals.pixels(self.residuals.in_camera(state, target.person))
        is_used = (target.weights > 0) & self.residuals.is_mesh
        distance = (pixels - target.points[..., :2]).norm(dim=-1) * is_used
        return BatchFit(
            shape=shape,
            expression=expression,
            rotation=matrix_to_axis_angle(state.rotation),
            translation=state.translation,
            jaw=turns.get("jaw", still),
            eyes=torch.stack([turns.get("eye_left", still), turns.get("eye_right", still)], 1),
            error=distance.sum(1) / is_used.sum(1) * target.unit * self.config.sigma,
            iterations=iterations,
            converged=converged,
            fov_degrees=self.fov_degrees,
        )

    def prior_of(self, own: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Cost `[B]`, gradient and hessian of the prior of own unknowns `[B, P]` (float64)."""
        pull = own @ self._prior_hessian
        return ((0.5 * pull + self._prior_linear) * own).sum(1), pull + self._prior_linear, self._prior_hessian

    def room(self, own: Tensor) -> tuple[Tensor, Tensor]:
        """The box of the step of [own | pose 6], `[B, P + 6]` each."""
        free = own.new_full((len(own), 6), torch.inf)
        lower = (self._lower - own).clamp_max(0)  # an unknown rounded to just outside the box may stay
        upper = (self._upper - own).clamp_min(0)
        return torch.cat([lower, -free], 1), torch.cat([upper, free], 1)


class _Objective:
    """The cost of a batch, its quadratic model, and the way from one state to the next."""

    def __init__(self, fitter: BatchFitter, target: Target, distance: Tensor, *, is_clip: bool) -> None:
        self.fitter, self.target, self.residuals = fitter, target, fitter.residuals
        self.num_people = int(target.person.max()) + 1
        self._distance, config = distance, fitter.config
        self._distance_weight = (config.distance_sigma * distance) ** -2
        self._shape_weight = config.shape_sigma**-2
        self._link = None
        if is_clip:
            follows = torch.cat([target.person.new_zeros(1), (target.person.diff() == 0).long()]).double()
            self._link = follows[:, None] * config.temporal_sigma**-2

    def by_person(self, values: Tensor) -> Tensor:
        """Sums `[B]` -> `[N]`."""
        return values.new_zeros(self.num_people).index_add_(0, self.target.person, values)

    def cost(self, state: BatchState, robust: Tensor) -> Tensor:
        """`[N]`, float64."""
        own, shape = state.own.double(), state.shape.double()[self.target.person]
        cost = self.residuals.cost(state, self.target, robust) + self.fitter.prior_of(own)[0]
        cost = cost + 0.5 * self._shape_weight * (shape**2).sum(1)
        cost = cost + 0.5 * self._distance_weight * (state.translation[:, 2].double() - self._distance) ** 2
        if self._link is not None:
            cost = cost + 0.5 * (self._link * (own - own.roll(1, 0)) ** 2).sum(1)
        return self.by_person(cost)

    def normal(self, state: BatchState, robust: Tensor, damping: Tensor) -> BatchNormal:
        """The quadratic model around a state, damped by `[N]`."""
        hessian, gradient = self.residuals.normal(state, self.target, robust, is_pose_only=False)
        own, shape = state.own.double(), state.shape.double()[self.target.person]
        size = self.residuals.num_own
        _, pull, prior = self.fitter.prior_of(own)
        hessian[:, :size, :size] += prior
        gradient[:, :size] += pull
        diagonal = hessian.diagonal(dim1=1, dim2=2)
        diagonal[:, size + 6 :] += self._shape_weight
        gradient[:, size + 6 :] += self._shape_weight * shape
        diagonal[:, size + 5] += self._distance_weight
        gradient[:, size + 5] += self._distance_weight * (state.translation[:, 2].double() - self._distance)
        link = None
        if self._link is not None:
            change = self._link * (own - own.roll(1, 0))
            gradient[:, :size] += change - change.roll(-1, 0)
            diagonal[:, :size] += self._link + self._link.roll(-1, 0)
            link = torch.cat([self._link.expand(-1, size), own.new_zeros(len(own), 6)], 1)
        diagonal *= 1 + damping[self.target.person, None]
        return BatchNormal(hessian, gradient, *self.fitter.room(own), self.target.person, self.num_people, link)

    def align(self, state: BatchState) -> BatchState:
        """Turns and moves the heads only."""
        plain = torch.ones_like(self.target.weights)
        hessian, gradient = self.residuals.normal(state, self.target, plain, is_pose_only=True)
        hessian.diagonal(dim1=1, dim2=2).mul_(1 + _FIRST_DAMPING)
        step = -torch.linalg.solve(hessian, gradient)
        still = step.new_zeros(len(step), self.residuals.num_own)
        return moved(state, torch.cat([still, step], 1), torch.zeros_like(state.shape))


def moved(state: BatchState, own: Tensor, shared: Tensor) -> BatchState:
    """A state after a step of [own | rotation 3 | translation 3] `[B, P + 6]` and of the shapes `[N, K]`."""
    step, size = own.to(state.own), state.own.shape[1]
    turn = axis_angle_to_matrix(step[:, size : size + 3].clamp(-_MAX_TURN, _MAX_TURN))
    return BatchState(
        state.own + step[:, :size],
        turn @ state.rotation,
        state.translation + step[:, size + 3 :],
        state.shape + shared.to(state.shape),
    )


def _minimise(objective: _Objective, state: BatchState) -> tuple[BatchState, Tensor, Tensor]:
    """The state of least cost, how many iterations each person took `[N]`, and whether the last gained nothing more."""
    person, new = objective.target.person, objective.target.unit
    damping = new.new_full((objective.num_people,), _FIRST_DAMPING, dtype=torch.float64)
    is_robust, converged = (torch.zeros_like(damping, dtype=torch.bool) for _ in range(2))
    iterations = torch.zeros_like(damping, dtype=torch.int64)
    slack = 1e-6 if new.dtype == torch.float32 else 1e-12
    for iteration in range(MAX_ITERATIONS):
        is_robust = is_robust | (iteration >= _ROBUST_FROM)
        robust = objective.residuals.robust_weights(state, objective.target, is_robust[person])
        own, shared, gain = solve_batch(objective.normal(state, robust, damping))
        trial = moved(state, own, shared)
        before, after = objective.cost(state, robust), objective.cost(trial, robust)
        iterations += ~converged
        is_better = (after <= before * (1 + slack)) & ~converged
        state = _choose(is_better, trial, state, person)
        is_settled = (gain < _TOLERANCE * before.clamp_min(1)) & is_better & (damping <= _SETTLED_DAMPING)
        converged = converged | (is_settled & is_robust)
        is_robust = is_robust | (is_better & (gain < 1))
        damping = torch.where(is_better, (0.1 * damping).clamp_min(_LEAST_DAMPING), 10 * damping)
        if converged.all():
            break
    return state, iterations, converged


def _choose(is_first: Tensor, first: BatchState, second: BatchState, person: Tensor) -> BatchState:
    """Per person one of two states."""
    each = is_first[person]
    return BatchState(
        torch.where(each[:, None], first.own, second.own),
        torch.where(each[:, None, None], first.rotation, second.rotation),
        torch.where(each[:, None], first.translation, second.translation),
        torch.where(is_first[:, None], first.shape, second.shape),
    )
