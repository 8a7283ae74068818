"""Surfaces of analytic fields: place, size, closedness, orientation, colours, level; and the files written of them."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from torch import Tensor

from flame.errors import InputError
from portrait4d.render.decoder import FieldSamples, TriPlaneDecoder
from portrait4d.render.field import TriPlaneField
from portrait4d.render.planes import TriPlanes
from portrait4d.render.shape import Shape, ShapeConfig, automatic_iso, density_grid, extract_shape, surface
from preprocess.media.mesh_files import write_mesh

BOX = 1.3
CENTRE = (0.1, -0.05, 0.2)
RADIUS = 0.3
LIKE = torch.zeros(1)


@dataclass
class Analytic:
    """A field of a density function; colours are the position in the cube."""

    density: Callable[[Tensor], Tensor]
    largest_call: int = 0

    def __call__(self, points: Tensor) -> FieldSamples:
        assert points.shape[0] == 1 and points.shape[2] == 3
        self.largest_call = max(self.largest_call, points.shape[1])
        return FieldSamples(self.density(points), torch.cat([points / BOX + 0.5, points], -1))


def _distance(points: Tensor, centre: tuple[float, float, float] = CENTRE) -> Tensor:
    return (points - points.new_tensor(centre)).norm(dim=-1)


def ball(points: Tensor) -> Tensor:
    """Raw density 10 on the sphere, growing inwards."""
    return 10 + 100 * (RADIUS - _distance(points))


def solid(points: Tensor) -> Tensor:
    return torch.where(_distance(points) < RADIUS, 60.0, -30.0)


def extract(density: Callable[[Tensor], Tensor], **options: float) -> Shape:
    config = ShapeConfig(**{"resolution": 48, **options})  # pyright: ignore[reportArgumentType]
    return extract_shape(Analytic(density), config, box_size=BOX, like=LIKE)


def to_trimesh(shape: Shape) -> trimesh.Trimesh:
    return trimesh.Trimesh(shape.vertices, shape.faces, process=False)


@pytest.fixture(scope="module")
def sphere() -> Shape:
    return extract(ball, iso=10.0)


def test_a_sphere_has_its_place_and_size_in_world_units(sphere: Shape) -> None:
    from_centre = np.linalg.norm(sphere.vertices - np.array(CENTRE), axis=1)
    assert np.abs(from_centre - RADIUS).max() < 1e-3  # a 27th of a cell
    mesh = to_trimesh(sphere)
    assert mesh.volume == pytest.approx(4 / 3 * np.pi * RADIUS**3, rel=0.01)
    assert mesh.area == pytest.approx(4 * np.pi * RADIUS**2, rel=0.01)
    np.testing.assert_allclose(mesh.center_mass, CENTRE, atol=1e-3)


def test_a_sphere_is_closed_and_faces_outward(sphere: Shape) -> None:
    mesh = to_trimesh(sphere)
    assert mesh.is_watertight and mesh.is_winding_consistent
    outward = (sphere.vertices - np.array(CENTRE)) / RADIUS
    assert (mesh.face_normals * outward[sphere.faces[:, 0]]).sum(1)[mesh.area_faces > 1e-9].min() > 0.9
    assert (sphere.normals * outward).sum(1).min() > 0.98
    assert mesh.euler_number == 2


def test_colours_are_those_of_the_field(sphere: Shape) -> None:
    expected = np.clip(np.rint((sphere.vertices / BOX + 0.5) * 255), 0, 255)
    assert sphere.colours.dtype == np.uint8
    assert np.abs(sphere.colours.astype(int) - expected).max() <= 1


def test_the_error_falls_with_the_square_of_the_cell() -> None:
    errors = []
    for resolution in (24, 48):
        shape = extract(ball, iso=10.0, resolution=resolution)
        errors.append(np.abs(np.linalg.norm(shape.vertices - np.array(CENTRE), axis=1) - RADIUS).max())
    assert errors[0] / errors[1] > 3


def test_the_grid_is_straight_and_asked_in_bounded_pieces() -> None:
    """The original's indices were divided without rounding, which shears the grid by up to a cell."""
    field = Analytic(lambda points: points @ torch.tensor([1.0, 10.0, 100.0]))
    grid = density_grid(field, side=2.0, resolution=9, like=LIKE, max_points=50)
    axis = (np.arange(9) + 0.5) / 9 * 2 - 1
    expected = axis[:, None, None] + 10 * axis[:, None] + 100 * axis
    np.testing.assert_allclose(grid, expected, atol=2e-5)
    assert field.largest_call == 50


