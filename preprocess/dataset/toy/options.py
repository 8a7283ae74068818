"""What a toy dataset is made of; loads nothing large, so that a command line can be made from it."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flame.errors import InputError
from preprocess.files.digest import file_digest

POPULATION_VERSION = 1
"""Goes up when the same seed gives other pictures."""


@dataclass(frozen=True, kw_only=True)
class ToyOptions:
    """What shapes the records; the same options make the same bytes.

    Attributes:
        num_identities: people.
        pictures_per_identity: of one person, in one light and before one background.
        size: side of the pictures, px.
        oversampling: each pixel is the mean of this many squared.
        identities_per_shard: people in one shard.
        seed: of everything.
        motions: motion files of the open head (.npz) whose frames the faces follow, instead of random faces.
    """

    num_identities: int = 1024
    pictures_per_identity: int = 4
    size: int = 64
    oversampling: int = 3
    identities_per_shard: int = 64
    seed: int = 0
    motions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if name != "motions" and value < (0 if name == "seed" else 1):
                raise InputError(f"expected {name} of {0 if name == 'seed' else 1} or more, got {value}")

    @property
    def num_shards(self) -> int:
        """The last shard may hold fewer people."""
        return -(-self.num_identities // self.identities_per_shard)

    def identities_of_shard(self, shard_index: int) -> range:
        """The people of a shard, from 0."""
        start = shard_index * self.identities_per_shard
        return range(start, min(start + self.identities_per_shard, self.num_identities))

    @property
    def settings(self) -> dict[str, Any]:
        """The settings with which a dataset that was begun must be resumed."""
        settings = {**asdict(self), "population": POPULATION_VERSION}
        motions = settings.pop("motions")
        return {**settings, "motions": [file_digest(Path(path)) for path in motions]} if motions else settings
