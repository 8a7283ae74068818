"""Malicious and broken files: each is refused with its own line, nothing runs, and memory stays bounded."""

import builtins
import functools
import io
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flame.errors import InputError
from official_pickles import build_module, official_names, save_official, small_module
from places import ROOT
from portrait4d.gan.discriminator import DualDiscriminator, DualDiscriminatorConfig
from portrait4d.weights.official.convert import convert_file, to_plain
from portrait4d.weights.official.file import read_official
from portrait4d.weights.official.inspection import inspect_file

MARK = "ran"


class Call:
    """Pickles to a call of the given function."""

    def __init__(self, function: Callable, *arguments: Any, state: Any = None) -> None:
        self.call = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> tuple:
        return self.call


def network(plain: dict[str, type], **state: Any) -> Any:
    """An object of a class that is referred to by path, with the given attributes."""
    result = plain["FLAME"]()
    result.__dict__.clear()
    result.__dict__.update(state)
    return result


def tensor(storage: Any, offset: Any, shape: Any, stride: Any) -> Call:
    return Call(torch._utils._rebuild_tensor_v2, storage, offset, shape, stride, False, OrderedDict())


def storage_bytes(kind: str = "FloatStorage", *, announced: int = 4, count: int = 4, data: bytes = bytes(16)) -> bytes:
    """A storage in the legacy format of torch.save, made by hand."""
    head = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({"little_endian": True}, 2)
    number = pickle.dumps(announced, 2)[2:-1]
    identity = (
        b"\x80\x02(X\x07\x00\x00\x00storagectorch\n" + kind.encode() + b"\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu"
    )
    return head + identity + number + b"NtQ." + pickle.dumps(["0"], 2) + struct.pack("<q", count) + data


def storage(data: bytes) -> Call:
    return Call(torch.storage._load_from_bytes, data)


def zip_bytes(*, compression: int = zipfile.ZIP_STORED, content: bytes = b"\x80\x02N.") -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/data/0", bytes(1 << 22))
    return stream.getvalue()


def evil_blob(mark: str) -> bytes:
    head = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({"little_endian": True}, 2)
    return head + pickle.dumps(Call(os.system, f"touch {mark}"), 2)


def nested_tuple(depth: int) -> bytes:
    return b"N" + b"\x85" * depth


def deep_modules(plain: dict[str, type]) -> Any:
    """A module that contains itself."""
    result = network(plain)
    result.__dict__["_modules"] = {"inside": result}
    return result


def many_modules(plain: dict[str, type]) -> Any:
    """Thirty levels that each hold the next one twice: a thousand million paths."""
    result = network(plain)
    for _ in range(30):
        result = network(plain, _modules={"a": result, "b": result})
    return result


FLOATS = storage(storage_bytes())

