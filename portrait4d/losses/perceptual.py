"""Perceptual distances by name: of packages of their authors, which the user installs, and a stand-in without weights.

LPIPS is of Zhang et al. 2018, ST-LPIPS, whose numbers are of another scale, of Ghildyal and Liu 2022. `pyramid`
compares Laplacian pyramids (Burt and Adelson 1983): it needs nothing, and knows no faces.
"""

from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from portrait4d.losses.choices import PYRAMID, PerceptualName, TrainedPerceptualName
from portrait4d.losses.pictures import Perceptual
from preprocess.faces.backends.extras import explained_weights, import_extra

_TRUNK_FILES = {"alex": "alexnet-*.pth", "vgg": "vgg16-*.pth", "squeeze": "squeezenet1_1-*.pth"}
_COARSEST_PX = 8
"""Side below which the pyramid ends."""


def load_perceptual(name: PerceptualName, *, device: torch.device | str = "cpu") -> Perceptual:
    """Loads a distance for training: differentiable, its weights fixed.

    Raises:
        InputError: see `load_perceptual_network`.
    """
    if name == PYRAMID:
        return pyramid_distance
    network = load_perceptual_network(cast(TrainedPerceptualName, name)).to(device).eval().requires_grad_(False)
    return lambda first, second: network(first, second).flatten()


def load_perceptual_network(name: TrainedPerceptualName) -> nn.Module:
    """The network of a package and trunk; takes two batches in [-1, 1] to `[B, 1, 1, 1]`.

    Raises:
        InputError: the package is not installed, or the weights of its trunk are neither here nor can be fetched.
    """
    package, trunk = name.rsplit("-", 1)
    return _load_st_lpips(trunk) if package == "st-lpips" else _load_lpips(trunk)


def pyramid_distance(first: Tensor, second: Tensor) -> Tensor:
    """Mean absolute differences of the bands of a Laplacian pyramid, `[B]`, the mean over its levels.

    Args:
        first: `[B, C, H, W]`.
        second: of the same shape.
    """
    difference, distances = first - second, []
    while min(difference.shape[2:]) >= 2 * _COARSEST_PX:
        coarse = F.avg_pool2d(difference, 2)
        band = difference - F.interpolate(coarse, size=difference.shape[2:], mode="bilinear", align_corners=False)
        distances.append(band.abs().mean((1, 2, 3)))
        difference = coarse
    distances.append(difference.abs().mean((1, 2, 3)))
    return torch.stack(distances).mean(0)


def _load_st_lpips(trunk: str) -> nn.Module:
    """All weights are in the package."""
    module = import_extra("stlpips_pytorch.stlpips", "st-lpips", otherwise="use another distance")
    with explained_weights("the weights of ST-LPIPS", lambda: "install stlpips-pytorch again"):
        return module.LPIPS(net=trunk, variant="shift_tolerant", verbose=False)


def _load_lpips(trunk: str) -> nn.Module:
    """The package holds the heads; its trunk is fetched by torchvision once."""
    module = import_extra("lpips", "lpips", otherwise="use another distance")
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    with explained_weights(
        f"the weights of LPIPS's trunk {trunk}",
        lambda: f"put torchvision's {_TRUNK_FILES[trunk]} into {folder}",
        are_here=lambda: any(folder.glob(_TRUNK_FILES[trunk])),
    ):
        return module.LPIPS(net=trunk, verbose=False)
