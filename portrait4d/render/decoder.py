"""The small network that turns tri-plane features into density and colour (EG3D, Chan et al. 2022, section 4.3)."""

from typing import Literal, NamedTuple

from torch import Tensor, nn

from portrait4d.render.decode import Layer, decode
from portrait4d.stylegan.layers import FullyConnected

DecoderLayout = Literal["joint", "split"]
"""How the released files store the last layer.

"joint" is one matrix, density first (EG3D); "split" is `out_sigma` and `out_rgb` (GenHead, Portrait4D).
"""


class FieldSamples(NamedTuple):
    """Values of a field at points: raw `density` `[...]` (before softplus) and `features` `[..., C]` in [0, 1]."""

    density: Tensor
    features: Tensor


class TriPlaneDecoder(nn.Module):
    """Two fully connected layers with a softplus between them."""

    def __init__(
        self,
        in_channels: int = 32,
        out_channels: int = 32,
        *,
        hidden_channels: int = 64,
        layout: DecoderLayout = "joint",
        lr_multiplier: float = 1.0,
    ) -> None:
        super().__init__()
        self.layout: DecoderLayout = layout
        first = FullyConnected(in_channels, hidden_channels, lr_multiplier=lr_multiplier)
        if layout == "joint":
            last = FullyConnected(hidden_channels, 1 + out_channels, lr_multiplier=lr_multiplier)
            self.net = nn.Sequential(first, nn.Softplus(), last)
        elif layout == "split":
            self.net = nn.Sequential(first, nn.Softplus())
            self.out_sigma = FullyConnected(hidden_channels, 1, lr_multiplier=lr_multiplier)
            self.out_rgb = FullyConnected(hidden_channels, out_channels, lr_multiplier=lr_multiplier)
            nn.init.zeros_(self.out_sigma.weight)
        else:
            raise ValueError(f"decoder layout must be 'joint' or 'split', got {layout!r}")

    def forward(self, features: Tensor) -> FieldSamples:
        """Maps plane features `[..., C]` to density and colour features."""
        density, colours = decode(features.flatten(0, -2), *self._layers())
        shape = features.shape[:-1]
        return FieldSamples(density.view(shape), colours.view(*shape, -1))

    def _layers(self) -> tuple[Layer, Layer, Layer]:
        """The first layer and those of density and colour, as `decode` takes them."""
        first, *joint = (Layer(*layer.scaled()) for layer in self.net if isinstance(layer, FullyConnected))
        if self.layout == "split":
            return first, Layer(*self.out_sigma.scaled()), Layer(*self.out_rgb.scaled())
        weight, bias = joint[0]
        return first, Layer(weight[:1], bias[:1]), Layer(weight[1:], bias[1:])
