"""Floor 0, the geometry of heads: head models, cameras, skinning and rasterisation."""

PORTRAIT4D_FLOOR = "flame"
"""Marks this package as ours: `portrait4d` tells it by this name from other distributions called `flame`."""
