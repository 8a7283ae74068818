"""The residuals of `preprocess.residuals` for many images at once, in torch: the same objective, one image a row.

Landmarks that an image lacks are NaN and weigh nothing; so do landmarks the head model lacks.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from flame.rotation import axis_angle_to_matrix, skew
from preprocess.fit_config import FitConfig, joint_axes
from preprocess.landmark_groups import OUTER_EYE_CORNERS
from preprocess.residuals import Residuals

_SMALL_ANGLE_SQUARED = 1e-8


@dataclass(frozen=True)
class BatchState:
    """The unknowns of B images of N people.

    Attributes:
        own: `[B, E + A]` expressions, then joint angles in the order of `fit_config.joint_axes`.
        rotation: `[B, 3, 3]` and translation: `[B, 3]` of the head in camera space, metres.
        shape: `[N, K]`.
    """

    own: Tensor
    rotation: Tensor
    translation: Tensor
    shape: Tensor


@dataclass(frozen=True)
class Target:
    """What B images show.

    Attributes:
        points: `[B, L, 3]` crop px, zero where unknown.
        weights: `[B, L]` and depth_weights: `[B, L]`, zero where unknown.
        difference_weights: `[B, D]`.
        unit: `[B]` one over a landmark's standard deviation in px.
        eye_distance: `[B]` px between the outer corners.
        person: `[B]`.
    """

    points: Tensor
    weights: Tensor
    depth_weights: Tensor
    difference_weights: Tensor
    unit: Tensor
    eye_distance: Tensor
    person: Tensor


class BatchResiduals:
    """The tables of `Residuals` on a device, restricted to the L landmarks that the head model has."""

    def __init__(self, residuals: Residuals, config: FitConfig, *, like: Tensor) -> None:
        """Args:
        residuals: of the head model.
        config: the same that residuals were made with.
        like: whose device and dtype the tables get.
        """

        def table(values: np.ndarray) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(values)).to(like)

        model = residuals.landmark_model
        kept = np.flatnonzero(model.valid)
        place = np.full(len(model.valid), -1)
        place[kept] = np.arange(len(kept))
        self.kept, self.num_expression, self.num_shape = torch.from_numpy(kept), model.num_expression, model.num_shape
        self.is_mesh = torch.from_numpy(kept < 468).to(like.device)
        self.crop_size, self.focal_px = residuals.crop_size, float(residuals.focal_px)
        self.axes, self._num_joints, self._config = joint_axes(config), len(config.joints), config
        self.num_own = self.num_expression + len(self.axes)
        self.mean, self.basis = table(model.mean[kept]), table(model.basis[:, kept])
        self._weights = table(residuals.weights[kept])
        self._difference_weights = table(residuals.difference_weights)
        self._differences = torch.from_numpy(place[residuals.differences].T.copy()).to(like.device)
        self._joints = []
        for joint in model.joints:
            used = model.valid[joint.rows]
            rows = torch.from_numpy(place[joint.rows[used]]).to(like.device)
            correction = None if joint.correction is None else table(joint.correction[used])
            self._joints.append((rows, table(joint.arm_mean[used]), table(joint.arm_basis[used]), correction))

    def target(self, landmarks: Tensor, person: Tensor) -> Target:
        """Of landmarks `[B, 478, 3]`, NaN where unknown; a depth alone may be unknown too."""
        right, left = OUTER_EYE_CORNERS
        distance = (landmarks[:, right, :2] - landmarks[:, left, :2]).norm(dim=-1)
        points = landmarks[:, self.kept.to(landmarks.device)]
        known = points[..., :2].isfinite().all(-1)
        weights = self._weights * known
        scale = torch.ones_like(distance)
        if self._config.num_independent is not None:
            scale = self._weights.sum() / weights.sum(1)  # as many independent measurements from fewer landmarks
        noise = self._config.sigma * distance
        if self._config.noise_px is not None:
            noise = torch.full_like(distance, self._config.noise_px)
        depth_weights = weights * points[..., 2].isfinite() * self._config.depth_weight
        together = known[:, self._differences].all(1)
        return Target(
            points=points.nan_to_num(nan=0.0),
            weights=weights * scale[:, None],
            depth_weights=depth_weights * scale[:, None],
            difference_weights=self._difference_weights * together * scale[:, None],
            unit=1.0 / noise,
            eye_distance=distance,
            person=person,
        )

    def in_camera(self, state: BatchState, person: Tensor) -> Tensor:
        """Landmarks `[B, L, 3]` in camera space, metres."""
        return self._turned(state, person)[0] + state.translation[:, None]

    def pixels(self, points: Tensor) -> Tensor:
        """Points `[B, L, 3]` of camera space in crop px, `[B, L, 2]`."""
        scale = self.focal_px / -points[..., 2:]
        return self.crop_size / 2 + points[..., :2] * scale * points.new_tensor([1.0, -1.0])

    def robust_weights(self, state: BatchState, target: Target, is_robust: Tensor) -> Tensor:
        """Cauchy weights `[B, L]` of the errors at a state, for a step to hold; ones where `is_robust` `[B]` is not."""
        points = self.in_camera(state, target.person)
        error = (self.pixels(points) - target.points[..., :2]) * target.unit[:, None, None]
        limit = self._config.outlier * target.eye_distance * target.unit
        robust = 1.0 / (1.0 + (error**2).sum(-1) / limit[:, None] ** 2)
        return torch.where(is_robust[:, None], robust, torch.ones_like(robust))

    def cost(self, state: BatchState, target: Target, robust: Tensor) -> Tensor:
        """Half the weighted squared residuals `[B]`, float64, differentiable."""
        points = self.in_camera(state, target.person)
        rows = self._rows(points.new_zeros(len(points), 3, points.shape[1], 0), points, target, robust)
        return 0.5 * (rows.double() ** 2).sum((1, 2))

    def normal(self, state: BatchState, target: Target, robust: Tensor, *, is_pose_only: bool) -> tuple[Tensor, Tensor]:
        """Hessian `[B, W, W]` and gradient `[B, W]` (float64) of `cost`.

        Unknowns are [expression | joint angles | rotation 3 | translation 3 | shape], the rotation's a rotation vector
        in camera axes, applied from the left; only the six in the middle with `is_pose_only`.
        """
        turned, head = self._turned(state, target.person)
        rigid = torch.cat([-skew(turned), torch.eye(3).to(turned).expand_as(skew(turned))], -1).transpose(1, 2)
        jacobian = rigid
        if not is_pose_only:
            own, angles, shape = self._head_slopes(state, head)
            jacobian = torch.cat([own, angles, rigid, shape], -1)
        rows = self._rows(jacobian, turned + state.translation[:, None], target, robust)
        gram = (rows.mT @ rows).double()
        return gram[:, :-1, :-1], gram[:, :-1, -1]

    def joint_turns(self, own: Tensor) -> Tensor:
        """Rotation vectors of the moving joints, `[B, M, 3]`."""
        turns = own.new_zeros(len(own), self._num_joints, 3)
        for column, (joint, axis) in enumerate(self.axes, start=self.num_expression):
            turns[:, joint, axis] = own[:, column]
        return turns

    def _turned(self, state: BatchState, person: Tensor) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Posed landmarks `[B, L, 3]` turned into camera axes; per joint its change `R - I` and its slopes there."""
        coefficients = torch.cat([state.own[:, : self.num_expression], state.shape[person]], 1)
        points = self.mean + (coefficients @ self.basis.flatten(0, 1).T).reshape(-1, *self.basis.shape[:2]).mT
        turns, moved = self.joint_turns(state.own), []
        for index, (rows, mean, basis, correction) in enumerate(self._joints):
            rotation, slopes = _rotation_and_slopes(turns[:, index])
            change = rotation - torch.eye(3).to(rotation)
            arm = mean + (coefficients @ basis.flatten(0, 1).T).reshape(-1, *mean.shape)
            offset = arm @ change.mT
            derivative = torch.einsum("bkij,bnj->bkni", slopes, arm)
            if correction is not None:
                offset = offset + torch.einsum("nik,bk->bni", correction, change.flatten(1))
                derivative = derivative + torch.einsum("nij,bkj->bkni", correction, slopes.flatten(2))
            points = points.index_add(1, rows, offset)
            moved.append((change, derivative))
        return points @ state.rotation.mT, moved

    def _head_slopes(self, state: BatchState, joints: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
        """Derivatives `[B, 3, L, .]` of the points in camera axes by expression, joint angles and shape."""
        rotation, (_, num_points, width) = state.rotation, self.basis.shape
        basis = (rotation @ self.basis.reshape(3, -1)).reshape(-1, 3, num_points, width)
        for (rows, _, arm_basis, _), (change, _) in zip(self._joints, joints, strict=True):
            basis.index_add_(2, rows, torch.einsum("bij,njp->binp", rotation @ change, arm_basis))
        angles = rotation.new_zeros(len(rotation), 3, num_points, len(self.axes))
        for column, (index, axis) in enumerate(self.axes):
            slopes = joints[index][1][:, axis] @ rotation.mT  # [B, N, 3]
            angles[:, :, self._joints[index][0], column] = slopes.mT
        return basis[..., : self.num_expression], angles, basis[..., self.num_expression :]

    def _rows(self, jacobian: Tensor, points: Tensor, target: Target, robust: Tensor) -> Tensor:
        """Weighted derivatives of all residuals, the residuals in the last column: `[B, 3 L + 2 D, W + 1]`."""
        inverse_depth = -1.0 / points[..., 2]
        scale = self.focal_px * inverse_depth
        unit = target.unit[:, None]
        slope = points[..., :2] * inverse_depth[..., None]
        error = (self.pixels(points) - target.points[..., :2]) * unit[..., None]
        depth_scale = scale.mean(1, keepdim=True)  # px per metre
        depth_error = (-points[..., 2] * depth_scale - target.points[..., 2]) * unit
        factor = (scale * unit)[..., None]
        x = torch.cat([(jacobian[:, 0] + slope[..., :1] * jacobian[:, 2]) * factor, error[..., :1]], -1)
        y = torch.cat([(jacobian[:, 1] + slope[..., 1:] * jacobian[:, 2]) * -factor, error[..., 1:]], -1)
        # Holding the scale would let each step gain by moving the head, only to lose it again.
        scale_slope = torch.einsum("bl,blp->bp", scale * inverse_depth / scale.shape[1], jacobian[:, 2])[:, None]
        depth_slope = jacobian[:, 2] * depth_scale[..., None] + points[..., 2:] * scale_slope
        z = torch.cat([depth_slope * -unit[..., None], depth_error[..., None]], -1)
        # Depth is known up to a constant only: its rows lose their weighted mean.
        weights = target.depth_weights
        total = weights.sum(1).clamp_min(torch.finfo(weights.dtype).tiny)
        z = z - torch.einsum("bl,blp->bp", weights / total[:, None], z)[:, None]
        plus, minus, other = self._differences
        between = target.difference_weights.sqrt()[..., None]
        differences = [between * (axis[:, plus] - 0.5 * (axis[:, minus] + axis[:, other])) for axis in (x, y)]
        root = (target.weights * robust).sqrt()[..., None]
        depth_root = (weights * robust).sqrt()[..., None]
        return torch.cat([x * root, y * root, z * depth_root, *differences], 1)


def _rotation_and_slopes(rotvec: Tensor) -> tuple[Tensor, Tensor]:
    """`exp([r]x)` `[B, 3, 3]` and its derivatives by the components of r, `[B, 3, 3, 3]`.

    Gallego and Yezzi 2015, "A compact formula for the derivative of a 3-D rotation in exponential coordinates", eq. 9.
    """
    rotation, identity = axis_angle_to_matrix(rotvec), torch.eye(3).to(rotvec)
    squared = (rotvec * rotvec).sum(-1)[:, None, None]
    is_small = squared < _SMALL_ANGLE_SQUARED
    crossed = (skew(rotvec) @ (identity - rotation)).mT  # row i: r x (I - R) e_i
    inside = (rotvec[..., None] * rotvec[:, None] + crossed) / torch.where(is_small, torch.ones_like(squared), squared)
    inside = torch.where(is_small, identity, inside)
    return rotation, skew(inside) @ rotation[:, None]
