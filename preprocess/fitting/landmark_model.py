"""The 478 landmarks of a head model as a function of its parameters, with the Jacobian that a fit needs.

Only the landmarks are evaluated, not the mesh. A landmark is a mean of three vertices, and linear blend
skinning is linear in each vertex, so the mean and the skinning commute: for every joint j that moves,
`x += (R_j - I)(p_j - w_j J_j)` with `p_j` the skinning-weighted mean of the corners and `w_j` their mean weight.
"""

import copy
import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from flame.heads.head_model import HeadModel
from preprocess.fitting.small_products import combine

_MIN_WEIGHT = 1e-4


@dataclass(frozen=True)
class MovingJoint:
    """A joint that the fit rotates: the landmarks that follow it, and their lever arms (linear in the coefficients).

    Attributes:
        rows: `[N]` indices of the landmarks.
        arm_mean: `[N, 3]` lever arms of the template, metres.
        arm_basis: `[N, 3, E + S]` their change per unit of a coefficient.
        correction: `[N, 3, 9]` pose corrective, linear in `R - I`; None if there is none.
    """

    rows: NDArray[np.int64]
    arm_mean: NDArray[np.float64]
    arm_basis: NDArray[np.float64]
    correction: NDArray[np.float64] | None


@dataclass(frozen=True)
class JointTurn:
    """The effect of a joint's rotation R on the landmarks that follow it.

    Attributes:
        rows: `[N]` indices of the landmarks.
        change: `[3, 3]` `R - I`.
        arm_basis: `[N, 3, E + S]`; `change @ arm_basis` adds to the landmarks' derivatives by the coefficients.
        slopes: `[N, 3, 3]` derivatives of the landmarks by the rotation vector.
    """

    rows: NDArray[np.int64]
    change: NDArray[np.float64]
    arm_basis: NDArray[np.float64]
    slopes: NDArray[np.float64]


@dataclass(frozen=True)
class Posed:
    """Posed landmarks.

    Attributes:
        points: `[478, 3]` in head axes, metres.
        joints: the effects of the moving joints.
    """

    points: NDArray[np.float64]
    joints: tuple[JointTurn, ...]


