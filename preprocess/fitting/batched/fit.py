"""Fits a head model to the landmarks of many images in one call: batched Levenberg-Marquardt, on any torch device.

The objective is that of `preprocess.fitting.frames` (landmarks, lid and lip openings, gaze, priors, limits) with two
differences: the scale of depths follows the head, and priors apply to apparent sizes
(`preprocess.fitting.batched.objective`). Images of one person share the shape; people are fitted independently. Damping
after Marquardt 1963, per person.

The docstring of the package says why there are two fitters with one objective.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from flame.errors import InputError
from flame.geometry.camera import DEFAULT_FOV_DEGREES
from flame.geometry.rotation import matrix_to_axis_angle
from flame.heads.frame_parameters import FrameParameters
from flame.heads.head_model import HeadModel, HeadParams
from flame.heads.head_pose import HeadPose
from flame.landmarks.groups import NUM_LANDMARKS, OUTER_EYE_CORNERS
from preprocess.fitting.batched.objective import BatchPrior, Objective, moved
from preprocess.fitting.batched.residuals import BatchResiduals, BatchState, Target
from preprocess.fitting.batched.solve import solve_batch
from preprocess.fitting.batched.start import rigid_starts
from preprocess.fitting.config import FitConfig, active_expressions, make_prior
from preprocess.fitting.landmark_model import LandmarkModel
from preprocess.fitting.residuals import Residuals

MAX_ITERATIONS = 30
_TOLERANCE = 1e-5
"""A fit has converged when its next step lowers the cost by less than this share of it (of 1 where it is below 1)."""

_FIRST_DAMPING, _LEAST_DAMPING, _SETTLED_DAMPING = 1e-3, 1e-7, 1e-2
_ROUNDING = 1e-12
"""Relative rounding error of costs."""

_ROBUST_FROM = 5
"""Outliers lose weight from this iteration on, or earlier, once the cost without it has converged."""


@dataclass(frozen=True, kw_only=True)
class BatchFit:
    """The fit of a head model to B images.

    Attributes:
        pose: of B heads.
        head: of B heads in the full length of the head model, the shape the same for all images of a person; the neck
            is zero.
        error: `[B]` mean distance of the known face mesh landmarks, as a fraction of the outer-eye distance.
        iterations: `[B]` iterations of the fit of the image's person.
        converged: `[B]` bool, whether that fit converged.
        fov_degrees: field of view of the camera over the side of the crop.
    """

    pose: HeadPose
    head: HeadParams
    error: Tensor
    iterations: Tensor
    converged: Tensor
    fov_degrees: float

    def frame_parameters(self, *, units_per_metre: float = 3.0) -> FrameParameters:
        """Converts to the form of released files: `.to_vector437()` for FLAME, `.camera.to_label25` for any head model.

        Args:
            units_per_metre: world units of the result in a metre.
        """
        return FrameParameters.from_head_pose(
            self.pose, self.head, units_per_metre=units_per_metre, fov_degrees=self.fov_degrees
        )


class BatchFitter:
    """Fits one head model; it holds the tables that fits share, so make one and keep it."""

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
        """Makes the tables of a head model.

        Args:
            model: the head model in metres; is not changed.
            crop_size: side of the crop that landmarks are given in, px.
            config: `FitConfig.for_model(model)` by default.
            fov_degrees: field of view of the camera over the side of the crop.
            device: where the fit runs.
            dtype: of derivatives and results; residuals and the systems of equations are float64.
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
        self.prior = BatchPrior(make_prior(model, self.config), num_expression=len(active), device=self._like.device)

    def fit(self, landmarks: Tensor, *, people: Tensor | None = None, is_clip: bool = False) -> BatchFit:
        """Fits B images.

        Args:
            landmarks: `[B, 478, 3]` crop px (x right, y down, depth away from the viewer up to a constant), NaN where
                unknown; `landmarks_of_set` converts other sets.
            people: `[B]` which person an image shows, any integers; images of one person share the shape. By default
                every image shows another person.
            is_clip: whether successive images of one person are consecutive frames, whose expressions change little.

        Raises:
            InputError: landmarks or people have another shape, or an image lacks the outer eye corners.
        """
        landmarks, person = self._checked(landmarks, people)
        target = self.residuals.target(landmarks, person)
        state = rigid_starts(self.residuals, target, num_people=int(person.max()) + 1)
        objective = Objective(self.residuals, self.prior, self.config, target=target, start=state, is_clip=is_clip)
        for _ in range(self.config.pose_iterations):
            state = objective.align(state)
        state, iterations, converged = _minimise(objective, state)
        return self._result(state, target, iterations[person], converged[person])

    def _checked(self, landmarks: Tensor, people: Tensor | None) -> tuple[Tensor, Tensor]:
        if landmarks.ndim != 3 or landmarks.shape[1:] != (NUM_LANDMARKS, 3) or not len(landmarks):
            raise InputError(f"expected landmarks [B, {NUM_LANDMARKS}, 3], got {list(landmarks.shape)}")
        landmarks = landmarks.to(self._like.device, torch.float64)
        if not landmarks[:, list(OUTER_EYE_CORNERS), :2].isfinite().all():
            raise InputError("expected both outer eye corners in every image, got NaN: leave these images out")
        if people is None:
            return landmarks, torch.arange(len(landmarks), device=self._like.device)
        if people.shape != (len(landmarks),) or people.is_floating_point():
            raise InputError(f"expected people [{len(landmarks)}] of integers, got {people.dtype} {list(people.shape)}")
        return landmarks, people.to(self._like.device).unique(return_inverse=True)[1]

    def _result(self, state: BatchState, target: Target, iterations: Tensor, converged: Tensor) -> BatchFit:
        batch = len(state.own)
        shape = state.own.new_zeros(batch, self._sizes[0])
        shape[:, : self.residuals.num_shape] = state.shape[target.person]
        expression = state.own.new_zeros(batch, self._sizes[1])
        expression[:, self._active] = state.own[:, : self.residuals.num_expression]
        turns = dict(zip(self.config.joints, self.residuals.joint_turns(state.own).unbind(1), strict=True))
        still = state.own.new_zeros(batch, 3)
        pixels = self.residuals.pixels(self.residuals.in_camera(state, target.person))
        is_used = (target.weights > 0) & self.residuals.is_mesh
        distance = (pixels - target.points[..., :2]).norm(dim=-1) * is_used
        head = HeadParams(
            shape=shape,
            expression=expression,
            neck=still,
            jaw=turns.get("jaw", still),
            eyes=torch.stack([turns.get("eye_left", still), turns.get("eye_right", still)], 1),
        )
        pose = HeadPose(rotation=matrix_to_axis_angle(state.rotation), translation=state.translation)
        return BatchFit(
            pose=pose.map(lambda part: part.to(self._like)),
            head=head.map(lambda part: part.to(self._like)),
            error=(distance.sum(1) / is_used.sum(1) / target.eye_distance).to(self._like),
            iterations=iterations,
            converged=converged,
            fov_degrees=self.fov_degrees,
        )


