"""How the sets of landmarks hang together: which of the tracker's 478 points are iBUG's 68 and the two pupils."""

NUM_CONTOUR = 17
"""The first of the 68 lie on the outline of the picture of a face, which slides over the skin as the head turns."""

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

# WFLW leaves out every second point of the contour, the lower edges of the brows, and two points of each eye.
IBUG_OF_98 = (
    tuple(range(0, 33, 2))
    + (33, 34, 35, 36, 37, 42, 43, 44, 45, 46)
    + tuple(range(51, 60))
    + (60, 61, 63, 64, 65, 67, 68, 69, 71, 72, 73, 75)
    + tuple(range(76, 96))
)
PUPILS_OF_98 = (96, 97)
