"""The endless stream of records: order, threads, memory, errors."""

import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from fakes_dataset import INFO, assert_same, make_record
from flame.errors import InputError
from portrait4d.train.stream import RecordStream
from preprocess.dataset.reading.dataset import Dataset
from preprocess.dataset.records.shards import write_shard


class Numbers:
    """Squares, read slowly by whoever asks; notes which threads read and how often."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.reads: Counter[int] = Counter()
        self.readers: set[int] = set()
        self.is_copy = False

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> int:
        assert self.is_copy, "each thread must read from its own copy"
        self.reads[index] += 1
        self.readers.add(threading.get_ident())
        time.sleep(0.0005 * (index % 3))
        return index * index

    def __copy__(self) -> "Numbers":
        other = Numbers(self.count)
        other.__dict__.update(self.__dict__, is_copy=True)
        return other


def test_each_epoch_has_every_record_once_in_its_own_order() -> None:
    stream = RecordStream(Numbers(50), seed=3)
    epochs = [[stream.index_of(50 * epoch + place) for place in range(50)] for epoch in range(4)]
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert [stream.index_of(place) for place in range(50)] == epochs[0]  # again, after other epochs
    assert [RecordStream(Numbers(50), seed=4).index_of(place) for place in range(50)] != epochs[0]
    stream.close()


@pytest.mark.parametrize(("threads", "capacity"), [(1, 4), (2, 16), (5, 200)])
def test_threads_and_memory_do_not_change_what_comes(threads: int, capacity: int) -> None:
    source = Numbers(40)
    stream = RecordStream(source, seed=1, num_threads=threads, capacity=capacity)
    found = []
    for start in range(0, 120, 8):
        stream.prefetch(range(start, start + 24))
        assert len(stream._held) <= capacity
        found += [stream.at(position) for position in range(start, start + 8)]
    plain = RecordStream(Numbers(40), seed=1, num_threads=1)
    assert found == [plain.index_of(position) ** 2 for position in range(120)]
    assert len(source.readers) <= threads
    if capacity >= 24:
        stream.close()
        assert 120 <= sum(source.reads.values()) <= 120 + 16, "each position is read once, two batches ahead"


def test_a_record_that_is_used_twice_in_a_step_is_read_once() -> None:
    source = Numbers(9)
    stream = RecordStream(source, seed=0, capacity=4)
    stream.prefetch([0, 1, 2])
    assert [stream.at(position) for position in (0, 1, 2)] == [stream.at(position) for position in (0, 1, 2)]
    assert sum(source.reads.values()) == 3
    stream.close()


def test_an_endless_source_gives_each_record_once_in_its_order() -> None:
    class Endless:
        def __getitem__(self, index: int) -> int:
            return index * index

    stream = RecordStream(Endless(), seed=3, num_threads=2, capacity=8)
    stream.prefetch(range(4))
    assert [stream.at(position) for position in (*range(6), 10**9)] == [0, 1, 4, 9, 16, 25, 10**18]
    assert stream.num_records is None
    stream.close()


def test_shards_are_read_by_several_threads(tmp_path: Path) -> None:
    keys = [f"{number:032x}" for number in range(30)]
    for part in range(3):
        write_shard(tmp_path / f"shard-{part}.tar", INFO, map(make_record, keys[10 * part : 10 * part + 10]))
    dataset = Dataset(tmp_path)
    stream = RecordStream(dataset, seed=7, num_threads=4)
    stream.prefetch(range(30))
    for position in range(30):
        assert_same(stream.at(position), dataset[stream.index_of(position)])
    stream.close()


def test_errors_come_to_whoever_asks(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar", INFO, [make_record(f"{number:032x}") for number in range(4)])
    dataset = Dataset(tmp_path)
    content = bytearray((tmp_path / "a.tar").read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2000] = bytes(2000)
    (tmp_path / "a.tar").write_bytes(content)
    stream = RecordStream(dataset, seed=0)
    stream.prefetch(range(4))
    with pytest.raises(InputError, match=r"a\.tar"):
        _ = [stream.at(position) for position in range(4)]
    stream.close()
    with pytest.raises(ValueError, match="1 or more"):
        RecordStream(Numbers(0), seed=0)