def _minimise(objective: Objective, state: BatchState) -> tuple[BatchState, Tensor, Tensor]:
    """Minimises the cost from a state.

    Returns:
        The last state, and of each person the number of iterations `[N]` and whether the fit converged `[N]`.
    """
    damping = state.own.new_full((objective.num_people,), _FIRST_DAMPING)
    is_robust, converged = (torch.zeros_like(damping, dtype=torch.bool) for _ in range(2))
    iterations = torch.zeros_like(damping, dtype=torch.int64)
    for iteration in range(MAX_ITERATIONS):
        open_people = (~converged).nonzero()[:, 0]
        some, present = objective.of(open_people), state.of(open_people, objective.target.person)
        robust_now = is_robust[open_people] | (iteration >= _ROBUST_FROM)
        robust = some.residuals.robust_weights(present, some.target, robust_now[some.target.person])
        own, shared, gain = solve_batch(some.normal(present, robust, damping[open_people]))
        trial = moved(present, own, shared)
        before, after = some.cost(present, robust), some.cost(trial, robust)
        iterations[open_people] += 1
        is_better = after <= before * (1 + _ROUNDING)
        state = state.with_some(
            _choose(is_better, trial, present, some.target.person), open_people, objective.target.person
        )
        is_small = (gain < _TOLERANCE * before.clamp_min(1)) & (damping[open_people] <= _SETTLED_DAMPING)
        converged[open_people] = is_small & is_better & robust_now
        is_robust[open_people] = robust_now | (is_better & (gain < 1))
        lower, higher = (0.1 * damping[open_people]).clamp_min(_LEAST_DAMPING), 10 * damping[open_people]
        damping[open_people] = torch.where(is_better, lower, higher)
        if converged.all():
            break
    return state, iterations, converged


def _choose(is_first: Tensor, first: BatchState, second: BatchState, person: Tensor) -> BatchState:
    """Chooses one of two states for each person, `is_first` `[N]`, where `person` `[B]` says whose an image is."""
    each = is_first[person]
    return BatchState(
        torch.where(each[:, None], first.own, second.own),
        torch.where(each[:, None, None], first.rotation, second.rotation),
        torch.where(each[:, None], first.translation, second.translation),
        torch.where(is_first[:, None], first.shape, second.shape),
    )
