"""Residuals between a head model and one frame's landmarks, and the quadratic model of their cost around a pose."""

import copy
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from flame.geometry.camera import DEFAULT_FOV_DEGREES
from flame.landmarks.groups import EYE_CORNERS, LID_PAIRS, LIP_PAIRS, NUM_MESH, outer_eye_distance
from preprocess.fitting.config import FitConfig, joint_axes
from preprocess.fitting.landmark_model import LandmarkModel, Posed
from preprocess.fitting.small_products import gram, product


@dataclass
class Pose:
    """The unknowns of one frame.

    Attributes:
        own: `[E + A]` expressions, then joint angles (radians) in the order of `config.joint_axes`.
        rotation: `[3, 3]` of the head in camera space.
        translation: `[3]` of the head in camera space, metres.
    """

    own: NDArray[np.float64]
    rotation: NDArray[np.float64]
    translation: NDArray[np.float64]

    def copy(self) -> "Pose":
        """Returns a copy that shares no arrays."""
        return Pose(self.own.copy(), self.rotation.copy(), self.translation.copy())


@dataclass(frozen=True)
class Linearized:
    """Quadratic model of the data cost in [expression E | joint angles A | rotation 3 | translation 3 | shape].

    Attributes:
        hessian: `[P, P]`.
        gradient: `[P]`.
    """

    hessian: NDArray[np.float64]
    gradient: NDArray[np.float64]