CALLS = {  # content under G_ema; what the refusal says
    "system": (lambda mark: Call(os.system, f"touch {mark}"), r"(posix|nt)\.system"),
    "eval": (lambda mark: Call(eval, f"open({mark!r}, 'w')"), r"builtin\w*\.eval"),
    "exec": (lambda mark: Call(exec, f"open({mark!r}, 'w')"), r"builtin\w*\.exec"),
    "popen": (lambda mark: Call(subprocess.Popen, ["touch", mark]), r"Popen|_posixsubprocess|_reconstructor"),
    "partial": (lambda mark: functools.partial(os.system, f"touch {mark}"), r"functools\.partial"),
    "getattr": (lambda mark: Call(getattr, "text", "upper"), r"builtin\w*\.getattr"),
    "import": (lambda mark: Call(builtins.__import__, "os"), r"builtin\w*\.__import__"),
    "torch.load": (lambda mark: Call(torch.load, mark), r"torch\.serialization\.load"),
    "torch function": (lambda mark: Call(torch.zeros, 10**12), r"torch\._C.*zeros|getattr|torch\.zeros"),
    "blob that calls": (lambda mark: tensor(storage(evil_blob(mark)), 0, (1,), (1,)), r"(posix|nt)\.system"),
    "blob of an unknown kind": (
        lambda mark: tensor(storage(storage_bytes("ComplexFloatStorage")), 0, (1,), (1,)),
        "kind ComplexFloatStorage",
    ),
    "blob that announces too much": (
        lambda mark: tensor(storage(storage_bytes(announced=2**38, count=2**38)), 0, (1,), (1,)),
        r"ends too early: \d+ bytes wanted",
    ),
    "blob that announces nonsense": (
        lambda mark: tensor(storage(storage_bytes(announced=2**62)), 0, (1,), (1,)),
        "announces 4611686018427387904 numbers",
    ),
    "blob shorter than announced": (
        lambda mark: tensor(storage(storage_bytes(count=3, data=bytes(12))), 0, (1,), (1,)),
        "3 numbers, 4 announced",
    ),
    "blob that is no storage": (lambda mark: storage(zip_bytes()), "expected a storage .* got a NoneType"),
    "blob that is text": (lambda mark: Call(torch.storage._load_from_bytes, "text"), "not a byte string"),
    "zip bomb": (lambda mark: storage(zip_bytes(compression=zipfile.ZIP_DEFLATED)), "compressed or encrypted"),
    "broken zip": (lambda mark: storage(b"PK\x03\x04" + bytes(64)), "is damaged"),
    "tensor beyond its storage": (
        lambda mark: tensor(FLOATS, 2, (2, 2), (2, 1)),
        "reaches to number 6 of a storage of 4",
    ),
    "tensor with a negative stride": (lambda mark: tensor(FLOATS, 3, (4,), (-1,)), r"stride \(-1\)"),
    "tensor with a huge stride": (lambda mark: tensor(FLOATS, 0, (2,), (2**62,)), "it is damaged"),
    "tensor without a storage": (lambda mark: tensor("text", 0, (1,), (1,)), "not a storage"),
    "tensor of forty dimensions": (lambda mark: tensor(FLOATS, 0, (1,) * 40, (1,) * 40), "it is damaged"),
    "tensor whose shape explodes when printed": (
        lambda mark: tensor(FLOATS, 0, functools.reduce(lambda inner, _: (inner, inner), range(60), ()), ()),
        r"shape a tuple",
    ),
    "type whose code explodes when printed": (
        lambda mark: Call(np.dtype, functools.reduce(lambda inner, _: [inner, inner], range(60), [])),
        "array of type a list",
    ),
    "set of lists": (lambda mark: Call(set, [[1]]), "neither text nor a number"),
}


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("case", CALLS)
def test_evil_calls_and_blobs_are_refused(tmp_path: Path, case: str, protocol: int) -> None:
    make, said = CALLS[case]
    mark, path = tmp_path / MARK, tmp_path / "evil.pkl"
    with official_names() as plain:
        content = make(str(mark))
        module = network(plain, _buffers={"x": content})
        path.write_bytes(pickle.dumps({"G_ema": module}, protocol=protocol))
        with pytest.raises(InputError, match=said) as refusal:
            read_official(path)
    assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 400
    assert not mark.exists()


MODULES = {
    "a module inside itself": (deep_modules, "nests modules deeper or more often"),
    "too many paths": (many_modules, "nests modules deeper or more often"),
    "buffers that are text": (lambda plain: network(plain, _buffers="text"), "_buffers of FLAME as str"),
    "a parameter that is text": (
        lambda plain: network(plain, _parameters={"a": "b"}),
        "FLAME.a among _parameters as str",
    ),
    "a child that is a tensor": (lambda plain: network(plain, _modules={"a": torch.ones(1)}), "expected a module"),
    "a name with a dot": (lambda plain: network(plain, _buffers={"a.b": torch.ones(1)}), "names a part of FLAME 'a.b'"),
    "constructor arguments that are text": (lambda plain: network(plain, _init_kwargs="x"), "constructor's arguments"),
    "a tensor blown up by strides": (
        lambda plain: network(plain, _buffers={"a": torch.ones(1).expand(2**30)}),
        r"claims tensors of 4294967296 bytes",
    ),
    "attributes nested too deeply": (
        lambda plain: network(plain, a=functools.reduce(lambda inner, _: [inner], range(100), [])),
        "nested too deeply",
    ),
    "attributes with a cycle": (lambda plain: network(plain, a=_cycle()), "nested too deeply"),
}


