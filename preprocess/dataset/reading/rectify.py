"""How a clip's camera stands still while its head turns (Portrait4D-v2, Deng et al. 2024, in the released form).

Records state the whole rotation of a head in the camera, and repeat it in the neck. For frames of one clip the camera
gets the mean turn and roll of the clip, and the neck the rest: shoulders then stay where they are, as in the video.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

_FIXED_AXES = "xyz"


def rectified_necks(necks: NDArray[np.float32]) -> NDArray[np.float32]:
    """What is left of the heads' rotations `[T, 3]` of a clip when its camera has turned, axis-angle in radians.

    The camera's rotation has the mean angles of yaw and roll of all frames, about fixed axes, and no pitch.
    """
    whole = Rotation.from_rotvec(necks.astype(np.float64))
    _, yaw, roll = whole.as_euler(_FIXED_AXES).mean(0)
    camera = Rotation.from_euler(_FIXED_AXES, [0.0, yaw, roll])
    return (camera.inv() * whole).as_rotvec().astype(np.float32)