def test_pieces_do_not_matter() -> None:
    whole = extract(ball, iso=10.0)
    field, steps = Analytic(ball), []
    pieces = extract_shape(
        field,
        ShapeConfig(resolution=48, iso=10.0),
        box_size=BOX,
        like=LIKE,
        max_points=1000,
        on_step=lambda done, total: steps.append((done, total)),
    )
    np.testing.assert_allclose(pieces.vertices, whole.vertices, atol=1e-6)
    assert field.largest_call == 1000
    assert steps[-1] == (48**3, 48**3) and len(steps) == 111


def test_what_reaches_the_border_is_closed_exactly_on_it() -> None:
    """A slab without end becomes a box of known volume; its edges are cut by half a cell."""
    shape = extract(lambda points: 50 * (0.2 - points[..., 1].abs()), iso=0.0)
    mesh = to_trimesh(shape)
    assert mesh.is_watertight and mesh.is_winding_consistent
    np.testing.assert_allclose(mesh.bounds, [[-BOX / 2, -0.2, -BOX / 2], [BOX / 2, 0.2, BOX / 2]], atol=1e-3)
    assert mesh.volume == pytest.approx(BOX * BOX * 0.4, rel=0.01)


def test_the_margin_is_left_out() -> None:
    shape = extract(lambda points: 50 * (0.2 - points[..., 1].abs()), iso=0.0, margin=0.1)
    np.testing.assert_allclose(shape.vertices[:, 0].max(), 0.4 * BOX, atol=1e-6)
    assert shape.vertices[:, 1].max() == pytest.approx(0.2, abs=1e-3)


def two_balls(points: Tensor) -> Tensor:
    far = (-0.4, 0.4, -0.4)
    return torch.maximum(ball(points), 10 + 100 * (0.1 - _distance(points, far)))


def test_only_the_largest_part_stays_unless_asked() -> None:
    mesh = to_trimesh(extract(two_balls, iso=10.0))
    assert mesh.body_count == 1
    np.testing.assert_allclose(mesh.center_mass, CENTRE, atol=2e-3)
    everything = to_trimesh(extract(two_balls, iso=10.0, keeps_all_parts=True))
    assert everything.body_count == 2
    assert everything.volume == pytest.approx(4 / 3 * np.pi * (RADIUS**3 + 0.1**3), rel=0.02)


@pytest.mark.parametrize("full", [3.0, 20.0, 60.0, 1000.0])
@pytest.mark.parametrize("radius", [0.08, 0.3, 0.5])
def test_the_automatic_level_finds_a_solid_whatever_its_density(full: float, radius: float) -> None:
    """Thin and dense, small and large: the level lies inside the step, so the size is right to a cell."""
    shape = extract(lambda points: torch.where(_distance(points) < radius, full, -30.0))
    assert -30 < shape.iso < full
    from_centre = np.linalg.norm(shape.vertices - np.array(CENTRE), axis=1)
    is_inside = (np.abs(shape.vertices) < BOX / 2 - 0.03).all(1)
    assert np.abs(from_centre[is_inside] - radius).max() < BOX / 48


@pytest.mark.slow
def test_the_automatic_level_does_not_hang_on_the_resolution() -> None:
    levels = [extract(ball, resolution=resolution).iso for resolution in (32, 48, 128)]
    assert max(levels) - min(levels) < 1


def test_the_automatic_level_is_the_middle_of_both_opacities() -> None:
    densities = np.full((8, 8, 8), -50.0, np.float32)
    densities[2:6, 2:6, 2:6] = 1000.0
    # half of the light passes a step: softplus(level - 1) / 32 = ln 2
    level = automatic_iso(densities, box_size=1.0)
    assert np.logaddexp(0, level - 1) / 32 == pytest.approx(np.log(2), rel=1e-6)


