"""Loading of what `portrait4d train` wrote: a reconstructor of the open head, or of the user's FLAME."""

from __future__ import annotations

from pathlib import Path

import torch

from flame.errors import InputError
from flame.heads.flame_companions import simplified_mesh_beside
from flame.heads.head_model import HeadModel
from flame.heads.open_head import load_open_head
from flame.heads.pose_field import CoarseMesh
from portrait4d.engines.identity import TOY, check_kind, has_open_head, is_static, needs_encoder, with_flame
from portrait4d.engines.modes import Placement
from portrait4d.engines.portrait4d.engine import Portrait4DEngine
from portrait4d.engines.portrait4d.loading import load_motion_encoder, read_flame
from portrait4d.engines.portrait4d.memory import explained_memory
from portrait4d.engines.portrait4d.network_engine import NetworkEngine
from portrait4d.engines.portrait4d.open_head_engine import OpenHeadEngine
from portrait4d.reconstructor.loading import build_network
from portrait4d.reconstructor.motion_codes import parameter_code_size
from portrait4d.reconstructor.network import Reconstructor
from portrait4d.weights.config import read_config
from portrait4d.weights.own_format import read_checkpoint


def load_trained(
    name: str,
    folder: Path,
    *,
    device: torch.device | str = "cpu",
    placement: Placement = "tracked",
    flame: str | None = None,
) -> NetworkEngine:
    """Loads the engine of a trained reconstructor.

    Args:
        name: trained or toy.
        folder: a checkpoint folder, also one inside a run.
        device: device that the networks run on.
        placement: where the head is drawn; of the open head only "tracked".
        flame: file of a FLAME model, for a network that learned from heads of FLAME.

    Raises:
        InputError: the folder is damaged or of another kind of network, FLAME is needed and not given or cannot be
            read, or the memory of the device does not hold the network.
    """
    config = read_config(folder)
    check_kind(config, engine=name, cure=f"give others than {folder}")
    if not has_open_head(config) and flame is None:
        raise InputError(
            f"expected a FLAME file for the trained weights {folder}, which hold none, got none: give --flame FILE"
        )
    with explained_memory(device, f"the weights {folder}"):
        config, tensors = read_checkpoint(folder)
        network = build_network(config, tensors)
        motion_encoder = load_motion_encoder(device=device) if needs_encoder(config) else None
        weights_path = None if name == TOY else folder
        if flame is None:
            head_model = load_open_head()
            _check_codes(network, head_model, folder)
            return OpenHeadEngine(
                name,
                network,
                head_model=head_model,
                motion_encoder=motion_encoder,
                is_static=is_static(config),
                weights=config.identity,
                weights_path=weights_path,
                device=device,
                placement=placement,
            )
        own_flame = read_flame(Path(flame))
        _check_codes(network, own_flame, folder)
        return Portrait4DEngine(
            name,
            network,
            flame=own_flame,
            coarse_mesh=_read_mesh(Path(flame)),
            motion_encoder=motion_encoder,
            is_static=is_static(config),
            weights=with_flame(config.identity, flame),
            weights_path=weights_path,
            device=device,
            placement=placement,
        )


def _check_codes(network: Reconstructor, model: HeadModel, folder: Path) -> None:
    """Refuses a network whose codes have not as many numbers as the head model moves by."""
    expected, found = parameter_code_size(model.num_expression), network.config.canonicaliser.motion_dim
    if network.config.motion == "parameters" and found != expected:
        raise InputError(
            f"expected {expected} numbers of motion for head model {model.name}, the weights {folder} take {found}: "
            "give weights that learned from this head model"
        )


def _read_mesh(flame: Path) -> CoarseMesh:
    """Reads the simplified mesh that comes with Portrait4D's FLAME."""
    if (path := simplified_mesh_beside(flame)) is None:
        raise InputError(
            f"expected the simplified mesh of FLAME for {flame.name}, found none: put simplify_baricentric2.npy, which "
            "comes with Portrait4D, beside it"
        )
    return CoarseMesh.read(path)
