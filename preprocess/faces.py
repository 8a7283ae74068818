"""Faces in a frame: detection, 478 landmarks, matte. The public names of the three face networks."""

from preprocess.face_detector import FaceBox, FaceDetector
from preprocess.face_landmarker import FaceLandmarker, FaceLandmarks
from preprocess.portrait_matte import PortraitMatte

__all__ = ["FaceBox", "FaceDetector", "FaceLandmarker", "FaceLandmarks", "PortraitMatte"]
