"""The rasteriser against analytic triangles, against itself across backends, and along shared edges."""

import importlib.util
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import numpy as np
import pytest
import torch
from scipy.spatial import Delaunay

from flame.errors import InputError
from flame.geometry.camera import Camera
from flame.heads.head_model import HeadParams
from flame.heads.open_head import load_open_head
from flame.mesh.raster import _best_backend, _rasterize_torch, cover, differentiable_barycentric, interpolate, rasterize
from flame.mesh.raster_numba import rasterize_numba
from flame.mesh.raster_pytorch3d import rasterize_pytorch3d

BACKENDS = ["torch", "numba"]
FACE = torch.tensor([[0, 1, 2]])


def _triangle(depth: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> torch.Tensor:
    return torch.tensor([[4.0, 4.0, depth[0]], [4.0, 60.0, depth[1]], [60.0, 4.0, depth[2]]])


def _pixel_centres(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    rows, columns = torch.meshgrid(torch.arange(size) + 0.5, torch.arange(size) + 0.5, indexing="ij")
    return columns, rows


@pytest.mark.parametrize("backend", BACKENDS)
def test_covers_exactly_the_pixel_centres_inside(backend) -> None:
    found = rasterize(_triangle(), FACE, height=64, width=64, backend=backend)
    x, y = _pixel_centres(64)
    strictly_inside = (x > 4) & (y > 4) & (x + y < 64)
    strictly_outside = (x < 4) | (y < 4) | (x + y > 64)
    assert (found.face_id[strictly_inside] == 0).all()
    assert (found.face_id[strictly_outside] == -1).all()
    assert found.depth[strictly_outside].isinf().all()
    assert (found.barycentric[strictly_outside] == 0).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_perspective_correct_barycentrics_and_depth(backend) -> None:
    """1 / depth is linear in the picture, and so is attribute / depth."""
    depths = (1.0, 2.0, 4.0)
    found = rasterize(_triangle(depths), FACE, height=64, width=64, backend=backend)
    x, y = _pixel_centres(64)
    flat = torch.stack([1 - (x - 4) / 56 - (y - 4) / 56, (y - 4) / 56, (x - 4) / 56], -1)
    hit = found.face_id == 0
    inverse = (flat / torch.tensor(depths)).sum(-1)
    assert torch.allclose(found.depth[hit], 1 / inverse[hit], atol=1e-5)
    expected = flat / torch.tensor(depths) / inverse[..., None]
    assert torch.allclose(found.barycentric[hit], expected[hit], atol=1e-5)
    seen = interpolate(found, FACE, torch.tensor(depths)[:, None])
    assert torch.allclose(seen[hit][:, 0], found.depth[hit], atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_nearest_wins_whatever_the_order(backend) -> None:
    points = torch.cat([_triangle((2.0, 2.0, 2.0)), _triangle((1.0, 1.0, 1.0))])
    for faces, nearest in (([[0, 1, 2], [3, 4, 5]], 1), ([[3, 4, 5], [0, 1, 2]], 0)):
        found = rasterize(points, torch.tensor(faces), height=64, width=64, backend=backend)
        assert set(found.face_id.unique().tolist()) == {-1, nearest}


@pytest.mark.parametrize("backend", BACKENDS)
def test_back_faces(backend) -> None:
    """Counter-clockwise to the eye is the front; with y down that is (4,4) -> (4,60) -> (60,4)."""
    for faces, is_front in ((FACE, True), (FACE[:, [0, 2, 1]], False)):
        culled = rasterize(_triangle(), faces, height=64, width=64, cull_backfaces=True, backend=backend)
        assert bool((culled.face_id >= 0).any()) == is_front
        kept = rasterize(_triangle(), faces, height=64, width=64, backend=backend)
        assert (kept.face_id >= 0).any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_shared_edges_neither_leak_nor_hit_twice(backend) -> None:
    """A triangulated square whose edges run through pixel centres: each centre belongs to one triangle."""
    random = np.random.default_rng(0)
    inner = np.round(random.random((700, 2)) * 64 * 2) / 2 + 0.0
    corners = np.array([[-1, -1], [65, -1], [-1, 65], [65, 65]])
    places = np.unique(np.concatenate([inner, corners]), axis=0)
    faces = torch.from_numpy(Delaunay(places).simplices.astype(np.int64))
    points = torch.cat([torch.from_numpy(places).float(), torch.ones(len(places), 1)], 1)
    found = rasterize(points, faces, height=64, width=64, backend=backend)
    assert (found.face_id >= 0).all()
    count = torch.zeros(64, 64, dtype=torch.int64)
    for face in faces:  # one at a time: the sum over all triangles must be one everywhere
        count += rasterize(points, face[None], height=64, width=64, backend=backend).face_id >= 0
        if backend == "torch" and count.sum() > 600:  # the torch loop is slow; numba covers the whole square
            break
    assert (count <= 1).all()
    assert backend == "torch" or (count == 1).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_triangles_at_the_camera_plane_and_degenerate_ones_are_dropped(backend) -> None:
    for depth in ((1.0, 0.0, 1.0), (1.0, -1.0, 1.0), (1.0, float("nan"), 1.0), (1.0, float("inf"), 1.0)):
        found = rasterize(_triangle(depth), FACE, height=64, width=64, backend=backend)
        assert (found.face_id == -1).all()
    line = torch.tensor([[4.0, 4, 1], [30, 30, 1], [60, 60, 1]])
    assert (rasterize(line, FACE, height=64, width=64, backend=backend).face_id == -1).all()
    far_outside = _triangle() + torch.tensor([1e6, 0, 0])
    assert (rasterize(far_outside, FACE, height=64, width=64, backend=backend).face_id == -1).all()


def _head_points(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    model = load_open_head()
    vertices = model(HeadParams.zeros(model, 1))
    yaw = torch.tensor([0.0, 40.0])
    camera = Camera.orbit(yaw, 0 * yaw, radius=1.6, target=torch.tensor([0.0, 0.12, 0.08]))
    pixels, depth = camera.project(vertices.expand(2, -1, -1), height=size, width=size)
    return torch.cat([pixels, depth[..., None]], -1), model.faces


def test_numba_equals_torch_on_the_open_head_and_batch_equals_singles() -> None:
    points, faces = _head_points(256)
    fast = rasterize(points, faces, height=256, width=256, backend="numba")
    slow = rasterize(points, faces, height=256, width=256, backend="torch")
    assert torch.equal(fast.face_id, slow.face_id)
    assert torch.equal(fast.depth, slow.depth)
    assert torch.allclose(fast.barycentric, slow.barycentric, atol=1e-6)
    alone = rasterize(points[1], faces, height=256, width=256)
    assert torch.equal(alone.face_id, fast.face_id[1])
    seen = interpolate(fast, faces, points)
    assert torch.allclose(seen[1], interpolate(alone, faces, points[1]))


@pytest.mark.parametrize("cull_backfaces", [False, True])
@pytest.mark.parametrize("backend", BACKENDS)
def test_covered_pixels_are_those_that_hit_something(backend, cull_backfaces: bool) -> None:
    """On a head, and where edges run through pixel centres."""
    corners = torch.tensor([[4.5, 4.5, 1.0], [4.5, 20.5, 1.0], [20.5, 4.5, 1.0], [20.5, 20.5, 1.0]])
    head, triangles = _head_points(96)
    for points, faces in ((head[1], triangles), (corners, torch.tensor([[0, 1, 2], [1, 2, 3]]))):
        options = {"height": 96, "width": 96, "cull_backfaces": cull_backfaces, "backend": backend}
        wanted = rasterize(points, faces, **options).face_id >= 0
        found = cover(points, faces, **options)
        assert found.dtype == torch.bool and torch.equal(found, wanted)
        batch = cover(torch.stack([points, points + 1000]), faces, **options)
        assert torch.equal(batch[0], wanted) and not batch[1].any()


def test_interpolated_position_is_the_pixel_centre() -> None:
    """Projecting the surface point under a pixel must give the pixel back; here through the depth-weighted corners."""
    points, faces = _head_points(128)
    found = rasterize(points[0], faces, height=128, width=128)
    in_space = torch.cat([points[0, :, :2] * points[0, :, 2:], points[0, :, 2:]], 1)
    seen = interpolate(found, faces, in_space)
    hit = found.face_id >= 0
    x, y = _pixel_centres(128)
    assert torch.allclose(seen[hit][:, 0] / seen[hit][:, 2], x[hit], atol=1e-2)
    assert torch.allclose(seen[hit][:, 1] / seen[hit][:, 2], y[hit], atol=1e-2)


def test_differentiable_barycentric() -> None:
    points = _triangle((1.0, 2.0, 3.0)).double()
    small = points * torch.tensor([0.1, 0.1, 1.0])
    face_id = rasterize(small, FACE, height=6, width=6).face_id
    expected = rasterize(small, FACE, height=6, width=6).barycentric
    assert torch.allclose(differentiable_barycentric(small, FACE, face_id), expected, atol=1e-6)
    assert torch.autograd.gradcheck(
        lambda value: differentiable_barycentric(value, FACE, face_id), small.clone().requires_grad_()
    )


def test_a_backend_asked_for_by_name_is_never_replaced() -> None:
    if importlib.util.find_spec("pytorch3d") is None:
        with pytest.raises(InputError, match="pytorch3d"):
            rasterize(_triangle(), FACE, height=8, width=8, backend="pytorch3d")
    with pytest.raises(InputError, match="opengl"):
        rasterize(_triangle(), FACE, height=8, width=8, backend="opengl")  # pyright: ignore[reportArgumentType]


def _install_fake(monkeypatch: pytest.MonkeyPatch, name: str, **contents: object) -> None:
    """Makes a module, and the packages that it lies in, importable."""
    parts = name.split(".")
    for count in range(1, len(parts) + 1):
        path = ".".join(parts[:count])
        module = sys.modules.get(path) or ModuleType(path)
        module.__spec__ = ModuleSpec(path, None)
        monkeypatch.setitem(sys.modules, path, module)
    vars(sys.modules[name]).update(contents)


@pytest.fixture
def blind_pytorch3d(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for pytorch3d that can be imported and does nothing."""
    _install_fake(monkeypatch, "pytorch3d.renderer.mesh.rasterize_meshes", rasterize_meshes=None)
    _install_fake(monkeypatch, "pytorch3d.structures", Meshes=None)


def test_auto_takes_only_what_is_compared_with_the_definition(blind_pytorch3d: None) -> None:
    """Also where pytorch3d is installed."""
    assert _best_backend(torch.device("cpu")) == "numba"
    assert _best_backend(torch.device("cuda")) == "torch"


def test_pytorch3d_sees_what_the_definition_sees() -> None:
    """Inside triangles; pixels whose centre lies within rounding of an edge may belong to either."""
    pytest.importorskip("pytorch3d", reason="pytorch3d is not installed: its own page says how")
    head = load_open_head()
    points = head.template @ torch.diag(torch.tensor([500.0, -500.0, -1.0])) + torch.tensor([64.0, 96.0, 2.0])
    wanted = rasterize(points, head.faces, height=128, width=128, backend="torch")
    found = rasterize(points, head.faces, height=128, width=128, backend="pytorch3d")
    assert (found.face_id >= 0).sum() > 1000
    same = found.face_id == wanted.face_id
    assert same.float().mean() > 0.995
    torch.testing.assert_close(found.barycentric[same], wanted.barycentric[same], atol=1e-3, rtol=0)
    torch.testing.assert_close(found.depth[same], wanted.depth[same], atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["torch", "numba", "pytorch3d"])
def test_an_empty_mesh_is_an_empty_picture(name: str, blind_pytorch3d: None) -> None:
    """No vertices, no faces, or everything behind the camera."""
    run = {
        "torch": _rasterize_torch,
        "numba": rasterize_numba,
        "pytorch3d": rasterize_pytorch3d,
    }[name]
    behind = _triangle((-1.0, -1.0, -1.0))
    for points, faces in ((torch.zeros(0, 3), FACE[:0]), (_triangle(), FACE[:0]), (behind, FACE)):
        found = run(points, faces, 4, 5, False)
        assert found.face_id.shape == (4, 5) and (found.face_id == -1).all() and found.face_id.dtype == torch.int64
        assert found.depth.isinf().all() and found.barycentric.shape == (4, 5, 3) and not found.barycentric.any()
