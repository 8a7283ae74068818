"""Writes a trained reconstructor as state dicts under the names of the released networks."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flame.errors import InputError
from portrait4d.gan.checkpoint import DISCRIMINATOR_FOLDER
from portrait4d.gan.discriminator import DualDiscriminator, DualDiscriminatorConfig
from portrait4d.reconstructor.loading import read_architecture
from portrait4d.reconstructor.network import Reconstructor
from portrait4d.reconstructor.official import discriminator_options, generator_options
from portrait4d.runtime.paths import check_output
from portrait4d.runtime.settings import read_settings
from portrait4d.weights.config import CONFIG_FILE, TENSORS_FILE, CheckpointConfig, read_config
from portrait4d.weights.official.convert import NETWORK_KEYS
from portrait4d.weights.official.exported import DISCRIMINATOR_FILTERS, GENERATOR_FILTERS, official_state, pack
from portrait4d.weights.own_format import read_checkpoint
from portrait4d.weights.strict import check_fits
from preprocess.files.atomic import atomic_path
from preprocess.files.file_check import check_not_input

SUFFIXES = frozenset({".pt", ".pth"})
_DISCRIMINATOR_OPTIONS = "D_options"


@dataclass(frozen=True)
class ExportReport:
    """What was written: keys of the networks, tensors in all, bytes of the file; `notes` are for the user."""

    output: str
    networks: tuple[str, ...]
    num_tensors: int
    num_bytes: int
    notes: tuple[str, ...]


def export_weights(folder: str | Path, output: str | Path) -> ExportReport:
    """Writes a checkpoint of `portrait4d train` in the released layout.

    Args:
        folder: the reconstructor's, with its discriminator below it if it has one.
        output: file to write, `.pt` or `.pth`.

    Raises:
        InputError: the folder holds no trained reconstructor, or one that is not built as the released ones.
    """
    folder, output = Path(folder), Path(output)
    check_output(output, SUFFIXES)
    check_not_input(output, folder / TENSORS_FILE, folder / CONFIG_FILE)
    about = read_config(folder)
    if (about.family, about.network) != ("portrait4d", "generator") or not about.architecture:
        raise InputError(
            f"expected a reconstructor that `portrait4d train` wrote, got {about.family} {about.network} "
            f"from {about.source or 'elsewhere'}: {folder}"
        )
    architecture = read_architecture(about)
    options = generator_options(architecture)
    config, tensors = read_checkpoint(folder)
    check_fits(lambda: Reconstructor(architecture), tensors)
    key = NETWORK_KEYS["generator"]
    states, configs, notes = {key: official_state(config, tensors, GENERATOR_FILTERS)}, {key: config}, []
    beside = folder / DISCRIMINATOR_FOLDER
    if beside.is_dir():
        found = _read_discriminator(beside)
        if found is None:
            notes.append("the discriminator is left out: it is not built as the released one")
        else:
            key, (configs[key], states[key], options[_DISCRIMINATOR_OPTIONS]) = NETWORK_KEYS["discriminator"], found
    with atomic_path(output) as temporary:
        torch.save(pack(states, configs, options), temporary)
    count = sum(map(len, states.values()))
    return ExportReport(str(output), tuple(states), count, output.stat().st_size, tuple(notes))


def _read_discriminator(folder: Path) -> tuple[CheckpointConfig, dict[str, Tensor], dict[str, Any]] | None:
    architecture = read_settings(DualDiscriminatorConfig, read_config(folder).architecture)
    options = discriminator_options(architecture)
    if options is None:
        return None
    config, tensors = read_checkpoint(folder)
    check_fits(lambda: DualDiscriminator(architecture), tensors)
    return config, official_state(config, tensors, DISCRIMINATOR_FILTERS), options