def _cycle() -> list:
    result: list = []
    result.append(result)
    return result


@pytest.mark.parametrize("case", MODULES)
def test_false_modules_are_refused(tmp_path: Path, case: str) -> None:
    make, said = MODULES[case]
    with official_names() as plain:
        (tmp_path / "evil.pkl").write_bytes(pickle.dumps({"G_ema": make(plain)}))
    with pytest.raises(InputError, match=said) as refusal:
        read_official(tmp_path / "evil.pkl")
    assert "\n" not in str(refusal.value)


RAW = {
    "huge byte string": (b"\x80\x04\x8e" + struct.pack("<Q", 2**50) + b"abc", "1125899906842624 bytes wanted"),
    "huge text": (b"\x80\x04\x8d" + struct.pack("<Q", 2**45) + b"abc", "bytes wanted"),
    "huge number": (b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"abc", "bytes wanted"),
    "memo index": (b"\x80\x02Nr\xff\xff\xff\x7f.", "memo index 2147483647"),
    "empty memo": (b"\x80\x02h\x07.", "memo 7 is empty"),
    "deep key": (b"\x80\x04}" + nested_tuple(200_000) + b"Ns.", "neither text nor a number"),
    "object as key": (b"\x80\x02}]Ns.", "neither text nor a number"),
    "a dict copied again and again": (
        b"\x80\x04ccollections\nOrderedDict\n\x94]("
        + b"K\x01K\x02\x86" * 100_000
        + b"e\x85\x94"
        + b"h\x00h\x01R" * 100_000,
        "too many pickle instructions",
    ),
    "outside reference": (b"\x80\x02NQ.", "outside object"),
    "extension": (b"\x80\x02\x82\x01.", "instruction EXT1"),
    "keyword construction": (b"\x80\x04ctorch.nn.modules.linear\nLinear\n)}\x92.", "instruction NEWOBJ_EX"),
    "call of a dict": (b"\x80\x02})R.", "calls a dict"),
    "state of a list": (b"\x80\x02]}b.", "gives a list a state"),
    "append to a dict": (b"\x80\x02}Na.", "appends to a dict"),
    "stack underflow": (b"\x80\x02a.", "nothing left on the stack"),
    "no mark": (b"\x80\x02t.", "no mark on the stack"),
    "name that is no text": (b"\x80\x04NN\x93.", "not text"),
    "unknown instruction": (b"\x80\x02\xff.", "not a pickle, or damaged at byte 2"),
    "no end": (b"\x80\x02N", "ends too early"),
    "persistence of a module": (
        b"\x80\x02ctorch_utils.persistence\n_reconstruct_persistent_obj\n}X\x04\x00\x00\x00typeX\x06\x00\x00\x00modules\x85R.",
        "description of a class in the file, got 'module'",
    ),
    "list": (pickle.dumps([1, 2]), "holds a list"),
    "no network": (pickle.dumps({"a": 1}), "holds no network, only a"),
    "web page": (b"<!DOCTYPE html><html>Please log in</html>", "not a pickle"),
    "torch file": (zip_bytes(), "written by torch.save"),
    "empty": (b"", "is empty"),
}


