"""Modes and sizes of a fit; loads no torch."""

from typing import Literal

SceneFormat = Literal["auto", "eg3d", "nerf"]
"""How a folder states its cameras.

"eg3d": `dataset.json` beside the pictures, or in `train/` and `test/`; "nerf": `transforms.json`, or
`transforms_train.json` and `transforms_test.json`.
"""

Background = Literal["auto", "white", "black"]

NUM_STEPS = 1200
"""Steps of the optimiser."""

PLANE_RESOLUTION = 128
"""Texels of a plane's side."""
