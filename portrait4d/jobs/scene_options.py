"""Options of a fit to posed pictures. Loads no torch: the command line is made from this class.

The first paragraph below a field is also the help of its option on the command line.
"""

import math
from dataclasses import dataclass

from flame.errors import InputError
from portrait4d.runtime.device_options import DeviceOptions
from portrait4d.scene.choices import NUM_STEPS, PLANE_RESOLUTION, Background, SceneFormat


@dataclass(frozen=True)
class SceneOptions(DeviceOptions):
    """How a scene is fitted."""

    format: SceneFormat = "auto"
    """Which labels to read if the folder has both."""

    background: Background = "auto"
    """Colour of empty space. auto: white if the pictures are transparent, otherwise that of their borders."""

    size: int = 128
    """Larger pictures are scaled down to this side, in pixels."""

    hold_out: int = 8
    """Hold out every N-th view if the folder has no test views."""

    box: float | None = None
    """Side of the fitted cube in the cameras' unit. Default: what all cameras see."""

    steps: int = NUM_STEPS
    """Steps of the optimiser."""

    planes: int = PLANE_RESOLUTION
    """Texels along a side of each plane."""

    seed: int = 0
    """Seed of all random numbers."""

    checkpoint_seconds: float = 15.0
    """Seconds between two checkpoints; not on the command line."""

    def __post_init__(self) -> None:
        for name, least in (("size", 32), ("steps", 1), ("planes", 8), ("hold_out", 2)):
            if getattr(self, name) < least:
                raise InputError(f"expected {name.replace('_', '-')} of at least {least}, got {getattr(self, name)}")
        if self.box is not None and not 0 < self.box < math.inf:
            raise InputError(f"expected a positive, finite side of the box, got {self.box:g}")
