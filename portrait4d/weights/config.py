"""The content of `config.json` beside the tensors of a checkpoint of ours, and its checks."""

import difflib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from flame.errors import InputError

TENSORS_FILE, CONFIG_FILE = "model.safetensors", "config.json"

FORMAT = "portrait4d checkpoint"
FORMAT_VERSION = 1

Family = Literal["eg3d", "genhead", "portrait4d", "motion-encoder"]
Network = Literal["generator", "discriminator", "encoder"]
PlaneLayoutName = Literal["eg3d", "orthogonal"]
CameraAxes = Literal["opencv", "opengl"]

_PORTRAIT4D_LICENCE = "authors' terms, see their page; built on NVIDIA research code, holds FLAME data: non-commercial"

LICENCES: dict[Family, str] = {
    "eg3d": "NVIDIA Source Code License: research and evaluation only",
    "genhead": _PORTRAIT4D_LICENCE,
    "portrait4d": _PORTRAIT4D_LICENCE,
    "motion-encoder": "PD-FGC motion encoder; see the authors' page",
}
"""What is known here; the terms on the page that a file comes from are decisive."""

_MAX_BYTES = 1 << 24

_CHOICES: dict[str, tuple[Any, ...]] = {
    "family": get_args(Family),
    "network": get_args(Network),
    "plane_layout": (*get_args(PlaneLayoutName), None),
    "camera_axes": (*get_args(CameraAxes), None),
}


@dataclass(frozen=True)
class CheckpointConfig:
    """Everything about a checkpoint except its tensors.

    Attributes:
        family: of the network.
        network: its part in the family.
        architecture: the network's own config as plain values (`EG3DConfig.to_dict()`); empty for families without a
            config of ours, whose engines make one from `official`.
        plane_layout: axes of the planes; None where the network has none.
        camera_axes: axes of the camera labels; None where the network has no planes.
        box_warp: side of the cube that the planes fill; None where the network has none.
        official: `class_name`, `init_args`, `init_kwargs`, `rendering_kwargs`, `neural_rendering_resolution` of the
            official file.
        label_std: the official root buffer `dataset_label_std`, `{"dtype", "shape", "values"}`.
        resample_filters: names of the constant FIR buffers that the official state dict has and ours lacks; None for a
            network of our own.
        source: name of the file it was made from.
        source_sha256: hash of that file.
        licence: of the weights, in words.
        tensors_sha256: hash of `model.safetensors`.
    """

    family: Family
    network: Network
    architecture: dict[str, Any]
    plane_layout: PlaneLayoutName | None = None
    camera_axes: CameraAxes | None = None
    box_warp: float | None = None
    official: dict[str, Any] = field(default_factory=dict)
    label_std: dict[str, Any] | None = None
    resample_filters: tuple[str, ...] | None = None
    source: str = ""
    source_sha256: str = ""
    licence: str = ""
    tensors_sha256: str = ""

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                named = ", ".join(repr(choice) for choice in choices)
                raise InputError(f"checkpoint {name} is {value!r}: expected one of {named}")
        for name in ("plane_layout", "camera_axes"):
            value = getattr(self, name)
            if self.architecture.get(name, value) != value:
                raise InputError(
                    f"checkpoint {name} is {value!r}, but {self.architecture[name]!r} in its architecture: "
                    "make them agree"
                )
        render = self.architecture.get("render")
        inner = render.get("box_warp", self.box_warp) if isinstance(render, dict) else self.box_warp
        if inner != self.box_warp:
            raise InputError(
                f"checkpoint box_warp is {self.box_warp!r}, but {inner!r} in its architecture: make them agree"
            )
        if self.box_warp is not None and not (_is_number(self.box_warp) and 0 < self.box_warp < math.inf):
            raise InputError(f"checkpoint box_warp is {self.box_warp!r}: expected a length above 0")

    @property
    def identity(self) -> str:
        """What distinguishes these weights from others: the hash of the tensors, or of the file they came from."""
        return self.tensors_sha256 or self.source_sha256

    def to_json(self) -> str:
        """The text of `config.json`."""
        values = {"format": FORMAT, "format_version": FORMAT_VERSION, **asdict(self)}
        try:
            return json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        except (TypeError, ValueError) as error:
            raise InputError(
                f"checkpoint config cannot be written as JSON ({error}): use plain numbers and text"
            ) from error

    @classmethod
    def from_json(cls, text: str, name: str) -> "CheckpointConfig":
        """Reads the config from a text; `name` is for messages.

        Raises:
            InputError: not JSON, another format or version, an unknown or missing key, or a value of the wrong kind.
        """
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{name} is not JSON ({str(error)[:80]}): convert the checkpoint again") from error
        if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
            raise InputError(f'{name} is not the config of a checkpoint: expected "format": "{FORMAT}"')
        if (version := values.pop("format_version", None)) != FORMAT_VERSION:
            raise InputError(f"{name} has format version {version!r}: this program reads {FORMAT_VERSION}; update it")
        _check_keys(values, name)
        if (filters := values.get("resample_filters")) is not None:
            if not all(isinstance(item, str) for item in filters):
                raise InputError(f"{name} has something other than names among resample_filters: convert it again")
            values["resample_filters"] = tuple(filters)
        return cls(**values)


def is_checkpoint(path: str | Path) -> bool:
    """Whether `path` is a folder with both files."""
    return all((Path(path) / name).is_file() for name in (TENSORS_FILE, CONFIG_FILE))


def read_config(folder: str | Path) -> CheckpointConfig:
    """The config of a checkpoint.

    Raises:
        InputError: there is none, or it is not valid.
    """
    path = Path(folder) / CONFIG_FILE
    if not path.is_file():
        raise InputError(f"expected a checkpoint folder with {CONFIG_FILE} at {folder}: check the path")
    if path.stat().st_size > _MAX_BYTES:
        raise InputError(f"{path} is larger than {_MAX_BYTES >> 20} MB: not the config of a checkpoint")
    try:
        return CheckpointConfig.from_json(path.read_text(encoding="utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not text: convert the checkpoint again") from error


_KINDS: dict[str, tuple[type, ...]] = {
    "family": (str,),
    "network": (str,),
    "architecture": (dict,),
    "plane_layout": (str, type(None)),
    "camera_axes": (str, type(None)),
    "box_warp": (int, float, type(None)),
    "official": (dict,),
    "label_std": (dict, type(None)),
    "resample_filters": (list, type(None)),
}


def _check_keys(values: Mapping[str, Any], name: str) -> None:
    known = [item.name for item in fields(CheckpointConfig)]
    for key, value in values.items():
        if key not in known:
            nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.0)[0]
            raise InputError(f"{name} has the unknown key {key!r}: did you mean {nearest!r}?")
        kinds = _KINDS.get(key, (str,))
        if not isinstance(value, kinds) or isinstance(value, bool):
            wanted = " or ".join(kind.__name__ for kind in kinds)
            raise InputError(f"{name} has {key} as {type(value).__name__}: expected {wanted}")
    missing = [key for key in ("family", "network", "architecture") if key not in values]
    if missing:
        raise InputError(f"{name} lacks {', '.join(missing)}: convert the checkpoint again")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
