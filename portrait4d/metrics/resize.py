"""One way of scaling pictures for feature networks: anti-aliased, and without rounding to whole levels.

Parmar et al. 2022, "On Aliased Resizing and Surprising Subtleties in GAN Evaluation": filters without anti-aliasing
change Fréchet distances by more than methods differ. Equal to the "clean" filter of the package clean-fid.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CLEAN_FILTER = "Pillow bicubic, anti-aliased, float32, not cropped"


def resize_clean(images: NDArray[np.uint8], side: int) -> NDArray[np.float32]:
    """Pictures `[N, H, W, 3]` scaled to `[N, side, side, 3]` float32 in [0, 255]; those not square are stretched."""
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise ValueError(f"expected uint8 [N, H, W, 3], got {images.dtype} {list(images.shape)}")
    scaled = np.empty((len(images), side, side, 3), np.float32)
    for index, channel in np.ndindex(len(images), 3):
        plane = Image.fromarray(images[index, :, :, channel].astype(np.float32))
        scaled[index, :, :, channel] = np.asarray(plane.resize((side, side), Image.Resampling.BICUBIC))
    return scaled.clip(0, 255)
