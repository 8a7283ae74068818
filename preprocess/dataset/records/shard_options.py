"""How shards are written; loads no numpy, so that the command line can be made from it."""

from dataclasses import dataclass
from typing import Literal

ImageFormat = Literal["png", "jpg"]


@dataclass(frozen=True, kw_only=True)
class ShardOptions:
    """How records are laid out in files; nothing here changes a record but the exactness of its picture."""

    items_per_shard: int = 1000
    """Pictures a shard."""

    image_format: ImageFormat = "png"
    """Of the pictures in the shards; jpg is not exact."""
