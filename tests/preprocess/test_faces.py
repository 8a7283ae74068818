"""Detection, landmarks and matte: the building blocks by their mathematics, the whole on reference portraits."""

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from flame.landmarks.groups import (
    CHIN,
    EARS,
    EYE_CORNERS,
    IRIS_CENTRES,
    IRIS_ENDS,
    LID_MIDDLES,
    MOUTH_CORNERS,
    NOSE_TIP,
    NOSE_WINGS,
    OUTER_EYE_CORNERS,
    outer_eye_distance,
)
from preprocess.faces.detector import FaceDetector, merge_boxes
from preprocess.faces.landmarker import FaceLandmarker, FaceLandmarks, find_faces
from preprocess.faces.matte import PortraitMatte
from preprocess.faces.networks.blocks import ResidualBlock, SameConv
from preprocess.faces.networks.face_detector import NUM_ANCHORS, FaceDetectorNetwork, anchor_centres
from preprocess.faces.networks.face_mesh import FaceMeshNetwork, region_matrix, sample_regions
from preprocess.faces.networks.portrait_matte import PortraitMatteNetwork
from preprocess.faces.networks.weights import load_network
from preprocess.faces.plausibility import face_score
from preprocess.faces.region import Square, sample_square, square_from_points

ASSETS = Path(__file__).resolve().parents[2] / "preprocess" / "assets"


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    return FaceDetector()


@pytest.fixture(scope="module")
def landmarker() -> FaceLandmarker:
    return FaceLandmarker()


