"""The renderer on scenes whose depth, opacity and colour are known exactly, and what must not change its results."""

from dataclasses import dataclass, replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from flame.geometry.camera import Camera
from portrait4d.render.decoder import FieldSamples, TriPlaneDecoder
from portrait4d.render.field import TriPlaneField
from portrait4d.render.march import march
from portrait4d.render.planes import PlaneLayout, TriPlanes
from portrait4d.render.rays import Rays, cast_rays
from portrait4d.render.renderer import RenderConfig, render, render_rays
from portrait4d.render.sampling import DepthRange, box_range, even_depths
from portrait4d.render.shares import interval_weights

SIZE = 24
COLOUR = torch.tensor([0.8, 0.5, 0.2], dtype=torch.float64)
RADIUS = 0.3


@dataclass(frozen=True)
class Homogeneous:
    """The same raw density and colour everywhere."""

    raw: float

    def __call__(self, points: Tensor) -> FieldSamples:
        return FieldSamples(torch.full_like(points[..., 0], self.raw), COLOUR.expand_as(points))

    @property
    def density(self) -> float:
        """Per world unit: softplus(raw - 1)."""
        return float(F.softplus(torch.tensor(self.raw - 1.0, dtype=torch.float64)))


@dataclass(frozen=True)
class OpaqueBall:
    """Nothing outside, everything absorbed inside; the colour says the place."""

    def __call__(self, points: Tensor) -> FieldSamples:
        is_inside = points.norm(dim=-1) < RADIUS
        return FieldSamples(torch.where(is_inside, 1e7, -1e3).to(points), points + 0.5)


def camera_at(distance: float, *, yaw: float = 0.0, fov: float = 40.0) -> Camera:
    yaws = torch.tensor([yaw], dtype=torch.float64)
    target = torch.zeros(3, dtype=torch.float64)
    return Camera.orbit(yaws, 0.5 * yaws, radius=distance, target=target, fov_degrees=fov)


def ball_depths(rays: Rays) -> Tensor:
    """Distance `[B, R]` to the ball's surface, infinite where a ray passes it."""
    nearest = -(rays.origins * rays.directions).sum(-1)
    passing = (rays.origins + nearest[..., None] * rays.directions).norm(dim=-1)
    half_chord = (RADIUS**2 - passing**2).clamp(min=0).sqrt()
    return torch.where(passing < RADIUS, nearest - half_chord, torch.inf)


def random_field(*, batch: int = 1, layout: PlaneLayout = "orthogonal") -> TriPlaneField:
    generator = torch.Generator().manual_seed(3)
    planes = torch.randn(batch, 3, 4, 8, 8, generator=generator, dtype=torch.float64)
    decoder = TriPlaneDecoder(4, 3, hidden_channels=8).double()
    with torch.no_grad():
        for value in decoder.parameters():
            value.copy_(torch.randn(value.shape, generator=generator))
    return TriPlaneField(TriPlanes(2 * planes, layout, 1.0), decoder)


SMALL = RenderConfig(range_mode="box", box_warp=1.0, num_coarse=10, num_fine=7)


@pytest.mark.parametrize("num_fine", [0, 9])
@pytest.mark.parametrize("raw", [-2.0, 1.0, 4.0])
def test_slab_absorbs_by_beer_and_lambert(raw: float, num_fine: int):
    """Constant density: the sum over intervals telescopes, so any number of samples gives the exact values."""
    config = RenderConfig(near=2.0, far=3.2, num_coarse=12, num_fine=num_fine)
    field = Homogeneous(raw)
    seen = render(field, camera_at(2.6), config, height=SIZE, width=SIZE)
    opacity = 1 - torch.exp(torch.tensor(-field.density * 1.2, dtype=torch.float64))
    assert torch.allclose(seen.alpha, opacity.expand_as(seen.alpha), atol=2e-9)
    assert torch.allclose(seen.features, (opacity * COLOUR)[None, :, None, None].expand_as(seen.features), atol=2e-9)


