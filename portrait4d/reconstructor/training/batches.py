"""Samples become the tensors of a part: what the reconstructor is given, and what it should make."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flame.errors import InputError
from flame.geometry.camera import Camera
from flame.heads.head_model import HeadParams
from portrait4d.reconstructor.motion_codes import parameter_code
from portrait4d.reconstructor.training.head_world import HeadWorld, PosedCamera
from portrait4d.reconstructor.training.losses import TrueHeads, TrueVolume, WantedHeads
from portrait4d.reconstructor.training.motion_reader import ReadMotion
from portrait4d.reconstructor.training.samples import HeadSample, Moves, VolumeSample
from preprocess.media.image import to_tensor

_VOLUME = ("depth", "features", "background", "points", "plane_features")


class Batches:
    """Makes batches.

    Attributes:
        world: places the head model; None for subjects, whose records hold all that follows from it.

    Args:
        read: reads motion codes off pictures; None takes the head model's numbers.
        world: see above.
        is_static: motion is never changed, and no codes are made.
        has_maps: whether an adversary sees correspondence maps.
        surface_side: of maps of how far the fitted faces of clips are; 0 makes none.
        device: of the networks.
    """

    def __init__(
        self,
        read: ReadMotion | None,
        world: HeadWorld | None,
        *,
        has_maps: bool,
        surface_side: int = 0,
        device: torch.device,
        is_static: bool = False,
    ) -> None:
        self._read, self.world, self._is_static = read, world, is_static
        self._has_maps, self._surface_side, self._device = has_maps, surface_side, device

    def wanted(self, samples: Sequence[HeadSample], motion_scale: Sequence[float]) -> WantedHeads:
        """What the reconstructor is given.

        Args:
            samples: of a part.
            motion_scale: of each, see `WantedHeads`.

        Raises:
            InputError: maps of correspondence are needed and the data have none.
        """
        source = self._pictures([sample.source for sample in samples])
        label = self._stack([sample.label for sample in samples])
        places = [self._stack([getattr(sample, name) for sample in samples]) - 0.5 for name in _LANDMARKS]
        landmarks, source_landmarks, driver_landmarks = places
        source_motion = driver_motion = source.new_zeros(len(samples), 0)
        if self._read is not None:
            driver = self._pictures([sample.driver for sample in samples])
            source_motion, driver_motion = self._read(source, source_landmarks), self._read(driver, driver_landmarks)
        elif not self._is_static:
            source_motion, driver_motion = (
                self._codes([getattr(sample, name) for sample in samples]) for name in ("source_moves", "driver_moves")
            )
        seen = self._place(samples, Camera.from_label25(label, axes="opengl"))
        return WantedHeads(
            source=source,
            source_motion=source_motion,
            driver_motion=driver_motion,
            motion_scale=0.0
            if self._is_static
            else torch.tensor(list(motion_scale), device=self._device)[:, None, None],
            camera=seen.camera,
            pose=seen.pose,
            label=label,
            correspondence=self._maps(samples, seen.camera, like=source),
            landmarks=landmarks,
            surface=self._surface(samples, seen.camera),
        )

    def true(self, samples: Sequence[HeadSample]) -> TrueHeads:
        """What it should make."""
        image = self._pictures([sample.image for sample in samples])
        mask = 2 * self._stack([sample.mask for sample in samples])[:, None] - 1
        volumes = [sample.volume for sample in samples if sample.volume is not None]
        return TrueHeads(image, mask, self._volume(volumes) if len(volumes) == len(samples) else None)

    def params(self, samples: Sequence[HeadSample]) -> HeadParams:
        """The heads that are asked for."""
        moves = [sample.driver_moves for sample in samples]
        shape, neck = (self._stack([getattr(sample, name) for sample in samples]) for name in ("shape", "neck"))
        expression, jaw, eyes = (self._stack([getattr(each, name) for each in moves]) for name in _MOVES)
        return HeadParams(shape, expression, neck, jaw, eyes)

    def landmarks(self, samples: Sequence[HeadSample]) -> Tensor:
        """Of the heads that are asked for, `[B, 70, 2]` px from the first pixel's centre."""
        return self._stack([sample.landmarks for sample in samples]) - 0.5

    def _place(self, samples: Sequence[HeadSample], camera: Camera) -> PosedCamera:
        if self.world is None or not any(sample.neck.any() for sample in samples):
            return PosedCamera(camera, None)
        return self.world.place_camera(camera, self.params(samples))

    def _maps(self, samples: Sequence[HeadSample], camera: Camera, *, like: Tensor) -> Tensor:
        if not self._has_maps:
            return like.new_zeros(len(samples), 3, 0, 0)
        if self.world is not None:
            return self.world.correspondence(self.params(samples), camera, side=like.shape[-1])
        maps = [sample.correspondence for sample in samples if sample.correspondence is not None]
        if len(maps) < len(samples):
            raise InputError(
                "expected correspondence maps for the adversarial loss, the subjects have none: synthesise without "
                "--no-correspondence, or set loss.adversarial_weight 0"
            )
        return self._stack(maps)

    def _surface(self, samples: Sequence[HeadSample], camera: Camera) -> Tensor | None:
        if self.world is None or not self._surface_side:
            return None
        return self.world.surface(self.params(samples), camera, side=self._surface_side)

    def _volume(self, samples: Sequence[VolumeSample]) -> TrueVolume:
        return TrueVolume(**{name: self._stack([getattr(sample, name) for sample in samples]) for name in _VOLUME})

    def _codes(self, moves: Sequence[Moves]) -> Tensor:
        return parameter_code(*(self._stack([getattr(each, name) for each in moves]) for name in _MOVES))

    def _pictures(self, pictures: Sequence[NDArray[np.uint8]]) -> Tensor:
        return torch.cat([to_tensor(picture) for picture in pictures]).to(self._device)

    def _stack(self, arrays: Sequence[NDArray]) -> Tensor:
        return torch.from_numpy(np.stack(arrays)).float().to(self._device)


_LANDMARKS = ("landmarks", "source_landmarks", "driver_landmarks")
_MOVES = ("expression", "jaw", "eyes")
