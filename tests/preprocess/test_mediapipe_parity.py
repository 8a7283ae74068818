"""Our runs of the converted networks against mediapipe 0.10.21 itself (extra `mediapipe`), and the conversion."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import preprocess.faces.landmarker as face_landmarker
from flame.landmarks.groups import outer_eye_distance
from preprocess.faces.detector import FaceBox, FaceDetector
from preprocess.faces.landmarker import FaceLandmarker
from preprocess.faces.matte import PortraitMatte
from preprocess.faces.region import Square
from scripts.convert_mediapipe import ASSETS, SOURCES, Graph, check_point_tables, fill

mediapipe = pytest.importorskip("mediapipe", reason="needs the extra: pip install 'portrait4d[mediapipe]'")

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def portraits(shared) -> list[np.ndarray]:
    paths = sorted((shared / "data" / "p4d" / "images").glob("*.jpg"))
    images = [cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR) for path in paths]
    assert len(images) == 16 and all(image is not None for image in images)
    return [np.ascontiguousarray(image[..., ::-1]) for image in images if image is not None]


def boxes_of_mediapipe(images: list[np.ndarray]) -> list[FaceBox]:
    size = np.array(images[0].shape[1::-1])
    boxes = []
    with mediapipe.solutions.face_detection.FaceDetection(model_selection=0, min_detection_confidence=0.5) as theirs:
        for image in images:
            detection = theirs.process(image).detections[0]
            box = detection.location_data.relative_bounding_box
            x0, y0, width, height = np.array([box.xmin, box.ymin, box.width, box.height]) * [*size, *size]
            keypoints = np.array([[point.x, point.y] for point in detection.location_data.relative_keypoints]) * size
            boxes.append(FaceBox(x0, y0, x0 + width, y0 + height, keypoints, detection.score[0]))
    return boxes


@pytest.fixture(scope="module")
def their_boxes(portraits) -> list[FaceBox]:
    return boxes_of_mediapipe(portraits)


@pytest.fixture(scope="module")
def their_points(portraits) -> np.ndarray:
    scale = np.array([portraits[0].shape[1], portraits[0].shape[0], portraits[0].shape[1]])
    found = []
    with mediapipe.solutions.face_mesh.FaceMesh(static_image_mode=True, refine_landmarks=True) as theirs:
        for image in portraits:
            landmarks = theirs.process(image).multi_face_landmarks[0].landmark
            found.append(np.array([[point.x, point.y, point.z] for point in landmarks]) * scale)
    return np.stack(found)


def sample_as_mediapipe(frame: np.ndarray, square: Square, resolution: int) -> np.ndarray:
    """Their CPU sampling counts positions from pixel centres on both sides, half a pixel off ours on either."""
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    size = (resolution, resolution)
    return cv2.warpAffine(frame, square.to_frame(resolution), size, flags=flags, borderMode=cv2.BORDER_REPLICATE)


def test_mesh_equals_mediapipe_on_the_same_crops(portraits, their_boxes, their_points, monkeypatch):
    monkeypatch.setattr(face_landmarker, "sample_square", sample_as_mediapipe)
    ours = np.stack([found.points for found in FaceLandmarker().batch(portraits, their_boxes)])
    assert np.abs(ours - their_points).mean() < 0.03  # pixels; the crops differ by OpenCV's rounding
    assert np.abs(ours - their_points).max() < 1.0


def test_mesh_is_close_to_mediapipe_with_our_sampling(portraits, their_points):
    landmarker, detector = FaceLandmarker(), FaceDetector()
    boxes = [faces[0] for faces in detector.detect_batch(portraits)]
    ours = np.stack([found.points for found in landmarker.batch(portraits, boxes)])
    eyes = outer_eye_distance(their_points)
    distance = np.linalg.norm((ours - their_points)[..., :2], axis=-1).mean(axis=1)
    assert (distance / eyes).mean() < 0.01 and (distance / eyes).max() < 0.02


@pytest.mark.parametrize(("side", "tolerance"), [(128, 1e-4), (512, 0.04)])
def test_detector_equals_mediapipe(portraits, side, tolerance):
    """Exactly where nothing is resampled; elsewhere we average where they pick pixels, half a pixel off."""
    images = [cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA) for image in portraits]
    for faces, theirs in zip(FaceDetector().detect_batch(images), boxes_of_mediapipe(images), strict=True):
        width = theirs.x1 - theirs.x0
        ours = np.array([faces[0].x0, faces[0].y0, faces[0].x1, faces[0].y1])
        assert np.abs(ours - [theirs.x0, theirs.y0, theirs.x1, theirs.y1]).max() < tolerance * width
        assert np.abs(faces[0].keypoints - theirs.keypoints).max() < tolerance * width
        assert abs(faces[0].score - theirs.score) < tolerance


@pytest.mark.parametrize(("side", "tolerance", "least_overlap"), [(256, 1e-3, 0.999), (512, 0.01, 0.95)])
def test_matte_equals_mediapipe(portraits, side, tolerance, least_overlap):
    """Exactly where nothing is resampled; elsewhere we average where they pick pixels."""
    images = [cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA) for image in portraits]
    ours = PortraitMatte().batch(images)
    differences = []
    with mediapipe.solutions.selfie_segmentation.SelfieSegmentation(model_selection=0) as theirs:
        for found, image in zip(ours, images, strict=True):
            expected = theirs.process(image).segmentation_mask
            differences.append(np.abs(found - expected).mean())
            both, either = (found > 0.5) & (expected > 0.5), (found > 0.5) | (expected > 0.5)
            assert both.sum() / either.sum() > least_overlap
    assert np.mean(differences) < tolerance


@pytest.mark.parametrize("name", list(SOURCES))
def test_conversion_gives_the_committed_weights(name):
    member, network = SOURCES[name]
    package = Path(mediapipe.__file__).parent.parent
    graph = Graph((package / member).read_bytes())
    if name == "face_mesh":
        check_point_tables(graph)
    converted, committed = fill(network(), graph), load_file(ASSETS / f"{name}.safetensors")
    assert converted.keys() == committed.keys()
    assert all(torch.equal(converted[key], committed[key]) for key in converted)
