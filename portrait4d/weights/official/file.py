"""Reading of official pickles of EG3D, GenHead and Portrait4D: names, tensors and constructor arguments of networks.

The file is mapped into memory and tensors stay in it until they are read: of a file of 2 GB only those take memory.
Format: plain pickle with the "persistence" records, version 6, of the StyleGAN2-ADA, StyleGAN3 and EG3D releases.
"""

import mmap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flame.errors import InputError, printable
from flame.pickles.bounded_bytes import BoundedBytes
from flame.pickles.machine import PickleMachine
from flame.pickles.objects import Resolver
from portrait4d.weights.official.names import InertObject, find_official
from portrait4d.weights.official.stored_tensor import StoredTensor
from portrait4d.weights.official.torch_blob import is_torch_file

_MAX_DEPTH = 40
_MAX_ENTRIES = 1_000_000
_MAX_MODULES = 20_000
"""Ten times the modules of the largest released network; a module met on several paths counts on each."""


@dataclass(frozen=True)
class OfficialModule:
    """One network of an official file.

    Attributes:
        class_name: of the network, in the file.
        init_args: positional arguments of its constructor.
        init_kwargs: named arguments of its constructor.
        tensors: by state-dict name, in the order of `state_dict()`.
        parameters: which of them are parameters; the others are buffers.
        modules: class names by dotted path, "" for the network itself.
        attributes: everything else that the modules hold, by dotted path; arrays and tensors included.
    """

    class_name: str
    init_args: tuple[Any, ...] = ()
    init_kwargs: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, StoredTensor] = field(default_factory=dict)
    parameters: frozenset[str] = frozenset()
    modules: dict[str, str] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)

    @property
    def num_parameters(self) -> int:
        """Count of numbers in the parameters."""
        return sum(self.tensors[name].num_bytes // self.tensors[name].dtype.itemsize for name in self.parameters)

    @property
    def rendering_kwargs(self) -> dict[str, Any]:
        """The rendering options: the module's attribute, which takes precedence, else the constructor's."""
        found = self.attributes.get("rendering_kwargs", self.init_kwargs.get("rendering_kwargs", {}))
        return found if isinstance(found, dict) else {}


@dataclass(frozen=True)
class OfficialFile:
    """The networks of a file by their key (G, D, G_ema, ...), and its other entries."""

    name: str
    networks: dict[str, OfficialModule]
    entries: dict[str, Any]
    num_trailing_bytes: int = 0


def map_file(path: Path) -> memoryview:
    """Maps the bytes of a file without reading them.

    Raises:
        InputError: there is no such file, or it is empty.
    """
    if not path.is_file():
        raise InputError(f"expected a file at {path}, there is none: check the path")
    if not path.stat().st_size:
        raise InputError(f"{path.name} is empty: get the file again")
    with path.open("rb") as stream:
        return memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))


def read_official(path: str | Path) -> OfficialFile:
    """Opens an official pickle.

    Raises:
        InputError: the file is damaged, is not such a pickle, or asks for more than known data. Nothing was run.
    """
    path = Path(path)
    data = map_file(path)
    if is_torch_file(data):
        raise InputError(f"{path.name} was written by torch.save: expected an official .pkl with G, D and G_ema")
    source = BoundedBytes(data, path.name)
    content = PickleMachine(source, find=find_official, allow_sets=True).load()
    if not (isinstance(content, dict) and all(isinstance(key, str) for key in content)):
        raise InputError(f"{path.name} holds a {type(content).__name__}: expected a dict with G, D and G_ema")
    networks = {key: value for key, value in content.items() if isinstance(value, InertObject)}
    if not networks:
        keys = printable(", ".join(content)[:100]) or "nothing"
        raise InputError(f"{path.name} holds no network, only {keys}: expected G, D and G_ema")
    resolver = Resolver(path.name)
    others = {key: resolver(value) for key, value in content.items() if key not in networks}
    read = {key: _read_module(value, path.name, len(data), resolver) for key, value in networks.items()}
    return OfficialFile(path.name, read, others, len(data) - source.position)


