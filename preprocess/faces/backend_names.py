"""Names of detectors and masks of `preprocess.faces.backends`, for options that are read before anything is loaded."""

from typing import Literal

DetectorName = Literal["embedded", "face-alignment", "insightface"]
MaskName = Literal["matte", "segformer"]
