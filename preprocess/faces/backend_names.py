"""Names of alignments, detectors and masks, for options that are read before anything is loaded."""

from typing import Literal

DetectorName = Literal["embedded", "face-alignment", "insightface"]
MaskName = Literal["matte", "segformer"]
Alignment = Literal["portrait4d", "eg3d"]