def _read_module(root: InertObject, name: str, num_bytes: int, resolver: Resolver) -> OfficialModule:
    tensors: dict[str, StoredTensor] = {}
    parameters, modules, attributes, known = set(), {}, {}, {}
    for path, module in _walk(root, name):
        modules[path.removesuffix(".")] = module.class_name
        for kind in ("_parameters", "_buffers"):
            skipped = module.state.get("_non_persistent_buffers_set", ()) if kind == "_buffers" else ()
            for key, tensor in _children(module, kind, StoredTensor, name):
                if key in skipped:
                    attributes[path + key] = tensor
                    continue
                tensors[path + key] = tensor
                if kind == "_parameters":
                    parameters.add(path + key)
        if id(module) not in known:  # a module met on several paths keeps one set of attributes
            known[id(module)] = _attributes(module, resolver)
        if len(tensors) + len(attributes) + len(known[id(module)]) > _MAX_ENTRIES:
            raise InputError(f"{name} keeps more than {_MAX_ENTRIES} tensors and attributes: no known network does")
        attributes.update({path + key: value for key, value in known[id(module)].items()})
    total = sum(tensor.num_bytes for tensor in tensors.values())
    if total > num_bytes:
        raise InputError(f"{name} claims tensors of {total} bytes in a file of {num_bytes}: it is damaged")
    arguments, keywords = attributes.pop("_init_args", ()), attributes.pop("_init_kwargs", {})
    if not (
        isinstance(arguments, tuple) and isinstance(keywords, dict) and all(isinstance(key, str) for key in keywords)
    ):
        raise InputError(f"{name} keeps the constructor's arguments of {root.class_name} in an unknown form")
    return OfficialModule(root.class_name, arguments, keywords, tensors, frozenset(parameters), modules, attributes)


def _walk(root: InertObject, name: str) -> Iterator[tuple[str, InertObject]]:
    """All modules with the prefix of their tensors' names, in the order of `state_dict()`."""
    waiting, count = [("", root, 0)], 0
    while waiting:
        path, module, depth = waiting.pop()
        count += 1
        if depth > _MAX_DEPTH or count > _MAX_MODULES:
            raise InputError(f"{name} nests modules deeper or more often than any known network: refused")
        yield path, module
        children = list(_children(module, "_modules", InertObject, name))
        waiting.extend((f"{path}{key}.", child, depth + 1) for key, child in reversed(children))


def _children(module: InertObject, kind: str, expected: type, name: str) -> Iterator[tuple[str, Any]]:
    children = module.state.get(kind, {})
    if not isinstance(children, dict):
        raise InputError(f"{name} keeps {kind} of {module.class_name} as {type(children).__name__}: it is damaged")
    for key, child in children.items():
        if not isinstance(key, str) or not key or "." in key or len(key) > 200:
            raise InputError(f"{name} names a part of {module.class_name} {str(key)[:40]!r}: it is damaged")
        if child is None:
            continue
        if not isinstance(child, expected):
            raise InputError(
                f"{name} holds {module.class_name}.{printable(key)} among {kind} as {type(child).__name__}: "
                f"expected a {'module' if expected is InertObject else 'tensor'}"
            )
        yield key, child


_MACHINERY = frozenset(
    "_parameters _buffers _modules _non_persistent_buffers_set _backward_hooks _backward_pre_hooks _forward_hooks "  # noqa: SIM905
    "_forward_pre_hooks _state_dict_hooks _state_dict_pre_hooks _load_state_dict_pre_hooks "
    "_load_state_dict_post_hooks _forward_hooks_with_kwargs _forward_hooks_always_called "
    "_forward_pre_hooks_with_kwargs _is_full_backward_hook training".split()
)
"""Attributes of every `torch.nn.Module`, which say nothing about the network."""


def _attributes(module: InertObject, resolver: Resolver) -> dict[str, Any]:
    return {
        key: resolver(value) for key, value in module.state.items() if isinstance(key, str) and key not in _MACHINERY
    }
