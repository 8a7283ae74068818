"""The options that these engines have: all of them."""

from portrait4d.engines.abilities import Abilities

ABILITIES = Abilities()
