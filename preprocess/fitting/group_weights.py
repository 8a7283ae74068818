"""Weights of landmarks in a fit, by the feature they belong to."""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from flame.landmarks.groups import (
    CONTOUR,
    EYE_CORNERS,
    INNER_LIPS,
    LEFT_BROW,
    LEFT_EYE,
    LEFT_IRIS,
    NOSE,
    NUM_LANDMARKS,
    OUTER_LIPS,
    RIGHT_BROW,
    RIGHT_EYE,
    RIGHT_IRIS,
)


@dataclass(frozen=True)
class GroupWeights:
    """Weights of landmarks by feature; the contour's is low, because it slides over the surface as the head turns."""

    skin: float = 0.5
    lids: float = 3.0
    eye_corners: float = 4.0
    irises: float = 5.0
    brows: float = 2.0
    outer_lips: float = 3.0
    inner_lips: float = 3.0
    nose: float = 2.0
    contour: float = 0.3

    @classmethod
    def equal(cls) -> "GroupWeights":
        """Returns a weight of 1 for every landmark."""
        return cls(*(1.0 for _ in fields(cls)))

    def per_landmark(self) -> NDArray[np.float64]:
        """Returns the weights of the landmarks, `[478]`."""
        weights = np.full(NUM_LANDMARKS, self.skin)
        for points, weight in (
            (CONTOUR, self.contour),
            (NOSE, self.nose),
            (RIGHT_BROW + LEFT_BROW, self.brows),
            (OUTER_LIPS, self.outer_lips),
            (INNER_LIPS, self.inner_lips),
            (RIGHT_EYE + LEFT_EYE, self.lids),
            (EYE_CORNERS["right"] + EYE_CORNERS["left"], self.eye_corners),
            (RIGHT_IRIS + LEFT_IRIS, self.irises),
        ):
            weights[list(points)] = weight
        return weights