@pytest.mark.parametrize("case", RAW)
def test_broken_pickles_are_refused(tmp_path: Path, case: str) -> None:
    data, said = RAW[case]
    (tmp_path / "evil.pkl").write_bytes(data)
    with pytest.raises(InputError, match=said) as refusal:
        read_official(tmp_path / "evil.pkl")
    assert "\n" not in str(refusal.value) and "evil.pkl" in str(refusal.value)


def test_shared_parts_do_not_multiply(tmp_path: Path) -> None:
    """Forty levels that each hold the next one twice are read once, and refused where they would be written out."""
    with official_names() as plain:
        module = small_module(plain)
        shared_parts = functools.reduce(lambda inner, _: [inner, inner], range(40), [1])
        module.__dict__["rendering_kwargs"] = {"deep": shared_parts, "box_warp": 1.0}
        path = save_official(tmp_path / "a.pkl", {"G_ema": module})
    part = read_official(path).networks["G_ema"].rendering_kwargs["deep"]
    assert part[0] is part[1]
    with pytest.raises(InputError, match="more than 100000 parts"):
        to_plain(part)


def test_a_storage_read_again_and_again_is_refused(tmp_path: Path) -> None:
    blob = storage_bytes()
    data = b"\x80\x04ctorch.storage\n_load_from_bytes\n\x94B" + struct.pack("<I", len(blob)) + blob + b"\x94"
    (tmp_path / "evil.pkl").write_bytes(data + b"h\x00h\x01\x85R" * 100_000)
    with pytest.raises(InputError, match="too many pickle instructions"):
        read_official(tmp_path / "evil.pkl")


def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    with official_names() as plain:
        data = save_official(tmp_path / "a.pkl", {"G_ema": small_module(plain)}).read_bytes()
    for length in range(1, len(data) - 1, 37):
        (tmp_path / "cut.pkl").write_bytes(data[:length])
        with pytest.raises(InputError, match="cut.pkl"):
            read_official(tmp_path / "cut.pkl")


def test_a_flipped_byte_never_gets_further_than_an_input_error(tmp_path: Path) -> None:
    """Whatever damage does, it either goes unnoticed in a number or text, or is one InputError."""
    with official_names() as plain:
        data = bytearray(save_official(tmp_path / "a.pkl", {"G_ema": small_module(plain)}).read_bytes())
    num_refused = 0
    for index in range(0, len(data), 11):
        data[index] ^= 0xA5
        (tmp_path / "flipped.pkl").write_bytes(data)
        try:
            file = read_official(tmp_path / "flipped.pkl")
            for module in file.networks.values():
                for stored in module.tensors.values():
                    stored.read()
        except InputError as error:
            num_refused += 1
            assert "\n" not in str(error)  # noqa: PT017  (not every flip is found)
        data[index] ^= 0xA5
    assert num_refused > 50


def test_bool_tensors_with_other_bytes_are_refused(tmp_path: Path) -> None:
    with official_names() as plain:
        evil = tensor(storage(storage_bytes("BoolStorage", data=b"\0\1\2\0")), 0, (4,), (1,))
        (tmp_path / "a.pkl").write_bytes(pickle.dumps({"G_ema": network(plain, _buffers={"x": evil})}))
    with pytest.raises(InputError, match="bytes other than 0 and 1"):
        read_official(tmp_path / "a.pkl").networks["G_ema"].tensors["x"].read()


def test_a_state_dict_of_an_unknown_network_is_refused(tmp_path: Path) -> None:
    torch.save({"layer.weight": torch.ones(3)}, tmp_path / "a.pth")
    with pytest.raises(InputError, match="not a network of EG3D"):
        convert_file(tmp_path / "a.pth")
    torch.save({"a": Call(os.system, f"touch {tmp_path / MARK}")}, tmp_path / "b.pth")
    with pytest.raises(InputError, match="system"):
        convert_file(tmp_path / "b.pth")
    assert not (tmp_path / MARK).exists()


