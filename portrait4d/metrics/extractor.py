"""What turns pictures into features, and which extractors there are."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from portrait4d.metrics.efficientnet import EfficientNetLite0Features
from portrait4d.metrics.feature_names import FeatureName
from portrait4d.metrics.inception import InceptionFeatures


class FeatureExtractor(Protocol):
    """A frozen network whose features distances are measured in.

    Attributes:
        name: in results and of caches.
        digest: SHA-256 of the file of its weights.
        resize_filter: in words; distances under different filters cannot be compared.
    """

    name: str
    digest: str
    resize_filter: str

    def features(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Features `[N, D]` of pictures `[N, H, W, 3]`; a picture's own do not depend on the others."""
        ...


def load_extractor(name: FeatureName, *, device: str = "cpu") -> FeatureExtractor:
    """Loads an extractor.

    Raises:
        InputError: its package is not installed, or its weights are not here and cannot be fetched.
    """
    if name == "efficientnet-lite0":
        return EfficientNetLite0Features(device=device)
    if name == "inception":
        return InceptionFeatures(resize="clean", device=device)
    if name == "inception-legacy":
        return InceptionFeatures(resize="legacy", device=device)
    raise ValueError(f"expected efficientnet-lite0, inception or inception-legacy, got {name!r}")