def test_slab_depth_is_the_mean_free_path():
    config = RenderConfig(near=2.0, far=3.2, num_coarse=400, num_fine=0)
    field, half_gap = Homogeneous(4.0), 0.5 * 1.2 / 399
    seen = render(field, camera_at(2.6), config, height=2, width=2)
    passed = torch.exp(torch.tensor(-field.density * 1.2, dtype=torch.float64))
    expected = 2.0 + half_gap + 1 / field.density - 1.2 * passed / (1 - passed)
    assert torch.allclose(seen.depth, expected.expand_as(seen.depth), atol=1e-4)


def test_cube_absorbs_by_the_length_of_each_ray_in_it():
    """Straight through front and back: the length is the side over the cosine to the axis."""
    seen = render(Homogeneous(2.0), camera_at(3.0, fov=10.0), SMALL, height=SIZE, width=SIZE)
    rays = cast_rays(camera_at(3.0, fov=10.0), height=SIZE, width=SIZE)
    length = 1.0 / rays.directions[..., 2].abs()
    expected = 1 - torch.exp(-Homogeneous(2.0).density * length)
    assert torch.allclose(seen.alpha.flatten(), expected.flatten(), atol=2e-9)
    assert length.max() > 1.005  # else the test would not see a wrong cosine


@pytest.mark.parametrize(("num_coarse", "num_fine"), [(40, 0), (160, 0), (40, 40)])
def test_opaque_ball_is_met_where_it_begins(num_coarse: int, num_fine: int):
    config = replace(SMALL, num_coarse=num_coarse, num_fine=num_fine)
    camera = camera_at(2.0, yaw=25.0, fov=22.0)
    seen = render(OpaqueBall(), camera, config, height=SIZE, width=SIZE)
    rays = cast_rays(camera, height=SIZE, width=SIZE)
    exact, depth, alpha = ball_depths(rays)[0], seen.depth.flatten(), seen.alpha.flatten()
    bounds = box_range(rays, box_warp=1.0)
    assert isinstance(bounds.near, Tensor) and isinstance(bounds.far, Tensor)
    gap = ((bounds.far - bounds.near) / (num_coarse - 1))[0, :, 0]
    nearest = -(rays.origins * rays.directions).sum(-1)[0]
    is_sure = exact.isfinite() & (nearest - exact > gap)  # a chord of two gaps holds a sample
    assert is_sure.sum() > 100 and exact.isinf().sum() > 100
    assert torch.allclose(alpha[is_sure], torch.ones_like(alpha[is_sure]), atol=1e-9)
    assert (depth - exact)[is_sure].abs().le(gap[is_sure] / 2 + 1e-9).all()
    assert (alpha[exact.isinf()] == 0).all()
    place = rays.at(exact[None, :, None])[0, :, 0]
    error = (seen.features[0].flatten(1).T - 0.5 - place)[is_sure].norm(dim=-1)
    assert (error <= gap[is_sure] / 2 + 1e-9).all()


def test_second_pass_finds_the_surface_better():
    camera = camera_at(2.0, yaw=25.0, fov=22.0)
    exact = ball_depths(cast_rays(camera, height=SIZE, width=SIZE))[0]
    errors = []
    for num_fine in (0, 40):
        config = replace(SMALL, num_coarse=40, num_fine=num_fine)
        depth = render(OpaqueBall(), camera, config, height=SIZE, width=SIZE).depth.flatten()
        errors.append((depth - exact)[exact.isfinite()].abs().median())
    assert errors[1] < errors[0] / 5


def test_ball_appears_where_its_centre_is_projected():
    centre = torch.tensor([0.12, 0.17, -0.05], dtype=torch.float64)
    camera = camera_at(2.0, yaw=25.0, fov=22.0)
    seen = render(lambda points: OpaqueBall()((points - centre) * 3), camera, SMALL, height=SIZE, width=SIZE)
    pixels, _ = camera.project(centre[None, None], height=SIZE, width=SIZE)
    row, column = torch.meshgrid(torch.arange(SIZE) + 0.5, torch.arange(SIZE) + 0.5, indexing="ij")
    weight = seen.alpha[0, 0] / seen.alpha.sum()
    found = torch.stack([(weight * column).sum(), (weight * row).sum()])
    assert (found - pixels[0, 0]).abs().max() < 0.3
    assert (pixels[0, 0] - SIZE / 2).abs().min() > 2


