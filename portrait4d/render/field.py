"""Volumes that give density and colour at points."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from portrait4d.render.decoder import FieldSamples, TriPlaneDecoder
from portrait4d.render.planes import TriPlanes


class Field(Protocol):
    """A batch of volumes."""

    def __call__(self, points: Tensor) -> FieldSamples:
        """Maps world points `[B, N, 3]` to density `[B, N]` and features `[B, N, C]`."""
        ...


@dataclass(frozen=True)
class TriPlaneField:
    """Planes and the decoder that reads them."""

    planes: TriPlanes
    decoder: TriPlaneDecoder

    def __call__(self, points: Tensor) -> FieldSamples:  # noqa: D102
        return self.decoder(self.planes.sample(points))


@dataclass(frozen=True)
class ScaledField:
    """A volume that is larger by a factor `[B, 1, 1]` around the origin, with the same densities."""

    inner: Field
    factor: Tensor

    def __call__(self, points: Tensor) -> FieldSamples:  # noqa: D102
        return self.inner(points / self.factor)
