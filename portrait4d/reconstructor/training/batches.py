"""Samples become the tensors of a part: what the reconstructor is given, and what it should make."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flame.errors import InputError
from flame.geometry.camera import Camera
from portrait4d.reconstructor.motion_codes import parameter_code
from portrait4d.reconstructor.training.losses import TrueHeads, TrueVolume, WantedHeads
from portrait4d.reconstructor.training.samples import HeadSample, Moves, VolumeSample
from preprocess.media.image import to_tensor

ReadMotion = Callable[[Tensor, Tensor], Tensor]
"""Motion codes `[B, M]` of pictures `[B, 3, H, W]` in [-1, 1] with landmarks `[B, 70, 2]`, px from the first pixel's
centre."""


def stack_wanted(
    samples: Sequence[HeadSample], motion_scale: Sequence[float], *, read: ReadMotion | None, device: torch.device
) -> WantedHeads:
    """What the reconstructor is given.

    Args:
        samples: of a part.
        motion_scale: of each, see `WantedHeads`.
        read: reads codes off pictures; None takes the head model's numbers.
        device: of the networks.
    """
    source = _pictures([sample.source for sample in samples], device)
    label = _stack([sample.label for sample in samples], device)
    places = [_stack([getattr(sample, name) for sample in samples], device) - 0.5 for name in _LANDMARKS]
    landmarks, source_landmarks, driver_landmarks = places
    if read is None:
        codes = [_codes([getattr(sample, name) for sample in samples], device) for name in _MOVES]
    else:
        driver = _pictures([sample.driver for sample in samples], device)
        codes = [read(source, source_landmarks), read(driver, driver_landmarks)]
    maps = [sample.correspondence for sample in samples if sample.correspondence is not None]
    has_maps = len(maps) == len(samples)
    return WantedHeads(
        source=source,
        source_motion=codes[0],
        driver_motion=codes[1],
        motion_scale=torch.tensor(list(motion_scale), device=device)[:, None, None],
        camera=Camera.from_label25(label, axes="opengl"),
        pose=None,
        label=label,
        correspondence=_stack(maps, device) if has_maps else source.new_zeros(len(samples), 3, 0, 0),
        landmarks=landmarks,
    )


def stack_true(samples: Sequence[HeadSample], *, device: torch.device) -> TrueHeads:
    """What it should make."""
    image = _pictures([sample.image for sample in samples], device)
    mask = 2 * _stack([sample.mask for sample in samples], device)[:, None] - 1
    volumes = [sample.volume for sample in samples if sample.volume is not None]
    return TrueHeads(image, mask, _volume(volumes, device) if len(volumes) == len(samples) else None)


def check_maps(sample: HeadSample) -> None:
    """Refuses data that an adversary cannot see.

    Raises:
        InputError: there are no correspondence maps.
    """
    if sample.correspondence is None:
        raise InputError(
            "expected correspondence maps for the adversarial loss, the data have none: synthesise without "
            "--no-correspondence, or set loss.adversarial_weight 0"
        )


_LANDMARKS = ("landmarks", "source_landmarks", "driver_landmarks")
_MOVES = ("source_moves", "driver_moves")


def _volume(samples: Sequence[VolumeSample], device: torch.device) -> TrueVolume:
    names = ("depth", "features", "background", "points", "plane_features")
    return TrueVolume(**{name: _stack([getattr(sample, name) for sample in samples], device) for name in names})


def _codes(moves: Sequence[Moves], device: torch.device) -> Tensor:
    return parameter_code(*(_stack([getattr(each, name) for each in moves], device) for name in Moves.__annotations__))


def _pictures(pictures: Sequence[NDArray[np.uint8]], device: torch.device) -> Tensor:
    return torch.cat([to_tensor(picture) for picture in pictures]).to(device)


def _stack(arrays: Sequence[NDArray], device: torch.device) -> Tensor:
    return torch.from_numpy(np.stack(arrays)).float().to(device)
