"""The blur of the discriminator's input at the start of training, so that it first judges shapes, not pixels.

EG3D, Chan et al. 2022, supplement; after StyleGAN3, Karras et al. 2021, section 3.2.
"""

import math

import torch
from torch import Tensor

from portrait4d.ops.resample import filter_same


def blur_sigma(num_images: int, *, initial_sigma: float = 10.0, fade_images: int = 200_000) -> float:
    """Width of the blur in pixels after `num_images` images: linear from `initial_sigma` to 0 at `fade_images`."""
    if fade_images <= 0:
        return 0.0
    return initial_sigma * max(1.0 - num_images / fade_images, 0.0)


def blur_kernel(sigma: float) -> Tensor:
    """Taps `2^-(i / sigma)^2` for |i| <= floor(3 sigma), scaled to sum 1: `[2 * radius + 1]`; `[1]` below sigma 1/3."""
    if not 0.0 <= sigma < math.inf:
        raise ValueError(f"sigma must be a finite number of pixels, not negative; got {sigma}")
    radius = math.floor(3 * sigma)
    if radius == 0:
        return torch.ones(1)
    taps = (-(torch.arange(-radius, radius + 1) / sigma).square()).exp2()
    return taps / taps.sum()


def blur(picture: Tensor, sigma: float) -> Tensor:
    """Blurs `[B, C, H, W]`, black outside; returns the picture itself where the kernel has a single tap."""
    kernel = blur_kernel(sigma)
    return picture if len(kernel) == 1 else filter_same(picture, kernel)
