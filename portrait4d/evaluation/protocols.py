"""Which clips, frames and part of the frames are compared: all, or as a published protocol has it."""

from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from flame.errors import InputError
from portrait4d.evaluation.choices import ProtocolName
from preprocess.faces.aligned_crop import five_points
from preprocess.faces.crop import Crop


@dataclass(frozen=True)
class Protocol:
    """How an evaluation compares.

    Attributes:
        name: of `ProtocolName`.
        description: with the numbers; what it shares with the published one, and what it does not.
        num_clips: that it is defined for; None for any number.
        num_frames: of a clip, evenly spread; None for all.
        box_scale: side of the square in which pixels are compared, in sides of the box of the five key points; None for
            whole pictures.
        box_px: side that the square is scaled to.
    """

    name: ProtocolName
    description: str
    num_clips: int | None = None
    num_frames: int | None = None
    box_scale: float | None = None
    box_px: int = 512

    def check_clips(self, num_clips: int) -> None:
        """Refuses another number of clips than the protocol's.

        Raises:
            InputError: the number differs.
        """
        if self.num_clips is not None and num_clips != self.num_clips:
            raise InputError(
                f"expected {self.num_clips} clips under --protocol {self.name}, got {num_clips}: give those of the "
                "protocol, or leave the option out"
            )

    def frames(self, count: int) -> NDArray[np.intp]:
        """Numbers of the frames that are compared, of a clip of so many.

        Raises:
            InputError: the clip is too short.
        """
        if self.num_frames is None:
            return np.arange(count)
        if count < self.num_frames:
            raise InputError(
                f"expected at least {self.num_frames} frames to compare under --protocol {self.name}, got {count}: "
                "give longer clips"
            )
        return np.linspace(0, count - 1, self.num_frames).round().astype(np.intp)

    def box(self, landmarks: NDArray, *, image_size: tuple[int, int]) -> Crop | None:
        """The square around the face with landmarks `[478, 2 or 3]` in px; None for the whole picture."""
        if self.box_scale is None:
            return None
        points = five_points(landmarks)
        low, high = points.min(0), points.max(0)
        side = min(self.box_scale * float((high - low).max()), *image_size)
        middle = (low + high) / 2
        return Crop.from_square((float(middle[0]), float(middle[1])), side, size=self.box_px, image_size=image_size)


ALL_FRAMES = Protocol("all-frames", "every frame of every clip, whole pictures")

VFHQ_50X50 = Protocol(
    "vfhq-50x50",
    "the frames and squares of FlexAvatar's and GAGAvatar's measurement of the VFHQ test set: 50 clips, 50 evenly "
    "spread frames of each, pixels in a square of 3 sides of the box of the true frame's five key points, at most the "
    "picture's side, scaled to 512 px. Theirs takes key points, CSIM and AKD from insightface, LPIPS from SqueezeNet, "
    "AED and APD from Deep3D coefficients: PSNR, SSIM and lpips-squeeze compare as far as "
    "squares, masks and windows agree, the other measures not. Jitter, flicker, motion gain and lag are of all frames.",
    num_clips=50,
    num_frames=50,
    box_scale=3.0,
)

_PROTOCOLS = {protocol.name: protocol for protocol in (ALL_FRAMES, VFHQ_50X50)}


def load_protocol(name: ProtocolName) -> Protocol:
    """The protocol of a name.

    Raises:
        InputError: there is none.
    """
    if name not in _PROTOCOLS:
        raise InputError(f"expected protocol to be one of {', '.join(get_args(ProtocolName))}, got {name!r}")
    return _PROTOCOLS[name]
