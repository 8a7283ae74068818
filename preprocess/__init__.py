"""Floor 1: pixels in, tracks out. Images, videos, detection, landmarks, fitting, motion files."""

PORTRAIT4D_FLOOR = "preprocess"
"""Mark by which `portrait4d` recognises its own package among same-named distributions."""