class Residuals:
    """Weighted differences between projected model landmarks and measured ones.

    Attributes:
        landmark_model: the landmarks as a function of the unknowns.
        crop_size: side of the crop, px.
        focal_px: focal length, crop px.
        weights: `[478]` of the landmarks, zero where the model has none.
        differences: `[D, 3]` indices of landmarks; the first minus the midpoint of the other two is one more residual.
        difference_weights: `[D]` of these residuals.
    """

    def __init__(
        self,
        landmark_model: LandmarkModel,
        config: FitConfig,
        *,
        crop_size: int,
        fov_degrees: float = DEFAULT_FOV_DEGREES,
    ) -> None:
        self.landmark_model = landmark_model
        self.crop_size = crop_size
        self.focal_px = 0.5 * crop_size / np.tan(np.radians(fov_degrees) / 2)
        self._axes = joint_axes(config)
        self._num_joints = len(config.joints)
        self._config = config
        weights = config.weights.per_landmark() * landmark_model.valid
        unit = (config.num_independent or landmark_model.valid.sum()) / weights.sum()
        self.weights = weights * unit
        self.differences, difference_weights = _difference_rows(landmark_model.valid, config)
        self.difference_weights = difference_weights * unit

    def with_shape(self, shape: NDArray) -> "Residuals":
        """Returns the residuals for one person's shape `[S]`, which is then no unknown."""
        fixed = copy.copy(self)
        fixed.landmark_model = self.landmark_model.with_shape(shape)
        return fixed

    def joint_turns(self, pose: Pose) -> NDArray[np.float64]:
        """Returns the rotation vectors of the moving joints, `[M, 3]`, radians."""
        turns = np.zeros((self._num_joints, 3))
        for (joint, axis), angle in zip(self._axes, pose.own[self.landmark_model.num_expression :], strict=True):
            turns[joint, axis] = angle
        return turns

    def project(self, pose: Pose, shape: NDArray) -> NDArray[np.float64]:
        """Returns the model's landmarks `[478, 2]` in crop px for a pose and a shape `[S]`."""
        own = pose.own[: self.landmark_model.num_expression]
        posed = self.landmark_model.pose(np.concatenate([own, shape]), self.joint_turns(pose))
        in_camera = posed.points @ pose.rotation.T + pose.translation
        return self._to_pixels(in_camera)

    def linearize(
        self, pose: Pose, shape: NDArray, landmarks: NDArray, *, is_pose_only: bool = False, is_robust: bool
    ) -> Linearized:
        """Builds the quadratic model of the cost around a pose and a shape.

        The rotation's unknowns are a rotation vector in camera axes, applied from the left.

        Args:
            pose: the frame's unknowns.
            shape: `[S]`.
            landmarks: `[478, 3]` crop px.
            is_pose_only: whether to leave all derivatives at zero but those by the six unknowns of the head's pose.
            is_robust: whether outliers lose weight.
        """
        model = self.landmark_model
        posed = model.pose(np.concatenate([pose.own[: model.num_expression], shape]), self.joint_turns(pose))
        turned = posed.points @ pose.rotation.T
        in_camera = turned + pose.translation
        rigid = slice(len(pose.own), len(pose.own) + 6)
        size = model.num_expression + len(self._axes) + 6 + model.num_shape
        jacobian = np.zeros((3, len(turned), 6 if is_pose_only else size), np.float32)
        _fill_rigid(jacobian if is_pose_only else jacobian[:, :, rigid], turned)
        if not is_pose_only:
            self._fill_head(jacobian, posed, pose.rotation)
        rows = self._rows(jacobian, in_camera, landmarks, is_robust=is_robust)
        normal = gram(rows)
        if is_pose_only:
            hessian, gradient = np.zeros((size, size)), np.zeros(size)
            hessian[rigid, rigid], gradient[rigid] = normal[:-1, :-1], normal[:-1, -1]
        else:
            hessian, gradient = normal[:-1, :-1], normal[:-1, -1]
        return Linearized(hessian, gradient)

    def _rows(self, jacobian: NDArray, in_camera: NDArray, landmarks: NDArray, *, is_robust: bool) -> NDArray:
        """Returns weighted derivatives of all residuals, and the residuals in the last column: `[N, P + 1]` float32."""
        inverse_depth = -1.0 / in_camera[:, 2]
        scale = self.focal_px * inverse_depth
        mean_scale = scale.mean()
        unit = 1.0 / (self._config.noise_px or self._config.sigma * outer_eye_distance(landmarks))
        slope = (in_camera[:, :2] * inverse_depth[:, None]).astype(np.float32)
        error = (self._to_pixels(in_camera) - landmarks[:, :2]) * unit
        depth_error = (-in_camera[:, 2] * mean_scale - landmarks[:, 2]) * unit
        limit = self._config.outlier * outer_eye_distance(landmarks) * unit
        weights = self.weights * _robust(error, limit) if is_robust else self.weights
        count, width = jacobian.shape[1:]
        differences = self.differences
        rows = np.empty((3 * count + 2 * len(differences), width + 1), np.float32)
        parts = [rows[index * count : (index + 1) * count] for index in range(3)]
        factor = (scale * unit).astype(np.float32)[:, None]
        np.multiply(jacobian[0] + slope[:, :1] * jacobian[2], factor, out=parts[0][:, :-1])
        np.multiply(jacobian[1] + slope[:, 1:] * jacobian[2], -factor, out=parts[1][:, :-1])
        np.multiply(jacobian[2], np.float32(-mean_scale * unit), out=parts[2][:, :-1])
        parts[0][:, -1], parts[1][:, -1], parts[2][:, -1] = error[:, 0], error[:, 1], depth_error
        # depth is known only up to a constant, so the weighted mean of its rows is subtracted
        parts[2] -= np.einsum("l,lp->p", self.weights.astype(np.float32), parts[2]) / np.float32(self.weights.sum())
        plus, minus, other = differences.T
        root = np.sqrt(self.difference_weights).astype(np.float32)[:, None]
        for axis in range(2):
            start = 3 * count + axis * len(differences)
            rows[start : start + len(differences)] = root * (
                parts[axis][plus] - 0.5 * (parts[axis][minus] + parts[axis][other])
            )
        root = np.sqrt(weights).astype(np.float32)[:, None]
        rows[: 2 * count].reshape(2, count, -1)[:] *= root
        parts[2] *= root * np.float32(np.sqrt(self._config.depth_weight))
        return rows

    def _fill_head(self, jacobian: NDArray, posed: Posed, rotation: NDArray) -> None:
        """Writes the points' derivatives (camera axes) by expression, joint angles and shape into `[3, 478, P]`."""
        model = self.landmark_model
        size = model.num_expression
        first_shape = size + len(self._axes) + 6
        rotated = product(rotation.astype(np.float32), model.basis.reshape(3, -1)).reshape(model.basis.shape)
        jacobian[:, :, :size], jacobian[:, :, first_shape:] = rotated[..., :size], rotated[..., size:]
        for joint in posed.joints:
            moved = np.einsum("ab,nbp->anp", rotation @ joint.change, joint.arm_basis)
            jacobian[:, joint.rows, :size] += moved[..., :size]
            jacobian[:, joint.rows, first_shape:] += moved[..., size:]
        for column, (index, axis) in enumerate(self._axes, start=size):
            joint = posed.joints[index]
            jacobian[:, joint.rows, column] = rotation @ joint.slopes[:, :, axis].T

    def _to_pixels(self, in_camera: NDArray) -> NDArray:
        scale = self.focal_px / -in_camera[:, 2:]
        return self.crop_size / 2 + in_camera[:, :2] * scale * np.array([1.0, -1.0])


