"""Fits a head model to landmarks of one photo, several photos of one person, or a video, frame after frame."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from flame.errors import InputError
from flame.heads.head_model import HeadModel, HeadParams
from flame.heads.head_pose import HeadPose
from flame.landmarks.groups import NUM_MESH, outer_eye_distance
from preprocess.fitting.config import FitConfig, active_expressions, joint_axes, make_prior
from preprocess.fitting.gauss_newton import Normal, solve_box, solve_shared
from preprocess.fitting.landmark_model import LandmarkModel
from preprocess.fitting.residuals import Linearized, Pose, Residuals, rigid_start, turn

_RIGID_DAMPING = 1e-3
_MIN_LANDMARKS = 40


@dataclass(frozen=True, kw_only=True)
class HeadFit:
    """The fit of a head model to one frame: arrays without a batch axis.

    Attributes:
        pose: rotation `[3]` in radians, translation `[3]` in metres.
        head: shape `[S]` and expression `[E]` in the full length of the head model, jaw `[3]`, eyes `[2, 3]`; the neck
            `[3]` is zero.
        error: mean distance of the known face mesh landmarks, as a fraction of the outer-eye distance.
    """

    pose: HeadPose[NDArray[np.float32]]
    head: HeadParams[NDArray[np.float32]]
    error: float


class HeadFitter:
    """Fits one head model; it holds the tables that fits share, so make one and keep it."""

    def __init__(self, model: HeadModel, *, crop_size: int = 512, config: FitConfig | None = None) -> None:
        """Makes the tables of a head model.

        Args:
            model: the head model in metres; is not changed.
            crop_size: side of the crop that landmarks are given in, px.
            config: `FitConfig.for_model(model)` by default.

        Raises:
            InputError: the head model knows too few of the tracker's landmarks.
        """
        self.config = config or FitConfig.for_model(model)
        self._num_full_shape = model.num_shape
        self._active = active_expressions(model, self.config)
        self._num_full_expression = model.num_expression
        self.landmark_model = LandmarkModel(
            model, expressions=self._active, num_shape=self.config.num_shape, joints=self.config.joints
        )
        num_valid = int(self.landmark_model.valid.sum())
        if num_valid < _MIN_LANDMARKS:
            raise InputError(
                f"expected a head model that knows at least {_MIN_LANDMARKS} of the tracker's 478 landmarks, "
                f"{model.name} knows {num_valid}: put its landmark embedding beside it, or use the open head"
            )
        self.residuals = Residuals(self.landmark_model, self.config, crop_size=crop_size)
        self.prior = make_prior(model, self.config)
        self.num_own = len(self.prior.linear)

    def fit(self, landmarks: Sequence[NDArray]) -> list[HeadFit]:
        """Fits frames of one person, which share the shape.

        Args:
            landmarks: `[478, 3]` crop px of each frame.

        Raises:
            ValueError: landmarks are not finite or have another shape.
        """
        for frame in landmarks:
            if frame.shape != (478, 3) or not np.isfinite(frame).all():
                raise ValueError(f"landmarks must be finite [478, 3] per frame, got {frame.shape}")
        poses = [rigid_start(self.landmark_model, frame, self.residuals, self.num_own) for frame in landmarks]
        distances = [float(pose.translation[2]) for pose in poses]
        shape = np.zeros(self.landmark_model.num_shape)
        for pose, frame in zip(poses, landmarks, strict=True):
            self._align(pose, frame)
        for iteration in range(self.config.iterations):
            is_robust = iteration > self.config.iterations // 2
            normals = self._normals(poses, shape, landmarks, distances, is_robust=is_robust)
            shape = self._step_shared(poses, shape, normals)
        return [self.result(pose, shape, frame) for pose, frame in zip(poses, landmarks, strict=True)]

    def step(self, person: Residuals, pose: Pose, landmarks: NDArray, *, before: Pose | None = None) -> None:
        """Takes one Gauss-Newton step of a single frame in place.

        Args:
            person: `residuals.with_shape(shape)`.
            pose: the frame's unknowns; changed in place.
            landmarks: `[478, 3]` crop px.
            before: the unknowns of the previous frame; None: without the temporal prior.
        """
        linear = person.linearize(pose, np.zeros(0), landmarks, is_robust=True)
        normal = self._normal(linear, pose)
        if before is not None:
            weight = self.config.temporal_sigma**-2
            own = np.arange(self.num_own)
            normal.hessian[own, own] += weight
            normal.gradient[own] += weight * (pose.own - before.own)
        step, _ = solve_box(normal.hessian, normal.gradient, normal.lower, normal.upper)
        turn(pose, step, self.num_own)

    def start(self, landmarks: NDArray) -> Pose:
        """Returns the pose of the mean head at rest that fits landmarks `[478, 3]` (crop px) best."""
        pose = rigid_start(self.landmark_model, landmarks, self.residuals, self.num_own)
        self._align(pose, landmarks)
        return pose

    def _align(self, pose: Pose, landmarks: NDArray) -> None:
        """Fits the head's pose alone, in place."""
        shape = np.zeros(self.landmark_model.num_shape)
        rigid = slice(self.num_own, self.num_own + 6)
        for _ in range(self.config.pose_iterations):
            linear = self.residuals.linearize(pose, shape, landmarks, is_pose_only=True, is_robust=False)
            step = np.zeros(self.num_own + 6)
            hessian = linear.hessian[rigid, rigid]
            hessian = hessian + _RIGID_DAMPING * np.diag(hessian.diagonal())
            step[rigid] = -np.linalg.solve(hessian, linear.gradient[rigid])
            turn(pose, step, self.num_own)

    def result(self, pose: Pose, shape: NDArray, landmarks: NDArray) -> HeadFit:
        """Converts a frame's unknowns to a fit, with its error against landmarks `[478, 3]` (crop px)."""
        size = self.landmark_model.num_expression
        turns = dict(zip(self.config.joints, self.residuals.joint_turns(pose), strict=True))
        zero = np.zeros(3)
        eyes = np.stack([turns.get("eye_left", zero), turns.get("eye_right", zero)])
        full_shape = np.zeros(self._num_full_shape, np.float32)
        full_shape[: len(shape)] = shape
        expression = np.zeros(self._num_full_expression, np.float32)
        expression[self._active] = pose.own[:size]
        distance = np.linalg.norm(self.residuals.project(pose, shape) - landmarks[:, :2], axis=-1)
        mesh = self.landmark_model.valid.copy()
        mesh[NUM_MESH:] = False
        rotation = Rotation.from_matrix(pose.rotation).as_rotvec()
        return HeadFit(
            pose=HeadPose(rotation=rotation.astype(np.float32), translation=pose.translation.astype(np.float32)),
            head=HeadParams(
                shape=full_shape,
                expression=expression,
                neck=np.zeros(3, np.float32),
                jaw=turns.get("jaw", zero).astype(np.float32),
                eyes=eyes.astype(np.float32),
            ),
            error=float(distance[mesh].mean() / outer_eye_distance(landmarks)),
        )

    def project(
        self, pose: HeadPose[NDArray[np.float32]], head: HeadParams[NDArray[np.float32]]
    ) -> NDArray[np.float64]:
        """Returns the landmarks `[478, 2]` (crop px) of one frame's pose and head, given as in `HeadFit`."""
        joints = {"jaw": head.jaw, "eye_left": head.eyes[0], "eye_right": head.eyes[1]}
        angles = [joints[self.config.joints[joint]][axis] for joint, axis in joint_axes(self.config)]
        unknowns = Pose(
            np.concatenate([head.expression[self._active], angles]).astype(np.float64),
            Rotation.from_rotvec(pose.rotation).as_matrix(),
            pose.translation.astype(np.float64),
        )
        return self.residuals.project(unknowns, head.shape[: self.landmark_model.num_shape].astype(np.float64))

    def _normals(
        self,
        poses: list[Pose],
        shape: NDArray,
        landmarks: Sequence[NDArray],
        distances: list[float],
        *,
        is_robust: bool,
    ) -> list[Normal]:
        """Returns the quadratic models of all frames, shape included, with the prior of the heads' distances."""
        normals = []
        row = self.num_own + 5
        for pose, frame, distance in zip(poses, landmarks, distances, strict=True):
            linear = self.residuals.linearize(pose, shape, frame, is_robust=is_robust)
            weight = (self.config.distance_sigma * distance) ** -2
            weight /= len(poses) if self.config.num_independent is None else 1
            linear.hessian[row, row] += weight
            linear.gradient[row] += weight * (pose.translation[2] - distance)
            normals.append(self._normal(linear, pose))
        return normals

    def _step_shared(self, poses: list[Pose], shape: NDArray, normals: list[Normal]) -> NDArray:
        """Takes one step of all frames and their common shape; returns the new shape and changes poses in place.

        The prior counts once per frame. The errors of landmarks are mostly the same in all frames of a person (bias of
        the tracker, limits of the model), so a clip determines a shape no better than a photo does: with the prior
        counted once, the shapes from a clip and from a photo of the same person differ by what looks like 1 or 2
        degrees of pitch.
        """
        count = 1 if self.config.num_independent is None else len(poses)
        prior = np.eye(len(shape)) * (count * self.config.shape_sigma**-2)
        change, steps = solve_shared(normals, prior, prior @ shape)
        for pose, step in zip(poses, steps, strict=True):
            turn(pose, step, self.num_own)
        return shape + change

    def _normal(self, linear: Linearized, pose: Pose) -> Normal:
        """Adds the prior to the data cost, with the bounds that remain for a step."""
        own, rigid = self.num_own, slice(self.num_own, self.num_own + 6)
        hessian, gradient = linear.hessian, linear.gradient
        hessian[:own, :own] += self.prior.hessian
        gradient[:own] += self.prior.hessian @ pose.own + self.prior.linear
        diagonal = np.arange(rigid.start, rigid.stop)
        hessian[diagonal, diagonal] *= 1 + _RIGID_DAMPING
        free = np.full(6, np.inf)
        return Normal(
            hessian,
            gradient,
            np.concatenate([self.prior.lower - pose.own, -free]),
            np.concatenate([self.prior.upper - pose.own, free]),
        )


class VideoFitter:
    """Fits frames of one person with a known shape; each fit begins at that of the frame before."""

    def __init__(self, fitter: HeadFitter, shape: NDArray) -> None:
        """Fixes the shape.

        Args:
            fitter: the head model's fitter.
            shape: `[S]`, for example from `fitter.fit` on some frames.
        """
        self._fitter = fitter
        self._shape = shape[: fitter.landmark_model.num_shape].astype(np.float64)
        self._person = fitter.residuals.with_shape(self._shape)
        self._pose: Pose | None = None

    def reset(self) -> None:
        """Forgets the previous frame (after a cut or a gap)."""
        self._pose = None

    def __call__(self, landmarks: NDArray) -> HeadFit:
        """Fits the next frame's landmarks `[478, 3]` (crop px)."""
        fitter = self._fitter
        if self._pose is None:
            pose, before, iterations = fitter.start(landmarks), None, fitter.config.iterations
        else:
            pose, before, iterations = self._pose.copy(), self._pose, fitter.config.video_iterations
        for _ in range(iterations):
            fitter.step(self._person, pose, landmarks, before=before)
        self._pose = pose
        return fitter.result(pose, self._shape, landmarks)
