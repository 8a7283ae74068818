"""What a user may choose for a reenactment or a rendering; the defaults are what the command line does."""

from dataclasses import dataclass
from typing import get_args

from flame.errors import InputError
from portrait4d.engines.modes import Gaze, Placement, RetargetMode
from portrait4d.runtime.checks import check_choice, check_range


@dataclass(frozen=True)
class ReenactOptions:
    """How a driver moves a source.

    Attributes:
        engine: Engine name, or "auto" for the best one whose weights are present; or the path of a checkpoint folder or
            an official file, as `engines.choose.choose_engine` takes it.
        mode: "relative" adds the driver's change since its neutral frame to the source's own pose and face;
            "absolute" copies the driver's pose and face.
        crop: True writes the 512 x 512 head crop; False pastes the head back into the whole source picture.
        side_by_side: Write source, driver and result beside each other.
        fps: Frames per second of the result; None keeps the driver's.
        start: Seconds of the driver to skip.
        duration: Seconds of the driver to use; None uses the rest.
        yaw_limit: Largest head turn shown, in degrees from the camera; None lifts the limit.
        gaze: Whose gaze the result has.
        placement: "tracked" draws the head where it was tracked; "canonical" draws it in the middle, turned by its
            neck, before one frontal camera. Only engines portrait4d... can do the latter.
        jitter: Seed of the noise that places samples along the rays, as the released code does; frames flicker. None
            takes fixed samples. Only for engines portrait4d...
        flame: FLAME file of the user's instead of the one that the weights hold, for engines portrait4d...
        expression_scale: Multiplies the transferred expression.
        pose_scale: Multiplies the transferred head motion.
        smooth: Strength of the tracker's smoothing; 0 switches it off.
        face: Which face of the source, 0 the largest.
        driver_face: Which face of the driver, 0 the largest where the first one appears.
        device: Torch device.
    """

    engine: str = "auto"
    mode: RetargetMode = "relative"
    crop: bool = True
    side_by_side: bool = False
    fps: float | None = None
    start: float = 0.0
    duration: float | None = None
    yaw_limit: float | None = 25.0
    gaze: Gaze = "driver"
    placement: Placement = "tracked"
    jitter: int | None = None
    flame: str | None = None
    expression_scale: float = 1.0
    pose_scale: float = 1.0
    smooth: float = 1.0
    face: int = 0
    driver_face: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        check_choice("mode", self.mode, get_args(RetargetMode))
        check_choice("gaze", self.gaze, get_args(Gaze))
        check_choice("placement", self.placement, get_args(Placement))
        check_range("fps", self.fps, 1.0, 240.0)
        check_range("start", self.start, 0.0, None)
        check_range("duration", self.duration, 1e-3, None)
        check_range("yaw limit", self.yaw_limit, 0.0, 180.0)
        check_range("expression scale", self.expression_scale, 0.0, 5.0)
        check_range("pose scale", self.pose_scale, 0.0, 5.0)
        check_range("smooth", self.smooth, 0.0, 10.0)
        check_range("jitter", self.jitter, 0, None)
        check_range("face", self.face, 0, 1000)
        check_range("driver face", self.driver_face, 0, 1000)


@dataclass(frozen=True)
class RenderOptions:
    """How an avatar is shown without a driver.

    Attributes:
        yaw_degrees: Key angles, > 0 shows the nose to the viewer's right. A video moves through them, a picture
            output writes one view each. Empty: an orbit.
        pitch_degrees: Key angles, > 0 looks up; one value holds for all.
        duration: Seconds of video.
        fps: Frames per second of video.
        engine: As in `ReenactOptions`.
        face: As in `ReenactOptions`.
        device: Torch device.
        jitter: As in `ReenactOptions`.
        flame: As in `ReenactOptions`.
        mesh_resolution: Samples along a side of the cube that a mesh is taken from; None leaves it to the engine. Only
            for meshes of engines portrait4d...
    """

    yaw_degrees: tuple[float, ...] = ()
    pitch_degrees: tuple[float, ...] = ()
    duration: float = 4.0
    fps: float = 25.0
    engine: str = "auto"
    face: int = 0
    device: str = "cpu"
    jitter: int | None = None
    flame: str | None = None
    mesh_resolution: int | None = None

    def __post_init__(self) -> None:
        check_range("jitter", self.jitter, 0, None)
        check_range("duration", self.duration, 1e-3, None)
        check_range("fps", self.fps, 1.0, 240.0)
        for angle in (*self.yaw_degrees, *self.pitch_degrees):
            check_range("angle", angle, -180.0, 180.0)
        counts = {len(self.yaw_degrees), len(self.pitch_degrees)} - {0, 1}
        if len(counts) > 1:
            raise InputError(
                f"expected as many yaw as pitch angles (or one), got {len(self.yaw_degrees)} and "
                f"{len(self.pitch_degrees)}: give lists of one length"
            )
