"""The parts of the embedded engine that need no head model: canvas, sheet, drawing, light."""

import numpy as np
import pytest
import torch

from flame.mesh.raster import rasterize
from portrait4d.engines.lift.canvas import MARGIN, cut_canvas, fill, split_canvas
from portrait4d.engines.lift.draw import blur, bounding_box, put_over, shade, soften_edges
from portrait4d.engines.lift.eyeballs import complete_eye
from portrait4d.engines.lift.lighting import fit_light, harmonics, shading_ratio
from portrait4d.engines.lift.matte import refine_matte
from portrait4d.engines.lift.sheet import extend, make_grid
from preprocess.faces.crop import Crop


def test_person_over_background_is_the_photo_for_any_matte():
    random = np.random.default_rng(0)
    photo = random.random((96, 96, 3)).astype(np.float32)
    alpha = random.random((96, 96)).astype(np.float32)
    canvas = split_canvas(photo, np.ones((96, 96), bool), alpha)
    restored = canvas.person + (1 - alpha[..., None]) * canvas.background
    assert np.abs(restored - photo).max() < 1e-6


def test_canvas_shows_the_crop_at_its_margin():
    image = np.random.default_rng(1).integers(0, 255, (300, 300, 3), np.uint8)
    matrix = np.array([[1, 0, -20.0], [0, 1, -30.0], [0, 0, 1]])
    photo = cut_canvas(image, Crop(matrix, 200, (300, 300)))
    inside = photo[MARGIN : MARGIN + 200, MARGIN : MARGIN + 200]
    assert np.array_equal(np.round(inside * 255).astype(np.uint8), image[30:230, 20:220])
    assert np.abs(photo[MARGIN - 31] - photo[MARGIN - 29]).max() < 1e-6  # mirrored above the photo


def test_canvas_of_a_large_noisy_photo_is_the_crop():
    image = np.random.default_rng(2).integers(0, 255, (700, 800, 3), np.uint8)
    crop = Crop.from_square((390.0, 350.0), 500.0, size=200, image_size=(700, 800))
    photo = cut_canvas(image, crop)
    inside = np.round(photo[MARGIN:-MARGIN, MARGIN:-MARGIN] * 255)
    assert np.abs(inside - crop.apply(image)).max() <= 1


def test_fill_keeps_known_pixels_and_continues_a_constant():
    image = np.full((64, 64, 3), 0.3, np.float32)
    known = np.ones((64, 64), bool)
    known[20:40, 20:40] = False
    image[~known] = 99
    assert np.abs(fill(image, known) - 0.3).max() < 1e-5


def test_matte_edge_moves_onto_the_photo_edge():
    photo = np.zeros((80, 80, 3), np.float32)
    photo[:, 40:] = 0.8
    coarse = np.zeros((80, 80), np.float32)
    coarse[:, 43:] = 1  # three pixels off
    refined = refine_matte(photo, coarse)
    row = refined[40]
    crossing = int(np.argmax(row > 0.5))
    assert abs(crossing - 40) <= 1 and (np.diff(row[30:50]) > -0.2).all()


def test_harmonic_extension_reproduces_a_linear_function():
    grid = make_grid(160, 160)
    linear = 0.3 * grid.points[:, 0] - 0.1 * grid.points[:, 1] + 5
    edge = (grid.points[:, 0] % 160 == 0) | (grid.points[:, 1] % 160 == 0)
    assert np.abs(extend(grid, linear.astype(np.float32), edge) - linear).max() < 1e-2


def test_screened_extension_decays_and_keeps_fixed_points():
    grid = make_grid(160, 160)
    fixed = grid.points[:, 0] == 0
    values = extend(grid, fixed.astype(np.float32), fixed, screening=0.05).reshape(grid.rows, grid.columns)
    assert (values[:, 0] == 1).all() and (np.diff(values, axis=1) < 0).all() and values[:, -1].max() < 0.05


def _scene(seed: int = 0):
    grid = make_grid(64, 64)
    random = np.random.default_rng(seed)
    moved = grid.points + random.normal(0, 1.5, grid.points.shape)
    screen = torch.from_numpy(np.concatenate([moved, 1 + 0.05 * random.random((len(moved), 1))], 1)).float()
    faces, uv = torch.from_numpy(grid.faces), torch.from_numpy(grid.points)
    return screen, faces, uv, torch.from_numpy(random.random((64, 64, 4))).float(), grid


def test_unmoved_surface_draws_its_texture():
    _, faces, uv, texture, grid = _scene()
    screen = torch.cat([uv, torch.rand(len(uv), 1, generator=torch.Generator().manual_seed(0)) + 1], 1)
    fragments = rasterize(screen, faces, height=64, width=64)
    drawn = shade(fragments, screen, faces, uv, torch.ones(len(uv)), texture)
    assert (drawn - texture).abs().max() < 1e-4


def test_numba_shading_equals_torch():
    screen, faces, uv, texture, grid = _scene()
    gain = torch.linspace(0.5, 1.5, len(uv))
    fragments = rasterize(screen, faces, height=64, width=64)
    fast = shade(fragments, screen, faces, uv, gain, texture, backend="numba")
    slow = shade(fragments, screen, faces, uv, gain, texture, backend="torch")
    assert (fast - slow).abs().max() < 1e-4


