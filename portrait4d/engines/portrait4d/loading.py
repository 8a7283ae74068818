"""Loading of Portrait4D engines: released weights by name, a checkpoint folder, or an official file."""

from __future__ import annotations

from pathlib import Path

import torch

from flame.errors import InputError
from flame.heads.flame import Flame, flame_from_tensors, load_flame
from flame.heads.pose_field import CoarseMesh
from portrait4d.engines.identity import MOTION_MODEL, STATIC, check_kind, weights_mark, with_flame
from portrait4d.engines.modes import Placement
from portrait4d.engines.portrait4d.engine import Portrait4DEngine
from portrait4d.engines.portrait4d.memory import explained_memory
from portrait4d.reconstructor.loading import HEAD_PREFIX, build_network
from portrait4d.weights.folder import weights_folder
from portrait4d.weights.store import fetch, resolve_weights
from preprocess.tracking.motion_code.encoder import MotionEncoder


def load_portrait4d(
    name: str,
    *,
    weights: Path | None = None,
    device: torch.device | str = "cpu",
    placement: Placement = "tracked",
    flame: str | None = None,
) -> Portrait4DEngine:
    """Loads an engine with its motion encoder.

    Args:
        name: portrait4d, portrait4d-static or portrait4d-v2.
        weights: a checkpoint folder or an official file; None takes the released weights, which are fetched if they are
            not on this machine.
        device: device that the networks run on.
        placement: where the head is drawn.
        flame: file of a FLAME model, with its landmarks beside it, in place of the FLAME that the weights hold.

    Raises:
        InputError: the weights are missing and cannot be fetched, are damaged, or are of another kind of network; the
            FLAME file cannot be read or has no landmarks; the memory of the device does not hold the network.
    """
    own_flame = None if flame is None else read_flame(Path(flame))
    if weights is None:
        fetch(name)
    config, tensors = resolve_weights(name if weights is None else weights)
    fetch_again = f"delete {weights_folder() / name} and run `portrait4d weights fetch {name}`"
    cure = fetch_again if weights is None else f"give others than {weights}"
    check_kind(config, engine=name, cure=cure)
    if weights is not None and weights.is_file() and config.architecture:
        raise InputError(
            f"expected a checkpoint folder or an official file, got the exported training {weights}: run `portrait4d "
            f"weights convert {weights.name} -o FOLDER` and give the folder"
        )
    identity = config.identity if weights is None or weights.is_dir() else weights_mark(weights)
    # copies: views would keep the whole mapped file in the memory of this process
    head = {key: value.clone() for key, value in tensors.items() if key.startswith(HEAD_PREFIX)}
    with explained_memory(device, f"the weights {weights or f'of {name}'}"):
        return Portrait4DEngine(
            name,
            build_network(config, tensors),
            flame=flame_from_tensors(head) if own_flame is None else own_flame,
            coarse_mesh=CoarseMesh.from_tensors(head),
            motion_encoder=None if name == STATIC else load_motion_encoder(device=device),
            is_static=name == STATIC,
            weights=with_flame(identity, flame),
            weights_path=weights,
            device=device,
            placement=placement,
        )


def read_flame(path: Path) -> Flame:
    """Reads the user's FLAME in Portrait4D's unit.

    Raises:
        InputError: it cannot be read, or has not the landmarks that the tracker needs.
    """
    model = load_flame(path, unit="portrait4d")
    if 478 not in model.tables.landmarks:
        raise InputError(
            f"expected landmarks for {path.name}, found none: put landmark_embedding_with_eyes.npy beside it, or drop "
            "--flame to use the FLAME that released weights hold"
        )
    return model


def load_motion_encoder(*, device: torch.device | str = "cpu") -> MotionEncoder:
    """Loads the released motion encoder, which is fetched if it is not on this machine."""
    kept = fetch(MOTION_MODEL)
    return MotionEncoder.load(kept.folder, device=device, weights=kept.config.identity)