def _fill_rigid(jacobian: NDArray, turned: NDArray) -> None:
    """Writes the derivatives by a small rotation from the left and by translation into `[3, 478, 6]`."""
    x, y, z = turned.T
    jacobian[0, :, 1], jacobian[0, :, 2] = z, -y  # d(exp(w) p)/dw = -[p]x
    jacobian[1, :, 0], jacobian[1, :, 2] = -z, x
    jacobian[2, :, 0], jacobian[2, :, 1] = y, -x
    jacobian[[0, 1, 2], :, [3, 4, 5]] = 1.0


def _robust(error: NDArray, limit: NDArray) -> NDArray:
    """Returns Cauchy weights `[478]` of errors `[478, 2]`; errors and limit are in standard deviations."""
    return 1.0 / (1.0 + (error**2).sum(-1) / limit**2)


def turn(pose: Pose, step: NDArray, num_own: int) -> None:
    """Adds a step of [own | rotation 3 | translation 3] to a pose in place; a turn of at most 0.5 radians per axis."""
    pose.own += step[:num_own]
    rotation = Rotation.from_rotvec(np.clip(step[num_own : num_own + 3], -0.5, 0.5)).as_matrix()
    pose.rotation = rotation @ pose.rotation
    pose.translation = pose.translation + step[num_own + 3 : num_own + 6]


def rigid_start(landmark_model: LandmarkModel, landmarks: NDArray, residuals: Residuals, num_own: int) -> Pose:
    """Estimates the template's pose from landmarks `[478, 3]` (crop px), by the similarity transform of Umeyama 1991.

    Args:
        landmark_model: of the head model.
        landmarks: `[478, 3]` crop px.
        residuals: whose camera and crop are used.
        num_own: number of expressions and joint angles, which stay zero.
    """
    valid = landmark_model.valid.copy()
    valid[NUM_MESH:] = False
    model = landmark_model.mean[valid]
    measured = landmarks[valid].astype(np.float64) * np.array([1.0, -1.0, -1.0])  # picture axes -> camera axes
    model_centre, measured_centre = model.mean(0), measured.mean(0)
    left, singular, right = np.linalg.svd((measured - measured_centre).T @ (model - model_centre))
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(left @ right))])
    rotation = (left * signs) @ right
    pixels_per_metre = (singular * signs).sum() / ((model - model_centre) ** 2).sum()
    distance = residuals.focal_px / pixels_per_metre
    half = residuals.crop_size / 2
    centre = np.array([measured_centre[0] - half, measured_centre[1] + half, 0.0]) / pixels_per_metre
    centre[2] = -distance
    return Pose(np.zeros(num_own), rotation, centre - rotation @ model_centre)


def _difference_rows(valid: NDArray[np.bool_], config: FitConfig) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Returns `[D, 3]` landmarks (the first minus the midpoint of the other two is a residual) and weights `[D]`."""
    rows = [(upper, lower, lower) for upper, lower in LID_PAIRS + LIP_PAIRS]
    weights = [config.opening_weight] * len(rows)
    for iris, side in ((468, "right"), (473, "left")):
        rows.append((iris, *EYE_CORNERS[side]))
        weights.append(config.gaze_weight)
    kept = [index for index, row in enumerate(rows) if valid[list(row)].all()]
    return np.array(rows)[kept], np.array(weights)[kept]
