"""Loads the converted networks from `preprocess/assets`."""

from importlib import resources
from typing import TypeVar

import torch
from safetensors.torch import load
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def load_network(kind: type[Network], name: str, *, device: str | torch.device = "cpu") -> Network:
    """A network in evaluation mode, float32, frozen, with the weights of `assets/<name>.safetensors`."""
    content = resources.files("preprocess").joinpath("assets", f"{name}.safetensors").read_bytes()
    network = kind()
    network.load_state_dict(load(content), strict=True)
    return network.float().eval().requires_grad_(False).to(device=device, memory_format=torch.channels_last)
