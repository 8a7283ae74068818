"""What a user may choose of an evaluation; loads nothing, so that the command line can be made from it."""

from typing import Literal

ProtocolName = Literal["all-frames", "vfhq-50x50"]
"""Which clips and frames are compared, and which part of them."""
