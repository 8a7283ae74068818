"""What a user may choose of a measurement; loads no torch, so that the command line can be made from it.

The first paragraph below a field is also the help of its option on the command line.
"""

from dataclasses import dataclass
from pathlib import Path

from portrait4d.metrics.feature_names import FeatureName
from portrait4d.runtime.device_options import DeviceOptions


@dataclass(frozen=True)
class MetricsOptions(DeviceOptions):
    """How features are taken."""

    features: FeatureName = "efficientnet-lite0"
    """Whose features. inception: FID and KID, anti-aliased; inception-legacy: as in older papers."""

    cache: Path | None = None
    """Folder that keeps the features of REAL for the next time."""
