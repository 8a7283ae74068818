"""Crop: round trips, sub-pixel placement, framing."""

import numpy as np
import pytest

from flame.landmarks.groups import CHIN, EARS, FOREHEAD
from preprocess.faces.crop import Crop, face_crop


def _landmarks(yaw: float = 0.0) -> np.ndarray:
    """A round, flat-featured 'face': an ellipsoid of points with the anchors the crop uses, turned by yaw (radians)."""
    points = np.random.default_rng(0).normal(size=(478, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    points[[FOREHEAD, CHIN, *EARS]] = (0, -1, -0.2), (0, 1, -0.2), (-0.8, -0.1, 0.5), (0.8, -0.1, 0.5)
    turn = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    axis = np.array([0, 0, 0.5])
    return (points - axis) @ turn.T * 90 + np.array([300.0, 220.0, 0.0])


def test_points_round_trip() -> None:
    crop = Crop.from_square((123.4, 77.7), 211.3, size=256, image_size=(200, 300))
    points = np.random.default_rng(1).uniform(-50, 400, (40, 3))
    np.testing.assert_allclose(crop.to_image(crop.to_crop(points)), points, atol=1e-9)
    np.testing.assert_allclose(crop.matrix @ crop.inverse, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(crop.to_crop(np.array([123.4, 77.7])), [128, 128])
    np.testing.assert_allclose(crop.to_crop(np.array([0.0, 0.0, 10.0]))[2], 10 * 256 / 211.3)


@pytest.mark.parametrize("side", [96.0, 231.0, 700.0])
def test_pixels_follow_points(side: float) -> None:
    """A linear ramp stays the same ramp read through the point map: a half-pixel slip would show."""
    height, width = 300, 400
    rows, columns = np.mgrid[:height, :width] + 0.5
    ramp = np.stack([columns, rows], -1).astype(np.float32)
    crop = Crop.from_square((200.3, 150.6), side, size=128, image_size=(height, width))
    result = crop.apply(ramp)
    rows, columns = np.mgrid[:128, :128] + 0.5
    expected = crop.to_image(np.stack([columns, rows], -1))
    inside = ((expected > 12) & (expected < np.array([width - 12, height - 12]))).all(-1)
    assert inside.mean() > 0.2
    np.testing.assert_allclose(result[inside], expected[inside], atol=0.08)


def test_identity_crop_is_the_image() -> None:
    image = np.random.default_rng(2).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    np.testing.assert_array_equal(Crop.whole((64, 64), size=64).apply(image), image)


def test_shrinking_does_not_alias() -> None:
    checks = ((np.indices((512, 512)).sum(0) % 2) * 255).astype(np.uint8)
    result = Crop.whole((512, 512), size=100).apply(checks).astype(float)
    assert abs(result.mean() - 127.5) < 2 and result.std() < 4


def test_outside_repeats_the_border() -> None:
    image = np.full((20, 20, 3), 7, np.uint8)
    assert (Crop.from_square((-100, 5), 50, size=16, image_size=(20, 20)).apply(image) == 7).all()


def test_face_crop_follows_the_head() -> None:
    frontal, turned = (face_crop(_landmarks(yaw), image_size=(480, 640)) for yaw in (0.0, 0.6))
    np.testing.assert_allclose(frontal.matrix, turned.matrix, rtol=0.02, atol=6)
    landmarks = _landmarks()
    moved = face_crop(landmarks * 2 + np.array([10, 20, 0]), image_size=(480, 640))
    points = landmarks[..., :2] * 2 + np.array([10, 20])
    np.testing.assert_allclose(moved.to_crop(points), frontal.to_crop(landmarks[..., :2]), atol=1e-6)
    clip = np.stack([landmarks, landmarks + 1, landmarks + 500])
    np.testing.assert_allclose(
        face_crop(clip, image_size=(480, 640)).matrix, face_crop(landmarks + 1, image_size=(480, 640)).matrix
    )


def test_inside_shows_nothing_beyond_the_border() -> None:
    landmarks = _landmarks() + np.array([-150.0, 0, 0])
    crop = face_crop(landmarks, image_size=(480, 400), is_inside=True)
    corners = crop.to_image(np.array([[0.0, 0.0], [512.0, 512.0]]))
    assert (corners > -1e-6).all() and (corners[1] < np.array([400, 480]) + 1e-6).all()
    free, kept = (face_crop(_landmarks(), image_size=(4000, 4000), is_inside=is_inside) for is_inside in (False, True))
    np.testing.assert_array_equal(free.matrix, kept.matrix)


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="side"):
        Crop.from_square((0, 0), 0, image_size=(1, 1))
    with pytest.raises(ValueError, match="478"):
        face_crop(np.zeros((468, 3)), image_size=(1, 1))
