"""Options of live driving. Loads no torch."""

from dataclasses import dataclass
from typing import Literal, get_args

from portrait4d.engines.retarget_options import RetargetOptions
from portrait4d.options import AvatarOptions
from portrait4d.runtime.checks import check_choice, check_range

Screen = Literal["window", "virtual-camera", "nothing"]


@dataclass(frozen=True, kw_only=True)
class LiveOptions(RetargetOptions, AvatarOptions):
    """How a camera or a clip drives a head while one watches."""

    engine: str = "lift"
    """lift; or another engine, or a path of its weights, where this machine draws it in real time (a GPU)."""

    show: Screen = "window"
    """Where the head is shown: a window, a virtual camera that video calls can choose, or nowhere (with --record)."""

    seconds: float | None = None
    """Stop after so many seconds. Default: at the end of the clip, or when the window is closed."""

    is_mirrored: bool | None = None
    """Mirror the driver, as a looking glass does. Default: a camera is mirrored, a clip is not."""

    driver_face: int = 0
    """Which face of the driver's first frame with a face; 0 is the largest."""

    def __post_init__(self) -> None:
        for part in (RetargetOptions, AvatarOptions):
            part.__post_init__(self)
        check_choice("show", self.show, get_args(Screen))
        check_range("seconds", self.seconds, 0.1, None)
        check_range("driver face", self.driver_face, 0, 1000)
