"""A generator from weights: by the name of released ones, from a folder of ours, or from an official file."""

from pathlib import Path

import torch

from flame.errors import InputError
from portrait4d.checkpoint.strict import check_fits, load_strict
from portrait4d.eg3d.config import EG3DConfig
from portrait4d.eg3d.generator import EG3DGenerator
from portrait4d.weights import resolve_weights


def load_generator(
    name_or_path: str | Path, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> EG3DGenerator:
    """A generator ready to use, in evaluation mode and without gradients.

    Raises:
        InputError: there are no such weights, or they are of another kind of network.
    """
    config, tensors = resolve_weights(name_or_path)
    if (config.family, config.network) != ("eg3d", "generator"):
        raise InputError(
            f"expected the weights of an EG3D generator, got {config.family} {config.network}: {name_or_path}"
        )
    architecture = EG3DConfig.from_dict(config.architecture)
    check_fits(lambda: EG3DGenerator(architecture), tensors)
    generator = EG3DGenerator(architecture)
    load_strict(generator, tensors)
    return generator.to(device=device, dtype=dtype).eval().requires_grad_(False)
