"""Choices for the surface of a field; loads no torch, so that the command line can be made from it."""

import math
from dataclasses import dataclass

from flame.errors import InputError

MIN_RESOLUTION, MAX_RESOLUTION = 8, 1024


@dataclass(frozen=True)
class ShapeConfig:
    """How a surface is extracted from a field."""

    resolution: int = 256
    """Samples along each side; time and memory grow with its cube."""

    iso: float | None = None
    """Raw density of the surface, or auto. The authors take 10.

    In Python, None finds one, see `automatic_iso`.
    """

    margin: float = 0.0
    """Part of the cube left out at each border. Default: the authors' 0.117.

    Trained networks keep walls and cut shoulders there. The default is that of the command line; here it is 0.
    """

    keeps_all_parts: bool = False
    """Keep loose parts too.

    Otherwise only the part with the largest surface is kept.
    """

    def __post_init__(self) -> None:
        if not MIN_RESOLUTION <= self.resolution <= MAX_RESOLUTION:
            raise InputError(
                f"expected a resolution between {MIN_RESOLUTION} and {MAX_RESOLUTION}, got {self.resolution}"
            )
        if not 0 <= self.margin < 0.5:
            raise InputError(f"expected a margin of at least 0 and below 0.5, got {self.margin:g}")
        if self.iso is not None and not math.isfinite(self.iso):
            raise InputError(f"expected a finite iso level, got {self.iso}")
