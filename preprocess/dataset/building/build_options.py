"""How a dataset is built; loads nothing large, so that the command line can be made from it."""

import re
from dataclasses import dataclass

from flame.errors import InputError
from preprocess.dataset.records.shard_options import ShardOptions


@dataclass(frozen=True)
class Part:
    """The items whose key is `index` modulo `count`; one machine's work."""

    index: int = 0
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> "Part":
        """Of `i/n`, i from 0."""
        match = re.fullmatch(r"(\d+)/(\d+)", text)
        if match is None or not int(match[1]) < int(match[2]):
            raise InputError(f"expected --shard as i/n with i from 0 to n - 1, got {text!r}")
        return cls(int(match[1]), int(match[2]))

    def holds(self, key: str) -> bool:
        """Whether the item of a hexadecimal key belongs to this part."""
        return int(key, 16) % self.count == self.index

    @property
    def name(self) -> str:
        """Used in file names; differs between the parts of a dataset."""
        return f"{self.index:04d}-of-{self.count:04d}"


@dataclass(frozen=True, kw_only=True)
class BuildOptions(ShardOptions):
    """How a dataset is built; nothing here changes a record.

    The first paragraph below a field is also the help of its option on the command line.
    """

    items_per_shard: int = ShardOptions.items_per_shard
    """Photos a shard."""

    num_workers: int = 1
    """Processes, one core and about 0.6 GB each."""

    part: Part = Part()
    """i/n: do the i-th (from 0) of n parts; parts need no coordination."""

    item_seconds: float = 1800.0
    """Reject a file that takes longer than so many seconds; 0 waits for ever.

    The time in which models are loaded does not count.
    """

    def __post_init__(self) -> None:
        if not self.item_seconds >= 0:
            raise InputError(f"expected a timeout of 0 seconds or more, got {self.item_seconds:g}")
        if self.num_workers < 1:
            raise InputError(f"expected at least 1 worker, got {self.num_workers}")


@dataclass(frozen=True, kw_only=True)
class ClipBuildOptions(BuildOptions):
    """How a dataset of clips is built, which hold many pictures each."""

    items_per_shard: int = 20
    """Clips a shard."""
