"""Perceptual distances by packages of their authors, which the user installs; none comes with the project.

LPIPS is of Zhang et al. 2018, ST-LPIPS, whose numbers are of another scale, of Ghildyal and Liu 2022.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from portrait4d.losses.choices import TrainedPerceptualName
from portrait4d.losses.perceptual import load_perceptual_network


class PerceptualDistance:
    """The distance of one package and trunk.

    Attributes:
        name: of package, trunk and version.
    """

    def __init__(self, name: TrainedPerceptualName, *, device: str = "cpu") -> None:
        """Loads the network.

        Raises:
            InputError: the package is not installed, or the weights of its trunk are neither here nor can be fetched.
        """
        self.name = name
        self._device = device
        self._network = load_perceptual_network(name).to(device).eval()

    @torch.inference_mode()
    def __call__(self, result: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float:
        """The distance of two pictures `[H, W, 3]`; 0 for equal ones, lower is better."""
        return float(self._network(*(self._tensor(picture) for picture in (result, truth))))

    def _tensor(self, picture: NDArray[np.uint8]) -> Tensor:
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].to(self._device).float() / 127.5 - 1
