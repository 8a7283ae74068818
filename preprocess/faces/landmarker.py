"""Finds a face's 478 landmarks, irises included, from its detection or from the previous frame's landmarks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from preprocess.faces.detector import FaceBox, FaceDetector
from preprocess.faces.networks.face_mesh import INPUT_SIZE, FaceMeshNetwork
from preprocess.faces.networks.weights import load_network
from preprocess.faces.plausibility import FACE_THRESHOLD, face_score
from preprocess.faces.region import Square, sample_square, square_from_keypoints, square_from_points


@dataclass(frozen=True)
class FaceLandmarks:
    """Landmarks of one face.

    Attributes:
        points: `[478, 3]` float32, frame pixels; z is in the same unit, smaller is nearer.
        score: 0 ... 1, confidence that this is a human face.
    """

    points: np.ndarray
    score: float

    @property
    def is_face(self) -> bool:
        """Whether the score reaches `FACE_THRESHOLD`; scenery, lettering, cats and dogs do not."""
        return self.score >= FACE_THRESHOLD

    @property
    def size(self) -> float:
        """Longer side of the box around the points, in pixels."""
        return float(np.ptp(self.points[:, :2], axis=0).max())


class FaceLandmarker:
    """Finds the 478 landmarks inside regions of frames."""

    def __init__(self, device: str | torch.device = "cpu"):
        self.device = torch.device(device)
        self._network = load_network(FaceMeshNetwork, "face_mesh", device=device)

    def __call__(self, frame: np.ndarray, region: "FaceBox | FaceLandmarks") -> FaceLandmarks:
        """Returns the landmarks of one face; a region of `FaceLandmarks` is that of the previous frame."""
        return self.batch([frame], [region])[0]

    def batch(self, frames: Sequence[np.ndarray], regions: Sequence["FaceBox | FaceLandmarks"]) -> list[FaceLandmarks]:
        """Returns the landmarks of one face per frame; repeat a frame for several faces in it."""
        if len(frames) != len(regions):
            raise ValueError(f"expected one region per frame, got {len(frames)} frames and {len(regions)} regions")
        if not frames:
            return []
        squares = [_face_square(region) for region in regions]
        crops = [sample_square(frame, square, INPUT_SIZE) for frame, square in zip(frames, squares, strict=True)]
        images = torch.from_numpy(np.stack(crops)).to(self.device).permute(0, 3, 1, 2).float().div_(255)
        with torch.inference_mode():
            output = self._network(images)
            points = output.points.cpu().numpy()
            presence = output.presence.cpu().numpy()
        return [
            FaceLandmarks(_to_frame(found, square), face_score(float(logit), found))
            for found, square, logit in zip(points, squares, presence, strict=True)
        ]


def find_faces(
    frame: np.ndarray, detector: FaceDetector, landmarker: FaceLandmarker, *, num_steps: int = 3
) -> list[FaceLandmarks]:
    """Returns the human faces of a frame, largest first.

    Args:
        frame: uint8 `[H, W, 3]` RGB.
        detector: finds the boxes.
        landmarker: finds the landmarks in them.
        num_steps: runs of the landmarker. Each after the first starts at the points of the previous one, as if
            tracking a still picture, and their mean is returned, because a run errs a little differently on each crop.
            The first run, on the detector's crop, errs differently from the runs of a clip: it would turn a photo's
            head by up to half a degree against its clip.
    """
    boxes = detector(frame)
    runs = [[face] for face in landmarker.batch([frame] * len(boxes), boxes) if face.is_face]
    for _ in range(num_steps - 1):
        found = landmarker.batch([frame] * len(runs), [run[-1] for run in runs])
        runs = [[*run, face] for run, face in zip(runs, found, strict=True) if face.is_face]
    faces = [
        FaceLandmarks(np.stack([face.points for face in run[1:] or run]).mean(axis=0), run[-1].score) for run in runs
    ]
    return sorted(faces, key=lambda face: -face.size)


def _face_square(region: "FaceBox | FaceLandmarks") -> Square:
    if isinstance(region, FaceLandmarks):
        return square_from_points(region.points)
    box = (region.x0, region.y0, region.x1, region.y1)
    return square_from_keypoints(box, region.keypoints[0], region.keypoints[1])


def _to_frame(points: np.ndarray, square: Square) -> np.ndarray:
    to_frame = square.to_frame(INPUT_SIZE)
    placed = points[:, :2] @ to_frame[:, :2].T + to_frame[:, 2]
    return np.concatenate([placed, points[:, 2:] * (square.side / INPUT_SIZE)], axis=1).astype(np.float32)
