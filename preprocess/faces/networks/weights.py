"""Loads the converted networks from `preprocess/assets`."""

from collections.abc import Callable
from importlib import resources
from typing import TypeVar

import torch
from safetensors.torch import load
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def load_network(kind: Callable[[], Network], name: str, *, device: str | torch.device = "cpu") -> Network:
    """Returns a network in evaluation mode, float32, frozen, with the weights of `assets/<name>.safetensors`."""
    content = (resources.files("preprocess") / "assets" / f"{name}.safetensors").read_bytes()
    network = kind()
    network.load_state_dict(load(content), strict=True)
    network = network.eval().requires_grad_(False).to(device)
    return network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  (missing in the stubs)
