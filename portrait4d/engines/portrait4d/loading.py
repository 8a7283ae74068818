"""Portrait4D engines from weights: released ones by name, a folder of ours, or an official file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from flame.errors import InputError
from flame.heads.flame import Flame, flame_from_tensors, load_flame
from flame.heads.pose_field import CoarseMesh
from portrait4d.engines.identity import MOTION_MODEL, STATIC, check_kind, weights_mark, with_flame
from portrait4d.engines.modes import Placement
from portrait4d.engines.portrait4d.engine import Portrait4DEngine
from portrait4d.reconstructor.config import ReconstructorConfig
from portrait4d.reconstructor.network import Reconstructor
from portrait4d.weights.config import CheckpointConfig
from portrait4d.weights.folder import weights_folder
from portrait4d.weights.store import fetch, resolve_weights
from portrait4d.weights.strict import check_fits, load_strict
from preprocess.tracking.motion_code.encoder import MotionEncoder

_HEAD_PREFIX = "deformer."


def load_portrait4d(
    name: str,
    *,
    weights: Path | None = None,
    device: torch.device | str = "cpu",
    placement: Placement = "tracked",
    flame: str | None = None,
) -> Portrait4DEngine:
    """An engine ready to use.

    Args:
        name: of the engine: portrait4d, portrait4d-static or portrait4d-v2.
        weights: a folder of ours or an official file; None takes the released ones, which are fetched if they are not
            on this machine.
        device: where the networks run.
        placement: where the head is drawn.
        flame: file of a FLAME model, with its landmarks beside it, instead of the one that the weights hold.

    Raises:
        InputError: no such weights and no way to fetch them, or weights of another kind of network; no FLAME
            file, or one without landmarks; a device that is too small.
    """
    own_flame = None if flame is None else _read_flame(Path(flame))
    if weights is None:
        fetch(name)
    config, tensors = resolve_weights(name if weights is None else weights)
    fetch_again = f"delete {weights_folder() / name} and run `portrait4d weights fetch {name}`"
    cure = fetch_again if weights is None else f"give others than {weights}"
    check_kind(config, engine=name, cure=cure)
    identity = config.identity if weights is None or weights.is_dir() else weights_mark(weights)
    # copies: views would keep the whole file, which is mapped, in this process's memory
    head = {key: value.clone() for key, value in tensors.items() if key.startswith(_HEAD_PREFIX)}
    try:
        return Portrait4DEngine(
            name,
            build_network(config, tensors),
            flame=flame_from_tensors(head) if own_flame is None else own_flame,
            coarse_mesh=CoarseMesh.from_tensors(head),
            motion_encoder=None if name == STATIC else load_motion_encoder(device=device),
            weights=with_flame(identity, flame),
            weights_path=weights,
            device=device,
            placement=placement,
        )
    except torch.OutOfMemoryError as error:
        raise InputError(
            f"the memory of {device} does not hold the weights {weights or f'of {name}'}: free some, or use "
            "--device cpu"
        ) from error


def _read_flame(path: Path) -> Flame:
    """The user's FLAME in Portrait4D's unit; its landmarks are what the tracker needs."""
    model = load_flame(path, unit="portrait4d")
    if 478 not in model.tables.landmarks:
        raise InputError(
            f"no landmarks of {path.name} found: put landmark_embedding_with_eyes.npy beside it, or drop --flame and "
            "use the FLAME that the weights hold"
        )
    return model


def load_motion_encoder(*, device: torch.device | str = "cpu") -> MotionEncoder:
    """The released motion encoder, fetched if it is not on this machine."""
    kept = fetch(MOTION_MODEL)
    return MotionEncoder.load(kept.folder, device=device, weights=kept.config.identity)


def build_network(config: CheckpointConfig, tensors: Mapping[str, Tensor]) -> Reconstructor:
    """The network of a checkpoint, its head model left aside."""
    if config.architecture:
        architecture = ReconstructorConfig.from_dict(config.architecture)
    else:
        architecture = ReconstructorConfig.from_official(
            config.official.get("init_kwargs", {}),
            rendering_kwargs=config.official.get("rendering_kwargs"),
            neural_rendering_resolution=config.official.get("neural_rendering_resolution"),
        )
    own = {name: value for name, value in tensors.items() if not name.startswith(_HEAD_PREFIX)}
    check_fits(lambda: Reconstructor(architecture), own)
    network = Reconstructor(architecture)
    load_strict(network, own)
    return network