LIMITED = """
import gc, resource, sys
from pathlib import Path
from flame.errors import InputError
from portrait4d.weights.official.file import read_official
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + {extra}, -1))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name in sys.argv[1:]:
    try:
        read_official(name)
    except InputError as error:
        print(str(error)[:60].replace("\\n", " "))
    gc.collect()
print("grown", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of address space are set through Linux")
def test_memory_stays_bounded(tmp_path: Path) -> None:
    """All bombs one after the other in a process that may take 768 MB more than it has after its imports."""
    paths = []
    with official_names() as plain:
        for index, (make, _) in enumerate(MODULES.values()):
            paths.append(tmp_path / f"module{index}.pkl")
            paths[-1].write_bytes(pickle.dumps({"G_ema": make(plain)}))
        for name in ("blob that announces too much", "zip bomb", "blob that announces nonsense"):
            paths.append(tmp_path / f"{name}.pkl")
            module = network(plain, _buffers={"x": CALLS[name][0]("x")})
            paths[-1].write_bytes(pickle.dumps({"G_ema": module}))
    for index, (data, _) in enumerate(RAW.values()):
        paths.append(tmp_path / f"raw{index}.pkl")
        paths[-1].write_bytes(data)
    paths.append(tmp_path / "lists.pkl")
    paths[-1].write_bytes(b"\x80\x02" + b"]" * 4_100_000 + b".")
    command = [sys.executable, "-c", LIMITED.replace("{extra}", str(768 << 20)), *map(str, paths)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert result.returncode == 0, result.stderr[-500:]
    *refusals, last = result.stdout.splitlines()
    assert len(refusals) == len(paths) and "too many pickle instructions" in refusals[-1]
    assert int(last.split()[1]) < 600_000  # kB; four million empty lists take 250 MB before they are too many


@pytest.mark.parametrize(
    ("class_name", "channels", "named"),
    [
        ("SingleDiscriminator", 3, "SingleDiscriminator"),
        ("DummyDualDiscriminator", 6, "DummyDualDiscriminator"),
        ("MyDiscriminator", 3, "SingleDiscriminator"),
    ],
)
def test_the_other_discriminators_of_eg3d_are_named(tmp_path: Path, class_name: str, channels: int, named: str) -> None:
    """Their arguments are those of the dual one; they were taken for it."""
    keywords = {"c_dim": 25, "img_resolution": 16, "img_channels": 3, "channel_base": 64, "channel_max": 8}
    tensors = dict(DualDiscriminator(DualDiscriminatorConfig.from_official(keywords)).state_dict())
    tensors["b16.fromrgb.weight"] = tensors["b16.fromrgb.weight"][:, :channels].clone()
    with official_names() as plain:
        made = build_module(tensors, set(tensors), class_names={"": class_name}, plain=plain, init_kwargs=keywords)
        path = save_official(tmp_path / "network.pkl", {"D": made})
    with pytest.raises(InputError, match=f"EG3D's {named}.*not supported"):
        convert_file(path, network="discriminator")
    report = inspect_file(path)
    assert report.networks[0].family == "unknown" and named in " ".join(report.suspicious)
    with pytest.raises(InputError, match=f"EG3D's {named}.*not supported"):
        DualDiscriminatorConfig.from_official(keywords, class_name=named)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"img_resolution": 17}, "power of two"),
        ({"img_resolution": "512"}, "img_resolution"),
        ({"c_dim": -1}, "c_dim"),
        ({"conv_clamp": "256"}, "conv_clamp"),
        ({"mapping_kwargs": [1]}, "mapping_kwargs"),
        ({"epilogue_kwargs": {"mbstd_group_size": 0}}, "mbstd_group_size"),
        ({"line\nbreak": 1}, r"line\\nbreak"),
    ],
)
def test_damaged_arguments_of_a_discriminator(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        DualDiscriminatorConfig.from_official({"c_dim": 25, "img_resolution": 64, **change})
