"""Settings of a fit for each head model: its free parameters, their limits and their priors."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from flame.errors import InputError
from flame.heads.expression_names import LOOK_RADIANS, LOOKS
from flame.heads.head_model import HeadModel
from preprocess.fitting.group_weights import GroupWeights

ANTAGONISTS = (
    ("jawLeft", "jawRight"), ("mouthLeft", "mouthRight"), ("mouthPucker", "mouthFunnel"),
    ("mouthRollLower", "mouthShrugLower"), ("mouthRollUpper", "mouthShrugUpper"),
    *((f"{first}{side}", f"{second}{side}") for side in ("Left", "Right") for first, second in (
        ("mouthSmile", "mouthFrown"), ("eyeBlink", "eyeWide"), ("eyeSquint", "eyeWide"),
        ("eyeLookUp", "eyeLookDown"), ("eyeLookIn", "eyeLookOut"), ("browDown", "browOuterUp"),
        ("mouthStretch", "mouthDimple"), ("mouthSmile", "mouthStretch"),
        ("mouthPress", "mouthLowerDown"), ("mouthUpperUp", "mouthPress"),
    )),
    ("browInnerUp", "browDownLeft"), ("browInnerUp", "browDownRight"),
    ("mouthPucker", "mouthSmileLeft"), ("mouthPucker", "mouthSmileRight"),
    ("mouthPucker", "mouthStretchLeft"), ("mouthPucker", "mouthStretchRight"),
    ("mouthClose", "mouthFunnel"),
)  # fmt: skip
"""Expressions that no face makes together; without a penalty a fit would explain a smile by jawLeft plus jawRight."""

HELD = ("tongueOut", "cheekPuff", "jawForward", "mh/")
"""Names of expressions, or their prefixes, that stay at zero: landmarks do not determine them, or others equal them."""


@dataclass(frozen=True)
class FitConfig:
    """The noise model, priors and limits of a fit. One unit of cost is one squared standard deviation.

    Attributes:
        num_shape: number of shape dimensions used, the first of the model (up to 120 the BLAS stays on one thread).
        shape_sigma: standard deviation of a shape coefficient; 1 is the population's, less leaves more to expressions.
        distance_sigma: standard deviation of the head's distance, as a fraction of that of a mean head: a picture does
            not determine size and distance apart, and the perspective of another lens would change the distance.
        joints: joints that turn, besides the head as a whole.
        sigma: standard deviation of a landmark, as a fraction of the outer-eye distance.
        noise_px: the same in crop px; replaces `sigma`.
        num_independent: number of independent measurements that the landmarks of an image amount to: a tracker's
            errors are correlated in neighbours and in all frames of a person, so that the priors of shape and distance
            count once per frame. None: all errors are independent; every landmark counts, and a person's priors count
            once.
        outlier: landmarks farther off than this fraction of the outer-eye distance lose weight.
        weights: weight of a landmark by feature.
        depth_weight: weight of the tracker's depth, relative to its x and y.
        opening_weight: weight of the openings of lids and lips, relative to a landmark of weight 1.
        gaze_weight: the same for the iris centre relative to the corners of its eye.
        expression_kind: "unit" = named actions in [0, 1], sparse; "normal" = principal components.
        expression_sigma: standard deviation of an expression coefficient.
        expression_sparsity: cost per unit of a named action; keeps small ones at exactly zero.
        antagonist_weight: cost of two opposed actions together.
        symmetry_sigma: standard deviation of the difference between a left and a right action.
        eye_sigma: standard deviation of an eye's angle, radians.
        eye_difference_sigma: standard deviation of the left minus the right eye's angle, radians.
        look_radians: turn of the eyeball that belongs to a full eyeLook action.
        look_sigma: standard deviation of an eyeLook action minus the turn in units of `look_radians`.
        jaw_sigma: standard deviation of the jaw's angle, radians, by axis.
        pose_iterations: steps of the head's pose alone at the start of a fit.
        iterations: steps of all unknowns for a single image.
        video_iterations: steps for a video frame, which begins at the fit of the frame before.
        temporal_sigma: standard deviation of the change of an action from one video frame to the next.
        held: names of expressions that stay at zero, or prefixes of such names.
    """

    num_shape: int = 120
    shape_sigma: float = 0.4
    distance_sigma: float = 0.03
    joints: tuple[str, ...] = ("eye_left", "eye_right")
    sigma: float = 0.01
    noise_px: float | None = None
    num_independent: float | None = 80.0
    outlier: float = 0.08
    weights: GroupWeights = field(default_factory=GroupWeights)
    depth_weight: float = 0.1
    opening_weight: float = 12.0
    gaze_weight: float = 8.0
    expression_kind: Literal["unit", "normal"] = "unit"
    expression_sigma: float = 0.5
    expression_sparsity: float = 4.0
    antagonist_weight: float = 10.0
    symmetry_sigma: float = 0.15
    eye_sigma: float = 0.35
    eye_difference_sigma: float = 0.08
    look_radians: float = LOOK_RADIANS
    look_sigma: float = 0.12
    jaw_sigma: tuple[float, float, float] = (0.3, 0.03, 0.03)
    pose_iterations: int = 3
    iterations: int = 10
    video_iterations: int = 2
    temporal_sigma: float = 0.5
    held: tuple[str, ...] = HELD

    @classmethod
    def for_model(cls, model: HeadModel) -> "FitConfig":
        """Returns the defaults for a head model: the open head opens its jaw by an expression, FLAME by a joint."""
        if model.name == "flame":
            joints = ("jaw", "eye_left", "eye_right")
            return cls(joints=joints, expression_kind="normal", expression_sigma=1.0, held=())
        return cls()

    @classmethod
    def for_noise(cls, model: HeadModel, noise_px: float) -> "FitConfig":
        """Returns settings for landmarks (x, y and depth) with independent normal errors: synthetic ones, or markers.

        The errors of a tracker of pictures are larger, correlated and different by feature. Where landmarks differ from
        the model by noise only, all of them weigh the same, depth is as reliable as x and y, perspective determines
        the distance, and shapes vary as in the model's population.

        Args:
            model: the head model.
            noise_px: standard deviation of a landmark's coordinates, crop px.

        Raises:
            InputError: the noise is not above 0.
        """
        if noise_px <= 0:
            raise InputError(f"expected noise above 0 px, got {noise_px}")
        return replace(
            cls.for_model(model),
            noise_px=noise_px,
            num_independent=None,
            weights=GroupWeights.equal(),
            depth_weight=1.0,
            opening_weight=0.0,
            gaze_weight=0.0,
            shape_sigma=1.0,
            distance_sigma=0.3,
        )


@dataclass(frozen=True)
class Prior:
    """Quadratic prior `1/2 x^T hessian x + linear^T x` of one frame's expressions and joint angles, and their bounds.

    Attributes:
        hessian: `[P, P]`.
        linear: `[P]`.
        lower: `[P]` smallest values.
        upper: `[P]` largest values.
    """

    hessian: NDArray[np.float64]
    linear: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]


EYE_LIMIT = 0.6
JAW_LOWER, JAW_UPPER = (-0.05, -0.12, -0.12), (0.6, 0.12, 0.12)
"""Limits of the joint angles, radians."""


def joint_axes(config: FitConfig) -> list[tuple[int, int]]:
    """Returns (joint, axis) for each joint angle of the fit: eyes turn about x and y, the jaw about all axes."""
    return [
        (index, axis) for index, name in enumerate(config.joints) for axis in range(2 if name.startswith("eye") else 3)
    ]


def make_prior(model: HeadModel, config: FitConfig) -> Prior:
    """Returns the prior of the unknowns [expression E | joint angles]."""
    active = active_expressions(model, config)
    names = [model.expression_names[index] for index in active]
    size = len(names)
    axes = joint_axes(config)
    hessian = np.zeros((size + len(axes), size + len(axes)))
    linear = np.zeros(size + len(axes))
    lower = np.concatenate([model.expression_min.double().cpu().numpy()[active], np.zeros(len(axes))])
    upper = np.concatenate([model.expression_max.double().cpu().numpy()[active], np.zeros(len(axes))])
    np.fill_diagonal(hessian[:size, :size], config.expression_sigma**-2)
    if config.expression_kind == "unit":
        is_sparse = [not name.startswith("eyeLook") for name in names]
        linear[:size] = np.where((lower[:size] >= 0) & is_sparse, config.expression_sparsity, 0.0)
        for first, second in _known_pairs(names, ANTAGONISTS):
            hessian[first, second] += config.antagonist_weight
            hessian[second, first] += config.antagonist_weight
            # with the diagonal the penalty is the square of the sum, so the problem stays convex
            hessian[first, first] += config.antagonist_weight
            hessian[second, second] += config.antagonist_weight
        for first, second in _known_pairs(names, _mirrored(names)):
            _add_difference(hessian, first, second, config.symmetry_sigma)
    for row, (joint, axis) in enumerate(axes, start=size):
        is_eye = config.joints[joint].startswith("eye")
        hessian[row, row] += (config.eye_sigma if is_eye else config.jaw_sigma[axis]) ** -2
        lower[row] = -EYE_LIMIT if is_eye else JAW_LOWER[axis]
        upper[row] = EYE_LIMIT if is_eye else JAW_UPPER[axis]
    _couple_eyes(hessian, names, axes, config)
    return Prior(hessian, linear, lower, upper)


def active_expressions(model: HeadModel, config: FitConfig) -> NDArray[np.int64]:
    """Returns the columns of the expressions that a fit may use."""
    kept = [index for index, name in enumerate(model.expression_names) if not name.startswith(config.held)]
    return np.array(kept, np.int64)


def _couple_eyes(hessian: NDArray, names: list[str], axes: list[tuple[int, int]], config: FitConfig) -> None:
    """Adds the terms that make both eyes turn alike and the lids follow the eyeballs, in place."""
    if "eye_left" not in config.joints or "eye_right" not in config.joints:
        return
    size = len(names)
    for grows, falls, joint, axis in LOOKS:
        if grows in names and falls in names:
            row = size + axes.index((config.joints.index(joint), axis))
            difference = np.zeros(len(hessian))
            difference[[names.index(grows), names.index(falls), row]] = 1.0, -1.0, -1.0 / config.look_radians
            hessian += np.outer(difference, difference) / config.look_sigma**2
    left, right = config.joints.index("eye_left"), config.joints.index("eye_right")
    for axis in range(2):
        rows = [size + axes.index((joint, axis)) for joint in (left, right)]
        _add_difference(hessian, rows[0], rows[1], config.eye_difference_sigma)


def _mirrored(names: Sequence[str]) -> list[tuple[str, str]]:
    """Returns actions that usually occur on both sides; a look aside is "in" for one eye and "out" for the other."""
    pairs = []
    for name in names:
        if name.endswith("Left") and name not in ("mouthLeft", "jawLeft"):
            other = name.replace("LookIn", "LookOut") if "LookIn" in name else name.replace("LookOut", "LookIn")
            pairs.append((name, other[:-4] + "Right"))
    return pairs


def _add_difference(hessian: NDArray, first: int, second: int, sigma: float) -> None:
    weight = sigma**-2
    hessian[[first, second], [first, second]] += weight
    hessian[[first, second], [second, first]] -= weight


def _known_pairs(names: Sequence[str], pairs: Sequence[tuple[str, str]]) -> list[tuple[int, int]]:
    return [(names.index(a), names.index(b)) for a, b in pairs if a in names and b in names]
