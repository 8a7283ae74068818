"""The definition of every measure, printed with its numbers: published measures of one name differ from paper to paper.

`DEFINITIONS_VERSION` rises whenever a number changes its meaning; numbers of two versions do not compare.
"""

from dataclasses import dataclass
from typing import Literal

DEFINITIONS_VERSION = 1

Kind = Literal["self", "cross"]
"""self: the first frame of a clip driven by the clip, which is the truth; cross: another person's picture, no truth."""

Best = Literal["higher", "lower", "one", "zero"]


@dataclass(frozen=True)
class Measure:
    """What a number means.

    Attributes:
        key: its name in JSON.
        title: of its column.
        unit: of the number; empty for a ratio.
        best: which numbers are better.
        kinds: the reenactments it is measured of.
        definition: in one or two sentences, exact enough to repeat it.
    """

    key: str
    title: str
    unit: str
    best: Best
    kinds: tuple[Kind, ...]
    definition: str


_SELF: tuple[Kind, ...] = ("self",)
_BOTH: tuple[Kind, ...] = ("self", "cross")

MEASURES = (
    Measure(
        "lost", "lost", "%", "lower", _BOTH,
        "Frames of the result in which the tracker finds no face, among those whose true (or driving) frame shows one. "
        "They are left out of the means of tracked measures and count as 0 in identity.",
    ),
    Measure(
        "psnr", "PSNR", "dB", "higher", _SELF,
        "10 log10(255^2 / mean squared error) over all pixels and the three sRGB channels of a frame (or of the "
        "protocol's square), at most 100, mean over frames. The background counts.",
    ),
    Measure(
        "ssim", "SSIM", "", "higher", _SELF,
        "Wang et al. 2004: Gaussian window of sigma 1.5, K1 0.01, K2 0.03, range 255, population covariance, each sRGB "
        "channel by itself, mean over channels and frames, of the pixels of PSNR. The background counts.",
    ),
    Measure(
        "perceptual", "perceptual", "", "lower", _SELF,
        "Perceptual distance of the network that is named beside the numbers, sRGB in [-1, 1], of the pixels of PSNR, "
        "mean over frames. Numbers of two networks do not compare.",
    ),
    Measure(
        "identity", "identity", "", "higher", _BOTH,
        "Cosine of the face vectors, by the network that is named beside the numbers, of a frame and of the source "
        "picture (of self-reenactment: the clip's first frame), mean over the frames that should show "
        "a face; one that shows none counts as 0.",
    ),
    Measure(
        "face_shape", "face shape", "mm", "lower", _BOTH,
        "Mean distance of the 468 face landmarks of the two fitted head models without expression; a clip has one "
        "shape. Of self-reenactment to the true clip's, else to the source picture's.",
    ),
    Measure(
        "keypoints", "keypoints", "outer-eye distances", "lower", _SELF,
        "Mean distance in the picture plane of the tracker's 468 face landmarks, over the outer-eye distance of the "
        "true frame, mean over frames. No alignment: a face in the wrong place is wrong. Each frame's landmarks are "
        "measured where the mean of its neighbours' lies, so that a still picture has still landmarks.",
    ),
    Measure(
        "expression", "expression", "weights", "lower", _BOTH,
        "Mean absolute difference of the tracker's expression weights (0 to 1 each), mean over frames; one shape is "
        "fitted to each clip. Without truth: to the driver's weights.",
    ),
    Measure(
        "pose", "pose", "degrees", "lower", _BOTH,
        "Angle of the rotation between the two tracked heads, in camera space, mean over frames. Without truth: to the "
        "driver's head.",
    ),
    Measure(
        "gaze", "gaze", "degrees", "lower", _BOTH,
        "Angle between the directions of an eye in its head, mean over both eyes and frames. Without truth: to the "
        "driver's eyes.",
    ),
    Measure(
        "motion_gain", "motion gain", "", "one", _BOTH,
        "sum(dr dt) / sum(dt dt) of the expression weights of result and truth (or driver), the mean over time "
        "taken off each: 1 moves as the truth does, 0 does not move.",
    ),
    Measure(
        "lag", "lag", "frames", "zero", _BOTH,
        "Frames (-8 to 8) by which the result must be moved forward for the largest correlation of its expression "
        "weights with those of truth or driver, all taken together: > 0 is late. Not measured where it stays "
        "below 0.2.",
    ),
    Measure(
        "jitter", "jitter", "1/1000 outer-eye distance", "lower", _BOTH,
        "Root mean square, over the 468 face landmarks and frames, of what a moving 5-frame quadratic fit "
        "(Savitzky-Golay) leaves of their paths, over the clip's median outer-eye distance. Compare with the "
        "truth's own.",
    ),
    Measure(
        "flicker", "flicker", "levels", "lower", _BOTH,
        "Mean of |I(t-1) - 2 I(t) + I(t+1)| of the luma (0 to 255) of faces carried to 128 x 128 px by a similarity "
        "transform of their landmarks, after a blur of sigma 1. Compare with the truth's own.",
    ),
    Measure(
        "yaw_lost", "yaw lost", "%", "lower", _BOTH,
        "Views without a face among six of the avatar in the source's expression, turned to -30, -20, -10, 10, 20 and "
        "30 degrees from the camera.",
    ),
    Measure(
        "yaw_error", "yaw error", "degrees", "lower", _BOTH,
        "Mean difference of the yaw that the tracker finds in these views from the yaw asked for, over those with a "
        "face.",
    ),
    Measure(
        "yaw_identity", "yaw identity", "", "higher", _BOTH,
        "As identity, mean over these views; one without a face counts as 0.",
    ),
)  # fmt: skip

BY_KEY = {measure.key: measure for measure in MEASURES}

STEADINESS = ("jitter", "flicker")
"""Measured of the true or driving clip, too."""


def measures_of(kind: Kind) -> tuple[Measure, ...]:
    """The measures of one kind of reenactment, in the order of their columns."""
    return tuple(measure for measure in MEASURES if kind in measure.kinds)


def describe_best(measure: Measure) -> str:
    """Which numbers are better, as a sign for a column: an arrow up or down, or the best number itself."""
    match measure.best:
        case "higher":
            return "↑"
        case "lower":
            return "↓"
        case "one":
            return "→ 1"
        case "zero":
            return "→ 0"
        case _:
            raise ValueError(f"expected higher, lower, one or zero, got {measure.best!r}")