@pytest.fixture(scope="module")
def matte() -> PortraitMatte:
    return PortraitMatte()


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """The networks are too small to share; with two threads under load they are slower."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def read(path: Path) -> np.ndarray:
    image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None, path
    return np.ascontiguousarray(image[..., ::-1])


@pytest.fixture(scope="module")
def portraits(shared) -> list[np.ndarray]:
    files = np.load(shared / "data" / "p4d" / "params.npz")["files"]
    return [read(shared / "data" / "p4d" / "images" / str(name)) for name in files]


def outer_eyes(points: np.ndarray) -> float:
    return float(outer_eye_distance(points))


def mean_distance(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.linalg.norm(first[:, :2] - second[:, :2], axis=1).mean())


# ---- building blocks ----


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (5, 1), (3, 2), (5, 2)])
def test_same_conv_pads_as_tensorflow(kernel, stride):
    generator = torch.Generator().manual_seed(0)
    conv = SameConv(2, 3, kernel=kernel, stride=stride)
    weight = torch.randn(3, 2, kernel, kernel, generator=generator)
    conv.weight.data = functional.pad(weight, (stride - 1, 0, stride - 1, 0))
    image = torch.randn(1, 2, 8, 8, generator=generator)
    total = kernel - stride  # of padding; the smaller half comes first
    padded = functional.pad(image, (total // 2, total - total // 2) * 2)
    torch.testing.assert_close(conv(image), functional.conv2d(padded, weight, conv.bias, stride=stride))


@pytest.mark.parametrize(("out_channels", "stride"), [(4, 1), (6, 2)])
def test_branches_equal_separate_blocks(out_channels, stride):
    torch.manual_seed(0)
    wide = ResidualBlock(4, out_channels, stride=stride, branches=3, activation=nn.PReLU)
    image = torch.randn(2, 12, 8, 8)
    parts = []
    for branch, part in enumerate(image.chunk(3, dim=1)):
        block = ResidualBlock(4, out_channels, stride=stride, activation=nn.PReLU)
        state = {key: value.chunk(3)[branch] for key, value in wide.state_dict().items()}
        block.load_state_dict(state)
        parts.append(block(part))
    torch.testing.assert_close(wide(image), torch.cat(parts, dim=1))


def test_residual_block_keeps_its_input_where_the_update_is_zero():
    block = ResidualBlock(4, 6, stride=2, activation=nn.ReLU)
    for parameter in block.parameters():
        nn.init.zeros_(parameter)
    image = torch.rand(1, 4, 8, 8)
    expected = torch.cat([functional.max_pool2d(image, 2), torch.zeros(1, 2, 4, 4)], dim=1)
    torch.testing.assert_close(block(image), expected)


def test_anchors_are_cell_centres_row_by_row():
    anchors = anchor_centres()
    assert anchors.shape == (NUM_ANCHORS, 2)
    torch.testing.assert_close(anchors[:4], torch.tensor([[1, 1], [1, 1], [3, 1], [3, 1]]) / 32)
    torch.testing.assert_close(anchors[-1], torch.tensor([15.0, 15.0]) / 16)
    torch.testing.assert_close(anchors.mean(dim=0), torch.tensor([0.5, 0.5]))


@pytest.mark.parametrize("degrees", [0.0, 30.0, -120.0])
def test_region_of_a_turned_rectangle(degrees):
    angle = math.radians(degrees)
    axes = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    corners = torch.tensor([[-6.0, 0.0], [6.0, 0.0], [0.0, -4.0], [0.0, 4.0]])
    points = (corners @ axes.T + torch.tensor([90.0, 70.0]))[None]
    matrix = region_matrix(points, torch.arange(4), (0, 1))
    expected = torch.cat([axes * torch.tensor([18.0, 12.0]) / 64, torch.zeros(2, 1)], dim=1)
    expected[:, 2] = torch.tensor([90.0, 70.0]) - axes @ torch.tensor([9.0, 6.0])
    torch.testing.assert_close(matrix[0], expected, atol=1e-4, rtol=1e-4)


def test_sampled_regions_hold_the_positions_they_come_from():
    centres = (torch.arange(48.0) + 0.5) * 4  # of the feature pixels, in input pixels
    rows, columns = torch.meshgrid(centres, centres, indexing="ij")
    features = torch.stack([columns, rows])[None]
    network = FaceMeshNetwork()
    matrix = torch.tensor([[0.8, 0.3, 60.0], [-0.3, 0.8, 80.0]])
    grid = network.get_buffer("grid")
    sampled = sample_regions(features, matrix[None, None], grid)
    expected = (grid @ matrix[:, :2].T + matrix[:, 2]).T.reshape(2, 16, 16)
    torch.testing.assert_close(sampled[0, 0], expected, atol=1e-3, rtol=1e-5)


def test_merge_boxes_averages_by_score_and_keeps_strangers():
    rows = np.zeros((3, 17), np.float32)
    rows[:, :4] = [[50, 50, 60, 60], [0, 0, 10, 10], [0, 2, 10, 12]]
    rows[:, 16] = [0.6, 0.9, 0.3]
    merged = merge_boxes(rows)
    np.testing.assert_allclose(merged[:, :4], [[0, 0.5, 10, 10.5], [50, 50, 60, 60]], atol=1e-5)
    np.testing.assert_allclose(merged[:, 16], [0.9, 0.6], atol=1e-6)
    assert merge_boxes(rows[:0]).shape == (0, 17)


def test_sample_square_of_the_frame_itself_is_the_frame():
    frame = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    np.testing.assert_array_equal(sample_square(frame, Square(16, 16, 32, 0.0), 32), frame)
    turned = sample_square(frame, Square(16, 16, 32, math.pi / 2), 32)
    np.testing.assert_array_equal(turned, np.rot90(frame, 1))  # x axis down: the picture turns the other way


@pytest.mark.parametrize("side", [40.0, 130.0, 260.0])
def test_sample_square_of_a_ramp_is_where_it_says(side):
    rows, columns = np.mgrid[0:300, 0:300] + 0.5
    frame = np.stack([columns, rows, rows], axis=-1) * 0.8
    square = Square(160.0, 140.0, side, 0.3)
    crop = sample_square(frame.round().astype(np.uint8), square, 32).astype(float) / 0.8
    to_frame = square.to_frame(32)
    middles = np.stack(np.meshgrid(np.arange(32) + 0.5, np.arange(32) + 0.5), axis=-1)
    expected = middles @ to_frame[:, :2].T + to_frame[:, 2]
    inside = ((expected > 8) & (expected < 292)).all(axis=-1)
    assert np.abs(crop[..., :2] - expected)[inside].mean() < 0.7  # rounding to whole grey levels
    assert abs((crop[..., :2] - expected)[inside].mean()) < 0.1


def test_square_of_points_follows_the_eyes():
    points = np.zeros((478, 3))
    points[:, :2] = 50
    points[list(OUTER_EYE_CORNERS), :2] = (40, 50), (60, 70)
    square = square_from_points(points)
    assert (square.centre_x, square.centre_y, square.side) == (50, 60, 30)
    assert square.roll_radians == pytest.approx(math.pi / 4)


def test_face_score_falls_with_the_flag_and_with_animal_eyes():
    points = np.zeros((478, 3))
    human = (
        (EYE_CORNERS["right"], (0.0, 0.32)), (EYE_CORNERS["left"], (1.0, 0.68)),
        (IRIS_ENDS["right"], (0.0, 0.136)), (IRIS_ENDS["left"], (0.0, 0.136)), (NOSE_WINGS, (0.0, 0.46)),
    )  # fmt: skip
    for pair, x in human:
        points[list(pair), 0] = x
    assert face_score(20.0, points) > 0.99
    assert face_score(-5.0, points) < 0.01
    points[[IRIS_ENDS["right"][1], IRIS_ENDS["left"][1]], 0], points[NOSE_WINGS[1], 0] = 0.21, 0.33
    assert face_score(20.0, points) < 0.01
    assert math.isfinite(face_score(-1e4, points)) and math.isfinite(face_score(1e4, points))


def test_assets_are_small_and_licensed():
    weights = list(ASSETS.glob("*.safetensors"))
    names = {"face_detector.safetensors", "face_mesh.safetensors", "portrait_matte.safetensors"}
    ours = [path for path in weights if path.name in names]
    assert len(ours) == 3 and sum(path.stat().st_size for path in ours) < 3.1e6
    assert "Apache License" in (ASSETS / "MEDIAPIPE_LICENSE.txt").read_text()
    assert all(path.name in (ASSETS / "MEDIAPIPE_NOTICE.txt").read_text() for path in ours)


# ---- the whole, on pictures ----


def test_batch_equals_singles(portraits, detector, landmarker, matte):
    frames = [portraits[0], portraits[1], cv2.resize(portraits[2], (300, 400))]
    boxes = detector.detect_batch(frames)
    singles = [detector.detect_batch([frame])[0] for frame in frames]
    for together, alone in zip(boxes, singles, strict=True):
        assert len(together) == len(alone) == 1
        np.testing.assert_allclose(together[0].keypoints, alone[0].keypoints, atol=0.01)
    found = landmarker.batch(frames, [faces[0] for faces in boxes])
    for frame, faces, landmarks in zip(frames, boxes, found, strict=True):
        np.testing.assert_allclose(landmarks.points, landmarker(frame, faces[0]).points, atol=0.02)
    for frame, whole in zip(frames, matte.batch(frames), strict=True):
        np.testing.assert_allclose(whole, matte(frame), atol=1e-4)
    assert landmarker.batch([], []) == [] and matte.batch([]) == [] and detector.detect_batch([]) == []


def test_quarter_turn_turns_the_landmarks(portraits, detector, landmarker):
    image = portraits[3]
    upright = landmarker(image, find_faces(image, detector, landmarker)[0])
    turned_image = np.ascontiguousarray(np.rot90(image, -1))  # clockwise
    turned_points = upright.points.copy()
    turned_points[:, 0], turned_points[:, 1] = image.shape[0] - upright.points[:, 1], upright.points[:, 0]
    turned = landmarker(turned_image, FaceLandmarks(turned_points, 1.0))
    back = landmarker(image, upright)
    assert abs(turned.points[:, 0] - (image.shape[0] - back.points[:, 1])).max() < 0.1
    assert abs(turned.points[:, 1] - back.points[:, 0]).max() < 0.1
    assert abs(turned.points[:, 2] - back.points[:, 2]).max() < 0.1


def test_landmarks_shift_and_scale_with_the_picture(portraits, detector, landmarker):
    image = portraits[5]
    first = find_faces(image, detector, landmarker)[0]
    canvas = np.full((900, 1100, 3), 90, np.uint8)
    canvas[160:928, 240:1008] = cv2.resize(image, (768, 768), interpolation=cv2.INTER_LINEAR)[: 900 - 160]
    second = find_faces(canvas, detector, landmarker)[0]
    expected = first.points * 1.5 + np.array([240, 160, 0], np.float32)
    assert mean_distance(second.points, expected) < 0.01 * outer_eyes(expected)


def test_mirror_images_swap_left_and_right(portraits, detector, landmarker):
    sides = (*(zip(*table.values(), strict=True) for table in (EYE_CORNERS, LID_MIDDLES)), [IRIS_CENTRES.values()])
    pairs = [*(tuple(pair) for table in sides for pair in table), MOUTH_CORNERS, EARS, (NOSE_TIP,) * 2, (CHIN,) * 2]
    ours, theirs = np.array(pairs).T
    middles = []
    for image in portraits:
        points = find_faces(image, detector, landmarker)[0].points
        mirrored = find_faces(np.ascontiguousarray(image[:, ::-1]), detector, landmarker)[0].points
        middles.append((points[ours, 0] + mirrored[theirs, 0]) / 2)
        assert abs(middles[-1] - image.shape[1] / 2).max() < 0.05 * outer_eyes(points)
    assert abs(np.mean(middles) - portraits[0].shape[1] / 2) < 0.35  # 0.5 off and more if pixels were counted otherwise


def test_tracking_settles_where_detection_does(portraits, detector, landmarker):
    for image in portraits[:4]:
        detected = find_faces(image, detector, landmarker, num_steps=4)[0]
        tracked = FaceLandmarks(detected.points + np.array([9, -7, 0], np.float32), 1.0)  # as if it had moved
        for _ in range(3):
            tracked = landmarker(image, tracked)
        assert mean_distance(tracked.points, detected.points) < 0.01 * outer_eyes(detected.points)


def test_depth_has_the_scale_of_the_picture(portraits, detector, landmarker):
    points = find_faces(portraits[0], detector, landmarker)[0].points
    assert points[NOSE_TIP, 2] < points[OUTER_EYE_CORNERS[0], 2] < points[EARS[0], 2]  # smaller is nearer
    assert 0.3 < (points[list(EARS), 2].mean() - points[NOSE_TIP, 2]) / outer_eyes(points) < 1.3


@pytest.mark.parametrize("name", ["noface_dog.jpg", "noface_cat.jpg", "noface_landscape.jpg"])
def test_no_human_face(shared, detector, landmarker, name):
    assert find_faces(read(shared / "data" / "negatives" / name), detector, landmarker) == []


def test_no_face_in_the_cartoon(shared, detector, landmarker):
    clip = cv2.VideoCapture(str(shared / "data" / "negatives" / "noface.mp4"))
    num_frames = 0
    while clip.grab():
        if num_frames % 8 == 0:
            assert find_faces(clip.retrieve()[1][..., ::-1], detector, landmarker) == []
        num_frames += 1
    assert num_frames > 20


@pytest.mark.parametrize("frame", [np.zeros((1, 1, 3), np.uint8), np.full((90, 700, 3), 128, np.uint8)])
def test_no_face_in_nothing(frame, detector, landmarker, matte):
    assert find_faces(frame, detector, landmarker) == []
    assert matte(frame).shape == frame.shape[:2]


def test_every_source_has_its_face(shared, detector, landmarker):
    """Photographs, paintings, a statue, a robot, sunglasses, full figures."""
    sources = sorted((shared / "data" / "sources").glob("s*"))
    assert len(sources) == 22
    for path in sources:
        faces = find_faces(read(path), detector, landmarker)
        assert len(faces) == 1 and faces[0].score > 0.9, path.name


def test_small_faces_are_found_in_tiles(shared, detector, landmarker):
    two = find_faces(read(shared / "data" / "negatives" / "two_faces.jpg"), detector, landmarker)
    assert len(two) >= 2 and two[0].size >= two[1].size > 90
    three = find_faces(read(shared / "data" / "negatives" / "three_faces.jpg"), detector, landmarker)
    assert len(three) == 3


def test_a_small_portrait_is_found_where_it_was_put(portraits, detector, landmarker):
    large = find_faces(portraits[9], detector, landmarker)[0].points
    scene = np.full((720, 1280, 3), 120, np.uint8)
    scene[500:628, 900:1028] = cv2.resize(portraits[9], (128, 128), interpolation=cv2.INTER_AREA)
    faces = find_faces(scene, detector, landmarker)
    expected = large / 4 + np.array([900, 500, 0])
    assert len(faces) == 1 and mean_distance(faces[0].points, expected) < 0.03 * outer_eyes(expected)


def test_matte_holds_the_face_and_mirrors(portraits, detector, landmarker, matte):
    for image in portraits[:4]:
        found = matte(image)
        assert found.dtype == np.float32 and found.shape == image.shape[:2]
        assert found.min() >= 0 and found.max() <= 1
        points = find_faces(image, detector, landmarker)[0].points
        x, y = points[[*OUTER_EYE_CORNERS, NOSE_TIP, *MOUTH_CORNERS], :2].astype(int).T
        assert found[y, x].min() > 0.9
        mirrored = matte(np.ascontiguousarray(image[:, ::-1]))[:, ::-1]
        assert ((mirrored > 0.5) == (found > 0.5)).mean() > 0.9  # shoulders are a matter of taste


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(
    ("kind", "name", "side"),
    [
        (FaceDetectorNetwork, "face_detector", 128),
        (FaceMeshNetwork, "face_mesh", 192),
        (PortraitMatteNetwork, "portrait_matte", 256),
    ],
)
def test_networks_agree_across_devices(kind, name, side):
    images = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        here = load_network(kind, name)(images)
        there = load_network(kind, name, device="cuda")(images.cuda())
    if kind is FaceMeshNetwork:
        here, there = (here.points, here.presence), (there.points, there.presence)
    for ours, theirs in zip(here, there, strict=True):
        torch.testing.assert_close(ours, theirs.cpu(), atol=2e-2, rtol=2e-2)  # TF32 convolutions