class LandmarkModel:
    """Landmarks of a head model, restricted to some expressions and its first shape dimensions.

    Attributes:
        num_expression: E, the number of expressions.
        num_shape: S, the number of shape dimensions.
        mean: `[478, 3]` landmarks of the template, metres.
        basis: `[3, 478, E + S]` float32, change per unit of a coefficient, expression first.
        valid: `[478]` bool, whether the model has a landmark.
        joints: the joints that turn.
    """

    def __init__(
        self, model: HeadModel, *, expressions: NDArray[np.int64], num_shape: int, joints: tuple[str, ...]
    ) -> None:
        """Computes the tables of the landmarks from those of a head model.

        Args:
            model: any head model with 478 landmarks.
            expressions: `[E]` columns of the model's expressions that the fit may use.
            num_shape: number of shape dimensions that the fit may use.
            joints: names of the joints that the fit may turn; none may be the parent of another.
        """
        self._expressions = expressions
        self.num_expression = len(expressions)
        self.num_shape = min(num_shape, model.num_shape)
        self.joint_names = joints
        embedding = model.landmark_embedding(478)
        corners = model.faces[embedding.faces].cpu().numpy()  # [478, 3]
        bary = embedding.barycentric.double().cpu().numpy()
        self.valid = embedding.valid.cpu().numpy()
        template = _numpy(model.template)[corners]  # [478, 3 corners, 3]
        basis = np.concatenate(
            [
                _numpy(model.expression_basis[..., expressions])[corners],
                _numpy(model.shape_basis[..., : self.num_shape])[corners],
            ],
            -1,
        )
        self.mean = np.einsum("lk,lkc->lc", bary, template)
        self.basis = np.einsum("lk,lkcp->clp", bary, basis).astype(np.float32)
        self.joints = tuple(self._joint(model, name, corners, bary, template, basis) for name in joints)

    def _joint(
        self, model: HeadModel, name: str, corners: NDArray, bary: NDArray, template: NDArray, basis: NDArray
    ) -> MovingJoint:
        index = model.joint_names.index(name)
        weights = bary * _numpy(model.skinning_weights)[corners, index]  # [478, 3]
        total = weights.sum(1)
        correction = _correction(model, index, corners, bary)
        follows = total > _MIN_WEIGHT
        if correction is not None:
            follows |= np.abs(correction).max((1, 2)) > 1e-9
        rows = np.flatnonzero(follows)
        joint_basis = _numpy(model.joint_basis[index])
        expression, shape = joint_basis[:, model.num_shape :], joint_basis[:, : self.num_shape]
        moved = np.concatenate([expression[:, self._expressions], shape], 1)
        arm_mean = np.einsum("lk,lkc->lc", weights[rows], template[rows])
        arm_basis = np.einsum("lk,lkcp->lcp", weights[rows], basis[rows])
        return MovingJoint(
            rows=rows,
            arm_mean=arm_mean - total[rows, None] * _numpy(model.joint_template[index]),
            arm_basis=arm_basis - total[rows, None, None] * moved,
            correction=None if correction is None else correction[rows],
        )

    def with_shape(self, shape: NDArray) -> "LandmarkModel":
        """Returns the landmarks of one person's shape `[S]`, which depend on expressions only."""
        fixed = copy.copy(self)
        size = self.num_expression
        fixed.num_shape = 0
        fixed.mean = self.mean + combine(self.basis[:, :, size:], shape).T
        fixed.basis = np.ascontiguousarray(self.basis[:, :, :size])
        fixed.joints = tuple(
            dataclasses.replace(
                joint,
                arm_mean=joint.arm_mean + combine(joint.arm_basis[:, :, size:], shape),
                arm_basis=np.ascontiguousarray(joint.arm_basis[:, :, :size]),
            )
            for joint in self.joints
        )
        return fixed

    def pose(self, coefficients: NDArray, turns: NDArray) -> Posed:
        """Computes landmarks for given parameters.

        Args:
            coefficients: `[E + S]`, expression first.
            turns: `[M, 3]` rotation vectors of the moving joints, radians.
        """
        points = self.mean + combine(self.basis, coefficients).T
        moved = []
        for joint, turn in zip(self.joints, turns, strict=True):
            rotation, slopes = _rotation_and_slopes(turn)
            change = rotation - np.eye(3)
            arm = joint.arm_mean + combine(joint.arm_basis, coefficients)
            points[joint.rows] += arm @ change.T
            derivative = np.einsum("kab,nb->nak", slopes, arm)
            if joint.correction is not None:
                points[joint.rows] += joint.correction @ change.ravel()
                derivative += joint.correction @ slopes.reshape(3, 9).T
            moved.append(JointTurn(joint.rows, change, joint.arm_basis, derivative))
        return Posed(points, tuple(moved))


def _rotation_and_slopes(rotvec: NDArray) -> tuple[NDArray, NDArray]:
    """Returns `exp([r]x)` `[3, 3]` and its derivatives by the components of r, `[3, 3, 3]`, by central differences."""
    step = 1e-5
    probes = np.concatenate([rotvec[None], rotvec + step * np.eye(3), rotvec - step * np.eye(3)])
    matrices = Rotation.from_rotvec(probes).as_matrix()
    return matrices[0], (matrices[1:4] - matrices[4:7]) / (2 * step)


def _correction(model: HeadModel, joint: int, corners: NDArray, bary: NDArray) -> NDArray[np.float64] | None:
    """Returns the model's pose corrective at the landmarks as a linear map `[478, 3, 9]` of `R - I` of one joint.

    It evaluates the corrective for each entry of the matrix: it is linear in the rotation matrices (FLAME, eq. 3).
    """
    probes = torch.eye(3, dtype=model.template.dtype, device=model.template.device)
    probes = probes.expand(9, len(model.joint_names), 3, 3).clone()
    probes[:, joint] += torch.eye(9).reshape(9, 3, 3).to(probes)
    offsets = model.pose_correction(probes)
    if offsets is None:
        return None
    at_landmarks = np.einsum("lk,plkc->lcp", bary, _numpy(offsets)[:, corners])
    return at_landmarks if np.abs(at_landmarks).max() > 1e-9 else None


def _numpy(tensor: torch.Tensor) -> NDArray[np.float64]:
    return tensor.detach().double().cpu().numpy()
