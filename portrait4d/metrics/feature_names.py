"""The feature extractors by name; loads no torch, so that the command line can offer them."""

from typing import Literal

FeatureName = Literal["efficientnet-lite0", "inception", "inception-legacy"]

FRECHET_TITLES: dict[FeatureName, str] = {
    "efficientnet-lite0": "efficientnet-lite0 Fréchet distance",
    "inception": "FID (clean)",
    "inception-legacy": "FID (legacy resize)",
}
"""What a Fréchet distance may be called: FID means Inception's features, and no others."""

KERNEL_TITLES: dict[FeatureName, str] = {
    "efficientnet-lite0": "efficientnet-lite0 kernel distance",
    "inception": "KID (clean)",
    "inception-legacy": "KID (legacy resize)",
}
