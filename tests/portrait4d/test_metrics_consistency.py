"""Agreement of views on scenes whose answer is known, identity and diversity by their mathematics."""

import math

import pytest
import torch
from torch import Tensor

from flame.geometry.camera import Camera
from portrait4d.metrics.consistency import DepthKind, View, diversity, identity_agreement, view_agreement
from portrait4d.render.rays import cast_rays

SIDE = 64
RADIUS = 0.1


def look(yaw_degrees: float) -> Camera:
    return Camera.orbit(torch.tensor([yaw_degrees]), torch.zeros(1), radius=1.0, target=torch.zeros(3), fov_degrees=16)


def ball(camera: Camera, *, depth_kind: DepthKind = "ray", radius: float = RADIUS, lift: float = 0.0) -> View:
    """A ball whose colour is its surface's place: every view of it agrees with every other."""
    rays = cast_rays(camera, height=SIDE, width=SIDE)
    middle = -(rays.origins * rays.directions).sum(-1)
    inside = radius**2 - rays.origins.square().sum(-1) + middle**2
    depth = torch.where(inside > 0, middle - inside.clamp(min=0).sqrt(), torch.inf)
    points = rays.origins + torch.where(inside > 0, depth, 0)[..., None] * rays.directions
    colour = torch.where(inside[..., None] > 0, points / radius, -1.0)
    if depth_kind == "axis":
        depth = depth * -(rays.directions * camera.cam2world[:, None, :3, 2]).sum(-1)
    image = colour.transpose(1, 2).reshape(1, 3, SIDE, SIDE)
    return View(image, (depth + lift).reshape(1, 1, SIDE, SIDE), camera, depth_kind)


@pytest.mark.parametrize("kinds", [("ray", "ray"), ("axis", "axis"), ("ray", "axis"), ("axis", "ray")])
def test_true_views_of_a_ball_agree(kinds: tuple[DepthKind, DepthKind]) -> None:
    first, second = (ball(look(yaw), depth_kind=kind) for yaw, kind in zip((-10.0, 10.0), kinds, strict=True))
    found = view_agreement(first, second, tolerance=0.01)
    assert found.colour.item() < 0.02 and found.depth.item() < 0.004
    assert 0.8 < found.covered.item() < 1


def test_a_view_agrees_with_itself() -> None:
    view = ball(look(5.0))
    found = view_agreement(view, view, tolerance=1e-3)
    assert found.colour.item() < 1e-4 and found.depth.item() < 1e-5 and found.covered.item() == 1


def test_a_wrong_depth_and_a_wrong_colour_show() -> None:
    first, second = ball(look(-10.0)), ball(look(10.0))
    near = view_agreement(ball(look(-10.0), lift=-0.02), second, tolerance=0.1)
    true = view_agreement(first, second, tolerance=0.1)
    assert near.depth.item() == pytest.approx(0.02, rel=0.3)
    assert near.colour.item() > 3 * true.colour.item()
    painted = View(second.image + 0.5, second.depth, second.camera)
    assert view_agreement(first, painted, tolerance=0.01).colour.item() == pytest.approx(0.5, abs=0.02)


def test_a_flat_billboard_is_worse_than_the_ball() -> None:
    """A generator that turns the same flat picture to every camera: on smooth pictures the depth tells, not colours."""
    views = [ball(look(yaw)) for yaw in (-15.0, 15.0)]
    flat = [View(views[0].image, torch.where(view.depth.isfinite(), 1.0, torch.inf), view.camera) for view in views]
    assert view_agreement(*flat, tolerance=0.05).depth > 4 * view_agreement(*views, tolerance=0.05).depth
    assert view_agreement(*flat, tolerance=0.01).covered < 0.5 * view_agreement(*views, tolerance=0.01).covered


def test_views_that_share_nothing_have_no_error() -> None:
    first, second = ball(look(0.0)), ball(look(180.0))
    found = view_agreement(first, second, tolerance=0.01)
    assert found.covered.item() < 0.05
    empty = View(first.image, torch.full_like(first.depth, torch.inf), first.camera)
    assert math.isnan(view_agreement(empty, second, tolerance=0.01).colour.item())


def test_agreement_of_a_batch_is_that_of_its_members() -> None:
    pairs = [(ball(look(yaw)), ball(look(yaw + 12))) for yaw in (-20.0, 0.0)]
    joined = [
        View(
            torch.cat([pair[side].image for pair in pairs]),
            torch.cat([pair[side].depth for pair in pairs]),
            Camera(*(torch.cat([getattr(p[side].camera, n) for p in pairs]) for n in ("cam2world", "intrinsics"))),
        )
        for side in (0, 1)
    ]
    found = view_agreement(joined[0], joined[1], tolerance=0.01)
    for index, (first, second) in enumerate(pairs):
        alone = view_agreement(first, second, tolerance=0.01)
        assert found.colour[index].item() == pytest.approx(alone.colour.item(), rel=1e-4)
        assert found.covered[index].item() == pytest.approx(alone.covered.item())


def test_shapes_of_a_view_are_checked() -> None:
    with pytest.raises(ValueError, match=r"depth \[B, 1, H, W\] of 1 cameras"):
        View(torch.zeros(1, 3, 4, 4), torch.zeros(1, 4, 4), look(0.0))


def mean_colour(images: Tensor) -> Tensor:
    return images.mean((2, 3))


def test_identity_is_the_cosine_between_views_of_a_head_and_between_heads() -> None:
    colours = torch.tensor([[[1.0, 0, 0], [1, 0, 0]], [[0, 1.0, 0], [0, 0.6, 0.8]], [[0, 0, 2.0], [0, 0, 1]]])
    same, different = identity_agreement(colours[..., None, None].expand(3, 2, 3, 4, 4), mean_colour)
    assert same.tolist() == pytest.approx([1, 0.6, 1])
    assert different.tolist() == pytest.approx([0, 0.2, 0.2])


def test_identity_of_one_head_has_no_other_to_compare_with() -> None:
    same, different = identity_agreement(torch.ones(1, 3, 3, 4, 4), mean_colour)
    assert same.item() == pytest.approx(1) and math.isnan(different.item())
    with pytest.raises(ValueError, match="V of at least 2"):
        identity_agreement(torch.ones(4, 1, 3, 4, 4), mean_colour)


def test_diversity_is_the_mean_difference_of_pairs() -> None:
    levels = torch.tensor([0.0, 0.5, 1.0])
    pictures = levels[:, None, None, None].expand(3, 3, 2, 2)
    assert diversity(pictures).item() == pytest.approx((0.5 + 1 + 0.5) / 3)
    assert diversity(pictures[:1].expand(4, 3, 2, 2)).item() == 0
    with pytest.raises(ValueError, match="at least 2"):
        diversity(pictures[:1])
