"""Names of detectors and masks, for options that are read before anything is loaded; see `preprocess.faces.backends`."""

from typing import Literal

DetectorName = Literal["embedded", "face-alignment", "insightface"]
MaskName = Literal["matte", "segformer"]
