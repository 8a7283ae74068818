"""What the GenHead generator makes on its way: a volume, heads prepared for pictures, pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from genhead.parts import PartFields
from genhead.render import PartSamples
from portrait4d.headparts.masks import HeadMasks
from portrait4d.render.decoder import FieldSamples
from portrait4d.render.planes import TriPlanes


@dataclass(frozen=True)
class HeadPlanes:
    """The planes of B heads: `parts` of eyes and mouth, `face` of everything else."""

    parts: TriPlanes
    face: TriPlanes


@dataclass(frozen=True)
class HeadVolume(HeadPlanes):
    """A sampled head at rest: everything that depends on neither its parameters nor the camera.

    Attributes:
        background: `[B, C, h, h]` features in [0, 1] behind the head.
        w: `[B, style_dim]`, the last style, which super-resolution takes if it takes any.
    """

    background: Tensor
    w: Tensor

    def __len__(self) -> int:
        return len(self.w)

    def __getitem__(self, index: slice) -> "HeadVolume":
        return HeadVolume(self.parts[index], self.face[index], self.background[index], self.w[index])


@dataclass(frozen=True)
class HeadImages:
    """Pictures of generated heads, and what training reads beside them; pictures are nominally in [-1, 1].

    Attributes:
        image: `[B, 3, H, H]`.
        image_raw: the rendered picture `[B, 3, h, h]`.
        features: `[B, C, h, h]` over the background; the first three channels are `image_raw`.
        background: `[B, C, h, h]`.
        depth: `[B, 1, h, h]` along the rays, world units.
        alpha: `[B, 1, h, h]` opacity; one minus it is what is left of the background.
        sample_depths: `[B, h * h, K]` of all samples, ascending.
        weights: `[B, h * h, K - 1]` of the intervals between them.
        masks: of eyes, mouth and head.
        samples: single samples, if they were asked for.
    """

    image: Tensor
    image_raw: Tensor
    features: Tensor
    background: Tensor
    depth: Tensor
    alpha: Tensor
    sample_depths: Tensor
    weights: Tensor
    masks: HeadMasks
    samples: PartSamples | None


@dataclass(frozen=True)
class PreparedHead:
    """What rendering needs of posed heads and their cameras; may be kept for pictures of the same label.

    Attributes:
        parts: the deformation.
        masks: in the cameras' pictures, at the rendered size.
    """

    parts: PartFields
    masks: HeadMasks

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, index: slice) -> "PreparedHead":
        return PreparedHead(self.parts[index], self.masks[index])

    @classmethod
    def concatenate(cls, heads: "Sequence[PreparedHead]") -> "PreparedHead":
        """One batch after another; see `PartFields.concatenate`."""
        parts = PartFields.concatenate([head.parts for head in heads])
        return cls(parts, HeadMasks.concatenate([head.masks for head in heads]))


class PartQuery(NamedTuple):
    """Values at points `[B, N]`: of the planes of the parts at their places in eyes and mouth, and of the face's."""

    eye: FieldSamples
    face: FieldSamples
    mouth: FieldSamples
