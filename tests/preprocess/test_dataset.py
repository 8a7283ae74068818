"""Reading datasets: random access, streams, merging by listing, and refusals."""

import pickle
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from torch.utils import data
from torch.utils.data import DataLoader

from fakes_dataset import INFO, assert_same, make_record
from flame.errors import InputError
from preprocess.dataset.reading.balance import replica_counts, yaw_degrees
from preprocess.dataset.reading.dataset import Dataset, StreamingDataset, collate
from preprocess.dataset.reading.flip import HeadMirror, flip_record
from preprocess.dataset.records.shards import index_path, write_shard

PLAIN = replace(INFO, code_size=0)
SIGNS = HeadMirror(np.diag([1, -1, 1, 1, -1]).astype(np.float32), np.eye(7, dtype=np.float32)[::-1].copy(), 0.0)
KEYS = [f"k{number:02}" for number in range(12)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four shards of three records each."""
    for shard in range(4):
        keys = KEYS[3 * shard : 3 * shard + 3]
        write_shard(tmp_path / "set" / f"{shard}.tar", PLAIN, [make_record(key, code_size=0) for key in keys])
    return tmp_path / "set"


def _keys(records) -> list[str]:
    return [record.key for record in records]


def test_random_access_in_any_order(folder: Path):
    index_path(folder / "2.tar").unlink()
    dataset = Dataset(folder)
    assert len(dataset) == 12 and dataset.info == PLAIN
    for index in (7, 0, 11, -1, 3, 7):
        assert_same(dataset[index], make_record(KEYS[index], code_size=0))
    with pytest.raises(IndexError):
        dataset[12]


def test_merging_is_a_listing(folder: Path):
    listing = folder.parent / "both.txt"
    listing.write_text("# two of four\nset/3.tar\n\nset/0.tar\n")
    assert _keys(Dataset(listing)) == KEYS[9:] + KEYS[:3]
    assert _keys(Dataset([folder / "1.tar", listing])) == KEYS[3:6] + KEYS[9:] + KEYS[:3]
    listing.write_text("set/3.tar\nset/9.tar\n")
    with pytest.raises(InputError, match=r"9\.tar: no such shard"):
        Dataset(listing)
    with pytest.raises(InputError, match="k00 is in .*0.tar"):
        Dataset([folder, folder / "0.tar"])
    with pytest.raises(InputError, match="holds none"):
        Dataset(folder.parent)


def test_a_list_that_is_no_text_is_refused(tmp_path: Path):
    (tmp_path / "list.txt").write_bytes(b"a.tar \xff\xfe")
    with pytest.raises(InputError, match="list.txt: expected a list of shards as text in UTF-8"):
        Dataset(tmp_path / "list.txt")


def test_the_documented_loader_runs(tmp_path: Path):
    page = (Path(__file__).parents[2] / "docs" / "datasets.md").read_text(encoding="utf-8")
    code = page.partition("```python\n")[2].partition("```")[0]
    empty = np.zeros(0, np.float32)
    plain = [make_record(key, code_size=0) for key in "abc"]
    records = [replace(record, head=record.head.replace(shape=empty, expression=empty)) for record in plain]
    write_shard(tmp_path / "faces" / "a.tar", replace(INFO, code_size=0), records)
    names: dict[str, Any] = {}
    exec(code.replace("out/faces", str(tmp_path / "faces")), names)
    assert names["images"].shape[1:] == (3, INFO.image_size, INFO.image_size) and names["images"].min() >= -1
    assert len(names["dataset"]) >= 6, "and their mirror images"


def test_shards_of_different_kinds_are_not_mixed(folder: Path):
    other = replace(PLAIN, head_model="flame", crop="eg3d")
    write_shard(folder / "9.tar", other, [make_record("z", code_size=0)])
    for kind in (Dataset, StreamingDataset):
        with pytest.raises(InputError, match=r"head_model \('open' and 'flame'\), crop \('portrait4d' and 'eg3d'\)"):
            kind(folder)


def test_mirrored_records_follow(folder: Path):
    dataset = Dataset(folder, mirror=SIGNS)
    assert len(dataset) == 24
    assert_same(dataset[4], make_record(KEYS[4], code_size=0))
    assert_same(dataset[16], flip_record(make_record(KEYS[4], code_size=0), SIGNS))


def test_nine_bins_of_twenty_degrees_double_outwards():
    """Alike to both sides; the bins' borders belong to the outer ones."""
    yaw = np.array([0, 9.9, 10, 29.9, 30, 49.9, 50, 69.9, 70, 90, 180])
    assert replica_counts(yaw).tolist() == [1, 1, 2, 2, 4, 4, 8, 8, 16, 16, 16]
    assert (replica_counts(-yaw) == replica_counts(yaw)).all()


def test_balanced_repeats_by_yaw(folder: Path):
    records = [make_record(key, code_size=0) for key in KEYS]
    counts = replica_counts(yaw_degrees(np.stack([record.camera for record in records])))
    assert counts.max() > 1
    expected = [key for key, count in zip(KEYS, counts, strict=True) for _ in range(count)]
    assert _keys(Dataset(folder, is_balanced=True)) == expected
    assert _keys(Dataset(folder, mirror=SIGNS, is_balanced=True)) == 2 * expected


def test_pickles_small_after_use(folder: Path):
    dataset = Dataset(folder)
    before = pickle.dumps(dataset)
    dataset[5]
    assert len(pickle.dumps(dataset)) == len(before) < 4000
    assert_same(pickle.loads(pickle.dumps(dataset))[5], make_record(KEYS[5], code_size=0))


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_read_the_same_as_one_process(folder: Path, context: str):
    dataset = Dataset(folder)
    dataset[0]  # a file is open here when the workers begin
    loader = DataLoader(dataset, batch_size=4, num_workers=2, collate_fn=collate, multiprocessing_context=context)
    batches = list(loader)
    assert [key for batch in batches for key in batch.keys] == KEYS
    wanted = np.stack([make_record(key, code_size=0).image for key in KEYS[4:8]])
    assert (batches[1].image.numpy() == wanted).all() and batches[1].camera.shape == (4, 25)


def test_a_damaged_record_is_named(folder: Path):
    content = bytearray((folder / "1.tar").read_bytes())
    content[content.index(b"IDAT") + 100] ^= 255
    (folder / "1.tar").write_bytes(content)
    dataset = Dataset(folder)
    assert dataset[2].key == "k02"
    with pytest.raises(InputError, match=r"1\.tar: k03\.image\.png"):
        dataset[3]


def test_a_stream_holds_each_record_once_over_ranks(folder: Path):
    parts = [_keys(StreamingDataset(folder, buffer_size=4, seed=3, rank=rank, num_ranks=2)) for rank in range(2)]
    assert sorted(parts[0] + parts[1]) == KEYS and len(parts[0]) == 6


def test_a_stream_over_workers(folder: Path):
    stream = StreamingDataset(folder, buffer_size=4)
    assert sorted(record.key for record in DataLoader(stream, batch_size=None, num_workers=2)) == KEYS


def test_more_readers_than_shards_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """Without processes: torch waits ten seconds for some that have failed."""
    monkeypatch.setattr(data, "get_worker_info", lambda: SimpleNamespace(num_workers=2, id=0))
    with pytest.raises(InputError, match="at least 6 shards for 3 ranks of 2 workers, got 4"):
        list(StreamingDataset(folder, num_ranks=3))


def test_the_order_is_given_by_seed_and_epoch(folder: Path):
    def order(seed: int, epoch: int, buffer_size: int = 6) -> list[str]:
        stream = StreamingDataset(folder, seed=seed, buffer_size=buffer_size)
        stream.set_epoch(epoch)
        return _keys(stream)

    assert order(1, 0) == order(1, 0) != order(2, 0)
    assert order(1, 1) != order(1, 0)
    straight = order(1, 0, buffer_size=1)
    assert all(straight[at : at + 3] == sorted(straight[at : at + 3]) for at in range(0, 12, 3))
    mixed = order(1, 0, buffer_size=12)
    assert any(mixed[at : at + 3] != sorted(mixed[at : at + 3]) for at in range(0, 12, 3))


def test_a_stream_mirrors_about_half(folder: Path):
    stream, plain = StreamingDataset(folder, mirror=SIGNS), {key: make_record(key, code_size=0) for key in KEYS}
    mirrored = 0
    for epoch in range(10):
        stream.set_epoch(epoch)
        for record in stream:
            is_mirrored = not (record.image == plain[record.key].image).all()
            mirrored += is_mirrored
            assert_same(record, flip_record(plain[record.key], SIGNS) if is_mirrored else plain[record.key])
    assert 40 < mirrored < 80


def test_motion_codes_are_not_mirrored(tmp_path: Path):
    write_shard(tmp_path / "a.tar", INFO, [make_record("a")])
    with pytest.raises(InputError, match="motion code"):
        Dataset(tmp_path, mirror=SIGNS)
