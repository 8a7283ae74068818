"""Options of retargeting. Loads no torch: the command line is made from these classes.

The first paragraph below a field is also the help of its option on the command line.
"""

from dataclasses import dataclass
from typing import get_args

from portrait4d.engines.modes import Gaze, RetargetMode
from portrait4d.runtime.checks import check_choice, check_range


@dataclass(frozen=True, kw_only=True)
class JitterOptions:
    """Whether frames get the sampling noise of the released code."""

    jitter: int | None = None
    """Seed of the released code's sampling noise, for comparison with it; frames flicker. Default: fixed samples
    (engines portrait4d... only).
    """

    def __post_init__(self) -> None:
        check_range("jitter", self.jitter, 0, None)


@dataclass(frozen=True, kw_only=True)
class RetargetOptions(JitterOptions):
    """How a driver's motion is retargeted to an avatar."""

    mode: RetargetMode = "relative"
    """relative: the driver's change since its neutral frame; absolute: the driver's own pose and expression.

    "relative" adds the change to the source's own pose and expression.
    """

    yaw_limit: float | None = 25.0
    """Largest head turn shown, in degrees; 'none' lifts the limit.

    Counted from the camera. In Python, None lifts it.
    """

    gaze: Gaze = "driver"
    """Eyes follow the driver, look at the camera, or stay as in the source."""

    expression_scale: float = 1.0
    """Multiplies the transferred expression."""

    pose_scale: float = 1.0
    """Multiplies the transferred head motion."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("mode", self.mode, get_args(RetargetMode))
        check_choice("gaze", self.gaze, get_args(Gaze))
        check_range("yaw limit", self.yaw_limit, 0.0, 180.0)
        check_range("expression scale", self.expression_scale, 0.0, 5.0)
        check_range("pose scale", self.pose_scale, 0.0, 5.0)
