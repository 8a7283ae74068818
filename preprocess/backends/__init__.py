"""Face detectors and masks of several makers behind one call each; the embedded ones need nothing else.

The others are extras, loaded when asked for by name, with weights that their own libraries fetch.
"""

from preprocess.backends.detectors import DetectedFace, Detector, DetectorName, load_detector
from preprocess.backends.masks import Mask, MaskName, load_mask

__all__ = ["DetectedFace", "Detector", "DetectorName", "Mask", "MaskName", "load_detector", "load_mask"]
