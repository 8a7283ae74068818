"""What datasets of others do not say of themselves; loads no numpy, so that the command line can be made from it."""

from dataclasses import dataclass
from typing import Literal

from preprocess.dataset.records.shard_options import ShardOptions

Message = Literal["genhead", "ffhq", "vfhq"]
Origin = Literal["open", "flame"]


@dataclass(frozen=True, kw_only=True)
class ConvertOptions(ShardOptions):
    """What the formats do not say of themselves."""

    message: Message | None = None
    """What an LMDB holds."""

    origin: Origin = "flame"
    """Whose neck joint and axes the world gets."""

    has_eg3d_lens: bool = False
    """To EG3D: give all cameras its lens and distance."""
