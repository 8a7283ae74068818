"""The networks of a reconstructor's training as checkpoints: written for the commands, read as the start of another."""

from pathlib import Path

import torch

from flame.errors import InputError
from portrait4d.gan.checkpoint import DISCRIMINATOR_FOLDER, TRAINED_LICENCE, save_discriminator
from portrait4d.gan.discriminator import DualDiscriminator
from portrait4d.reconstructor.loading import HEAD_PREFIX, build_network
from portrait4d.reconstructor.network import Reconstructor
from portrait4d.weights.config import CheckpointConfig
from portrait4d.weights.own_format import read_checkpoint, write_checkpoint
from portrait4d.weights.store import resolve_weights
from portrait4d.weights.strict import load_strict


def save_networks(
    folder: Path, network: Reconstructor, discriminator: DualDiscriminator | None, *, is_static: bool
) -> None:
    """Writes the reconstructor's checkpoint, which all commands take, with the discriminator's below it.

    Args:
        folder: is made where it is missing.
        network: usually the averaged one.
        discriminator: as it is; None where there is none.
        is_static: it never changes motion.
    """
    if discriminator is not None:
        save_discriminator(folder, discriminator, "portrait4d")
    about = CheckpointConfig(
        family="portrait4d",
        network="generator",
        architecture=network.config.to_dict(),
        plane_layout="orthogonal",
        camera_axes="opengl",
        box_warp=network.config.render.box_warp,
        source="portrait4d-static, trained" if is_static else "portrait4d, trained",
        licence=TRAINED_LICENCE,
    )
    write_checkpoint(folder, about, network.state_dict())


def load_start(path: str | Path, network: Reconstructor, discriminator: DualDiscriminator | None) -> None:
    """Copies weights into both networks; the discriminator keeps its start where the folder holds none.

    Raises:
        InputError: there are no such weights, or they are of another network.
    """
    config, tensors = resolve_weights(path)
    _check(config, path)
    load_strict(network, {name: value for name, value in tensors.items() if not name.startswith(HEAD_PREFIX)})
    folder = Path(path) / DISCRIMINATOR_FOLDER
    if discriminator is not None and folder.is_dir():
        load_strict(discriminator, read_checkpoint(folder)[1])


def load_teacher(path: str | Path, device: torch.device) -> Reconstructor:
    """A reconstructor in evaluation mode, without gradients.

    Raises:
        InputError: there are no such weights, or they are of another network.
    """
    config, tensors = resolve_weights(path)
    _check(config, path)
    return build_network(config, tensors).to(device).eval().requires_grad_(False)


def _check(config: CheckpointConfig, path: str | Path) -> None:
    if (config.family, config.network) != ("portrait4d", "generator"):
        raise InputError(f"expected the weights of a reconstructor, got {config.family} {config.network}: {path}")
