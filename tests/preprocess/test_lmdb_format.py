"""Portrait4D's own datasets: toy ones in the same layout, their messages encoded by hand."""

import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from flame.errors import InputError
from preprocess.dataset.formats.lmdb_format import Message, OfficialDataset, record_to_vector437, records_of_message
from preprocess.dataset.formats.protobuf_wire import read_message
from toy_lmdb import CODES, IMAGES, LABELS, MASKS, SIDE, ffhq_message, genhead_message, vfhq_message, write_lmdb


def _check(record, frame: int) -> None:
    assert (record.image == IMAGES[frame]).all() and (record.mask == MASKS[frame]).all()
    assert (record.camera == LABELS[frame, :25]).all() and (record.shape == LABELS[frame, 25:325]).all()
    assert (record.expression == LABELS[frame, 325:425]).all() and (record.neck == LABELS[frame, 425:428]).all()
    assert (record.jaw == LABELS[frame, 428:431]).all() and (record.eyes == LABELS[frame, 431:].reshape(2, 3)).all()
    assert (record.code == CODES[frame, :548]).all() and record.source_size == (SIDE, SIDE)
    assert (record_to_vector437(record) == LABELS[frame]).all()


def test_genhead_and_ffhq(tmp_path: Path):
    encoders: dict[Message, Callable[[int], bytes]] = {"genhead": genhead_message, "ffhq": ffhq_message}
    for message, encode in encoders.items():
        dataset = OfficialDataset(write_lmdb(tmp_path / f"{message}_{SIDE}_3", [encode(n) for n in range(3)]), message)
        assert len(dataset) == 3
        for frame, record in enumerate(dataset):
            assert record.key == f"{frame:08d}"
            _check(record, frame)


@pytest.mark.parametrize("mask_channels", [1, 3])
def test_vfhq(tmp_path: Path, mask_channels: int):
    dataset = OfficialDataset(
        write_lmdb(tmp_path / "v", [vfhq_message(mask_channels), vfhq_message(mask_channels)]), "vfhq"
    )
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
        "labels": vfhq_message(_7=LABELS.tobytes()[:-4]),
        "num of 3": vfhq_message(_4=4),
        "images: expected": vfhq_message(_5=IMAGES.tobytes()[:-1]),
        "segs": vfhq_message(_6=b""),
        "codes": vfhq_message(_8=CODES[:, :500].tobytes()),
        "field 2": vfhq_message(_2=b"ab"),
        "cut off": vfhq_message()[:-7],
        "finite": vfhq_message(_7=(LABELS * np.float32(np.inf)).tobytes()),
    }
    for words, content in cases.items():
        with pytest.raises(InputError, match=rf"file: 7.*{words}"):
            records_of_message(content, "vfhq", key="7", where="file: 7")
    with pytest.raises(InputError, match="is it a message vfhq"):
        records_of_message(vfhq_message(), "ffhq", key="7", where="file: 7")
    with pytest.raises(InputError, match="images: expected a PNG"):
        records_of_message(genhead_message(0).replace(b"IHDR", b"JUNK"), "genhead", key="7", where="file: 7")


@pytest.mark.parametrize("missing", [1, 5000])
def test_a_cut_lmdb_is_refused_before_it_ends_the_process(tmp_path: Path, missing: int):
    """A copy that was broken off: reading behind the end of the file was a bus error."""
    path = write_lmdb(tmp_path / "cut", [vfhq_message()])
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
    path = write_lmdb(tmp_path / "v", [vfhq_message()])
    with pytest.raises(InputError, match="expected message"):
        OfficialDataset(path, "static")  # pyright: ignore[reportArgumentType]
    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(InputError, match=r"portrait4d\[data\]"):
        OfficialDataset(path, "vfhq")
