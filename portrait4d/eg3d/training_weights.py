"""Both networks of an EG3D training as checkpoints: written for the commands, read as the start of another training."""

from dataclasses import replace
from pathlib import Path

import torch

from flame.errors import InputError
from portrait4d.eg3d.generator import EG3DGenerator
from portrait4d.gan.checkpoint import DISCRIMINATOR_FOLDER, TRAINED_LICENCE, save_discriminator
from portrait4d.gan.discriminator import DualDiscriminator
from portrait4d.weights.config import CheckpointConfig, Network
from portrait4d.weights.eg3d_config import EG3DConfig
from portrait4d.weights.official.convert import convert_file
from portrait4d.weights.official.stored_tensor import read_all
from portrait4d.weights.own_format import read_checkpoint, write_checkpoint
from portrait4d.weights.strict import load_strict


def save_networks(folder: Path, generator: EG3DGenerator, discriminator: DualDiscriminator, *, resolution: int) -> None:
    """Writes the generator's checkpoint, which all commands take, with the discriminator's below it.

    Args:
        folder: is made where it is missing.
        generator: usually the averaged one.
        discriminator: as it is.
        resolution: side of the picture that the generator renders now.
    """
    architecture = replace(generator.config, neural_resolution=resolution)
    save_discriminator(folder, discriminator, "eg3d")
    about = CheckpointConfig(
        family="eg3d",
        network="generator",
        architecture=architecture.to_dict(),
        plane_layout=architecture.plane_layout,
        camera_axes=architecture.camera_axes,
        box_warp=architecture.render.box_warp,
        licence=TRAINED_LICENCE,
    )
    write_checkpoint(folder, about, generator.state_dict())


def load_start(path: str | Path, generator: EG3DGenerator, discriminator: DualDiscriminator) -> None:
    """Copies the weights of an official file, or of a folder that `save_networks` wrote, into both networks.

    Raises:
        InputError: there are no such weights, the discriminator is missing, or they are of other networks.
    """
    config, tensors = _read(Path(path), "generator")
    _check_family(config, "generator", path)
    _check_meaning(EG3DConfig.from_dict(config.architecture), generator.config, path)
    load_strict(generator, tensors)
    config, tensors = _read(Path(path), "discriminator")
    _check_family(config, "discriminator", path)
    load_strict(discriminator, tensors)


def _read(path: Path, network: Network) -> tuple[CheckpointConfig, dict[str, torch.Tensor]]:
    if path.is_dir():
        folder = path if network == "generator" else path / DISCRIMINATOR_FOLDER
        if not folder.is_dir():
            raise InputError(
                f"{path} holds no {DISCRIMINATOR_FOLDER}, which a training needs to start from: give the official "
                "file, or a folder that a training wrote"
            )
        return read_checkpoint(folder)
    if not path.is_file():
        raise InputError(f"expected an official file or a checkpoint folder at {path}, there is none: check the path")
    conversion = convert_file(path, network=network)
    return conversion.config, read_all(conversion.tensors)


def _check_family(config: CheckpointConfig, network: Network, path: str | Path) -> None:
    if (config.family, config.network) != ("eg3d", network):
        raise InputError(f"expected an EG3D {network} to start from, got {config.family} {config.network}: {path}")


def _check_meaning(found: EG3DConfig, wanted: EG3DConfig, path: str | Path) -> None:
    """Refuses what names and shapes of tensors do not show."""
    pairs = {
        "plane_layout": (found.plane_layout, wanted.plane_layout),
        "camera_axes": (found.camera_axes, wanted.camera_axes),
        "condition_scale": (found.condition_scale, wanted.condition_scale),
        "render.box_warp": (found.render.box_warp, wanted.render.box_warp),
    }
    for name, (theirs, ours) in pairs.items():
        if theirs != ours:
            raise InputError(f"{path} was trained with generator.{name} {theirs}, this training has {ours}: set it")
