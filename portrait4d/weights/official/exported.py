"""A plain file of torch with state dicts under official names, and our own configs beside them (docs/checkpoints.md).

The authors' pickles also hold the source code of their classes, which is theirs. This file holds none: their own
classes load its state dicts, and our reader takes the checkpoints out of it that it was made of.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from flame.errors import InputError
from portrait4d.weights.config import CheckpointConfig
from portrait4d.weights.official.state import split_official, to_official
from portrait4d.weights.official.stored_tensor import StoredTensor
from portrait4d.weights.official.structure import recognise

CONFIGS = "portrait4d"
"""Key of our configs, texts by the key of their state dict: a file without it is another program's."""

GENERATOR_FILTERS = tuple(
    f"superresolution.block{block}{layer}.resample_filter" for block in (0, 1) for layer in ("", ".conv0", ".conv1")
)
"""Names of the constant FIR buffers of the released reconstructors."""

DISCRIMINATOR_FILTERS = (
    "resample_filter",
    "b512.fromrgb.resample_filter",
    *(
        f"b{side}{layer}.resample_filter"
        for side in (512, 256, 128, 64, 32, 16, 8)
        for layer in ("", ".conv0", ".conv1", ".skip")
    ),
    "b4.conv.resample_filter",
)
"""Those of the released discriminators."""


def official_state(
    config: CheckpointConfig, tensors: Mapping[str, torch.Tensor], filters: tuple[str, ...]
) -> dict[str, torch.Tensor]:
    """The state dict of a trained network under official names, with the constant buffers that ours leaves out."""
    return to_official(replace(config, resample_filters=filters), tensors)


def is_exported(content: Any) -> bool:
    """Whether the content of a file of torch is what `pack` made."""
    return isinstance(content, dict) and isinstance(content.get(CONFIGS), dict)


def pack(
    states: Mapping[str, Mapping[str, torch.Tensor]],
    configs: Mapping[str, CheckpointConfig],
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """The content of a file: state dicts by their official key (G_ema, D), our configs, and what else is told."""
    texts = {key: config.to_json() for key, config in configs.items()}
    return {**{key: dict(state) for key, state in states.items()}, **options, CONFIGS: texts}


def unpack(content: Mapping[str, Any], key: str, name: str) -> tuple[CheckpointConfig, dict[str, StoredTensor]]:
    """A checkpoint out of a file, as it was before `pack`.

    Args:
        content: of the file.
        key: of the network: G_ema or D.
        name: of the file, for messages.

    Raises:
        InputError: there is no such network, or what is there is damaged.
    """
    text, state = content[CONFIGS].get(key), content.get(key)
    if text is None or state is None:
        raise InputError(f"{name} holds no {key}: it has {', '.join(map(str, content[CONFIGS])) or 'nothing'}")
    if not isinstance(text, str) or not isinstance(state, dict):
        raise InputError(f"{name} is damaged ({key} is no state dict with a config): export it again")
    if not all(isinstance(part, str) and isinstance(value, StoredTensor) for part, value in state.items()):
        raise InputError(f"{name} is damaged ({key} holds something else than tensors by name): export it again")
    config = CheckpointConfig.from_json(text, f"the config of {key} in {name}")
    tensors, _, _ = split_official(state)
    family, network = recognise(tensors, beside=config.family)
    if (family, network) != (config.family, config.network):
        raise InputError(
            f"{name} is damaged: {key} is a {family} {network}, its config is of a {config.family} {config.network}: "
            "export it again"
        )
    return config, tensors
