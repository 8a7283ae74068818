"""Reading of files of `torch.save`, in both of its formats, without torch's loader and without running anything.

Legacy (torch < 1.6, and still used for each storage inside a plain pickle): five pickles one after the other (magic
number, version, system, object, storage keys), then per key a count (int64) and the raw numbers. Zip (torch >= 1.6):
`NAME/data.pkl` and one uncompressed entry `NAME/data/KEY` per storage.
"""

import io
import struct
import zipfile
from typing import Any

from flame.errors import InputError, brief
from flame.pickles.bounded_bytes import BoundedBytes
from flame.pickles.machine import MAX_INSTRUCTIONS, PickleMachine
from flame.pickles.objects import Resolver, StandIn, pairs_to_dict
from portrait4d.weights.official.stored_tensor import Storage, make_storage, make_tensor

_MAGIC = 0x1950A86A20F9469CFC6C
_VERSION = 1001
MAX_BLOB_INSTRUCTIONS = 200
"""A storage in a plain pickle needs about 70; the bound keeps a shared blob from being read for hours."""


def is_torch_file(data: memoryview) -> bool:
    """Whether `torch.save` wrote this, judged by its first bytes."""
    return data[:4] == b"PK\x03\x04" or data[:15] == b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


def read_torch_file(data: memoryview, name: str) -> Any:
    """The object in a file: dicts, lists, numbers, text and `StoredTensor`s.

    Raises:
        InputError: the file is damaged, or holds other data.
    """
    return Resolver(name)(_read(data, name, MAX_INSTRUCTIONS))


def read_storage(data: Any) -> Storage:
    """Stands in for `torch.storage._load_from_bytes`, which reads the bytes of one storage."""
    if not isinstance(data, (memoryview, bytes, bytearray)):
        raise InputError("a storage in the file is not a byte string: the file is damaged")
    storage = _read(memoryview(data), "a storage in the file", MAX_BLOB_INSTRUCTIONS)
    if not isinstance(storage, Storage):
        raise InputError(f"expected a storage among the bytes in the file, got a {type(storage).__name__}: refused")
    return storage


def _read(data: memoryview, name: str, max_instructions: int) -> Any:
    read = _read_zip if data[:4] == b"PK\x03\x04" else _read_legacy
    return read(data, name, max_instructions)


def _read_legacy(data: memoryview, name: str, max_instructions: int) -> Any:
    source, storages = BoundedBytes(data, name), {}
    machine = PickleMachine(
        source,
        find=_find,
        find_outside=lambda identity: _announce(storages, identity),
        max_instructions=max_instructions,
    )
    if machine.load() != _MAGIC:
        raise InputError(f"{name} was not written by torch.save: expected its magic number")
    version, system = machine.load(), machine.load()
    if version != _VERSION or not isinstance(system, dict) or system.get("little_endian") is not True:
        raise InputError(f"{name} was written by torch.save in a form that cannot be read (version {brief(version)})")
    content, keys = machine.load(), machine.load()
    if (
        not isinstance(keys, list)
        or len(keys) != len(storages)
        or not all(isinstance(key, str) and key in storages for key in keys)
    ):
        raise InputError(f"{name} is damaged (its list of storages does not fit): get the file again")
    for key in keys:
        storage = storages[key]
        (count,) = struct.unpack("<q", source.read(8))
        if count != storage.num_items:
            raise InputError(f"{name} is damaged (a storage of {count} numbers, {storage.num_items} announced)")
        storage.fill(source.view(count * storage.dtype.itemsize))
    return content


def _read_zip(data: memoryview, name: str, max_instructions: int) -> Any:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            _check_entries(archive, len(data), name)
            return _read_archive(archive, name, max_instructions)
    except (zipfile.BadZipFile, KeyError, EOFError, NotImplementedError, RuntimeError) as error:
        raise InputError(f"{name} is damaged ({str(error)[:100]}): get the file again") from error


def _check_entries(archive: zipfile.ZipFile, num_bytes: int, name: str) -> None:
    entries = archive.infolist()
    if any(entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 for entry in entries):
        raise InputError(f"{name} holds compressed or encrypted parts, which torch.save never writes: refused")
    if sum(entry.file_size for entry in entries) > num_bytes:
        raise InputError(f"{name} claims to unpack to more than it holds: refused")


def _read_archive(archive: zipfile.ZipFile, name: str, max_instructions: int) -> Any:
    roots = [
        entry.filename.removesuffix("data.pkl") for entry in archive.infolist() if entry.filename.endswith("data.pkl")
    ]
    if len(roots) != 1:
        raise InputError(f"{name} is a zip file without one data.pkl: not written by torch.save")
    root = roots[0]
    if f"{root}byteorder" in archive.namelist() and archive.read(f"{root}byteorder") != b"little":
        raise InputError(f"{name} was written on a big-endian machine: such files cannot be read")
    storages: dict[str, Storage] = {}
    source = BoundedBytes(archive.read(f"{root}data.pkl"), name)
    content = PickleMachine(
        source,
        find=_find,
        find_outside=lambda identity: _announce(storages, identity),
        max_instructions=max_instructions,
    ).load()
    for key, storage in storages.items():
        storage.fill(memoryview(archive.read(f"{root}data/{key}")))
    return content


def _announce(storages: dict[str, Storage], identity: Any) -> Storage:
    """The storage of a persistent id `("storage", kind, key, device, count[, view])`."""
    is_storage = isinstance(identity, tuple) and len(identity) in (5, 6) and identity[0] == "storage"
    if not is_storage or identity[5:] not in ((), (None,)) or not isinstance(identity[2], str):
        raise InputError("the file refers to an outside object that is not a storage: refused")
    _, kind, key, _, count = identity[:5]
    storage = storages.setdefault(key, make_storage(kind, count))
    if storage.num_items != count or storage.dtype != make_storage(kind, count).dtype:
        raise InputError(f"the file announces storage {brief(key)} twice and differently: it is damaged")
    return storage


def _find(module: str, name: str) -> StandIn | None:
    path = f"{module}.{name}"
    if module in ("torch", "torch.storage") and name.endswith("Storage"):
        return StandIn(path, _refuse_call)  # only its name matters; an unknown kind is refused by name when it is used
    calls = {
        "collections.OrderedDict": pairs_to_dict,
        "torch._utils._rebuild_tensor_v2": make_tensor,
        "torch._utils._rebuild_parameter": make_parameter,
    }
    return StandIn(path, calls[path]) if path in calls else None


def make_parameter(tensor: Any, *unused: Any) -> Any:
    """Stands in for `torch._utils._rebuild_parameter`; returns the tensor itself."""
    del unused
    return tensor


def _refuse_call(*arguments: Any) -> Any:
    raise InputError("the file calls a storage class of torch: refused, nothing was run")