def test_over_with_opaque_and_empty_layers():
    target = torch.rand(4, 4, 4, generator=torch.Generator().manual_seed(0))
    before = target.clone()
    put_over(target, torch.zeros(4, 4, 4))
    assert torch.equal(target, before)
    put_over(target, torch.tensor([0.2, 0.2, 0.2, 1.0]).expand(4, 4, 4))
    assert torch.allclose(target, torch.tensor([0.2, 0.2, 0.2, 1.0]))


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_softening_touches_only_edges_in_depth(backend):
    generator = torch.Generator().manual_seed(0)
    layer = torch.rand(24, 24, 4, generator=generator)
    depth = torch.ones(24, 24)
    depth[6:10, 6:10] = torch.inf  # an opening
    depth[:, 18:] = 1.05  # a fold
    assert soften_edges(layer, depth, 0.0, backend=backend) is layer
    soft = soften_edges(layer, depth, 1.0, backend=backend)
    changed = (soft != layer).any(-1)
    assert changed[5:11, 5].all() and changed[:, 17:19].all()
    assert not changed[:4, :16].any() and not changed[12:, :16].any() and not changed[7:9, 7:9].any()
    assert torch.allclose(soft[12, 17], layer[11:14, 16:19].mean((0, 1)), atol=1e-6)


def test_softening_backends_agree():
    generator = torch.Generator().manual_seed(1)
    layer, depth = torch.rand(32, 32, 4, generator=generator), 1 + 0.004 * torch.rand(32, 32, generator=generator)
    depth[torch.rand(32, 32, generator=generator) < 0.2] = torch.inf
    fast = soften_edges(layer, depth, 0.7, step=0.003, backend="numba")
    assert (fast - soften_edges(layer, depth, 0.7, step=0.003, backend="torch")).abs().max() < 1e-5


def test_means_and_layers_of_both_backends_agree():
    generator = torch.Generator().manual_seed(2)
    layer, picture = torch.rand(9, 13, 4, generator=generator), torch.rand(11, 17, 4, generator=generator)
    mean = blur(layer, backend="numba")
    assert (mean - blur(layer, backend="torch")).abs().max() < 1e-6
    assert torch.allclose(mean[4, 6], layer[3:6, 5:8].mean((0, 1))) and torch.allclose(
        mean[0, 0], layer[:2, :2].mean((0, 1))
    )
    parts = [picture.clone()[1:10, 2:15] for _ in range(2)]  # in place, also in a part of a picture
    for part, backend in zip(parts, ("torch", "numba"), strict=True):
        put_over(part, layer, backend=backend)
    assert (parts[0] - parts[1]).abs().max() < 1e-6
    assert torch.allclose(parts[0][0, 0], picture[1, 2] * (1 - layer[0, 0, 3]) + layer[0, 0])


def test_bounding_box_is_clipped_or_none():
    points = torch.tensor([[-5.0, 3.0, 1], [4.0, 90.0, 1]])
    assert bounding_box(points, 64, 64) == (1, 0, 64, 6)
    assert bounding_box(points - torch.tensor([100.0, 0, 0]), 64, 64) is None


@pytest.mark.parametrize("direction", [(0.3, 0.0, 0.2), (-0.2, 0.25, 0.1)])
def test_light_is_recovered_and_turns_the_right_way(direction):
    random = np.random.default_rng(0)
    normals = random.normal(size=(2000, 3))
    normals[:, 2] = np.abs(normals[:, 2])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    shading = (0.3 * (1 + normals @ np.array(direction))) ** (1 / 2.2)  # linear light, in a photo
    photo = np.repeat(shading[None, :, None], 3, 2).astype(np.float32)
    uv = np.stack([np.arange(2000) + 0.5, np.full(2000, 0.5)], -1)
    light = fit_light(photo, uv, normals)
    fitted, truth = harmonics(torch.from_numpy(normals)).numpy() @ light, shading**2.2
    assert np.abs(fitted * np.median(truth) / truth - 1)[normals[:, 2] > 0.2].max() < 0.03
    before = torch.tensor([[0.0, 0.0, 1.0]])
    towards = torch.nn.functional.normalize(torch.tensor([[direction]]) + before, dim=-1).float()
    assert shading_ratio(torch.from_numpy(light), before, before[None]).item() == 1
    toward_light = (towards[0, 0] - before[0]) @ torch.tensor(direction)
    assert (shading_ratio(torch.from_numpy(light), before, towards).item() > 1) == bool(toward_light > 0)


def test_the_white_of_an_eye_is_continued_without_its_lashes() -> None:
    """Lids that open wider than in the photo showed a band as dark as lashes."""
    side, angle = 128, np.linspace(0, 2 * np.pi, 16, endpoint=False)
    lids = np.stack([64 + 44 * np.cos(angle), 64 + 20 * np.sin(angle)], 1)
    iris = np.array([[64, 64], [54, 64], [74, 64], [64, 54], [64, 74]], np.float64)
    y, x = np.mgrid[:side, :side] + 0.5
    photo = np.full((side, side, 3), 0.55, np.float32)
    inside = ((x - 64) / 44) ** 2 + ((y - 64) / 20) ** 2 < 1
    photo[inside] = 0.9
    photo[inside & (((x - 64) / 40) ** 2 + ((y - 69) / 19) ** 2 > 1)] = 0.1  # lashes below the upper lid
    photo[np.hypot(x - 64, y - 64) < 10] = (0.3, 0.2, 0.1)
    part = complete_eye(photo, lids, iris)
    wide, completed = photo.copy(), photo.copy()
    wide[part.rows, part.columns], completed[part.rows, part.columns] = part.free, part.seen
    for column in (40, 88):
        assert wide[42, column].min() > 0.6
    assert np.array_equal(completed[60:68, 40:88], photo[60:68, 40:88])  # what the photo shows stays
