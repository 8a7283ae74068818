"""Cameras: labels both ways, known projections, and poses that mean the same picture."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from flame.geometry.camera import Camera, fov_to_intrinsics
from flame.geometry.rotation import axis_angle_to_matrix, euler_degrees_to_matrix

RANDOM = torch.Generator().manual_seed(1)


def _cameras(count: int = 5) -> Camera:
    rotation = torch.randn(count, 3, dtype=torch.float64, generator=RANDOM)
    translation = torch.randn(count, 3, dtype=torch.float64, generator=RANDOM)
    return Camera.from_head_pose(rotation, translation, fov_degrees=20.0)


def _canonical(distance: float = 4.0, fov_degrees: float = 12.0) -> Camera:
    cam2world = torch.eye(4)[None].clone()
    cam2world[0, 2, 3] = distance
    return Camera(cam2world, fov_to_intrinsics(fov_degrees, like=cam2world))


@pytest.mark.parametrize("axes", ["opengl", "opencv"])
def test_label_round_trip(axes) -> None:
    camera = _cameras()
    again = Camera.from_label25(camera.to_label25(axes=axes), axes=axes)
    assert torch.equal(again.cam2world, camera.cam2world)
    assert torch.equal(again.intrinsics, camera.intrinsics)


def test_label_layout() -> None:
    label = _canonical().to_label25(axes="opengl")[0]
    assert label[:16].tolist() == [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 4, 0, 0, 0, 1]
    assert label[16:].tolist() == pytest.approx([4.75718, 0, 0.5, 0, 4.75718, 0.5, 0, 0, 1], abs=1e-5)


def test_opencv_camera_sees_the_same_pixels() -> None:
    """The picture does not depend on the axes: project with the plain OpenCV formula and compare."""
    camera = _cameras(1)
    cam2world, intrinsics = camera.to_opencv()
    points = torch.randn(1, 30, 3, dtype=torch.float64, generator=RANDOM)
    inverse = torch.linalg.inv(cam2world)
    x, y, z = (points @ inverse[:, :3, :3].transpose(1, 2) + inverse[:, None, :3, 3]).unbind(-1)
    u = (intrinsics[0, 0, 0] * x / z + intrinsics[0, 0, 2]) * 640
    v = (intrinsics[0, 1, 1] * y / z + intrinsics[0, 1, 2]) * 480
    pixels, depth = camera.project(points, height=480, width=640)
    assert torch.allclose(pixels, torch.stack([u, v], -1))
    assert torch.allclose(depth, z)


def test_known_points() -> None:
    """At 12 degrees and distance d, a point d * tan(6 deg) off the axis lies on the picture's border."""
    edge = 4 * math.tan(math.radians(6))
    points = torch.tensor([[[0.0, 0, 0], [edge, 0, 0], [0, edge, 0], [0, 0, 1.0]]])
    pixels, depth = _canonical().project(points, height=100, width=200)
    assert torch.allclose(pixels[0], torch.tensor([[100.0, 50], [200, 50], [100, 0], [100, 50]]), atol=1e-4)
    assert torch.allclose(depth[0], torch.tensor([4.0, 4, 4, 3]))


def test_world2cam_is_the_inverse() -> None:
    camera = _cameras()
    assert torch.allclose(camera.world2cam @ camera.cam2world, torch.eye(4, dtype=torch.float64).expand(5, 4, 4))


def test_moving_the_head_or_the_camera_gives_one_picture() -> None:
    rotation, translation = torch.tensor([[0.2, -0.5, 0.1]]), torch.tensor([[0.02, -0.1, -1.6]])
    head = torch.randn(1, 20, 3, generator=RANDOM) * 0.1
    in_camera = head @ axis_angle_to_matrix(rotation).transpose(1, 2) + translation
    fixed = Camera(torch.eye(4)[None], fov_to_intrinsics(12.0, like=rotation))
    expected, _ = fixed.project(in_camera, height=512, width=512)
    pixels, _ = Camera.from_head_pose(rotation, translation).project(head, height=512, width=512)
    assert torch.allclose(pixels, expected, atol=1e-2)


def test_orbit_shows_the_head_turned() -> None:
    """The orbit camera sees a resting head as a fixed camera sees one turned by the public angles."""
    yaw, pitch, target = torch.tensor([30.0]), torch.tensor([10.0]), torch.tensor([0.0, 0.1, 0.05])
    head = torch.randn(1, 20, 3, generator=RANDOM) * 0.1
    turned = (head - target) @ euler_degrees_to_matrix(yaw, pitch, 0 * yaw).transpose(1, 2)
    expected, _ = _canonical(2.0).project(turned, height=256, width=256)
    camera = Camera.orbit(yaw, pitch, radius=2.0, target=target)
    pixels, _ = camera.project(head, height=256, width=256)
    assert torch.allclose(pixels, expected, atol=1e-2)
    assert camera.cam2world[0, 0, 3] < -0.5  # the camera went to the viewer's left


def test_batch_equals_singles_and_slices() -> None:
    camera, points = _cameras(), torch.randn(5, 7, 3, dtype=torch.float64, generator=RANDOM)
    together, _ = camera.project(points, height=64, width=64)
    for index in range(-1, len(camera)):
        alone, _ = camera[index].project(points[index][None], height=64, width=64)
        assert torch.allclose(together[index], alone[0])
    assert len(camera[1:3]) == 2


def test_wrong_shapes_say_what_was_expected() -> None:
    with pytest.raises(ValueError, match=r"\[B, 25\]"):
        Camera.from_label25(torch.zeros(16), axes="opengl")
    with pytest.raises(ValueError, match=r"\[B, 4, 4\]"):
        Camera(torch.eye(4), torch.eye(3))
    with pytest.raises(ValueError, match="opengl"):
        _canonical().to_label25(axes="blender")  # pyright: ignore[reportArgumentType]


def test_rigid_inverse_matches_the_reference_code(shared: Path) -> None:
    golden = np.load(shared / "spec/golden/p4d_geom.npz")
    camera = Camera.from_label25(torch.from_numpy(golden["in.cams"]), axes="opengl")
    assert torch.allclose(camera.world2cam, torch.from_numpy(golden["out.cam_inverse"]), atol=1e-6)
