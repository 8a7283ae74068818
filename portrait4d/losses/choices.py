"""Which distances and face recognisers there are; loads nothing, so that a command line can be made from it."""

from typing import Literal

TrainedPerceptualName = Literal["lpips-alex", "lpips-squeeze", "lpips-vgg", "st-lpips-alex", "st-lpips-vgg"]
"""Package and trunk."""

PerceptualName = Literal[TrainedPerceptualName, "pyramid"]
"""The same, and a stand-in that needs no weights."""

PYRAMID = "pyramid"
