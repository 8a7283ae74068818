"""Tells whether the mesh network found a human face, by its own flag and the proportions of eyes and nose.

The flag distinguishes faces from scenery, but an animal's head satisfies it fully: the network was never trained on
one. An animal is recognised by its eyes, all iris and little white, in a face with a narrow nose.
"""

import math

import numpy as np

from flame.landmarks.groups import EYE_CORNERS, IRIS_ENDS, NOSE_WINGS, OUTER_EYE_CORNERS

FACE_THRESHOLD = 0.5  # a lower `FaceLandmarks.score` is no human face

# The flag's logit is 13 ... 35 on faces of 20 pixels and more, turned and painted ones included; scenery and
# lettering that the detector took for faces reach 8 in the first run.
_FLAG_MIDPOINT = 9.0
# Median and spread (1.4826 x median deviation) of three ratios over some 600 photographed, painted and filmed faces
# in the poses and expressions people make: iris over eye width, iris over outer-eye distance, nose over outer-eye
# distance. The sum of the three deviations was at most 9 there and 15 on a dog.
_IRIS_OF_EYE = (0.433, 0.030)
_IRIS_OF_EYES = (0.136, 0.009)
_NOSE_OF_EYES = (0.459, 0.034)
_ANIMAL_MIDPOINT = 12.0


def face_score(flag_logit: float, points: np.ndarray) -> float:
    """Returns the confidence, 0 ... 1, that landmarks belong to a human face.

    Args:
        flag_logit: the network's face flag before the sigmoid.
        points: `[478, 3]` in any unit, z included.
    """
    return _sigmoid(flag_logit - _FLAG_MIDPOINT) * _sigmoid(2 * (_ANIMAL_MIDPOINT - animal_evidence(points)))


def animal_evidence(points: np.ndarray) -> float:
    """Returns by how much irises are too large and the nose too narrow for a human: a sum in spreads of each."""

    def span(first: int, second: int) -> float:
        return float(np.linalg.norm(points[first] - points[second]))

    eyes = max(span(*OUTER_EYE_CORNERS), 1e-9)
    iris = (span(*IRIS_ENDS["right"]) + span(*IRIS_ENDS["left"])) / 2
    eye = max((span(*EYE_CORNERS["right"]) + span(*EYE_CORNERS["left"])) / 2, 1e-9)
    nose = span(*NOSE_WINGS)
    ratios = (iris / eye, _IRIS_OF_EYE, 1), (iris / eyes, _IRIS_OF_EYES, 1), (nose / eyes, _NOSE_OF_EYES, -1)
    return sum(sign * (ratio - median) / spread for ratio, (median, spread), sign in ratios)


def _sigmoid(value: float) -> float:
    return (1 + math.tanh(value / 2)) / 2  # does not overflow