def test_fog_and_nothing_have_no_surface() -> None:
    for value in (-40.0, 25.0):
        with pytest.raises(InputError, match="equally opaque everywhere"):
            extract(lambda points, value=value: torch.full(points.shape[:-1], value))


def test_a_level_outside_the_densities_is_refused_with_their_range() -> None:
    with pytest.raises(InputError, match=r"expected an iso level between -30 and 60, .* got 100"):
        extract(solid, iso=100.0)
    with pytest.raises(InputError, match=r"got -30"):
        extract(solid, iso=-30.0)


def test_densities_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(InputError, match="not finite"):
        extract(lambda points: ball(points).masked_fill(points[..., 0] > 0.5, torch.nan))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resolution": 4}, "between 8 and 1024, got 4"),
        ({"resolution": 5000}, "between 8 and 1024"),
        ({"margin": 0.5}, "below 0.5"),
        ({"margin": -0.1}, "at least 0"),
        ({"iso": float("nan")}, "finite iso"),
    ],
)
def test_bad_settings_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ShapeConfig(**options)  # pyright: ignore[reportArgumentType]


def test_axes_are_not_exchanged() -> None:
    """An ellipsoid with three different axes, each where it belongs."""
    axes = np.array([0.15, 0.3, 0.45])
    scale = torch.tensor(axes, dtype=torch.float32)
    densities = density_grid(
        Analytic(lambda points: 1 - (points / scale).norm(dim=-1)), side=BOX, resolution=64, like=LIKE
    )
    vertices, _ = surface(densities, 0.0, side=BOX)
    np.testing.assert_allclose(vertices.max(0), axes, atol=2e-3)
    np.testing.assert_allclose(vertices.min(0), -axes, atol=2e-3)


def test_tri_planes_in_double_precision() -> None:
    """Planes whose first feature falls off from the middle: the field of a real network, of its own dtype."""
    torch.manual_seed(0)
    decoder = TriPlaneDecoder(2, 3, hidden_channels=8).double()
    falloff = torch.linspace(-1, 1, 32, dtype=torch.float64)
    hill = 1 - falloff[:, None].square() - falloff.square()
    planes = TriPlanes(hill.expand(1, 3, 2, 32, 32) * 8, "orthogonal", BOX)
    shape = extract_shape(
        TriPlaneField(planes, decoder),
        ShapeConfig(resolution=32),
        box_size=BOX,
        like=planes.features,
    )
    assert to_trimesh(shape).is_watertight


@pytest.mark.parametrize("suffix", [".ply", ".obj", ".glb"])
def test_files_keep_units_colours_and_orientation(tmp_path: Path, sphere: Shape, suffix: str) -> None:
    path = tmp_path / f"sphere{suffix}"
    write_mesh(
        path,
        sphere.vertices,
        sphere.faces,
        vertex_colours=sphere.colours,
        normals=sphere.normals,
        unit="world units of EG3D",
    )
    mesh = trimesh.load(path, process=False, force="mesh")
    assert mesh.is_watertight
    assert mesh.volume == pytest.approx(4 / 3 * np.pi * RADIUS**3, rel=0.01)
    if suffix == ".glb":
        colours = _glb_colours(path.read_bytes())
    else:
        assert b"world units of EG3D, y up" in path.read_bytes()[:400]
        colours = mesh.visual.vertex_colors[:, :3]
    order = np.lexsort(np.rint(sphere.vertices * 1e5).T), np.lexsort(np.rint(mesh.vertices * 1e5).T)
    assert np.abs(colours[order[1]].astype(int) - sphere.colours[order[0]]).max() <= 1


def _glb_colours(data: bytes) -> np.ndarray:
    """Vertex colours as sRGB bytes; trimesh drops them where there is a material."""
    size = int.from_bytes(data[12:16], "little")
    document = json.loads(data[20 : 20 + size])
    accessor = document["accessors"][document["meshes"][0]["primitives"][0]["attributes"]["COLOR_0"]]
    start = 28 + size + document["bufferViews"][accessor["bufferView"]]["byteOffset"]
    linear = np.frombuffer(data, "<u2", accessor["count"] * 4, start).reshape(-1, 4)[:, :3] / 65535
    return np.rint(255 * np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055))
