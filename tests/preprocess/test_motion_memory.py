"""A motion file cannot make its reader take memory that its bytes do not justify."""

import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from flame.errors import InputError
from portrait4d.jobs.demo import MOTION_FILE
from preprocess.files.npz import FREE_BYTES
from preprocess.tracking.motion import Motion

MIB = 1 << 20


def npy_header(shape: tuple[int, ...], kind: str) -> bytes:
    text = repr({"descr": kind, "fortran_order": False, "shape": shape}).encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def with_zeros(path: Path, name: str, shape: tuple[int, ...], kind: str = "<f4") -> Path:
    """The demo's motion file in which one array is replaced or added: zeros, a thousand times smaller when deflated."""
    block, left = bytes(MIB), int(np.prod(shape, dtype=object)) * int(kind[2:])
    with zipfile.ZipFile(MOTION_FILE) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as new:
        for entry in old.infolist():
            if entry.filename != f"{name}.npy":
                new.writestr(entry.filename, old.read(entry))
        with new.open(f"{name}.npy", "w") as stream:
            stream.write(npy_header(shape, kind))
            while left:
                stream.write(block[: min(left, MIB)])
                left -= min(left, MIB)
    return path


def peak_of_refusal(path: Path, message: str) -> int:
    """Bytes that reading took at most; it must be refused."""
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=message):
            Motion.load(path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("name", "shape", "kind", "message"),
    [
        ("landmarks", (40_000, 478, 3), "<f4", "landmarks holds float32|its arrays take"),
        ("expression", (200, 500_000), "<f4", "its arrays take|expression holds"),
        ("shape", (3_000_000,), "<f4", "shape holds float32"),
        ("source", (), "<U3000000", "source holds <U3000000"),
        ("rotation", (200, 50_000), "<f4", "rotation holds float32"),
    ],
)
def test_what_no_motion_holds_is_refused_by_its_header(tmp_path, name, shape, kind, message):
    if kind.startswith("<U"):
        path = tmp_path / "text.npz"
        with zipfile.ZipFile(MOTION_FILE) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
            for entry in old.infolist():
                if entry.filename != f"{name}.npy":
                    new.writestr(entry.filename, old.read(entry))
            new.writestr(f"{name}.npy", npy_header(shape, kind) + bytes(4 * 3_000_000))
    else:
        path = with_zeros(tmp_path / "zeros.npz", name, shape, kind)
    assert peak_of_refusal(path, message) < 8 * MIB + 4 * path.stat().st_size


def test_more_frames_than_the_file_s_size_justifies(tmp_path):
    """All arrays agree on a million frames; the file has a thousandth of their size."""
    count = FREE_BYTES // (478 * 3 * 4) + 2000
    path = tmp_path / "long.npz"
    with zipfile.ZipFile(MOTION_FILE) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as new:
        frames = len(Motion.load(MOTION_FILE))
        for entry in old.infolist():
            with old.open(entry) as stream:
                array = np.load(stream)
            if array.shape[:1] != (frames,) or entry.filename == "shape.npy":
                new.writestr(entry.filename, old.read(entry))
                continue
            left = count * int(np.prod(array.shape[1:])) * array.itemsize
            with new.open(entry.filename, "w") as stream:
                stream.write(npy_header((count, *array.shape[1:]), array.dtype.str))
                while left:
                    stream.write(bytes(min(left, MIB)))
                    left -= min(left, MIB)
    assert path.stat().st_size < 8 * MIB
    assert peak_of_refusal(path, "its arrays take .* bytes, of which a file of its size may hold") < 32 * MIB


def test_unknown_arrays_are_not_read(tmp_path):
    path = with_zeros(tmp_path / "more.npz", "secret", (30_000_000,))
    tracemalloc.start()
    motion = Motion.load(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(motion) == len(Motion.load(MOTION_FILE)) and peak < 40 * MIB
