"""Loads face detectors and masks of several makers by name; the embedded ones need nothing else.

The others are extras, imported when they are named, with weights that their own libraries fetch.
"""

from preprocess.faces.backend_names import DetectorName, MaskName
from preprocess.faces.backends.detectors import DetectedFace, Detector, load_detector
from preprocess.faces.backends.masks import Mask, load_mask

__all__ = ["DetectedFace", "Detector", "DetectorName", "Mask", "MaskName", "load_detector", "load_mask"]
