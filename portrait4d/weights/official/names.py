"""The names that may occur in an official StyleGAN-style pickle, and what each becomes here.

An allow-list: a few names rebuild data, the classes of the known projects become inert objects that only keep their
attributes, and every other name is refused. Nothing is imported, and nothing in the file is called.
"""

import re
from collections.abc import Callable
from typing import Any

from flame.errors import InputError, brief
from flame.pickles.arrays import numpy_stand_ins
from flame.pickles.objects import PickledObject, StandIn, pairs_to_dict, plain_key
from portrait4d.weights.official.stored_tensor import make_tensor
from portrait4d.weights.official.torch_blob import MAX_BLOB_INSTRUCTIONS, make_parameter, read_storage

INERT = re.compile(
    r"torch\.nn\.modules\.\w+|torch\.nn\.(functional|parallel|utils)(\.\w+)*"
    r"|(training|models|torch_utils|metrics|camera_utils|dnnlib)(\.\w+)*"
    r"|pytorch3d\.(renderer|structures|ops)(\.\w+)*"
    r"|segmentation_models_pytorch(\.\w+)*|timm\.(models|layers)(\.\w+)*|torchvision\.(models|ops)(\.\w+)*"
    r"|kornia(\.\w+)*|smplx(\.\w+)*"
)
"""Modules whose classes become inert objects: those of EG3D, GenHead and Portrait4D and of what they are built from."""

_TORCH_TYPES = (  # noqa: SIM905  (a list would take one line a name)
    "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool contiguous_format channels_last preserve_format"
).split()
_MAX_PERSISTENCE_VERSION = 6


class InertObject(PickledObject):
    """An object of a class that is not loaded: its class, its arguments and its attributes."""

    def __init__(self, class_path: str, arguments: tuple[Any, ...] = ()) -> None:
        self.class_path, self.arguments = class_path, arguments
        self.state: dict[Any, Any] = {}

    @property
    def class_name(self) -> str:
        """The last part of the class path."""
        return self.class_path.rpartition(".")[2]

    def set_state(self, state: Any) -> None:
        """Keeps the attributes; objects with slots give them as the second of a pair."""
        parts = state if isinstance(state, tuple) and len(state) == 2 else (state,)
        if not all(part is None or isinstance(part, dict) for part in parts):
            raise InputError(
                f"the object of {self.class_path[:100]} in the file has a {_type(state)} instead of attributes"
            )
        for part in parts:
            self.state.update(part or {})

    def __repr__(self) -> str:
        return f"<{self.class_path}>"


def find_official(module: str, name: str) -> StandIn | None:
    """The stand-in for a name in an official pickle; None refuses it."""
    path = f"{module}.{name}"
    if path in _CALLS:
        return StandIn(path, _CALLS[path], cost=MAX_BLOB_INSTRUCTIONS if _CALLS[path] is read_storage else 0)
    if (module, name) in (arrays := numpy_stand_ins()):
        return arrays[module, name]
    is_type = module == "torch" and name in _TORCH_TYPES
    if is_type or (INERT.fullmatch(module) and re.fullmatch(r"[A-Za-z_]\w*", name)):
        return StandIn(path, lambda *arguments: InertObject(path, arguments))
    return None


def _reconstruct_persistent(meta: Any) -> InertObject:
    """Stands in for `torch_utils.persistence._reconstruct_persistent_obj`; the source text in `meta` is dropped."""
    if not isinstance(meta, dict) or meta.get("type") != "class":
        kind = brief(meta.get("type") if isinstance(meta, dict) else meta)
        raise InputError(f"expected the description of a class in the file, got {kind}: refused, nothing was run")
    version, name = meta.get("version"), meta.get("class_name")
    if not isinstance(version, int) or not 1 <= version <= _MAX_PERSISTENCE_VERSION:
        raise InputError(
            f"the file stores objects in version {brief(version)}: known are 1 to {_MAX_PERSISTENCE_VERSION}"
        )
    if not isinstance(name, str) or not re.fullmatch(r"\w+(\.\w+)*", name):
        raise InputError(f"the file names a class {brief(name)}: expected a Python name")
    result = InertObject(name)
    result.set_state(meta.get("state"))
    return result


def _reconstruct_plain(kind: Any, base: Any = None, state: Any = None) -> Any:
    """Stands in for `copyreg._reconstructor`, with which old protocols make objects."""
    del base
    if isinstance(kind, StandIn) and kind.call is pairs_to_dict:
        return pairs_to_dict(state)
    if not isinstance(kind, StandIn) or not INERT.fullmatch(kind.name.rpartition(".")[0]):
        raise InputError("the file makes an object of something that is not a known class: refused, nothing was run")
    return kind.call()


def _make_set(items: Any = ()) -> set[Any]:
    if not isinstance(items, (list, tuple, set)):
        raise InputError("a set in the file is made of something other than a list: the file is damaged")
    return set(map(plain_key, items))


def _make_device(kind: Any, index: Any = None) -> str:
    return brief(kind) if index is None else f"{brief(kind)} {brief(index)}"


def _make_size(lengths: Any = ()) -> tuple[Any, ...]:
    return tuple(lengths) if isinstance(lengths, (list, tuple)) else ()


def _make_object(*arguments: Any) -> InertObject:
    return InertObject("builtins.object", arguments)


_CALLS: dict[str, Callable[..., Any]] = {
    "torch_utils.persistence._reconstruct_persistent_obj": _reconstruct_persistent,
    "torch.storage._load_from_bytes": read_storage,
    "torch._utils._rebuild_tensor_v2": make_tensor,
    "torch._utils._rebuild_parameter": make_parameter,
    "torch._utils._rebuild_parameter_with_state": make_parameter,
    "torch.device": _make_device,
    "torch.Size": _make_size,
    "collections.OrderedDict": pairs_to_dict,
    "dnnlib.util.EasyDict": pairs_to_dict,
    **dict.fromkeys(("copyreg._reconstructor", "copy_reg._reconstructor"), _reconstruct_plain),
    **dict.fromkeys(("builtins.set", "__builtin__.set"), _make_set),
    **dict.fromkeys(("builtins.dict", "__builtin__.dict"), pairs_to_dict),
    **dict.fromkeys(("builtins.object", "__builtin__.object"), _make_object),
}


def _type(value: Any) -> str:
    return type(value).__name__
