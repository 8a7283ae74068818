"""Both networks of a GenHead training as checkpoints: written for commands, read as the start of another training."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from flame.errors import InputError
from genhead.config import GenHeadConfig
from genhead.generator import GenHeadGenerator, open_part_head
from portrait4d.gan.checkpoint import DISCRIMINATOR_FOLDER, TRAINED_LICENCE, save_discriminator
from portrait4d.gan.discriminator import DualDiscriminator
from portrait4d.headparts.head import PartHead
from portrait4d.weights.config import CheckpointConfig
from portrait4d.weights.own_format import read_checkpoint, write_checkpoint
from portrait4d.weights.store import resolve_weights
from portrait4d.weights.strict import load_strict


def make_part_head(config: GenHeadConfig, flame: str | None) -> PartHead:
    """The head model of a configuration.

    Raises:
        InputError: FLAME is asked for and no file was given.
    """
    head = open_part_head(config)
    if head is not None:
        return head
    if flame is None:
        raise InputError("expected a FLAME file for generator.head flame: set flame, or generator.head to open")
    return PartHead.from_flame_files(flame)


def save_networks(folder: Path, generator: GenHeadGenerator, discriminator: DualDiscriminator) -> None:
    """Writes the generator's checkpoint, which all commands take, with the discriminator's below it."""
    save_discriminator(folder, discriminator, "genhead")
    about = CheckpointConfig(
        family="genhead",
        network="generator",
        architecture=generator.config.to_dict(),
        plane_layout="orthogonal",
        camera_axes="opengl",
        box_warp=generator.config.render.box_warp,
        licence=TRAINED_LICENCE,
    )
    write_checkpoint(folder, about, generator.state_dict())


def load_start(path: str | Path, generator: GenHeadGenerator, discriminator: DualDiscriminator) -> list[str]:
    """Copies weights into both networks: all of a GenHead, or what fits of an EG3D generator.

    Returns:
        Tensors that keep the start they have, as `generator.NAME` or `discriminator.NAME`.

    Raises:
        InputError: there are no such weights, or nothing of them fits.
    """
    config, tensors = resolve_weights(path)
    if (config.family, config.network) == ("genhead", "generator"):
        load_strict(generator, {name: value for name, value in tensors.items() if not name.startswith("deformer.")})
        folder = Path(path) / DISCRIMINATOR_FOLDER
        if folder.is_dir():
            load_strict(discriminator, read_checkpoint(folder)[1])
            return []
        return [f"discriminator.{name}" for name in sorted(discriminator.state_dict())]
    if (config.family, config.network) != ("eg3d", "generator"):
        raise InputError(
            f"expected a GenHead or EG3D generator to start from, got {config.family} {config.network}: {path}"
        )
    own = generator.state_dict()
    taken = {name: value for name, value in _as_genhead(tensors).items() if _fits(own.get(name), value)}
    if not taken:
        raise InputError(f"{path}: no tensor of this EG3D generator fits generator's sizes: set them alike")
    generator.load_state_dict({**own, **taken})
    kept = [f"generator.{name}" for name in sorted(set(own) - set(taken))]
    return kept + [f"discriminator.{name}" for name in sorted(discriminator.state_dict())]


def brief_names(names: Sequence[str], networks: Mapping[str, nn.Module]) -> list[str]:
    """Tensors `NETWORK.NAME` in few words: `PART.*` stands for a part of a network all of whose tensors are named."""
    everything = {f"{network}.{name}" for network, module in networks.items() for name in module.state_dict()}
    left, chosen = set(everything) - set(names), set()
    for name in names:
        words = name.split(".")
        starts = (".".join(words[:count]) + "." for count in range(1, len(words)))
        whole = next((start for start in starts if not any(other.startswith(start) for other in left)), None)
        chosen.add(name if whole is None else f"{whole}*")
    return sorted(chosen)


def _as_genhead(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors under GenHead's names: EG3D's last decoder layer is split into density and colour."""
    renamed = dict(tensors)
    for kind in ("weight", "bias"):
        joint = renamed.pop(f"decoder.net.2.{kind}", None)
        if joint is not None:
            renamed[f"decoder.out_sigma.{kind}"], renamed[f"decoder.out_rgb.{kind}"] = joint[:1], joint[1:]
    return renamed


def _fits(own: torch.Tensor | None, value: torch.Tensor) -> bool:
    return own is not None and own.shape == value.shape
