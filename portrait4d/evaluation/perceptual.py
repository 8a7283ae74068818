"""Perceptual distances by packages of their authors, which the user installs; none comes with the project.

LPIPS is of Zhang et al. 2018, ST-LPIPS, whose numbers are of another scale, of Ghildyal and Liu 2022.
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from portrait4d.evaluation.choices import PerceptualName
from preprocess.faces.backends.extras import explained_weights, import_extra

_TRUNK_FILES = {"alex": "alexnet-*.pth", "vgg": "vgg16-*.pth", "squeeze": "squeezenet1_1-*.pth"}


class PerceptualDistance:
    """The distance of one package and trunk.

    Attributes:
        name: of package, trunk and version.
    """

    def __init__(self, name: PerceptualName, *, device: str = "cpu") -> None:
        """Loads the network.

        Raises:
            InputError: the package is not installed, or the weights of its trunk are neither here nor can be fetched.
        """
        package, trunk = name.rsplit("-", 1)
        self.name = name
        self._device = device
        self._network = (_load_st_lpips(trunk) if package == "st-lpips" else _load_lpips(trunk)).to(device).eval()

    @torch.inference_mode()
    def __call__(self, result: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float:
        """The distance of two pictures `[H, W, 3]`; 0 for equal ones, lower is better."""
        return float(self._network(*(self._tensor(picture) for picture in (result, truth))))

    def _tensor(self, picture: NDArray[np.uint8]) -> Tensor:
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].to(self._device).float() / 127.5 - 1


def _load_st_lpips(trunk: str) -> nn.Module:
    """All weights are in the package."""
    module = import_extra("stlpips_pytorch.stlpips", "st-lpips", otherwise="use another --perceptual")
    with explained_weights("the weights of ST-LPIPS", lambda: "install stlpips-pytorch again"):
        return module.LPIPS(net=trunk, variant="shift_tolerant", verbose=False)


def _load_lpips(trunk: str) -> nn.Module:
    """The package holds the heads; its trunk is fetched by torchvision once."""
    module = import_extra("lpips", "lpips", otherwise="use another --perceptual")
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    with explained_weights(
        f"the weights of LPIPS's trunk {trunk}",
        lambda: f"put torchvision's {_TRUNK_FILES[trunk]} into {folder}",
        are_here=lambda: any(folder.glob(_TRUNK_FILES[trunk])),
    ):
        return module.LPIPS(net=trunk, verbose=False)
