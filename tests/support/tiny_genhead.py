"""A GenHead generator of the open head that is as small as it can be, its weights random and fixed."""

from dataclasses import replace
from pathlib import Path

import torch

from genhead.config import BackgroundConfig, GenHeadConfig
from genhead.generator import GenHeadGenerator
from portrait4d.headparts.head import PartHead
from portrait4d.weights.config import CheckpointConfig
from portrait4d.weights.own_format import write_checkpoint

SIDE = 32


def tiny_config() -> GenHeadConfig:
    """Pictures of 32 px, which readers take, from few samples."""
    whole = GenHeadConfig.toy(num_samples=3, has_superresolution=False)
    background = BackgroundConfig(SIDE, 2, channel_base=64, channel_max=4, num_half_resolutions=0, clamp=None)
    return replace(
        whole,
        latent_dim=8,
        style_dim=8,
        plane_resolution=16,
        plane_channels=4,
        channel_max=8,
        decoder_channels=8,
        neural_resolution=SIDE,
        mask_resolution=32,
        background=background,
        grid_resolution=12,
    )


def tiny_generator() -> GenHeadGenerator:
    """With heads that differ and are dense somewhere."""
    return random_generator(tiny_config())


def random_generator(config: GenHeadConfig) -> GenHeadGenerator:
    """The same of any configuration of the open head."""
    torch.manual_seed(1)
    generator = GenHeadGenerator(config, PartHead.from_open_head()).eval().requires_grad_(False)
    generator.backbone.mapping.w_avg.normal_()
    torch.nn.init.normal_(generator.decoder.out_sigma.weight, 0, 40)
    torch.nn.init.constant_(generator.decoder.out_sigma.bias, 33)
    return generator


def write_tiny_network(folder: Path) -> Path:
    """The generator as a checkpoint."""
    return write_generator(folder, tiny_generator())


def write_generator(folder: Path, generator: GenHeadGenerator) -> Path:
    """A generator as a checkpoint."""
    config = CheckpointConfig(
        family="genhead",
        network="generator",
        architecture=generator.config.to_dict(),
        plane_layout="orthogonal",
        camera_axes="opengl",
        box_warp=1.3,
    )
    write_checkpoint(folder, config, generator.state_dict())
    return folder
