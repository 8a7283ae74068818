"""The residuals of `preprocess.fitting.residuals` for many images at once, in torch, one image per row.

Landmarks that an image lacks are given as NaN and have weight zero. Those that the head model lacks are left out.
"""

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from flame.geometry.rotation import axis_angle_to_matrix, skew
from flame.landmarks.groups import OUTER_EYE_CORNERS
from preprocess.fitting.config import FitConfig, joint_axes
from preprocess.fitting.residuals import Residuals

_SMALL_ANGLE_SQUARED = 1e-8
_IMAGES_AT_ONCE = 8
"""Images whose derivatives are computed together; they fit into a processor's cache."""


@dataclass(frozen=True)
class BatchState:
    """The unknowns of B images of N people, float64.

    Attributes:
        own: `[B, E + A]` expressions, then joint angles (radians) in the order of `config.joint_axes`.
        rotation: `[B, 3, 3]` of the head in camera space.
        translation: `[B, 3]` of the head in camera space, metres.
        shape: `[N, K]` coefficients of each person.
    """

    own: Tensor
    rotation: Tensor
    translation: Tensor
    shape: Tensor

    def of(self, people: Tensor, person: Tensor) -> "BatchState":
        """Returns the state of some people (ascending indices), where `person` `[B]` says whose an image is."""
        images = torch.isin(person, people)
        return BatchState(self.own[images], self.rotation[images], self.translation[images], self.shape[people])

    def with_some(self, other: "BatchState", people: Tensor, person: Tensor) -> "BatchState":
        """Returns this state with that of some people (ascending indices) replaced by `other`; `person` as in `of`."""
        images = torch.isin(person, people)
        own, rotation, translation, shape = (
            part.clone() for part in (self.own, self.rotation, self.translation, self.shape)
        )
        own[images], rotation[images], translation[images] = other.own, other.rotation, other.translation
        shape[people] = other.shape
        return BatchState(own, rotation, translation, shape)


@dataclass(frozen=True)
class Target:
    """The landmarks of B images.

    Attributes:
        points: `[B, L, 3]` crop px, zero where unknown.
        weights: `[B, L]` of x and y, zero where unknown.
        depth_weights: `[B, L]`, zero where unknown.
        difference_weights: `[B, D]`, zero where unknown.
        unit: `[B]` one over a landmark's standard deviation, 1 / px.
        eye_distance: `[B]` distance of the outer eye corners, px.
        person: `[B]` index of the person, 0 to N - 1.
    """

    points: Tensor
    weights: Tensor
    depth_weights: Tensor
    difference_weights: Tensor
    unit: Tensor
    eye_distance: Tensor
    person: Tensor

    def of(self, images: Tensor) -> "Target":
        """Returns the target of some images, by index or mask."""
        return Target(*(getattr(self, part.name)[images] for part in fields(self)))


