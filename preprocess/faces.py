"""Faces in a frame: detection, 478 landmarks, matte. The public names of the three face networks."""

from preprocess.face_detector import FaceBox, FaceDetector
from preprocess.face_landmarker import FaceLandmarker, FaceLandmarks, find_faces
from preprocess.face_plausibility import FACE_THRESHOLD
from preprocess.portrait_matte import PortraitMatte

__all__ = [
    "FACE_THRESHOLD",
    "FaceBox",
    "FaceDetector",
    "FaceLandmarker",
    "FaceLandmarks",
    "PortraitMatte",
    "find_faces",
]
