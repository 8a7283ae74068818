"""How far a teacher's cube is shrunk where eyes are closed (Portrait4D-v2, Deng et al. 2024, section 3.3).

Seen through a smaller cube the teacher's lids close further, which makes up for blinks that it shows half.
"""

from torch import Tensor

from flame.landmarks.sets import IBUG_LEFT_EYE, IBUG_RIGHT_EYE

_LEAST, _SLOPE, _OPEN = 0.97, 0.1, 0.3


def eye_openness(landmarks: Tensor) -> Tensor:
    """Height over width of the eyes, `[B]`, the mean of both.

    Args:
        landmarks: `[B, 68 or more, 2]` in any unit.
    """
    ratios = []
    for eye in (IBUG_RIGHT_EYE, IBUG_LEFT_EYE):
        corner, first, second, other, below_second, below_first = (landmarks[:, index] for index in eye)
        heights = (first - below_first).norm(dim=-1) + (second - below_second).norm(dim=-1)
        ratios.append(heights / (2 * (corner - other).norm(dim=-1)))
    return (ratios[0] + ratios[1]) / 2


def teacher_box_scale(openness: Tensor) -> Tensor:
    """Factor on the side of the teacher's cube, `[B]` in [0.97, 1], from `eye_openness`: 1 from 0.3 on."""
    return (_LEAST + _SLOPE * openness.clamp(0, _OPEN)).clamp(_LEAST, 1.0)
