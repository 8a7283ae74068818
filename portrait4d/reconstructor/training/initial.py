"""Weights to start a reconstructor from, where it does not start from those of another training.

The released training starts its global encoder from ImageNet, whose weights cannot be had everywhere. Torch's own
initialisation is no substitute: without norms the encoder's activations die out, and the rectifiers after the
transformers see negative numbers only, so that no motion reaches the planes.
"""

import math

import torch
from torch import nn

from portrait4d.reconstructor.encoders import LEAKY_SLOPE, ResidualBlock
from portrait4d.reconstructor.network import Reconstructor

PARAMETER_GAIN = 6.0
"""One over the root mean square of a head model's numbers, most of which are zero in any face."""

_PLANE_GAIN = 0.1
"""Planes start near zero, where the decoder makes an even fog of them."""


@torch.no_grad()
def initialise(network: Reconstructor) -> None:
    """Draws weights that keep the size of activations: He et al. 2015, equation 10, for convolutions and motion maps.

    Residual blocks begin as the identity (Zhang et al. 2019, Fixup). What is built like StyleGAN2, the decoder and
    super-resolution, keeps its own. Draws from torch's default generator.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, a=LEAKY_SLOPE)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.xavier_normal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in network.modules():
        if isinstance(module, ResidualBlock):
            nn.init.zeros_(module.conv2.weight)
    network.generator_triplane.conv_last.weight.mul_(_PLANE_GAIN)
    canonicaliser = network.encoder_canonical
    for layers in (canonicaliser.maps, canonicaliser.maps_neutral):
        linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
        for layer in linear:
            nn.init.kaiming_normal_(layer.weight, a=LEAKY_SLOPE)
        if network.config.motion == "parameters":
            linear[0].weight.mul_(PARAMETER_GAIN)
    for projection in (canonicaliser.proj_y, canonicaliser.proj_y_neutral):
        nn.init.normal_(projection.weight, std=1 / math.sqrt(projection.in_features))
