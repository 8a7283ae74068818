"""The options that this engine does not have, and why."""

from portrait4d.engines.abilities import Abilities

ABILITIES = Abilities(
    placement="draws the head where it was",
    jitter="takes no samples along rays",
    flame="has a head model of its own",
    mesh_resolution="has a mesh of its own",
)
