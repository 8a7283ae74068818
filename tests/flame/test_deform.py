"""The head-pose field and the search for the nearest triangle by their mathematics."""

import pytest
import torch
from torch import Tensor

from flame.geometry.rotation import axis_angle_to_matrix
from flame.heads.head_model import HeadParams
from flame.heads.open_head import load_open_head
from flame.heads.pose_field import COARSE, FINE, CoarseMesh, HeadPoseField, grid_nodes, plane_coordinates, read_grid
from flame.mesh.nearest_triangle import Backend, nearest_triangle


def _rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_nearest_triangle_of_known_scenes(backend: Backend) -> None:
    flat = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0.0, 0, 5], [1, 0, 5], [0, 1, 5]]])
    points = torch.tensor([[0.2, 0.2, 1.0], [0.2, 0.2, 4.0], [-1.0, 0.0, 0.0], [2.0, 0.0, 0.0]])
    found = nearest_triangle(points, flat, backend=backend)
    assert found.face.tolist() == [0, 1, 0, 0]
    assert torch.allclose(found.squared_distance, torch.tensor([1.0, 1.0, 1.0, 1.0]))
    edges = nearest_triangle(points[:1], flat, min_area=10.0, backend=backend)  # too small: only edges count
    assert torch.allclose(edges.squared_distance, torch.tensor([1.0 + 0.2**2]))


@pytest.mark.parametrize("min_area", [0.0, 0.3, 10.0])
def test_numba_finds_what_torch_finds(min_area: float) -> None:
    points, triangles = _rand(500, 3), _rand(200, 3, 3, seed=1) * 0.7
    triangles[7] = triangles[7, :1]  # a point
    triangles[8, 2] = triangles[8, 1]  # a line
    one, two = (nearest_triangle(points, triangles, min_area=min_area, backend=name) for name in ("torch", "numba"))
    assert torch.allclose(one.squared_distance, two.squared_distance, atol=1e-6)
    assert (one.face == two.face).float().mean() > 0.99


def test_of_equally_near_triangles_the_last_wins() -> None:
    twice = _rand(1, 3, 3).expand(4, 3, 3).contiguous()
    for backend in ("torch", "numba"):
        assert (nearest_triangle(_rand(20, 3), twice, backend=backend).face == 3).all()


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"points \[N, 3\]"):
        nearest_triangle(_rand(3), _rand(1, 3, 3))
    with pytest.raises(ValueError, match="at least one triangle"):
        nearest_triangle(_rand(2, 3), torch.zeros(0, 3, 3))
    with pytest.raises(ValueError, match="'numba' needs float32"):
        nearest_triangle(_rand(2, 3).double(), _rand(1, 3, 3).double(), backend="numba")


def test_plane_coordinates_rebuild_the_foot_of_the_perpendicular() -> None:
    points, triangles = _rand(50, 3).double(), _rand(50, 3, 3, seed=1).double()
    weights = plane_coordinates(points, triangles)
    foot = (weights[..., None] * triangles).sum(1)
    a, b, c = triangles.unbind(1)
    assert torch.allclose(weights.sum(-1), torch.ones(50, dtype=torch.float64))
    for edge in (b - a, c - a):
        assert ((points - foot) * edge).sum(-1).abs().max() < 1e-9


@pytest.mark.parametrize("count", [FINE, COARSE])
def test_both_ways_to_read_a_grid_agree(count: int) -> None:
    values, points = _rand(2, count**3, 4), _rand(2, 300, 3, seed=1) * 0.5  # some lie outside
    one, two = (read_grid(values, points, count, box_warp=1.3, backend=name) for name in ("gather", "grid_sample"))
    assert torch.allclose(one, two, atol=1e-4)


def test_the_gather_can_be_exported() -> None:
    class Reading(torch.nn.Module):
        def forward(self, values: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
            return read_grid(values, points, COARSE, box_warp=1.3, backend="gather")

    values, points = _rand(2, COARSE**3, 4), _rand(2, 30, 3, seed=1) * 0.5
    exported = torch.export.export(Reading(), (values, points)).module()
    assert torch.equal(exported(values, points), Reading()(values, points))
    assert Reading()(values, points).std() > 0.1


def test_a_grid_is_exact_at_its_nodes_and_for_linear_values() -> None:
    nodes = grid_nodes(COARSE, box_warp=1.3, like=torch.zeros(1, dtype=torch.float64))
    line = nodes @ torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
    inside = (torch.rand(1, 200, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 0.5) * 1.1
    for backend in ("gather", "grid_sample"):
        at_nodes = read_grid(line[None, :, None], nodes[None], COARSE, box_warp=1.3, backend=backend)
        assert torch.allclose(at_nodes[0, :, 0], line, atol=1e-9)
        between = read_grid(line[None, :, None], inside, COARSE, box_warp=1.3, backend=backend)
        assert torch.allclose(between[0, :, 0], inside[0] @ torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64))


def test_the_field_brings_the_surface_back_and_leaves_a_resting_head_alone() -> None:
    model = load_open_head()
    every = torch.arange(model.num_vertices)
    mesh = CoarseMesh(every[:, None].repeat(1, 3), torch.tensor([1.0, 0, 0]).repeat(len(every), 1), model.faces[::6])
    neck = torch.tensor([[0.1, 0.3, -0.1]])
    posed = HeadParams.zeros(model).replace(neck=neck)
    box = 0.6  # metres: the head and its neck lie well inside
    field = HeadPoseField.build(model, posed, mesh, box_warp=box)
    before, after = model(HeadParams.zeros(model)), model(posed)
    head = model.skinning_weights[:, model.joint_names.index("head")] > 0.95
    back = field(after)[0, head]
    moved = (after[0, head] - before[0, head]).norm(dim=-1).mean()
    left = (back - before[0, head]).norm(dim=-1).mean()
    assert left < 0.15 * moved, (float(left), float(moved))
    rest = HeadPoseField.build(model, HeadParams.zeros(model), mesh, box_warp=box)
    points = _rand(1, 200, 3) * 0.2
    assert torch.allclose(rest(points), points, atol=1e-5)
    outside = torch.full((1, 1, 3), 5.0)
    assert torch.equal(field(outside), outside)
    assert not torch.allclose(axis_angle_to_matrix(neck), torch.eye(3))
