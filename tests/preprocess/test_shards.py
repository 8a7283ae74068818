"""Shards: what is written comes back, the same records make the same bytes, and damage is found and named."""

import json
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fakes_dataset import INFO, assert_same, make_record
from flame.errors import InputError
from preprocess.dataset.records.shards import index_path, read_shard, verify_shard, write_shard


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "00000.tar"
    assert write_shard(path, INFO, (make_record(key) for key in ("b1", "a2-000001"))) == 2
    return path


@pytest.mark.parametrize("has_index", [True, False])
def test_records_come_back_bit_by_bit_in_their_order(path: Path, has_index: bool):
    if not has_index:
        index_path(path).unlink()
    shard = read_shard(path)
    assert shard.info == INFO and shard.keys == ("b1", "a2-000001") and len(shard) == 2
    for record in shard:
        assert_same(record, make_record(record.key))


def test_same_records_make_same_bytes(path: Path, tmp_path: Path):
    other = tmp_path / "other" / "00000.tar"
    write_shard(other, INFO, [make_record("b1"), make_record("a2-000001")])
    assert other.read_bytes() == path.read_bytes()
    assert index_path(other).read_bytes() == index_path(path).read_bytes()
    assert len(list(path.parent.glob(".*"))) == 0


def test_any_tar_reader_opens_it_and_units_are_stated(path: Path):
    with tarfile.open(path) as tar:
        headers = tar.getmembers()
        content = tar.extractfile("dataset.json")
        assert content is not None
        described = json.loads(content.read())
    assert [header.name for header in headers] == ["dataset.json"] + [
        f"{key}.{part}" for key in ("b1", "a2-000001") for part in ("image.png", "mask.png", "safetensors", "json")
    ]
    assert {(header.mtime, header.uid, header.gid, header.mode) for header in headers} == {(0, 0, 0, 0o644)}
    assert described["version"] == 1 and "radians" in described["units"]["neck, jaw, eyes"]
    members = read_shard(path).members
    assert {header.name: (header.offset_data, header.size) for header in headers} == {
        name: (member.offset, member.size) for name, member in members.items()
    }


def test_an_intact_shard_verifies(path: Path):
    assert len(verify_shard(path)) == 2
    index_path(path).unlink()
    with pytest.raises(InputError, match=r"00000\.tar\.index\.json"):
        verify_shard(path)


@pytest.mark.parametrize("suffix", ["image.png", "mask.png", "safetensors", "json"])
def test_a_flipped_byte_is_found_and_its_member_named(path: Path, suffix: str):
    member = read_shard(path).members[f"a2-000001.{suffix}"]
    content = bytearray(path.read_bytes())
    content[member.offset + member.size // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"00000\.tar: a2-000001\.{suffix}"):
        verify_shard(path)
    with pytest.raises(InputError, match=rf"a2-000001\.{suffix}"):
        list(read_shard(path))


def test_a_flipped_byte_between_members_is_found(path: Path):
    member = read_shard(path).members["b1.json"]
    content = bytearray(path.read_bytes())
    content[member.offset + member.size] ^= 1  # padding
    path.write_bytes(content)
    with pytest.raises(InputError, match="between"):
        verify_shard(path)


@pytest.mark.parametrize("has_index", [True, False])
@pytest.mark.parametrize("place", ["inside a member", "between members", "in a header"])
def test_a_cut_shard_is_refused_by_name(path: Path, has_index: bool, place: str):
    member = read_shard(path).members["a2-000001.image.png"]
    size = {"inside a member": member.offset + 50, "between members": member.offset - 512}.get(place, member.offset - 9)
    if not has_index:
        index_path(path).unlink()
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(InputError, match=r"00000\.tar"):
        list(read_shard(path))


def test_another_version_is_refused(path: Path):
    write_shard(path, replace(INFO, version=2), [make_record("b1")])
    with pytest.raises(InputError, match="version 1.*got 2"):
        read_shard(path)


def test_a_foreign_tar_and_no_tar_are_refused(tmp_path: Path):
    foreign, text = tmp_path / "foreign.tar", tmp_path / "text.tar"
    text.write_text("no tar at all " * 100)
    with tarfile.open(foreign, "w") as tar:
        tar.add(text, "readme.txt")
    with pytest.raises(InputError, match=r"foreign\.tar.*dataset\.json"):
        read_shard(foreign)
    with pytest.raises(InputError, match=r"text\.tar: not a whole tar"):
        read_shard(text)
    with pytest.raises(InputError, match="no such file"):
        read_shard(tmp_path / "none.tar")


def test_an_index_of_another_shard_is_noticed(path: Path, tmp_path: Path):
    other = tmp_path / "other.tar"
    write_shard(other, INFO, [make_record("c3")])
    index_path(path).write_bytes(index_path(other).read_bytes())
    with pytest.raises(InputError, match=r"00000\.tar: expected \d+ bytes"):
        read_shard(path)
    index_path(path).write_text("{")
    with pytest.raises(InputError, match=r"00000\.tar\.index\.json is damaged"):
        read_shard(path)


def test_records_that_do_not_fit_are_refused_and_leave_nothing(tmp_path: Path):
    path = tmp_path / "new.tar"
    record = make_record("a")
    wrong = {
        "image": replace(record, image=record.image[:31]),
        "landmarks": replace(record, landmarks=record.landmarks[:67]),
        "float32": replace(record, head=record.head.replace(neck=record.neck.astype(np.float64))),
        "finite": replace(record, head=record.head.replace(jaw=record.jaw * np.float32(np.nan))),
        "key": replace(record, key="a.b"),
    }
    for words, bad in wrong.items():
        with pytest.raises(ValueError, match=words):
            write_shard(path, INFO, [bad])
    with pytest.raises(ValueError, match="key"):
        write_shard(path, INFO, [record, record])
    assert not list(tmp_path.iterdir())


def test_jpeg_keeps_the_picture_nearly_and_the_rest_exactly(tmp_path: Path):
    record = make_record("a")
    ramp = np.linspace(0, 255, 32).astype(np.uint8)
    record = replace(record, image=np.stack([np.tile(ramp, (32, 1))] * 3, -1))
    write_shard(tmp_path / "a.tar", INFO, [record], image_format="jpg")
    (found,) = read_shard(tmp_path / "a.tar")
    assert np.abs(found.image.astype(int) - record.image).max() <= 3
    assert_same(replace(found, image=record.image), record)
