"""The synthesis network: styles become a picture with any number of channels (StyleGAN2, section 4, "skip")."""

import math
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from portrait4d.ops.activation import bias_act
from portrait4d.ops.convolution import channels_last, modulated_conv, modulated_parts
from portrait4d.ops.resample import make_filter, upsample
from portrait4d.runtime.random import RandomSource, normal
from portrait4d.stylegan.channels import block_resolutions, is_half_block, num_channels
from portrait4d.stylegan.half import HalfBlock
from portrait4d.stylegan.layers import FullyConnected

Noise = Literal["const", "none", "random"]
"""Per-pixel noise: the stored picture, none, or drawn anew with a generator."""


class SynthesisLayer(nn.Module):
    """Modulated 3x3 convolution, noise, bias and leaky ReLU."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        style_dim: int,
        resolution: int,
        up: int = 1,
        clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.resolution, self.up, self.clamp = resolution, up, clamp
        self.affine = FullyConnected(style_dim, in_channels, initial_bias=1.0)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 3, 3))
        self.noise_strength = nn.Parameter(torch.zeros([]))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.register_buffer("noise_const", torch.randn(resolution, resolution))
        self.register_buffer("kernel", make_filter(), persistent=False)
        self.noise_const: Tensor
        self.kernel: Tensor

    def forward(
        self,
        x: Tensor,
        w: Tensor,
        *,
        noise: Noise = "const",
        generator: RandomSource | None = None,
        gain: float = 1.0,
    ) -> Tensor:
        """Takes `[B, C, H, W]` and w `[B, style_dim]` to `[B, D, H * up, W * up]`."""
        styles = self.affine(w)
        x, scale = modulated_parts(x, self.weight, styles, kernel=self.kernel, up=self.up)
        added = self._noise(x, noise, generator)
        clamp = None if self.clamp is None else self.clamp * gain
        return bias_act(
            x,
            self.bias,
            scale=scale,
            noise=added,
            activation="lrelu",
            gain=gain,
            clamp=clamp,
            may_overwrite=True,
        )

    def _noise(self, x: Tensor, noise: Noise, generator: RandomSource | None) -> Tensor | None:
        """What is added to every channel, `[B or 1, 1, H, W]`."""
        if noise == "random":
            if generator is None:
                raise ValueError("noise 'random' needs a generator to draw it from")
            shape = (len(x), 1, *x.shape[2:])
            return (normal(generator, shape, x.new_empty((), dtype=torch.float32)) * self.noise_strength).to(x.dtype)
        if noise == "const":
            return (self.noise_const * self.noise_strength).to(x.dtype)[None, None]
        if noise != "none":
            raise ValueError(f"noise must be 'const', 'none' or 'random', got {noise!r}")
        return None


class ToRGB(nn.Module):
    """Modulated 1x1 convolution to the channels of the picture, without demodulation and activation."""

    def __init__(self, in_channels: int, out_channels: int, *, style_dim: int, clamp: float | None = None) -> None:
        super().__init__()
        self.clamp = clamp
        self.affine = FullyConnected(style_dim, in_channels, initial_bias=1.0)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.weight_gain = 1.0 / math.sqrt(in_channels)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:  # noqa: D102
        styles = self.affine(w) * self.weight_gain
        x = modulated_conv(x, self.weight, styles, is_demodulated=False)
        return bias_act(x, self.bias, clamp=self.clamp, may_overwrite=True)


class SynthesisBlock(HalfBlock):
    """One resolution: up to two layers, and their picture added to the enlarged one of the block before.

    Args:
        in_channels: 0 for the first block, which starts from a learned constant.
        out_channels: width of this resolution.
        style_dim: size of w.
        picture_channels: channels of the picture.
        resolution: of the result.
        up: 2, or 1 for a block that keeps the size (super-resolution).
        clamp: limit of the activations, which fp16 needs.
        is_half: compute in fp16 on CUDA (see `half`); the picture is always summed in the parameters' precision.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        style_dim: int,
        picture_channels: int,
        resolution: int,
        up: int = 2,
        clamp: float | None = None,
        is_half: bool = False,
    ) -> None:
        super().__init__(is_half=is_half)
        self.up = up
        self.has_input = in_channels > 0
        if self.has_input:
            self.conv0 = SynthesisLayer(
                in_channels, out_channels, style_dim=style_dim, resolution=resolution, up=up, clamp=clamp
            )
        else:
            self.const = nn.Parameter(torch.randn(out_channels, resolution, resolution))
        self.conv1 = SynthesisLayer(out_channels, out_channels, style_dim=style_dim, resolution=resolution, clamp=clamp)
        self.torgb = ToRGB(out_channels, picture_channels, style_dim=style_dim, clamp=clamp)
        self.register_buffer("kernel", make_filter(), persistent=False)
        self.kernel: Tensor

    @property
    def num_convolutions(self) -> int:
        """Number of the block's own styles; the style of `torgb` is shared with the next block's first layer."""
        return 2 if self.has_input else 1

    def forward(
        self,
        x: Tensor | None,
        picture: Tensor | None,
        styles: Tensor,
        *,
        noise: Noise = "const",
        generator: RandomSource | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Features and picture of this block.

        Args:
            x: features of the block before, None for the first.
            picture: picture of the block before, None for the first.
            styles: `[B, num_convolutions + 1, style_dim]`.
            noise: per-pixel noise.
            generator: source of random noise.
        """
        if styles.shape[1] != self.num_convolutions + 1:
            raise ValueError(f"styles must be [B, {self.num_convolutions + 1}, ...], got {tuple(styles.shape)}")
        first, *rest = styles.unbind(1)
        layer = partial(SynthesisLayer.forward, noise=noise, generator=generator)
        dtype = self.compute_dtype(styles)
        if x is None:
            x = self.const.to(dtype).expand(len(styles), -1, -1, -1)
            x = layer(self.conv1, channels_last(x), first)
        else:
            x = layer(self.conv0, channels_last(x.to(dtype)), first)
            x = layer(self.conv1, x, rest[0])
        if picture is not None and self.up == 2:
            picture = upsample(picture, self.kernel)
        update = self.torgb(x, rest[-1]).to(styles.dtype)
        return x, update if picture is None else picture + update


class SynthesisNetwork(nn.Module):
    """Blocks from 4x4 to `resolution`, each of which adds to the picture.

    Args:
        style_dim: size of w.
        resolution: side of the picture.
        picture_channels: channels of the picture.
        channel_base: see `num_channels`.
        channel_max: see `num_channels`.
        num_half_resolutions: number of the finest blocks, which compute in fp16 on CUDA.
        clamp: limit of the activations, which fp16 needs.
    """

    def __init__(
        self,
        *,
        style_dim: int = 512,
        resolution: int = 256,
        picture_channels: int = 96,
        channel_base: int = 32768,
        channel_max: int = 512,
        num_half_resolutions: int = 0,
        clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.style_dim = style_dim
        self.resolutions = block_resolutions(resolution)
        widths = [num_channels(size, channel_base=channel_base, channel_max=channel_max) for size in self.resolutions]
        for size, width_before, width in zip(self.resolutions, [0, *widths], widths, strict=False):
            block = SynthesisBlock(
                width_before,
                width,
                style_dim=style_dim,
                picture_channels=picture_channels,
                resolution=size,
                clamp=clamp,
                is_half=is_half_block(size, resolution=resolution, num_half_resolutions=num_half_resolutions),
            )
            setattr(self, f"b{size}", block)

    @property
    def num_styles(self) -> int:
        """Number of styles that `forward` takes: one per convolution and one for the last picture."""
        return 2 * len(self.resolutions)

    def forward(
        self,
        styles: Tensor,
        *,
        noise: Noise = "const",
        generator: RandomSource | None = None,
    ) -> Tensor:
        """Takes styles `[B, num_styles, style_dim]` to a picture `[B, picture_channels, resolution, resolution]`."""
        if styles.ndim != 3 or styles.shape[1:] != (self.num_styles, self.style_dim):
            raise ValueError(f"styles must be [B, {self.num_styles}, {self.style_dim}], got {tuple(styles.shape)}")
        x = picture = None
        start = 0
        for size in self.resolutions:
            block: SynthesisBlock = getattr(self, f"b{size}")
            stop = start + block.num_convolutions
            x, picture = block(x, picture, styles[:, start : stop + 1], noise=noise, generator=generator)
            start = stop
        assert picture is not None
        return picture