@pytest.mark.parametrize(("layout", "axes"), [("orthogonal", ("xy", "yz", "zx")), ("eg3d", ("xy", "xz", "zx"))])
def test_planes_that_hold_their_coordinates_give_them_back(layout: PlaneLayout, axes: tuple[str, ...]):
    """Texel centres of a ramp: bilinear reading is exact between them, (horizontal, vertical) by the layout's names."""
    side, box_warp = 8, 3.0
    ramp = ((torch.arange(side) + 0.5) / side - 0.5) * box_warp
    plane = torch.stack([ramp.expand(side, side), ramp[:, None].expand(side, side)])
    points = torch.rand(1, 50, 3, generator=torch.Generator().manual_seed(2)) * 2.4 - 1.2
    read = TriPlanes(plane.expand(1, 3, -1, -1, -1), layout, box_warp).sample_each(points)
    for index, (horizontal, vertical) in enumerate(axes):
        expected = points[0][:, ["xyz".index(horizontal), "xyz".index(vertical)]]
        assert torch.allclose(read[0, index], expected, atol=1e-5)


@pytest.mark.parametrize("is_white", [False, True])
def test_rays_past_the_cube_see_the_background(is_white: bool):
    """The field would be opaque there: only the mask keeps it out."""
    config = replace(SMALL, has_white_background=is_white)
    camera = camera_at(3.0, fov=60.0)
    seen = render(Homogeneous(1e4), camera, config, height=SIZE, width=SIZE)
    hits = box_range(cast_rays(camera, height=SIZE, width=SIZE), box_warp=1.0).hits
    assert hits is not None and 50 < hits.sum() < SIZE * SIZE - 50
    hits = hits.unflatten(1, (SIZE, SIZE))[0]
    assert (seen.alpha[0, 0, ~hits] == 0).all()
    assert torch.allclose(seen.alpha[0, 0, hits], torch.ones(1, dtype=torch.float64), atol=2e-9)
    assert (seen.depth[0, 0].isinf() == ~hits).all()
    assert (seen.features[0, :, ~hits] == float(is_white)).all()
    assert torch.allclose(seen.features[0, :, hits], COLOUR[:, None].expand(3, int(hits.sum())))


def test_white_background_shines_through():
    black = render(Homogeneous(1.0), camera_at(2.0), SMALL, height=8, width=8)
    white = render(Homogeneous(1.0), camera_at(2.0), replace(SMALL, has_white_background=True), height=8, width=8)
    assert torch.allclose(white.features, black.features + 1 - black.alpha, atol=1e-12)
    assert 0.1 < float(black.alpha.mean()) < 0.9


