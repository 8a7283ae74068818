"""Finds the pixels that belong to the person with the selfie segmentation network, on whole frames."""

from collections.abc import Sequence

import cv2
import numpy as np
import torch

from preprocess.faces.networks.portrait_matte import INPUT_SIZE, PortraitMatteNetwork
from preprocess.faces.networks.weights import load_network


class PortraitMatte:
    """Makes person mattes of frames; the person should fill a good part of the frame."""

    def __init__(self, device: str | torch.device = "cpu"):
        self.device = torch.device(device)
        self._network = load_network(PortraitMatteNetwork, "portrait_matte", device=device)

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """Returns the matte, float32 `[H, W]` in [0, 1], of `frame` uint8 `[H, W, 3]` RGB."""
        return self.batch([frame])[0]

    def batch(self, frames: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Returns one matte per frame, of the frame's size."""
        # on a CPU one frame at a time stays in the cache and takes half as long as eight together
        at_once = 1 if self.device.type == "cpu" else max(len(frames), 1)
        mattes: list[np.ndarray] = []
        for start in range(0, len(frames), at_once):
            mattes += self._matte(frames[start : start + at_once])
        return mattes

    def _matte(self, frames: Sequence[np.ndarray]) -> list[np.ndarray]:
        images = torch.from_numpy(np.stack([_stretch(frame) for frame in frames])).to(self.device)
        with torch.inference_mode():
            mattes = self._network(images.permute(0, 3, 1, 2).float().div_(255))[:, 0].cpu().numpy()
        return [
            cv2.resize(matte, frame.shape[1::-1], interpolation=cv2.INTER_LINEAR)
            for matte, frame in zip(mattes, frames, strict=True)
        ]


def _stretch(frame: np.ndarray) -> np.ndarray:
    """Returns the frame as `[256, 256, 3]`; the aspect is not kept, as in training."""
    interpolation = cv2.INTER_AREA if min(frame.shape[:2]) > INPUT_SIZE else cv2.INTER_LINEAR
    return cv2.resize(frame, (INPUT_SIZE, INPUT_SIZE), interpolation=interpolation)
