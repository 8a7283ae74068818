"""A small EG3D generator whose heads are known: a coloured ball that leans to one side, larger or smaller by seed.

Mapping and super-resolution are real, with random weights and without effect on the colours. The picture before
super-resolution is `x, y, z` of the surface as red, green, blue.
"""

from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from flame.errors import InputError
from portrait4d.eg3d.generator import EG3DGenerator, Volume
from portrait4d.render.decoder import TriPlaneDecoder
from portrait4d.render.planes import TriPlanes
from portrait4d.render.renderer import RenderConfig
from portrait4d.stylegan.layers import FullyConnected
from portrait4d.stylegan.superresolution import SuperResolutionConfig
from portrait4d.weights.eg3d_config import EG3DConfig

CONFIG = EG3DConfig(
    latent_dim=8,
    style_dim=8,
    plane_resolution=64,
    plane_channels=4,
    channel_base=64,
    channel_max=8,
    neural_resolution=32,
    render=RenderConfig(num_coarse=24, num_fine=24),
    superresolution=SuperResolutionConfig(kind="2X"),
)
CENTRE = (0.05, 0.0, 0.0)
DENSITY, COLOUR_SLOPE = 600.0, 6.0
"""Density in the middle; red is `sigmoid(COLOUR_SLOPE * x)`, and so on."""


def radius_of(styles: Tensor) -> Tensor:
    """`[B]` of the ball that styles `[B, num_styles, style_dim]` stand for."""
    return 0.2 + 0.05 * torch.tanh(styles[:, 0, 0])


class BallGenerator(EG3DGenerator):
    """Counts how often planes are made."""

    def __init__(self, config: EG3DConfig = CONFIG) -> None:
        torch.manual_seed(0)
        super().__init__(config)
        self.num_synthesised = 0
        _make_linear(self.decoder)
        for name, parameter in self.superresolution.named_parameters():
            if ".torgb." in name and not name.endswith("affine.bias"):
                parameter.data.zero_()
        self.backbone.mapping.w_avg.fill_(0.1)
        self.eval().requires_grad_(False)

    def synthesise(self, styles: Tensor, **options: object) -> Volume:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The ball in planes: the sum of the planes is its density and its place."""
        self.num_synthesised += 1
        size = self.config.plane_resolution
        axis = ((torch.arange(size) + 0.5) / size - 0.5).to(styles)
        vertical, horizontal = torch.meshgrid(axis, axis, indexing="ij")
        zero = torch.zeros_like(horizontal)
        radius = radius_of(styles)[:, None, None]
        x, y = horizontal - CENTRE[0], vertical - CENTRE[1]
        z = vertical - CENTRE[2]  # of the xz plane
        # two each and three less in the decoder: where one plane has ended the other cannot be opaque alone
        flat = 2 - (x.square() + y.square()) / radius.square(), 2 - z.square() / radius.square()
        batch = len(styles)
        x, y, z, zero = (value.expand(batch, -1, -1) for value in (horizontal, vertical, vertical, zero))
        xy, xz = torch.stack([flat[0], x, y, zero], 1), torch.stack([flat[1], zero, zero, z], 1)
        planes = torch.stack([xy, xz, torch.zeros_like(xy)], 1)
        return Volume(TriPlanes(planes, "eg3d", self.config.render.box_warp), styles[:, -1])


def _make_linear(decoder: TriPlaneDecoder) -> None:
    """Density is `DENSITY` times the first summed feature less 3, colours are the sigmoid of the others."""
    first, last = cast(FullyConnected, decoder.net[0]), cast(FullyConnected, decoder.net[2])
    channels = 4
    for layer in (first, last):
        layer.weight.data.zero_()
        layer.bias.data.zero_()
    shift = 30.0  # softplus is the identity there
    for channel, scale in enumerate((3.0, 3.0, 3.0, 3.0)):  # the planes' mean times three is their sum
        first.weight.data[channel, channel] = scale * channels**0.5
    first.bias.data[:channels] = shift
    hidden = first.weight.shape[0]
    for channel, scale in enumerate((DENSITY, COLOUR_SLOPE, COLOUR_SLOPE, COLOUR_SLOPE)):
        last.weight.data[channel, channel] = scale * hidden**0.5
        last.bias.data[channel] = -shift * scale
    last.bias.data[0] -= DENSITY * 3


def fake_loader(generator: EG3DGenerator):
    """In place of `EG3DGenerator.from_pretrained`: the same generator for the name "ball"."""

    def load(name_or_path: str | Path, *, device: str = "cpu", dtype: torch.dtype = torch.float32) -> EG3DGenerator:
        if str(name_or_path) != "ball":
            raise InputError(f"no weights of the name {name_or_path}")
        return generator.to(device=device, dtype=dtype)

    return load
