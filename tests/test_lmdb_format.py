"""Portrait4D's own datasets: toy ones in the same layout, their messages encoded by hand."""

import io
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flame.errors import InputError
from preprocess.dataset.formats.lmdb_format import Message, OfficialDataset, record_to_vector437, records_of_message
from preprocess.dataset.formats.protobuf_wire import read_message

SIDE, FRAMES = 16, 3
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (FRAMES, SIDE, SIDE, 3), dtype=np.uint8)
MASKS = RANDOM.integers(0, 256, (FRAMES, SIDE, SIDE), dtype=np.uint8)
LABELS = RANDOM.normal(size=(FRAMES, 437)).astype(np.float32)
CODES = RANDOM.normal(size=(FRAMES, 554)).astype(np.float32)


def _varint(value: int) -> bytes:
    parts = []
    while value >= 128:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def _encode(fields: dict[int, int | bytes]) -> bytes:
    content = b""
    for field, value in fields.items():
        if isinstance(value, int):
            content += _varint(field << 3) + _varint(value)
        else:
            content += _varint(field << 3 | 2) + _varint(len(value)) + value
    return content


def _png(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG")
    return buffer.getvalue()


def _genhead(frame: int) -> bytes:
    blobs = _png(IMAGES[frame]), _png(MASKS[frame]), LABELS[frame].tobytes(), CODES[frame, :548].tobytes()
    return _encode({1: 3, 2: SIDE, 3: SIDE, **dict(zip((4, 5, 6, 7), blobs, strict=True))})


def _ffhq(frame: int) -> bytes:
    blobs = _png(IMAGES[frame]), _png(np.stack([MASKS[frame]] * 3, -1)), LABELS[frame].tobytes(), CODES[frame].tobytes()
    return _encode({1: 3, 2: SIDE, 3: SIDE, 4: 1, **dict(zip((5, 6, 7, 8), blobs, strict=True))})


def _vfhq(mask_channels: int = 3, **changes: int | bytes) -> bytes:
    masks = np.stack([MASKS] * mask_channels, -1)
    fields = {1: 3, 2: SIDE, 3: SIDE, 4: FRAMES, 5: IMAGES.tobytes(), 6: masks.tobytes()}
    fields |= {7: LABELS.tobytes(), 8: CODES.tobytes()}
    return _encode(fields | {int(name[1:]): value for name, value in changes.items()})


def _check(record, frame: int) -> None:
    assert (record.image == IMAGES[frame]).all() and (record.mask == MASKS[frame]).all()
    assert (record.camera == LABELS[frame, :25]).all() and (record.shape == LABELS[frame, 25:325]).all()
    assert (record.expression == LABELS[frame, 325:425]).all() and (record.neck == LABELS[frame, 425:428]).all()
    assert (record.jaw == LABELS[frame, 428:431]).all() and (record.eyes == LABELS[frame, 431:].reshape(2, 3)).all()
    assert (record.code == CODES[frame, :548]).all() and record.source_size == (SIDE, SIDE)
    assert (record_to_vector437(record) == LABELS[frame]).all()


def _write(path: Path, values: list[bytes]) -> Path:
    lmdb = pytest.importorskip("lmdb", reason="the extra `data` is not installed")
    with lmdb.open(str(path), map_size=1 << 24) as environment, environment.begin(write=True) as transaction:
        for index, value in enumerate(values):
            transaction.put(f"{index:08d}".encode(), value)
        transaction.put(b"num_samples", str(len(values)).encode())
    return path


def test_genhead_and_ffhq(tmp_path: Path):
    encoders: dict[Message, Callable[[int], bytes]] = {"genhead": _genhead, "ffhq": _ffhq}
    for message, encode in encoders.items():
        dataset = OfficialDataset(_write(tmp_path / f"{message}_{SIDE}_3", [encode(n) for n in range(3)]), message)
        assert len(dataset) == 3
        for frame, record in enumerate(dataset):
            assert record.key == f"{frame:08d}"
            _check(record, frame)


@pytest.mark.parametrize("mask_channels", [1, 3])
def test_vfhq(tmp_path: Path, mask_channels: int):
    dataset = OfficialDataset(_write(tmp_path / "v", [_vfhq(mask_channels), _vfhq(mask_channels)]), "vfhq")
    records = pickle.loads(pickle.dumps(dataset))[1]
    assert [record.key for record in records] == ["00000001-000000", "00000001-000001", "00000001-000002"]
    for frame, record in enumerate(records):
        _check(record, frame)


def test_the_wire_format_by_hand():
    """The examples of the public description: field 1 = 150 is 08 96 01, field 2 = "testing" is 12 07 ..."""
    assert read_message(bytes.fromhex("089601"), "x") == {1: 150}
    assert read_message(bytes.fromhex("120774657374696e67"), "x") == {2: b"testing"}
    assert read_message(bytes.fromhex("0d010000000801110200000000000000"), "x")[1] == 1
    for damaged in ("0896", "1207746573", "0b", "1000"[:2], "ff" * 12):
        with pytest.raises(InputError, match="here:"):
            read_message(bytes.fromhex(damaged), "here")


def test_messages_that_do_not_fit_are_refused_by_name():
    cases = {
        "labels": _vfhq(_7=LABELS.tobytes()[:-4]),
        "num of 3": _vfhq(_4=4),
        "images: expected": _vfhq(_5=IMAGES.tobytes()[:-1]),
        "segs": _vfhq(_6=b""),
        "codes": _vfhq(_8=CODES[:, :500].tobytes()),
        "field 2": _vfhq(_2=b"ab"),
        "cut off": _vfhq()[:-7],
        "finite": _vfhq(_7=(LABELS * np.float32(np.inf)).tobytes()),
    }
    for words, content in cases.items():
        with pytest.raises(InputError, match=rf"file: 7.*{words}"):
            records_of_message(content, "vfhq", key="7", where="file: 7")
    with pytest.raises(InputError, match="is it a message vfhq"):
        records_of_message(_vfhq(), "ffhq", key="7", where="file: 7")
    with pytest.raises(InputError, match="images: expected a PNG"):
        records_of_message(_genhead(0).replace(b"IHDR", b"JUNK"), "genhead", key="7", where="file: 7")


@pytest.mark.parametrize("missing", [1, 5000])
def test_a_cut_lmdb_is_refused_before_it_ends_the_process(tmp_path: Path, missing: int):
    """A copy that was broken off: reading behind the end of the file was a bus error."""
    path = _write(tmp_path / "cut", [_vfhq()])
    assert len(OfficialDataset(path, "vfhq")) == 1
    size = (path / "data.mdb").stat().st_size
    os.truncate(path / "data.mdb", size - missing)
    with pytest.raises(InputError, match=f"cut: expected {size} bytes in data.mdb, it is cut off at {size - missing}"):
        OfficialDataset(path, "vfhq")


def test_no_lmdb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("lmdb", reason="the extra `data` is not installed")
    with pytest.raises(InputError, match=r"data\.mdb"):
        OfficialDataset(tmp_path, "ffhq")
    (tmp_path / "data.mdb").write_bytes(b"no database" * 1000)
    with pytest.raises(InputError, match="not an LMDB"):
        OfficialDataset(tmp_path, "ffhq")
    path = _write(tmp_path / "v", [_vfhq()])
    with pytest.raises(InputError, match="expected message"):
        OfficialDataset(path, "static")  # pyright: ignore[reportArgumentType]
    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(InputError, match=r"portrait4d\[data\]"):
        OfficialDataset(path, "vfhq")
