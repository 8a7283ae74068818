"""Named choices of engines and retargeting."""

from typing import Literal

RetargetMode = Literal["relative", "absolute"]

Gaze = Literal["driver", "camera", "source"]

Placement = Literal["tracked", "canonical"]
"""Where the head is drawn: where it was tracked, or always in the middle, as the released demonstrations do."""
