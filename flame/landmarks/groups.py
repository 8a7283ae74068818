"""Which of the 478 landmarks belong to which feature, and which pairs open and close."""

import numpy as np
from numpy.typing import NDArray

NUM_LANDMARKS = 478
NUM_MESH = 468
"""The first 468 of the 478 lie on the skin; then come the irises, which turn with the eyeballs."""

OUTER_EYE_CORNERS = (33, 263)
"""Subject's right, left. Errors are given as fractions of the distance between them."""

FOREHEAD, CHIN, NOSE_TIP, NOSE_FRONT = 10, 152, 1, 4
"""`NOSE_TIP` is the tip in the tracker's naming, `NOSE_FRONT` the point of the nose that protrudes most."""

EARS = (234, 454)
"""Points in front of the ears, subject's right, left: their midpoint stays on the head's axis when the head turns."""

NOSE_WINGS = (64, 294)
MOUTH_CORNERS = (61, 291)
EYE_POINTS = {"right": (33, 133, 159, 145), "left": (263, 362, 386, 374)}
"""Outer and inner corner, middle of the upper and of the lower lid."""
IRIS_CENTRES = {"right": 468, "left": 473}
IRIS_ENDS = {"right": (469, 471), "left": (474, 476)}
"""Ends of the horizontal diameter of an iris. Pairs in this file are in the order subject's right, left."""

INNER_LIP_MIDDLES, OUTER_LIP_MIDDLES = (13, 14), (0, 17)
LID_MIDDLES = {"right": (159, 145), "left": (386, 374)}
"""Upper, lower; the same order in the middles of the lips."""

RIGHT_EYE = (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246)
LEFT_EYE = (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466)
RIGHT_BROW = (46, 53, 52, 65, 55, 70, 63, 105, 66, 107)
LEFT_BROW = (276, 283, 282, 295, 285, 300, 293, 334, 296, 336)
OUTER_LIPS = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
INNER_LIPS = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191)
NOSE = (1, 2, 4, 5, 6, 19, 45, 48, 64, 94, 97, 98, 115, 168, 195, 197, 220, 275, 278, 294, 326, 327, 344, 440)
CONTOUR = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
RIGHT_IRIS, LEFT_IRIS = tuple(range(468, 473)), tuple(range(473, 478))

LID_PAIRS = ((160, 144), (159, 145), (158, 153), (387, 373), (386, 374), (385, 380))
"""Opposite points of the upper and the lower lid, the subject's right eye first."""

LIP_PAIRS = ((82, 87), (13, 14), (312, 317), (81, 178), (311, 402), (80, 88), (310, 318))
"""Opposite points on the inner edges of the upper and the lower lip."""

EYE_CORNERS = {"right": (33, 133), "left": (263, 362)}
"""Outer, inner corner."""

UPPER_INNER_LIP = (191, 80, 81, 82, 13, 312, 311, 310, 415)
LOWER_INNER_LIP = (95, 88, 178, 87, 14, 317, 402, 318, 324)
UPPER_OUTER_LIP = (185, 40, 39, 37, 0, 267, 269, 270, 409)
LOWER_OUTER_LIP = (146, 91, 181, 84, 17, 314, 405, 321, 375)
"""Points of the lips' edges that lie above each other, from the subject's right to the left corner."""

LEFT_LIDS = ((466, 388, 387, 386, 385, 384, 398), (249, 390, 373, 374, 380, 381, 382))
RIGHT_LIDS = ((246, 161, 160, 159, 158, 157, 173), (7, 163, 144, 145, 153, 154, 155))
"""Points of the lids that lie above each other: upper, lower."""


def outer_eye_distance(landmarks: NDArray) -> NDArray:
    """Returns the distance of the outer eye corners in the picture, `[...]` of landmarks `[..., 478, 2 or 3]`."""
    right, left = OUTER_EYE_CORNERS
    return np.linalg.norm(landmarks[..., right, :2] - landmarks[..., left, :2], axis=-1)


def eye_opening(landmarks: NDArray) -> NDArray:
    """Returns the mean opening of the lids as a fraction of the width of the eye.

    Args:
        landmarks: `[..., 478, 2 or 3]`.

    Returns:
        `[..., 2]`, the subject's left eye first.
    """
    upper, lower = np.array(LID_PAIRS).T
    gap = np.linalg.norm(landmarks[..., upper, :2] - landmarks[..., lower, :2], axis=-1)
    openings = []
    for side, pairs in (("left", slice(3, 6)), ("right", slice(0, 3))):
        outer, inner = EYE_CORNERS[side]
        # With the third coordinate where there is one: the width must not shrink when the head turns away.
        width = np.linalg.norm(landmarks[..., outer, :] - landmarks[..., inner, :], axis=-1)
        openings.append(gap[..., pairs].mean(-1) / np.maximum(width, 1e-6))
    return np.stack(openings, -1)
