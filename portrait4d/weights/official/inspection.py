"""Reports on a file of weights, without building a network."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from flame.errors import InputError
from portrait4d.weights.config import LICENCES, TENSORS_FILE, CheckpointConfig, Family, read_config
from portrait4d.weights.official.convert import CAMERA_AXES, convert_file, plane_layout, to_plain
from portrait4d.weights.official.exported import CONFIGS, is_exported, unpack
from portrait4d.weights.official.file import OfficialFile, OfficialModule, map_file, read_official
from portrait4d.weights.official.stored_tensor import StoredTensor
from portrait4d.weights.official.structure import HasShape, check_class, check_structure, recognise, released_structure
from portrait4d.weights.official.torch_blob import is_torch_file, read_torch_file
from portrait4d.weights.own_format import hash_file
from portrait4d.weights.strict import CheckpointMismatch


@dataclass(frozen=True)
class NetworkReport:
    """One network of a file; `num_parameters` leaves out buffers where the file distinguishes them."""

    key: str
    family: str
    network: str
    class_name: str
    num_tensors: int
    num_parameters: int
    resolution: int | None = None
    neural_resolution: int | None = None
    plane_layout: str | None = None
    camera_axes: str | None = None
    box_warp: float | None = None
    rendering: dict[str, Any] = field(default_factory=dict)
    modules: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class FileReport:
    """What is in a file; `suspicious` lists what a user should check."""

    path: str
    kind: str
    num_bytes: int
    licence: str
    networks: tuple[NetworkReport, ...]
    others: dict[str, Any] = field(default_factory=dict)
    suspicious: tuple[str, ...] = ()


def inspect_file(path: str | Path) -> FileReport:
    """Reports on an official pickle, an exported file, the motion encoder's `.pth`, or a checkpoint folder of ours.

    Raises:
        InputError: it is none of these, or it is refused.
    """
    path = Path(path)
    if path.is_dir():
        return _inspect_own(path)
    if is_torch_file(map_file(path)):
        content = read_torch_file(map_file(path), path.name)
        return _inspect_exported(path, content) if is_exported(content) else _inspect_motion_model(path)
    return _inspect_official(path, read_official(path))


def _inspect_official(path: Path, file: OfficialFile) -> FileReport:
    suspicious, reports = [], []
    family = _generator_family(file)
    for key, module in file.networks.items():
        try:
            report = _report_module(key, module, family)
        except InputError as error:
            suspicious.append(f"{key}: {error}")
            count = module.num_parameters
            report = NetworkReport(key, "unknown", "unknown", module.class_name, len(module.tensors), count)
        else:
            suspicious += [f"{key}: {line}" for line in _look_twice(report, module.tensors)]
        reports.append(report)
    missing = [key for key in ("G", "D", "G_ema") if key not in file.networks]
    if missing:
        suspicious.append(f"lacks {', '.join(missing)}, which official files have")
    if file.num_trailing_bytes:
        suspicious.append(f"{file.num_trailing_bytes} bytes lie behind the pickle")
    licence = LICENCES[family] if family else "unknown"
    others = {key: to_plain(value) for key, value in file.entries.items()}
    return FileReport(
        str(path), "official pickle", path.stat().st_size, licence, tuple(reports), others, tuple(suspicious)
    )


def _generator_family(file: OfficialFile) -> Family | None:
    for key in ("G_ema", "G"):
        if key in file.networks:
            try:
                return recognise(file.networks[key].tensors)[0]
            except InputError:
                continue  # reported with the network itself
    return None


def _report_module(key: str, module: OfficialModule, beside: Family | None) -> NetworkReport:
    check_class(module.class_name)
    family, network = recognise(module.tensors, beside=beside)
    options = module.rendering_kwargs
    is_generator = network == "generator"
    resolution, neural = module.init_kwargs.get("img_resolution"), module.attributes.get("neural_rendering_resolution")
    return NetworkReport(
        key,
        family,
        network,
        module.class_name,
        len(module.tensors),
        module.num_parameters,
        resolution=resolution if isinstance(resolution, int) else None,
        neural_resolution=neural if isinstance(neural, int) else None,
        plane_layout=plane_layout(family, module) if is_generator else None,
        camera_axes=CAMERA_AXES[family] if is_generator else None,
        box_warp=options.get("box_warp"),
        rendering=to_plain(options),
        modules=dict(Counter(module.modules.values()).most_common()),
    )


def _look_twice(report: NetworkReport, tensors: Mapping[str, StoredTensor]) -> list[str]:
    found: list[str] = []
    structure = released_structure(report.family, report.network, tensors)  # pyright: ignore[reportArgumentType]
    try:
        if structure:
            check_structure(structure, _without_constants(tensors))
    except CheckpointMismatch as error:
        found.append(str(error))
    found += [f"{name} holds numbers that are not finite" for name, tensor in tensors.items() if not _is_finite(tensor)]
    return found


def _without_constants(tensors: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    from portrait4d.weights.official.state import LABEL_STD, is_resample_filter

    return {name: tensor for name, tensor in tensors.items() if not is_resample_filter(name) and name != LABEL_STD}


def _is_finite(tensor: StoredTensor) -> bool:
    return not tensor.dtype.is_floating_point or bool(tensor.read().isfinite().all())


def _inspect_motion_model(path: Path) -> FileReport:
    conversion = convert_file(path)
    config, tensors = conversion.config, conversion.tensors
    suspicious = [
        f"{name} holds numbers that are not finite" for name, tensor in tensors.items() if not _is_finite(tensor)
    ]
    network = NetworkReport(
        "state dict", config.family, config.network, "FanEncoder", len(tensors), _count_parameters(tensors)
    )
    others = {"notes": list(conversion.notes)}
    return FileReport(
        str(path), "torch state dict", path.stat().st_size, config.licence, (network,), others, tuple(suspicious)
    )


def _inspect_exported(path: Path, content: Mapping[str, Any]) -> FileReport:
    suspicious, reports, licence = [], [], "unknown"
    for key in content[CONFIGS]:
        config, tensors = unpack(content, key, path.name)
        reports.append(_report_own(config, tensors, key=key))
        suspicious += [
            f"{key}: {name} holds numbers that are not finite" for name in tensors if not _is_finite(tensors[name])
        ]
        licence = config.licence
    return FileReport(
        str(path), "exported state dicts", path.stat().st_size, licence, tuple(reports), suspicious=tuple(suspicious)
    )


def _inspect_own(path: Path) -> FileReport:
    from safetensors import SafetensorError, safe_open

    config, file = read_config(path), path / TENSORS_FILE
    if not file.is_file():
        raise InputError(f"{path} has a config but no {TENSORS_FILE}: convert the checkpoint again")
    try:
        with safe_open(file, "pt") as content:
            shapes = {name: tuple(content.get_slice(name).get_shape()) for name in content.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise InputError(f"{file} is damaged ({str(error)[:100]}): convert the checkpoint again") from error
    is_bound = hash_file(file) == config.tensors_sha256
    suspicious = () if is_bound else (f"{TENSORS_FILE} is not the file that the config was written for",)
    report = _report_own(config, {name: torch.empty(shape, device="meta") for name, shape in shapes.items()})
    others = {"source": config.source, "source_sha256": config.source_sha256, "architecture": config.architecture}
    return FileReport(
        str(path), "portrait4d checkpoint", file.stat().st_size, config.licence, (report,), others, suspicious
    )


def _report_own(config: CheckpointConfig, tensors: Mapping[str, HasShape], *, key: str = "model") -> NetworkReport:
    official = config.official
    return NetworkReport(
        key,
        config.family,
        config.network,
        official.get("class_name", ""),
        len(tensors),
        _count_parameters(tensors),
        resolution=official.get("init_kwargs", {}).get("img_resolution"),
        neural_resolution=official.get("neural_rendering_resolution"),
        plane_layout=config.plane_layout,
        camera_axes=config.camera_axes,
        box_warp=config.box_warp,
        rendering=official.get("rendering_kwargs", {}),
    )


_BUFFERS = re.compile(
    r"(^deformer\.(?!.*_pose$).*|.*\.(noise_const|running_mean|running_var|num_batches_tracked)|.*w_avg)$"
)


def _count_parameters(tensors: Mapping[str, HasShape]) -> int:
    """Count of numbers in all tensors except known buffers: a state dict does not distinguish them."""
    return sum(torch.Size(tensor.shape).numel() for name, tensor in tensors.items() if not _BUFFERS.match(name))
