"""Correspondences between landmark sets: the tracker's 478, WFLW's 98, iBUG's 68, and 70 with the two pupils."""

NUM_CONTOUR = 17
"""The first 17 of the 68 lie on the outline of the face in the picture, which slides over the skin as it turns."""

PUPILS_OF_478 = (468, 473)
"""Subject's right, left."""

# The tracker point that lies nearest to each of the 68 on portraits with reference landmarks; subject's right first.
IBUG_OF_478 = (
    (127, 234, 93, 132, 58, 136, 150, 176, 152, 400, 379, 365, 288, 361, 323, 454, 356)
    + (70, 63, 105, 66, 107, 336, 296, 334, 293, 300)
    + (168, 197, 5, 4, 75, 97, 2, 326, 305)
    + (33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380)
    + (61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87)
)

IBUG_CONTOUR_ENDS, IBUG_NOSE_TIP = (0, 16), 30
IBUG_RIGHT_EYE, IBUG_LEFT_EYE, IBUG_MOUTH = tuple(range(36, 42)), tuple(range(42, 48)), tuple(range(48, 68))
IBUG_OUTER_EYE_CORNERS, IBUG_MOUTH_CORNERS = (36, 45), (48, 54)
"""Among the 68. Pairs: subject's right, left. An eye begins at its corner on the picture's left, then the upper lid."""

IBUG_EYES_AND_INNER_LIPS = (slice(36, 42), slice(42, 48), slice(60, 68))
"""Among the 68, as ranges: the subject's right eye, left eye, the inner edge of the lips."""

WFLW_OUTER_EYE_CORNERS = (60, 72)
"""Among the 98: subject's right, left."""

CORNERS_OF_98_AND_478 = {
    "eyes": {60: 33, 64: 133, 68: 362, 72: 263},
    "nose": {54: 4, 55: 98, 57: 2, 59: 327},
    "mouth": {76: 61, 82: 291, 88: 78, 92: 308},
    "irises": {96: 468, 97: 473},
}
"""Points that both sets define precisely: index among the 98, index among the 478."""

EDGES_OF_98_AND_478 = {
    "lids": {62: 159, 66: 145, 70: 386, 74: 374},
    "lips": {79: 0, 85: 17, 90: 13, 94: 14},
    "nose": {54: 1, 57: 2},
    "chin": {16: 152},
}
"""Points in the middle of edges, along which they are less certain: index among the 98, index among the 478."""

# WFLW leaves out every second point of the contour, the lower edges of the brows, and two points of each eye.
IBUG_OF_98 = (
    tuple(range(0, 33, 2))
    + (33, 34, 35, 36, 37, 42, 43, 44, 45, 46)
    + tuple(range(51, 60))
    + (60, 61, 63, 64, 65, 67, 68, 69, 71, 72, 73, 75)
    + tuple(range(76, 96))
)
PUPILS_OF_98 = (96, 97)
PUPILS_OF_70 = (68, 69)

FIVE_POINTS: dict[int, tuple[tuple[int, ...], ...]] = {
    478: ((468,), (473,), (1, 4), (61,), (291,)),
    98: ((96,), (97,), (54,), (76,), (82,)),
    70: ((68,), (69,), (30,), (48,), (54,)),
    68: (tuple(range(36, 42)), tuple(range(42, 48)), (30,), (48,), (54,)),
}
"""The landmarks of each set whose means are pupils, nose tip and mouth corners, the subject's right first.

The 68 have no pupils. The nose tip of the released landmarks lies between two of the 478: their midpoint reduces the
distance of the crop's corners from the released ones from 10 to 8 px.
"""
