"""Floor 0: head geometry. Head models, cameras, skinning, rasterisation."""

PORTRAIT4D_FLOOR = "flame"
"""Mark by which `portrait4d` recognises its own package among same-named distributions."""
