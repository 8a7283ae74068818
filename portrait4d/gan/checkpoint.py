"""The discriminator of a training as a checkpoint below its generator's, from which a training can start."""

from pathlib import Path

from portrait4d.gan.discriminator import DualDiscriminator
from portrait4d.weights.config import CheckpointConfig, Family
from portrait4d.weights.own_format import write_checkpoint

DISCRIMINATOR_FOLDER = "discriminator"
"""Beside the generator's files, in its checkpoint's folder."""

TRAINED_LICENCE = (
    "trained with this project; the terms of the training pictures and of the weights it started from apply"
)


def save_discriminator(folder: Path, discriminator: DualDiscriminator, family: Family) -> None:
    """Writes the discriminator below a generator's checkpoint.

    Args:
        folder: of the generator's checkpoint.
        discriminator: as it is.
        family: of the generator.
    """
    config = CheckpointConfig(
        family=family,
        network="discriminator",
        architecture=discriminator.config.to_dict(),
        camera_axes=discriminator.config.camera_axes,
        licence=TRAINED_LICENCE,
    )
    write_checkpoint(folder / DISCRIMINATOR_FOLDER, config, discriminator.state_dict())