@pytest.mark.parametrize("layout", ["eg3d", "orthogonal"])
def test_gradient_of_sampling(layout: PlaneLayout):
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(2, 3, 2, 5, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    points = torch.rand(2, 6, 3, generator=generator, dtype=torch.float64) * 1.4 - 0.7
    points.requires_grad_()
    assert torch.autograd.gradcheck(lambda f, p: TriPlanes(f, layout, 1.3).sample(p), (features, points))


def test_gradient_of_marching():
    generator = torch.Generator().manual_seed(1)
    depths = torch.rand(1, 3, 6, generator=generator, dtype=torch.float64).sort(-1).values.requires_grad_()
    densities = torch.randn(1, 3, 6, generator=generator, dtype=torch.float64).mul_(3).requires_grad_()
    features = torch.rand(1, 3, 6, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(interval_weights, (depths, densities))
    shuffle = torch.randperm(6, generator=generator)

    def sums(depths: Tensor, densities: Tensor, features: Tensor) -> tuple[Tensor, ...]:
        marched = march(depths[..., shuffle], densities[..., shuffle], features[..., shuffle, :])
        return marched.features, marched.depth, marched.opacity

    assert torch.autograd.gradcheck(sums, (depths, densities, features))


@torch.no_grad()
def test_batch_equals_singles():
    field = random_field(batch=2)
    yaw, pitch = torch.tensor([[10.0, -30.0], [0.0, 5.0]], dtype=torch.float64)
    cameras = Camera.orbit(yaw, pitch, radius=2.0, target=torch.zeros(3))
    together = render(field, cameras, SMALL, height=6, width=6)
    for index in range(2):
        single = TriPlaneField(field.planes[index : index + 1], field.decoder)
        alone = render(single, cameras[index], SMALL, height=6, width=6)
        for name in ("features", "depth", "alpha"):
            assert torch.allclose(getattr(together, name)[index], getattr(alone, name)[0], atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("is_noisy", [False, True])
def test_chunked_equals_whole(is_noisy: bool):
    pictures = []
    for max_points in (2**20, 35):
        generator = torch.Generator().manual_seed(5) if is_noisy else None
        pictures.append(
            render(random_field(), camera_at(2.0), SMALL, height=6, width=6, generator=generator, max_points=max_points)
        )
    for name in ("features", "depth", "alpha"):
        assert torch.allclose(getattr(pictures[0], name), getattr(pictures[1], name), atol=1e-12)


@torch.no_grad()
def test_noise_comes_from_the_generator_alone():
    def picture(seed: int | None) -> Tensor:
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        return render(random_field(), camera_at(2.0), SMALL, height=6, width=6, generator=generator).features

    assert torch.equal(picture(5), picture(5))
    assert not torch.allclose(picture(5), picture(6), atol=1e-6)
    assert torch.equal(picture(None), picture(None))
    assert not torch.allclose(picture(5), picture(None), atol=1e-6)


@pytest.mark.slow
def test_gradient_of_a_pixel():
    """Planes, decoder and camera rays together; one pass, since the second one's places carry no gradient."""
    field = random_field()
    rays = cast_rays(camera_at(2.0, yaw=20.0), height=2, width=2)
    config = replace(SMALL, num_fine=0)

    def pixels(features: Tensor, origins: Tensor) -> tuple[Tensor, Tensor]:
        planes = TriPlanes(features, "orthogonal", 1.0)
        moved = Rays(origins, rays.directions)
        marched = render_rays(TriPlaneField(planes, field.decoder), moved, config, depth_range=DepthRange(1.5, 2.5))
        return marched.features, marched.opacity

    features = field.planes.features.detach().requires_grad_()
    assert torch.autograd.gradcheck(pixels, (features, rays.origins.clone().requires_grad_()))


def test_a_ray_that_meets_nothing_has_a_finite_gradient() -> None:
    """Its depth is infinite; dividing by its opacity of zero poisoned every parameter."""
    depths = torch.linspace(1, 2, 8, dtype=torch.float64).expand(1, 2, 8)
    density = torch.tensor([-2000.0, 3.0], dtype=torch.float64)[None, :, None].expand(1, 2, 8).clone().requires_grad_()
    marched = march(depths, density, torch.zeros(1, 2, 8, 1, dtype=torch.float64))
    assert marched.depth[0, 0].isinf() and marched.depth[0, 1].isfinite()
    marched.depth.clamp(max=2.0).sum().backward()
    assert density.grad is not None and density.grad.isfinite().all() and density.grad[0, 1].abs().max() > 0


def test_disparity_that_runs_over_infinity_is_refused() -> None:
    with pytest.raises(ValueError, match="beyond infinity"):
        even_depths(DepthRange(0.1, 2.6), 8, torch.full((1, 1, 8), 0.5), is_disparity=True)


def test_sampling_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 3 even samples"):
        RenderConfig(num_coarse=0)
    with pytest.raises(ValueError, match="box_warp must be positive"):
        RenderConfig(box_warp=0.0)
