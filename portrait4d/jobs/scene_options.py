"""What a user may choose of a fit to posed pictures; loads no torch, so that the command line can be made from it.

The first paragraph below a field is also the help of its option on the command line.
"""

import math
from dataclasses import dataclass

from flame.errors import InputError
from portrait4d.runtime.device_options import DeviceOptions
from portrait4d.scene.choices import NUM_STEPS, PLANE_RESOLUTION, Background, SceneFormat


@dataclass(frozen=True)
class SceneOptions(DeviceOptions):
    """What a user can choose of a fit."""

    format: SceneFormat = "auto"
    """Which labels to read if the folder has both."""

    background: Background = "auto"
    """Of empty space. auto: white if transparent, else as borders."""

    size: int = 128
    """Larger pictures are scaled down to this side, in pixels."""

    hold_out: int = 8
    """Hold out every so many views if the folder has no test views."""

    box: float | None = None
    """Side of the fitted cube in the cameras' unit. Default: what they all look at."""

    steps: int = NUM_STEPS
    """Steps of the optimiser."""

    planes: int = PLANE_RESOLUTION
    """Texels of a plane's side."""

    seed: int = 0
    """Of everything random."""

    checkpoint_seconds: float = 15.0
    """Between two saved states; not on the command line."""

    def __post_init__(self) -> None:
        for name, least in (("size", 32), ("steps", 1), ("planes", 8), ("hold_out", 2)):
            if getattr(self, name) < least:
                raise InputError(f"expected {name.replace('_', '-')} of at least {least}, got {getattr(self, name)}")
        if self.box is not None and not 0 < self.box < math.inf:
            raise InputError(f"expected a positive, finite side of the box, got {self.box:g}")
