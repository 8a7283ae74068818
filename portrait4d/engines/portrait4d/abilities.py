"""The options that these engines have: nearly all of them, unless they are of the open head."""

from portrait4d.engines.abilities import Abilities

ABILITIES = Abilities(expressions="has no named ones: FLAME's are numbered, and released weights read motion codes")

OPEN_HEAD_ABILITIES = Abilities(
    placement="learned the head's pose from the camera alone",
    flame="has a head model of its own",
)
"""Of a trained reconstructor of the open head."""
