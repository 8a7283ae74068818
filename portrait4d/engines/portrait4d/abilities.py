"""The options that these engines know: all of them."""

from portrait4d.engines.abilities import Abilities

ABILITIES = Abilities()
