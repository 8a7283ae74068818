"""Residuals of a head model against one frame's landmarks, and their quadratic model around the present pose."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from flame.camera import DEFAULT_FOV_DEGREES
from preprocess.fit_config import FitConfig, joint_axes
from preprocess.landmark_groups import EYE_CORNERS, LID_PAIRS, LIP_PAIRS, outer_eye_distance
from preprocess.landmark_model import LandmarkModel


@dataclass
class Pose:
    """The unknowns of one frame.

    Attributes:
        own: `[E + A]` expressions, then joint angles in the order of `fit_config.joint_axes`.
        rotation: `[3, 3]` and translation: `[3]` of the head in camera space, metres.
    """

    own: NDArray[np.float64]
    rotation: NDArray[np.float64]
    translation: NDArray[np.float64]

    def copy(self) -> "Pose":
        return Pose(self.own.copy(), self.rotation.copy(), self.translation.copy())


@dataclass(frozen=True)
class Linearized:
    """Quadratic model of the data cost; unknowns [expression E | joint angles A | rotation 3 | translation 3 | shape].

    Attributes:
        hessian: `[P, P]`.
        gradient: `[P]`.
        projected: `[478, 2]` crop px.
    """

    hessian: NDArray[np.float64]
    gradient: NDArray[np.float64]
    projected: NDArray[np.float64]


class Residuals:
    """Weighted differences between projected model landmarks and measured ones."""

    def __init__(self, landmark_model: LandmarkModel, config: FitConfig, *, crop_size: int) -> None:
        self.landmark_model = landmark_model
        self.crop_size = crop_size
        self.focal_px = 0.5 * crop_size / np.tan(np.radians(DEFAULT_FOV_DEGREES) / 2)
        self._axes = joint_axes(config)
        self._num_joints = len(config.joints)
        self._config = config
        weights = config.weights.per_landmark() * landmark_model.valid
        unit = config.num_independent / weights.sum()
        self._weights = weights * unit
        self._differences, difference_weights = _difference_rows(landmark_model.valid, config)
        self._difference_weights = difference_weights * unit

    def joint_turns(self, pose: Pose) -> NDArray[np.float64]:
        """Rotation vectors of the moving joints, `[M, 3]`."""
        turns = np.zeros((self._num_joints, 3))
        for (joint, axis), angle in zip(self._axes, pose.own[self.landmark_model.num_expression :], strict=True):
            turns[joint, axis] = angle
        return turns

    def project(self, pose: Pose, shape: NDArray) -> NDArray[np.float64]:
        """Model landmarks `[478, 2]` in crop px for shape `[S]`."""
        own = pose.own[: self.landmark_model.num_expression]
        posed = self.landmark_model.pose(np.concatenate([own, shape]), self.joint_turns(pose))
        in_camera = posed.points @ pose.rotation.T + pose.translation
        return self._to_pixels(in_camera)

    def linearize(
        self, pose: Pose, shape: NDArray, landmarks: NDArray, *, is_shape_free: bool, is_robust: bool
    ) -> Linearized:
        """Quadratic model of the cost of landmarks `[478, 3]` (crop px) around a pose and a shape `[S]`.

        The rotation's unknowns are a rotation vector in camera axes, applied from the left.
        """
        model = self.landmark_model
        size = model.num_expression
        posed = model.pose(np.concatenate([pose.own[:size], shape]), self.joint_turns(pose))
        turned = posed.points @ pose.rotation.T
        in_camera = turned + pose.translation
        jacobian = self._camera_jacobian(posed.basis, posed.turns, turned, pose.rotation, is_shape_free)
        inverse_depth = -1.0 / in_camera[:, 2]
        projected = self._to_pixels(in_camera)
        scale = self.focal_px * inverse_depth[:, None]
        slope = in_camera * inverse_depth[:, None]
        along_x = scale * (jacobian[0] + slope[:, :1] * jacobian[2])
        along_y = -scale * (jacobian[1] + slope[:, 1:2] * jacobian[2])
        along_z = -(self.focal_px * inverse_depth.mean()) * jacobian[2]
        depth = -in_camera[:, 2] * self.focal_px * inverse_depth.mean()
        unit = 1.0 / (self._config.sigma * outer_eye_distance(landmarks))
        error = (projected - landmarks[:, :2]) * unit
        weights = self._weights * self._robust(error) if is_robust else self._weights
        depth_error = self._centred((depth - landmarks[:, 2]) * unit)
        hessian, gradient = 0.0, 0.0
        for rows, values, row_weights in (
            (along_x, error[:, 0], weights),
            (along_y, error[:, 1], weights),
            (self._centred(along_z), depth_error, weights * self._config.depth_weight),
            (self._differences @ along_x, self._differences @ error[:, 0], self._difference_weights),
            (self._differences @ along_y, self._differences @ error[:, 1], self._difference_weights),
        ):
            weighted = rows * (np.sqrt(row_weights)[:, None] * unit)
            hessian = hessian + (weighted.T @ weighted)
            gradient = gradient + weighted.T @ (np.sqrt(row_weights) * values)
        return Linearized(np.asarray(hessian, np.float64), np.asarray(gradient, np.float64), projected)

    def _camera_jacobian(
        self, basis: NDArray, turns: tuple[NDArray, ...], turned: NDArray, rotation: NDArray, is_shape_free: bool
    ) -> NDArray:
        """Derivatives of the points in camera axes, `[3, 478, P]`."""
        size = self.landmark_model.num_expression
        count = basis.shape[2] if is_shape_free else size
        angles = np.zeros((*basis.shape[:2], len(self._axes)))
        for column, (joint, axis) in enumerate(self._axes):
            angles[:, :, column] = turns[joint][:, :, axis]
        head = np.concatenate([basis[..., :size], angles, basis[..., size:count]], -1)
        rotated = np.tensordot(rotation, head, axes=(1, 1))  # [3, 478, .]
        own = size + len(self._axes)
        rigid = np.zeros((3, len(turned), 6))
        x, y, z = turned.T
        rigid[0, :, 1], rigid[0, :, 2] = z, -y  # d(exp(w) p)/dw = -[p]x
        rigid[1, :, 0], rigid[1, :, 2] = -z, x
        rigid[2, :, 0], rigid[2, :, 1] = y, -x
        rigid[[0, 1, 2], :, [3, 4, 5]] = 1.0
        return np.concatenate([rotated[..., :own], rigid, rotated[..., own:]], -1)

    def _to_pixels(self, in_camera: NDArray) -> NDArray:
        scale = self.focal_px / -in_camera[:, 2:]
        return self.crop_size / 2 + in_camera[:, :2] * scale * np.array([1.0, -1.0])

    def _robust(self, error: NDArray) -> NDArray:
        """Cauchy weights of errors `[478, 2]` in units of sigma."""
        limit = self._config.outlier / self._config.sigma
        return 1.0 / (1.0 + (error**2).sum(-1) / limit**2)

    def _centred(self, values: NDArray) -> NDArray:
        """Depth is known up to a constant only: values minus their weighted mean over the landmarks."""
        return values - self._weights @ values / self._weights.sum()


def turn(pose: Pose, step: NDArray, num_own: int) -> None:
    """Adds a step of [own | rotation 3 | translation 3] to a pose in place."""
    pose.own += step[:num_own]
    rotation = Rotation.from_rotvec(np.clip(step[num_own : num_own + 3], -0.5, 0.5)).as_matrix()
    pose.rotation = rotation @ pose.rotation
    pose.translation = pose.translation + step[num_own + 3 : num_own + 6]


def rigid_start(landmark_model: LandmarkModel, landmarks: NDArray, residuals: Residuals, num_own: int) -> Pose:
    """Head pose of the resting template from 3D landmarks `[478, 3]` (crop px), by the similarity of Umeyama 1991."""
    valid = landmark_model.valid.copy()
    valid[468:] = False
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


def _difference_rows(valid: NDArray[np.bool_], config: FitConfig) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sparse sums of landmarks `[K, 478]` whose difference from the measured ones counts extra, and weights `[K]`."""
    rows, weights = [], []
    for upper, lower in LID_PAIRS + LIP_PAIRS:
        rows.append({upper: 1.0, lower: -1.0})
        weights.append(config.opening_weight)
    for iris, side in ((468, "right"), (473, "left")):
        outer, inner = EYE_CORNERS[side]
        rows.append({iris: 1.0, outer: -0.5, inner: -0.5})
        weights.append(config.gaze_weight)
    kept = [(row, weight) for row, weight in zip(rows, weights, strict=True) if all(valid[i] for i in row)]
    matrix = np.zeros((len(kept), len(valid)))
    for index, (row, _) in enumerate(kept):
        matrix[index, list(row)] = list(row.values())
    return matrix, np.array([weight for _, weight in kept])