class BatchResiduals:
    """The tables of `Residuals` on a device, restricted to the L landmarks that the head model has."""

    def __init__(self, residuals: Residuals, config: FitConfig, *, like: Tensor) -> None:
        """Copies the tables to a device.

        Args:
            residuals: the head model's residuals.
            config: the one that the residuals were made with.
            like: gives the device of the tables and the dtype of derivatives; residuals and costs are float64, because
                in float32 the last steps of a precise fit are smaller than the rounding error.
        """
        self._dtype = like.dtype

        def table(values: np.ndarray) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(values, np.float64)).to(like.device)

        def padded(basis: np.ndarray) -> Tensor:
            """Inserts zero columns for angles and pose into `[..., E + S]`, in the dtype of derivatives."""
            parts = basis[..., : self.num_expression], basis[..., self.num_expression :]
            middle = np.zeros((*basis.shape[:-1], len(self.axes) + 6))
            return table(np.concatenate([parts[0], middle, parts[1]], -1)).to(like.dtype)

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
        self._slopes = padded(model.basis[:, kept])
        self._weights = table(residuals.weights[kept])
        self._difference_weights = table(residuals.difference_weights)
        self._differences = torch.from_numpy(place[residuals.differences].T.copy()).to(like.device)
        self._joints, self._arm_slopes = [], []
        for joint in model.joints:
            used = model.valid[joint.rows]
            rows = torch.from_numpy(place[joint.rows[used]]).to(like.device)
            correction = None if joint.correction is None else table(joint.correction[used])
            arm = joint.arm_basis[used]
            self._joints.append((rows, table(joint.arm_mean[used]), table(arm), correction))
            self._arm_slopes.append(padded(arm))

    def target(self, landmarks: Tensor, person: Tensor) -> Target:
        """Builds the target of landmarks `[B, 478, 3]` (crop px), NaN where unknown; that may be the depth alone."""
        right, left = OUTER_EYE_CORNERS
        distance = (landmarks[:, right, :2] - landmarks[:, left, :2]).norm(dim=-1)
        points = landmarks[:, self.kept.to(landmarks.device)]
        known = points[..., :2].isfinite().all(-1)
        weights = self._weights * known
        scale = torch.ones_like(distance)
        if self._config.num_independent is not None:
            scale = self._weights.sum() / weights.sum(1)  # fewer landmarks amount to as many measurements
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
        """Returns the model's landmarks `[B, L, 3]` in camera space, metres."""
        return self._turned(state, person)[0] + state.translation[:, None]

    def pixels(self, points: Tensor) -> Tensor:
        """Projects points `[B, L, 3]` of camera space to crop px, `[B, L, 2]`."""
        scale = self.focal_px / -points[..., 2:]
        return self.crop_size / 2 + points[..., :2] * scale * points.new_tensor([1.0, -1.0])

    def robust_weights(self, state: BatchState, target: Target, is_robust: Tensor) -> Tensor:
        """Returns Cauchy weights `[B, L]` of the errors at a state, fixed during a step; 1 if not `is_robust` `[B]`."""
        points = self.in_camera(state, target.person)
        error = (self.pixels(points) - target.points[..., :2]) * target.unit[:, None, None]
        limit = self._config.outlier * target.eye_distance * target.unit
        robust = 1.0 / (1.0 + (error**2).sum(-1) / limit[:, None] ** 2)
        return torch.where(is_robust[:, None], robust, torch.ones_like(robust))

    def cost(self, state: BatchState, target: Target, robust: Tensor) -> Tensor:
        """Returns half the sum of weighted squared residuals, `[B]`."""
        points = self.in_camera(state, target.person)
        rows = self._rows(points.new_zeros(len(points), 3, points.shape[1], 0), points, target, robust)
        return 0.5 * (rows**2).sum((1, 2))

    def normal(self, state: BatchState, target: Target, robust: Tensor, *, is_pose_only: bool) -> tuple[Tensor, Tensor]:
        """Returns the Gauss-Newton Hessian `[B, W, W]` and gradient `[B, W]` (float64) of `cost`.

        Unknowns are [expression | joint angles | rotation 3 | translation 3 | shape], with `is_pose_only` the six of
        the pose. Those of the rotation are a rotation vector in camera axes, applied from the left.
        """
        parts = []
        for images in torch.arange(len(state.own), device=target.person.device).split(_IMAGES_AT_ONCE):
            some = BatchState(state.own[images], state.rotation[images], state.translation[images], state.shape)
            parts.append(self._gram(some, target.of(images), robust[images], is_pose_only=is_pose_only))
        gram = torch.cat(parts)
        return gram[:, :-1, :-1], gram[:, :-1, -1]

    def _gram(self, state: BatchState, target: Target, robust: Tensor, *, is_pose_only: bool) -> Tensor:
        turned, joints = self._turned(state, target.person)
        if is_pose_only:
            jacobian = turned.new_empty(*turned.shape[:1], 3, turned.shape[1], 6, dtype=self._dtype)
            pose = jacobian
        else:
            jacobian = self._head_slopes(state, joints)
            pose = jacobian[..., self.num_own : self.num_own + 6]
        pose[..., :3] = -skew(turned).transpose(1, 2)
        pose[..., 3:] = torch.eye(3).to(pose)[:, None]
        rows = self._rows(jacobian, turned + state.translation[:, None], target, robust)
        return (rows.mT @ rows).double()

    def joint_turns(self, own: Tensor) -> Tensor:
        """Returns the rotation vectors of the moving joints, `[B, M, 3]`, radians."""
        turns = own.new_zeros(len(own), self._num_joints, 3)
        for column, (joint, axis) in enumerate(self.axes, start=self.num_expression):
            turns[:, joint, axis] = own[:, column]
        return turns

    def _turned(self, state: BatchState, person: Tensor) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Returns posed landmarks `[B, L, 3]` in camera axes, and for each joint `R - I` and their derivatives."""
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

    def _head_slopes(self, state: BatchState, joints: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Returns derivatives `[B, 3, L, W]` of the points in camera axes; the caller fills in those by the pose."""
        rotation, (_, num_points, width) = state.rotation.to(self._dtype), self._slopes.shape
        result = (rotation @ self._slopes.reshape(3, -1)).reshape(-1, 3, num_points, width)
        for (rows, _, _, _), slopes, (change, _) in zip(self._joints, self._arm_slopes, joints, strict=True):
            result.index_add_(2, rows, torch.einsum("bij,njp->binp", rotation @ change.to(rotation), slopes))
        for column, (index, axis) in enumerate(self.axes, start=self.num_expression):
            slopes = joints[index][1][:, axis] @ state.rotation.mT  # [B, N, 3]
            result[:, :, self._joints[index][0], column] = slopes.mT.to(result)
        return result

    def _rows(self, jacobian: Tensor, points: Tensor, target: Target, robust: Tensor) -> Tensor:
        """Returns weighted derivatives of all residuals `[B, 3 L + 2 D, W + 1]`, the residuals in the last column."""
        inverse_depth = -1.0 / points[..., 2]
        scale = self.focal_px * inverse_depth
        unit = target.unit[:, None]
        slope = points[..., :2] * inverse_depth[..., None]
        error = (self.pixels(points) - target.points[..., :2]) * unit[..., None]
        depth_scale = scale.mean(1, keepdim=True)  # px per metre
        depth_error = (-points[..., 2] * depth_scale - target.points[..., 2]) * unit
        count, num_differences, width = points.shape[1], len(self._differences[0]), jacobian.shape[3]
        rows = jacobian.new_empty(len(points), 3 * count + 2 * num_differences, width + 1)
        parts = [rows[:, index * count : (index + 1) * count] for index in range(3)]
        for axis, sign in ((0, 1.0), (1, -1.0)):
            part, factor = parts[axis][..., :-1], (sign * scale * unit)[..., None].to(rows)
            torch.addcmul(jacobian[:, axis], slope[..., axis : axis + 1].to(rows), jacobian[:, 2], out=part)
            part.mul_(factor)
            parts[axis][..., -1] = error[..., axis]
        # With a fixed scale of depths each step would gain by moving the head and lose that gain in the next step.
        scale_slope = torch.einsum("bl,blp->bp", (scale * inverse_depth / count).to(rows), jacobian[:, 2])[:, None]
        torch.mul(jacobian[:, 2], (-depth_scale * unit)[..., None].to(rows), out=parts[2][..., :-1])
        parts[2][..., :-1].addcmul_((-points[..., 2] * unit)[..., None].to(rows), scale_slope)
        parts[2][..., -1] = depth_error
        self._weigh(rows, parts, target, robust)
        return rows

    def _weigh(self, rows: Tensor, parts: list[Tensor], target: Target, robust: Tensor) -> None:
        """Weighs the rows of x, y and depth, and writes those of differences; in place."""
        # depth is known only up to a constant, so the weighted mean of its rows is subtracted
        weights = target.depth_weights
        total = weights.sum(1, keepdim=True).clamp_min(torch.finfo(weights.dtype).tiny)
        parts[2] -= torch.einsum("bl,blp->bp", (weights / total).to(rows), parts[2])[:, None]
        plus, minus, other = self._differences
        between = target.difference_weights.sqrt()[..., None].to(rows)
        start = 3 * parts[0].shape[1]
        for axis, part in enumerate(parts[:2]):
            place = slice(start + axis * len(plus), start + (axis + 1) * len(plus))
            rows[:, place] = between * (part[:, plus] - 0.5 * (part[:, minus] + part[:, other]))
        for part, weight in zip(parts, (target.weights, target.weights, weights), strict=True):
            part *= (weight * robust).sqrt()[..., None].to(rows)


def _rotation_and_slopes(rotvec: Tensor) -> tuple[Tensor, Tensor]:
    """Returns `exp([r]x)` `[B, 3, 3]` and its derivatives by the components of r, `[B, 3, 3, 3]`.

    Gallego and Yezzi 2015, "A compact formula for the derivative of a 3-D rotation in exponential coordinates", eq. 9.
    """
    rotation, identity = axis_angle_to_matrix(rotvec), torch.eye(3).to(rotvec)
    squared = (rotvec * rotvec).sum(-1)[:, None, None]
    is_small = squared < _SMALL_ANGLE_SQUARED
    crossed = (skew(rotvec) @ (identity - rotation)).mT  # row i: r x (I - R) e_i
    inside = (rotvec[..., None] * rotvec[:, None] + crossed) / torch.where(is_small, torch.ones_like(squared), squared)
    inside = torch.where(is_small, identity, inside)
    return rotation, skew(inside) @ rotation[:, None]
