"""Weights for the Portrait4D engines, made by the fixtures' rule and written where released ones are kept.

Their pictures are noise; files, cameras, crops, caches and lengths are what they are with released weights.
"""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from flame_tensors import network_tensors
from golden import rules
from portrait4d.reconstructor.canonicaliser import CanonicaliserConfig
from portrait4d.reconstructor.config import ReconstructorConfig
from portrait4d.reconstructor.network import Reconstructor
from portrait4d.weights.config import CheckpointConfig
from portrait4d.weights.own_format import write_checkpoint
from preprocess.tracking.motion_code.network import MotionEncoderNetwork

SMALL = ReconstructorConfig(
    canonicaliser=CanonicaliserConfig(dim=64, hidden_dim=16, motion_grid=2, num_neutral_blocks=1, num_motion_blocks=1),
    plane_decoder_dim=64,
    neural_resolution=32,
    render=replace(ReconstructorConfig().render, num_coarse=8, num_fine=8),
)


def generated(network: nn.Module, shared: Path, *, prefix: str = "") -> dict[str, Tensor]:
    """All tensors of a network by the fixtures' rule."""
    rule = rules(shared / "spec" / "golden")
    tensors = {}
    for name, value in network.state_dict().items():
        kind = rule.param_rule(prefix + name, value.shape)
        made = value if kind[0] == "fixed" else torch.from_numpy(rule.param_value(prefix + name, value.shape, kind))
        tensors[name] = made.reshape(value.shape)
    return tensors


def install_generated(
    home: Path, shared: Path, flame: Path, *, engine: str, config: ReconstructorConfig = SMALL
) -> None:
    """Weights of an engine and of the motion encoder in `$PORTRAIT4D_HOME`."""
    tensors = generated(Reconstructor(config), shared) | network_tensors(flame)
    about = CheckpointConfig("portrait4d", "generator", config.to_dict(), plane_layout="orthogonal", box_warp=1.3)
    write_checkpoint(home / "weights" / engine, about, tensors)
    encoder = generated(MotionEncoderNetwork(), shared, prefix="motion_encoder.")
    write_checkpoint(home / "weights" / "motion-model", CheckpointConfig("motion-encoder", "encoder", {}), encoder)
