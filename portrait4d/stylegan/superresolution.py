"""The networks that bring a rendered feature picture to full resolution (EG3D, Chan et al. 2022, section 4.4)."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from portrait4d.ops.resample import resize
from portrait4d.runtime.checks import check_range
from portrait4d.runtime.random import RandomSource
from portrait4d.stylegan.synthesis import Noise, SynthesisBlock

SuperResolutionKind = Literal["2X", "4X", "8X", "8XDC", "2x64", "2x128", "none"]
StyleSource = Literal["given", "ones"]

_CLAMP = 256.0


@dataclass(frozen=True)
class _Shape:
    """Input and output sizes of a kind, and the widths of its blocks; the last one doubles the size."""

    input_resolution: int
    resolution: int
    widths: tuple[int, ...]


_SHAPES: dict[str, _Shape] = {
    "2X": _Shape(64, 128, (128, 64)),
    "4X": _Shape(128, 256, (128, 64)),
    "8X": _Shape(128, 512, (128, 64)),
    "8XDC": _Shape(128, 512, (256, 128)),
    "2x64": _Shape(32, 64, (16,)),
    "2x128": _Shape(64, 128, (32,)),
}


@dataclass(frozen=True)
class SuperResolutionConfig:
    """How pictures are enlarged; the defaults are EG3D's for FFHQ at 512.

    Attributes:
        kind: "8XDC" makes 512 (EG3D, GenHead, Portrait4D), "8X" is its narrower predecessor, "4X" makes 256, "2X" 128.
            For networks that train on a CPU, one narrow block makes 64 of 32 ("2x64") or 128 of 64 ("2x128"), and
            "none" gives the rendered picture as it is, in its own size.
        style_source: "given" takes the w of the call (EG3D: the last one, Portrait4D: a buffer), "ones" takes ones
            (GenHead).
        antialias: widen the filter where the input must shrink.
        noise: per-pixel noise.
        is_half: compute in fp16 on CUDA, and limit the activations everywhere, as fp16 needs.
        margin: pixels by which the sides are continued while it computes, so that convolutions see no zeros beyond
            them. Ours, for small pictures; the released networks continue nothing.
    """

    kind: SuperResolutionKind = "8XDC"
    style_source: StyleSource = "given"
    antialias: bool = True
    noise: Noise = "none"
    is_half: bool = True
    margin: int = 0

    def __post_init__(self) -> None:
        check_range("superresolution.margin", self.margin, 0, 32)
        if self.margin and self.noise == "const":
            raise ValueError("superresolution.margin has no constant noise: expected noise 'none' or 'random'")

    @property
    def resolution(self) -> int | None:
        """Side of the result in pixels; None where it is the rendered picture's."""
        return None if self.kind == "none" else shape_of(self.kind).resolution


def shape_of(kind: SuperResolutionKind) -> _Shape:
    """Sizes and widths of a kind that has blocks."""
    if kind not in _SHAPES:
        raise ValueError(f"super-resolution must be one of {', '.join(_SHAPES)}; got {kind!r}")
    return _SHAPES[kind]


class SuperResolution(nn.Module):
    """Synthesis blocks over a feature picture whose first three channels are its colours: none, one or two."""

    block0: SynthesisBlock
    block1: SynthesisBlock

    def __init__(
        self,
        config: SuperResolutionConfig,
        *,
        in_channels: int = 32,
        style_dim: int = 512,
        picture_channels: int = 3,
    ) -> None:
        super().__init__()
        self.config = config
        self.num_blocks = 0
        if config.kind == "none":
            return
        shape = shape_of(config.kind)
        self.input_resolution = shape.input_resolution
        self.num_blocks = len(shape.widths)
        resolution = shape.resolution // 2 ** (self.num_blocks - 1)
        before = shape.input_resolution
        for index, width in enumerate(shape.widths):
            block = SynthesisBlock(
                in_channels,
                width,
                style_dim=style_dim,
                picture_channels=picture_channels,
                resolution=resolution,
                up=resolution // before,
                clamp=_CLAMP if config.is_half else None,
                is_half=config.is_half,
            )
            setattr(self, f"block{index}", block)
            in_channels, before, resolution = width, resolution, 2 * resolution

    def forward(
        self,
        rgb: Tensor,
        features: Tensor,
        w: Tensor,
        *,
        noise: Noise | None = None,
        generator: RandomSource | None = None,
    ) -> Tensor:
        """Enlarges a rendered picture to full resolution.

        Args:
            rgb: `[B, 3, H, H]` in [-1, 1].
            features: `[B, C, H, H]` in [-1, 1].
            w: `[B, style_dim]` or `[style_dim]`; its values are not read where the style is "ones".
            noise: overrides the configured noise.
            generator: source of random noise.

        Returns:
            `[B, 3, resolution, resolution]`, nominally in [-1, 1], not clamped.
        """
        if not self.num_blocks:
            return rgb
        size = self.input_resolution
        if features.shape[2:] != (size, size):
            antialias = float(self.config.antialias)
            rgb = resize(rgb, height=size, width=size, antialias=antialias)
            features = resize(features, height=size, width=size, antialias=antialias)
        if self.config.style_source == "ones":
            w = torch.ones_like(w)
        margin = self.config.margin
        if margin:
            rgb, features = (F.pad(value, (margin,) * 4, mode="replicate") for value in (rgb, features))
        styles = w.expand(len(features), -1)[:, None].expand(-1, 3, -1)
        noise = noise or self.config.noise
        for index in range(self.num_blocks):
            block: SynthesisBlock = getattr(self, f"block{index}")
            features, rgb = block(features, rgb, styles, noise=noise, generator=generator)
        cut = margin * shape_of(self.config.kind).resolution // size
        return rgb[:, :, cut : len(rgb[0, 0]) - cut, cut : len(rgb[0, 0]) - cut]
