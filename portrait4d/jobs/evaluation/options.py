"""What a user may choose of an evaluation; loads no torch, so that the command line can be made from it.

The first paragraph below a field is also the help of its option on the command line.
"""

from dataclasses import dataclass, field

from portrait4d.evaluation.choices import ProtocolName
from portrait4d.losses.choices import TrainedPerceptualName
from portrait4d.options import ReenactOptions


def _absolute() -> ReenactOptions:
    """What the truth shows: the driver's own pose and expression, however far it turns."""
    return ReenactOptions(mode="absolute", yaw_limit=None)


@dataclass(frozen=True)
class EvaluateOptions:
    """How clips are reenacted and measured."""

    reenact: ReenactOptions = field(default_factory=_absolute)
    """How an engine reenacts; `start`, `duration` and `fps` select frames of other programs' results, too."""

    protocol: ProtocolName = "all-frames"
    """all-frames, or vfhq-50x50: 50 clips of 50 frames each, pixels in the square that FlexAvatar compares."""

    identity: str | None = None
    """insightface, or an ArcFace file (.onnx), which may be measured with. Default: identity is not measured."""

    perceptual: TrainedPerceptualName | None = None
    """Package and network of the perceptual distance. Default: it is not measured."""
