"""Look-at cameras of the original samplers, and the views and paths made of them."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from flame.geometry.camera import Camera, fov_to_intrinsics
from flame.geometry.look_at import Azimuth, Elevation, draw_angles, focal_to_fov_degrees, legacy_fov_to_degrees, look_at
from golden import Fixture
from portrait4d.eg3d.cameras import condition_camera, native_fov_degrees, orbit_path, original_path, view_cameras
from portrait4d.render.rays import cast_rays
from portrait4d.render.sampling import box_range, even_depths
from portrait4d.weights.eg3d_config import EG3DConfig

POSES = [(0.0, 0.0), (0.4, -0.2), (-0.7, 0.3)]
"""Angles in the names of the fixtures: the samplers were given pi / 2 + these, and the second one points down."""

CONFIG = EG3DConfig()


def _look(
    pose: tuple[float, float],
    *,
    radius: float,
    target: tuple[float, float, float],
    azimuth: Azimuth,
    elevation: Elevation = "legacy",
    roll: float = 0.0,
) -> Camera:
    return look_at(
        torch.tensor([pose[0]]),
        torch.tensor([-pose[1]]),
        radius=radius,
        target=torch.tensor(target),
        fov_degrees=12.0,
        roll_radians=torch.tensor([roll]),
        azimuth=azimuth,
        elevation=elevation,
    )


@pytest.mark.parametrize("pose", POSES)
def test_eg3d_samplers(shared: Path, pose: tuple[float, float]) -> None:
    fixture = Fixture.load(shared, "eg3d_camera")
    for name, target in (("lookat", (0.0, 0.0, 0.2)), ("gauss", (0.0, 0.0, 0.0))):
        cam2world, _ = _look(pose, radius=2.7, target=target, azimuth="eg3d").to_opencv()
        assert fixture.absolute_error(f"{name}_{pose[0]}_{pose[1]}", cam2world) < 1e-6


@pytest.mark.parametrize("pose", POSES)
def test_portrait4d_samplers(shared: Path, pose: tuple[float, float]) -> None:
    fixture = Fixture.load(shared, "p4d_geom")
    turned = _look(pose, radius=4.2, target=(0.0, 0.0, 0.2), azimuth="portrait4d").cam2world
    assert fixture.absolute_error(f"lookat_{pose[0]}_{pose[1]}", turned) < 2e-6
    drawn = _look(pose, radius=4.2, target=(0.0, 0.0, 0.0), azimuth="eg3d").cam2world
    assert fixture.absolute_error(f"gauss_{pose[0]}_{pose[1]}", drawn) < 1e-6


def test_portrait4d_roll(shared: Path) -> None:
    fixture = Fixture.load(shared, "p4d_geom")
    rolled = _look((0.0, 0.0), radius=4.2, target=(0.0, 0.0, 0.2), azimuth="portrait4d", roll=0.2).cam2world
    assert fixture.absolute_error("lookat_roll0.2", rolled) < 1e-6


def test_vectors_of_the_specification() -> None:
    pose, target = (0.3, -0.2), (0.0, 0.0, 0.1)
    portrait4d = _look(pose, radius=4.0, target=target, azimuth="portrait4d", roll=0.1).cam2world[0, :3]
    expected = torch.tensor(
        [
            [0.94435, 0.134437, -0.300217, -1.17246],
            [-0.098981, 0.986507, 0.130409, 0.509296],
            [0.313698, -0.093436, 0.944914, 3.790245],
        ]
    )
    assert torch.allclose(portrait4d, expected, atol=1e-6)
    eg3d, _ = _look(pose, radius=4.0, target=target, azimuth="eg3d").to_opencv()
    expected = torch.tensor(
        [
            [0.953053, 0.039488, -0.300217, 1.17246],
            [0.0, -0.99146, -0.130409, 0.509296],
            [-0.302803, 0.124287, -0.944914, 3.790245],
        ]
    )
    assert torch.allclose(eg3d[0, :3], expected, atol=1e-6)


@pytest.mark.parametrize("size", [1, 16])
def test_rays_of_portrait4d_labels(shared: Path, size: int) -> None:
    fixture = Fixture.load(shared, "p4d_geom")
    rays = cast_rays(Camera.from_label25(fixture.input("cams"), axes="opengl"), height=size, width=size)
    assert fixture.absolute_error(f"ray_d_{size}", rays.directions) < 1e-6
    assert fixture.absolute_error(f"ray_o_{size}", rays.origins) == 0


def test_even_distances_between_the_sides_of_the_cube(shared: Path) -> None:
    fixture = Fixture.load(shared, "eg3d_camera")
    camera = Camera.from_label25(fixture.input("cams"), axes="opencv")
    camera = Camera(camera.cam2world, fixture.input("intrinsics_skew"))
    found = box_range(cast_rays(camera, height=16, width=16), box_warp=1.0)
    assert found.hits is not None and found.hits.all()
    depths = even_depths(found, 5, torch.zeros(2, 256, 5))
    assert fixture.absolute_error("linspace_5", depths.permute(2, 0, 1)[..., None]) < 2e-6


@pytest.mark.parametrize("value", [18.837, 12])
def test_original_field_of_view(shared: Path, value: float) -> None:
    fixture = Fixture.load(shared, "eg3d_camera")
    intrinsics = fov_to_intrinsics(legacy_fov_to_degrees(value), like=torch.zeros(1))[0]
    assert fixture.absolute_error(f"fov_{value}", intrinsics) < 1e-6


def test_field_of_view_is_in_true_degrees() -> None:
    assert native_fov_degrees(CONFIG) == pytest.approx(13.37, abs=5e-3)
    assert legacy_fov_to_degrees(18.837) == pytest.approx(13.38, abs=5e-3)
    # half the picture lies half the angle away
    camera = view_cameras(CONFIG, torch.zeros(1), torch.zeros(1), fov_degrees=30.0)
    border = torch.tensor([[[2.7 * math.tan(math.radians(15.0)), 0.0, 0.0]]])
    pixels, _ = camera.project(border, height=64, width=64)
    assert torch.allclose(pixels, torch.tensor([[[64.0, 32.0]]]), atol=1e-4)
    assert focal_to_fov_degrees(0.5) == pytest.approx(90.0)


def _angles(count: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    angles = 2.8 * torch.rand(2, count, generator=generator, dtype=torch.float64) - 1.4
    return angles[0], angles[1]


@pytest.mark.parametrize("azimuth", ["portrait4d", "eg3d"])
@pytest.mark.parametrize("elevation", ["true", "legacy"])
def test_cameras_are_rigid_at_their_distance_and_see_the_target(azimuth: Azimuth, elevation: Elevation) -> None:
    across, up = _angles(50)
    target = torch.tensor([0.05, -0.1, 0.2], dtype=torch.float64)
    camera = look_at(
        across, up, radius=2.7, target=target, fov_degrees=20, roll_radians=up, azimuth=azimuth, elevation=elevation
    )
    rotation = camera.cam2world[:, :3, :3]
    assert torch.allclose(rotation @ rotation.transpose(1, 2), torch.eye(3, dtype=torch.float64).expand(50, 3, 3))
    assert torch.allclose(torch.linalg.det(rotation), torch.ones(50, dtype=torch.float64))
    assert torch.allclose(camera.cam2world[:, :3, 3].norm(dim=1), torch.full((50,), 2.7, dtype=torch.float64))
    pixels, depth = camera.project(target[None, None], height=10, width=10)
    assert torch.allclose(pixels, torch.full((50, 1, 2), 5.0, dtype=torch.float64))
    assert (depth > 0).all()


def test_elevation_is_true_unless_asked_otherwise() -> None:
    zero, up = torch.zeros(1, dtype=torch.float64), torch.tensor([0.6], dtype=torch.float64)
    target = torch.zeros(3)
    true = look_at(zero, up, radius=1.0, target=target, fov_degrees=12).cam2world[0, 1, 3]
    legacy = look_at(zero, up, radius=1.0, target=target, fov_degrees=12, elevation="legacy").cam2world[0, 1, 3]
    assert float(true) == pytest.approx(math.sin(0.6))
    assert float(legacy) == pytest.approx(2 * 0.6 / math.pi)


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_straight_above_and_below_are_cameras_too(sign: float) -> None:
    angles = torch.tensor([0.7], dtype=torch.float64)
    steep = sign * torch.full((1,), math.pi / 2, dtype=torch.float64)
    exact = look_at(angles, steep, radius=2.0, target=torch.zeros(3), fov_degrees=12)
    near = look_at(angles, steep * (1 - 1e-5), radius=2.0, target=torch.zeros(3), fov_degrees=12)
    assert torch.allclose(exact.cam2world, near.cam2world, atol=1e-4)


def test_roll_leans_the_camera_to_its_right() -> None:
    camera = _look((0.0, 0.0), radius=2.0, target=(0.0, 0.0, 0.0), azimuth="portrait4d", roll=0.3)
    above, _ = camera.project(torch.tensor([[[0.0, 0.1, 0.0]]]), height=100, width=100)
    assert float(above[0, 0, 0]) < 49  # what is above leans to the left in the picture


def test_public_angles_turn_the_head_as_the_orbit_of_the_engine_does() -> None:
    """About the origin both ways of placing a camera are the same."""
    centred = EG3DConfig(camera_target=(0.0, 0.0, 0.0))
    yaw, pitch = torch.tensor([-23.0, 0.0, 40.0, 10.0]), torch.tensor([0.0, 0.0, 0.0, 0.0])
    ours = view_cameras(centred, yaw, pitch, fov_degrees=12.0)
    orbit = Camera.orbit(yaw, pitch, radius=2.7, target=torch.zeros(3))
    assert torch.allclose(ours.cam2world, orbit.cam2world, atol=1e-6)
    up = torch.tensor([-15.0, 20.0])
    ours = view_cameras(centred, torch.zeros(2), up, fov_degrees=12.0)
    orbit = Camera.orbit(torch.zeros(2), up, radius=2.7, target=torch.zeros(3))
    assert torch.allclose(ours.cam2world, orbit.cam2world, atol=1e-6)


def test_the_condition_is_the_frontal_label_of_the_training_pictures() -> None:
    label = condition_camera(CONFIG).to_label25(axes="opencv")[0]
    expected = torch.tensor(
        [1, 0, 0, 0, 0, -1, 0, 0, 0, 0, -1, 2.7, 0, 0, 0, 1, 4.2647, 0, 0.5, 0, 4.2647, 0.5, 0, 0, 1]
    )
    assert torch.allclose(label, expected, atol=1e-6)


def test_original_path_is_that_of_the_authors_videos() -> None:
    """Elevation argument .05 - .25 cos, azimuth .35 sin (spec, pipeline 4.3)."""
    path = original_path(CONFIG, 8)
    assert len(path) == 8
    origins = path.cam2world[:, :3, 3]
    assert torch.allclose(origins.norm(dim=1), torch.full((8,), 2.7))
    assert float(origins[0, 1]) == pytest.approx(2.7 * 2 * (0.05 - 0.25) / math.pi, abs=1e-6)
    assert float(origins[4, 1]) == pytest.approx(2.7 * 2 * 0.30 / math.pi, abs=1e-6)
    assert float(torch.atan2(origins[2, 0], origins[2, 2])) == pytest.approx(0.35, abs=1e-6)
    assert float(torch.atan2(origins[6, 0], origins[6, 2])) == pytest.approx(-0.35, abs=1e-6)


def test_paths_close_without_a_jump_and_without_a_double_frame() -> None:
    for path in (original_path, orbit_path):
        origins = path(CONFIG, 40).cam2world[:, :3, 3]
        steps = (origins.roll(-1, 0) - origins).norm(dim=1)
        assert float(steps[-1]) == pytest.approx(float(steps[0]), rel=0.1)
        assert float(steps.min()) > 0.3 * float(steps.max())


def test_random_angles_have_their_distribution_and_follow_the_generator() -> None:
    draw = torch.Generator().manual_seed(1)
    gaussian = draw_angles(20000, mean=0.2, deviation=0.5, generator=draw)
    assert float(gaussian.mean()) == pytest.approx(0.2, abs=0.02)
    assert float(gaussian.std()) == pytest.approx(0.5, abs=0.02)
    uniform = draw_angles(20000, mean=-0.1, deviation=0.3, distribution="uniform", generator=draw)
    assert -0.4 <= float(uniform.min()) < -0.39 and 0.19 < float(uniform.max()) <= 0.2
    assert torch.equal(gaussian, draw_angles(20000, mean=0.2, deviation=0.5, generator=draw.manual_seed(1)))
    assert draw_angles(3, deviation=0.0, generator=draw).tolist() == [0.0, 0.0, 0.0]


def test_unknown_conventions_are_refused() -> None:
    zero = torch.zeros(1)
    with pytest.raises(ValueError, match="azimuth must be 'portrait4d' or 'eg3d', got 'opencv'"):
        look_at(zero, zero, radius=1.0, target=torch.zeros(3), fov_degrees=12, azimuth="opencv")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="elevation must be"):
        look_at(zero, zero, radius=1.0, target=torch.zeros(3), fov_degrees=12, elevation="old")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="distribution must be"):
        draw_angles(1, deviation=1.0, distribution="normal", generator=torch.Generator())  # pyright: ignore[reportArgumentType]


def test_the_config_knows_the_cameras_of_a_checkpoint() -> None:
    options = {"box_warp": 1.6, "ray_start": 0.1, "ray_end": 2.6, "depth_resolution": 64}
    options |= {"depth_resolution_importance": 64, "avg_camera_radius": 1.7, "avg_camera_pivot": [0, 0, 0]}
    options |= {"superresolution_module": "training.superresolution.SuperresolutionHybrid2X"}
    config = EG3DConfig.from_official({"rendering_kwargs": options})
    assert (config.camera_radius, config.camera_target) == (1.7, (0.0, 0.0, 0.0))
    assert EG3DConfig.from_dict(config.to_dict() | {"camera_target": [0.0, 0.0, 0.0]}) == config
