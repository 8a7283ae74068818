"""Conversion of official files to checkpoints of ours: the network, its config, and its tensors, still unread."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from flame.errors import InputError, brief
from portrait4d.weights.config import LICENCES, CameraAxes, CheckpointConfig, Family, Network, PlaneLayoutName
from portrait4d.weights.eg3d_config import EG3DConfig
from portrait4d.weights.official.exported import is_exported, unpack
from portrait4d.weights.official.file import OfficialFile, OfficialModule, map_file, read_official
from portrait4d.weights.official.state import split_official
from portrait4d.weights.official.stored_tensor import StoredTensor
from portrait4d.weights.official.structure import check_class, check_structure, recognise, released_structure
from portrait4d.weights.official.torch_blob import is_torch_file, read_torch_file
from portrait4d.weights.strict import CheckpointMismatch
from preprocess.tracking.motion_code.network import TRAINING_NAME_PARTS

NETWORK_KEYS: dict[Network, str] = {"generator": "G_ema", "discriminator": "D"}
"""Key of a network in an official file; for the generator, the running mean that the authors use."""

CAMERA_AXES: dict[Family, CameraAxes] = {"eg3d": "opencv", "genhead": "opengl", "portrait4d": "opengl"}

_MAX_BOX_WARP = 1e6

_PLANES: dict[tuple[tuple[int, ...], ...], PlaneLayoutName] = {
    ((0, 1), (0, 2), (2, 0)): "eg3d",
    ((0, 1), (1, 2), (2, 0)): "orthogonal",
}


@dataclass(frozen=True)
class Conversion:
    """A checkpoint that is ready to be written or read; `notes` are for the user."""

    config: CheckpointConfig
    tensors: dict[str, StoredTensor]
    notes: tuple[str, ...] = ()


def convert_file(
    path: str | Path, *, network: Network = "generator", structure: str | None = None, source_sha256: str = ""
) -> Conversion:
    """Takes a network out of an official pickle or an exported file, or the motion encoder out of its `.pth`.

    Runs nothing in the file.

    Args:
        path: the file, whose kind is recognised by its content, not its name.
        network: which one to take.
        structure: the released structure it must have; without it, a deviation is only noted.
        source_sha256: hash of the file, for the config.

    Raises:
        InputError: the file is refused, holds no such network, or has another structure.
    """
    path = Path(path)
    if is_torch_file(map_file(path)):
        content = read_torch_file(map_file(path), path.name)
        if is_exported(content):
            conversion = Conversion(*unpack(content, NETWORK_KEYS.get(network, network), path.name))
        else:
            conversion = _convert_motion_model(content, path.name)
    else:
        conversion = _convert_official(read_official(path), network)
    config = replace(conversion.config, source_sha256=source_sha256)
    return Conversion(config, conversion.tensors, conversion.notes + _check(conversion, structure))


def _check(conversion: Conversion, structure: str | None) -> tuple[str, ...]:
    config = conversion.config
    if config.resample_filters is None and not structure:  # trained here: it is what its own config says
        return ()
    found = released_structure(config.family, config.network, conversion.tensors)
    if structure and found != structure:
        raise InputError(f"{config.source} holds {config.family} {config.network}: expected {structure}")
    if found is None:
        return ()
    try:
        check_structure(found, conversion.tensors)
    except CheckpointMismatch as error:
        if structure or config.family == "motion-encoder":
            raise
        return (str(error),)
    return ()


def _convert_official(file: OfficialFile, network: Network) -> Conversion:
    key = NETWORK_KEYS.get(network)
    if key not in file.networks:
        raise InputError(f"{file.name} holds no {network} ({key}): it has {', '.join(file.networks)}")
    module = file.networks[key]
    beside = None
    check_class(module.class_name)
    if network == "discriminator" and "G_ema" in file.networks:
        beside, _ = recognise(file.networks["G_ema"].tensors)
    family, found = recognise(module.tensors, beside=beside)
    if found != network:
        raise InputError(f"{file.name} holds a {found} as {key}: expected a {network}")
    tensors, filters, label_std = split_official(module.tensors)
    is_generator = network == "generator"
    box_warp = _box_warp(module, file.name) if is_generator else None
    config = CheckpointConfig(
        family=family,
        network=network,
        architecture=_eg3d_architecture(module) if (family, network) == ("eg3d", "generator") else {},
        plane_layout=plane_layout(family, module) if is_generator else None,
        camera_axes=CAMERA_AXES[family] if is_generator else None,
        box_warp=box_warp,
        official=_official_options(module),
        label_std=label_std,
        resample_filters=filters,
        source=file.name,
        licence=LICENCES[family],
    )
    notes = (f"{file.num_trailing_bytes} bytes behind the pickle were ignored",) if file.num_trailing_bytes else ()
    return Conversion(config, tensors, notes)


def _eg3d_architecture(module: OfficialModule) -> dict[str, Any]:
    if module.init_args:
        raise InputError(f"the file's {module.class_name} was made from unnamed arguments: expected names for all")
    options = _official_options(module)
    try:
        config = EG3DConfig.from_official(
            options["init_kwargs"],
            rendering_kwargs=options["rendering_kwargs"],
            neural_rendering_resolution=options["neural_rendering_resolution"],
        )
    except InputError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise InputError(f"the constructor arguments in the file are not those of EG3D ({error!r})") from error
    return replace(config, plane_layout=plane_layout("eg3d", module)).to_dict()


def _official_options(module: OfficialModule) -> dict[str, Any]:
    resolution = module.attributes.get("neural_rendering_resolution")
    return {
        "class_name": module.class_name,
        "init_args": to_plain(module.init_args),
        "init_kwargs": to_plain(module.init_kwargs),
        "rendering_kwargs": to_plain(module.rendering_kwargs),
        "neural_rendering_resolution": resolution if isinstance(resolution, int) else None,
    }


def plane_layout(family: Family, module: OfficialModule) -> PlaneLayoutName:
    """The planes' axes. EG3D stores them, and repaired copies of its code store others; other families ignore theirs.

    Row j of a stored 3 x 3 matrix is the axis of the plane's coordinate j, since the code multiplies by the inverse of
    a permutation.
    """
    if family != "eg3d":
        return "orthogonal"
    stored = module.attributes.get("renderer.plane_axes")
    if not isinstance(stored, StoredTensor) or stored.shape != (3, 3, 3):
        return "eg3d"  # pickles made before the attribute existed
    axes = tuple(tuple(int(row.argmax()) for row in plane[:2]) for plane in stored.read().abs())
    if axes not in _PLANES:
        named = ", ".join("".join("xyz"[axis] for axis in plane) for plane in axes)
        raise InputError(f"the file's planes are {named}: expected xy, xz, zx or xy, yz, zx")
    return _PLANES[axes]


def _box_warp(module: OfficialModule, name: str) -> float:
    value = module.rendering_kwargs.get("box_warp")
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < _MAX_BOX_WARP:
        raise InputError(f"{name} has box_warp {brief(value)} among its rendering options: expected a length above 0")
    return float(value)


def _convert_motion_model(content: Any, name: str) -> Conversion:
    nested = [value for value in content.values() if isinstance(value, dict)] if isinstance(content, dict) else []
    if len(nested) == 1 and not any(isinstance(value, StoredTensor) for value in content.values()):
        content = nested[0]  # {"state_dict": {...}}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise InputError(f"{name} holds a {type(content).__name__}: expected a state dict")
    tensors = {key: value for key, value in content.items() if isinstance(value, StoredTensor)}
    unused = [key for key in tensors if any(part in key for part in TRAINING_NAME_PARTS)]
    tensors = {key: value for key, value in tensors.items() if key not in unused}
    family, network = recognise(tensors)
    if network != "encoder":
        raise InputError(f"{name} holds a bare {family} {network}: expected its official .pkl, which has the options")
    config = CheckpointConfig(
        family, network, architecture={}, resample_filters=(), source=name, licence=LICENCES[family]
    )
    notes = (f"{len(unused)} tensors of training heads left out: {', '.join(unused)[:200]}",) if unused else ()
    return Conversion(config, tensors, notes)


_MAX_PLAIN_PARTS = 100_000


def to_plain(value: Any) -> Any:
    """A value in a file as JSON values; what JSON cannot hold becomes a description.

    Raises:
        InputError: written out, it would have too many parts, as shared parts in a file can cause.
    """
    num_left = _MAX_PLAIN_PARTS

    def visit(part: Any) -> Any:
        nonlocal num_left
        num_left -= 1
        if num_left < 0:
            raise InputError(
                f"options in the file have more than {_MAX_PLAIN_PARTS} parts: no known network has so many"
            )
        if isinstance(part, Mapping):
            return {str(key): visit(item) for key, item in part.items()}
        if isinstance(part, (list, tuple)):
            return [visit(item) for item in part]
        return _describe(part)

    return visit(value)


def _describe(value: Any) -> Any:
    if isinstance(value, (set, frozenset)):
        return sorted(map(str, value))
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, StoredTensor):
        return f"<tensor {value.dtype} {list(value.shape)}>"
    if isinstance(value, np.ndarray):
        return f"<array {value.dtype} {list(value.shape)}>"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, (str, int, float, bool, type(None))) else repr(value)[:200]
