"""What runs beside the losses in training: density regularisation, schedules, averaged weights, by mathematics."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from portrait4d.gan.blur import blur, blur_kernel, blur_sigma
from portrait4d.gan.density import (
    DensityOrderConfig,
    DensityVariationConfig,
    PointRange,
    density_fall,
    density_variation,
    draw_point_pairs,
)
from portrait4d.gan.resolution import neural_resolution
from portrait4d.gan.swap import is_batch_swapped, swap_conditions, swap_probability
from portrait4d.render.decoder import FieldSamples
from portrait4d.train.average import AverageConfig, WeightAverage
from portrait4d.train.lazy import AdamSettings, LazyRegularisation

pytestmark = pytest.mark.usefixtures("one_thread")


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- density ------------------------------------------------------------------------------------


def _linear_field(slope: Tensor):
    return lambda points: FieldSamples(points @ slope, points)


def test_density_variation_of_a_linear_field() -> None:
    """The mean of |slope . step| with a normal step is |slope| * deviation * sqrt(2 / pi)."""
    slope = torch.tensor([3.0, -4.0, 12.0], dtype=torch.float64)
    config = DensityVariationConfig(num_points=40_000)
    found = density_variation(
        _linear_field(slope), batch=2, box_warp=1.3, generator=_seeded(), config=config, like=slope
    )
    assert float(found) == pytest.approx(13 * 0.004 * 1.3 * math.sqrt(2 / math.pi), rel=0.01)
    constant = _linear_field(torch.zeros_like(slope))
    assert density_variation(constant, batch=2, box_warp=1.3, generator=_seeded(), config=config, like=slope) == 0


def test_points_fill_the_cube_and_the_official_range() -> None:
    like = torch.zeros((), dtype=torch.float64)
    ranges: dict[PointRange, float] = {"cube": 0.65, "official": 1.0}
    for point_range, reach in ranges.items():
        config = DensityVariationConfig(num_points=20_000, point_range=point_range)
        points, neighbours = draw_point_pairs(2, 1.3, generator=_seeded(), config=config, like=like)
        assert points.shape == (2, 20_000, 3) and points.dtype == torch.float64
        assert 0.99 * reach < float(points.max()) <= reach and -reach <= float(points.min()) < -0.99 * reach
        assert points.mean([0, 1]).abs().max() < 0.02 * reach
        step = neighbours - points
        assert float(step.std()) == pytest.approx(0.0052, rel=0.02) and step.mean().abs() < 1e-4
    same = draw_point_pairs(2, 1.3, generator=_seeded(), config=config, like=like)
    assert torch.equal(points, same[0]) and torch.equal(neighbours, same[1])
    with pytest.raises(ValueError, match="'cube' or 'official'"):
        draw_point_pairs(1, 1.0, generator=_seeded(), config=DensityVariationConfig(point_range="all"), like=like)  # type: ignore[arg-type]


def test_density_falls_only_behind() -> None:
    """A linear field falls by slope times distance along the depth, or rises, which costs nothing."""
    like = torch.zeros((), dtype=torch.float64)
    slope = torch.tensor([3.0, -4.0, 12.0], dtype=torch.float64)
    config = DensityOrderConfig(num_points=500, distance=0.01)
    found = [
        density_fall(_linear_field(sign * slope), batch=2, box_warp=1.3, generator=_seeded(), config=config, like=like)
        for sign in (1, -1)
    ]
    assert float(found[0]) == pytest.approx(12 * 0.01 * 1.3) and found[1] == 0


@pytest.mark.parametrize("is_front_fixed", [False, True])
def test_a_fixed_front_does_not_learn(is_front_fixed: bool) -> None:
    """With density `c * (1 if in front of z = 0 else 0)`, only points in front that look across the step count."""
    height = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    config = DensityOrderConfig(num_points=2000, distance=0.5, is_front_fixed=is_front_fixed)
    fall = density_fall(
        lambda points: FieldSamples(height * (points[..., 2] > 0), points),
        batch=1, box_warp=1.0, generator=_seeded(), config=config, like=height,
    )  # fmt: skip
    assert fall.item() == pytest.approx(1.0, rel=0.1)  # half of the points lie in front
    (gradient,) = torch.autograd.grad(fall, height, allow_unused=True)
    if is_front_fixed:  # all falls reach the empty half, so that what is behind cannot change either
        assert gradient == 0
    else:
        assert float(gradient) == pytest.approx(fall.item() / 2)


# --- schedules ----------------------------------------------------------------------------------


def test_blur_fades() -> None:
    assert [blur_sigma(count) for count in (0, 50_000, 200_000, 10**9)] == [10.0, 7.5, 0.0, 0.0]
    assert blur_sigma(1, initial_sigma=4.0, fade_images=0) == 0.0


@pytest.mark.parametrize("sigma", [0.0, 0.3, 0.34, 1.0, 2.0, 9.99, 10.0])
def test_blur_kernel(sigma: float) -> None:
    kernel = blur_kernel(sigma)
    radius = math.floor(3 * sigma)
    assert kernel.shape == (2 * radius + 1,)
    assert float(kernel.sum()) == pytest.approx(1.0, abs=1e-6)
    assert kernel.allclose(kernel.flip(0), rtol=1e-6)
    if radius >= sigma > 0 and sigma.is_integer():  # sigma is where the tap is half of the middle one
        assert float(kernel[radius + int(sigma)] / kernel[radius]) == pytest.approx(0.5)


def test_blur_of_a_point_and_of_nothing() -> None:
    picture = torch.zeros(1, 2, 15, 13)
    picture[:, :, 7, 6] = 1
    kernel = blur_kernel(1.5)
    spread = kernel[:, None] * kernel[None, :]
    found = blur(picture, 1.5)
    assert found[0, 0, 3:12, 2:11].allclose(spread) and found.sum([2, 3]).allclose(torch.ones(1, 2))
    assert torch.equal(blur(picture, 0.0), picture)
    with pytest.raises(ValueError, match="-1"):
        blur(picture, -1.0)


def test_swap_probability_fades() -> None:
    found = [swap_probability(count, final=0.8) for count in (0, 500_000, 1_000_000, 10**9)]
    assert found == pytest.approx([1.0, 0.9, 0.8, 0.8])
    assert swap_probability(0, final=0.5, fade_images=0) == 0.5


def test_swapping_takes_the_predecessor_with_the_given_probability() -> None:
    labels = torch.arange(20_000.0)[:, None].expand(-1, 3)
    assert torch.equal(swap_conditions(labels, labels.roll(1, 0), 0.0, generator=_seeded()), labels)
    assert torch.equal(swap_conditions(labels, labels.roll(1, 0), 1.0, generator=_seeded()), labels.roll(1, 0))
    found = swap_conditions(labels, labels.roll(1, 0), 0.3, generator=_seeded())
    is_swapped = (found == labels.roll(1, 0)).all(1)
    assert (is_swapped | (found == labels).all(1)).all()
    assert float(is_swapped.float().mean()) == pytest.approx(0.3, abs=4 * math.sqrt(0.3 * 0.7 / 20_000))
    assert torch.equal(found, swap_conditions(labels, labels.roll(1, 0), 0.3, generator=_seeded()))
    assert not torch.equal(found, swap_conditions(labels, labels.roll(1, 0), 0.3, generator=_seeded(1)))
    with pytest.raises(ValueError, match="1.5"):
        swap_conditions(labels, labels.roll(1, 0), 1.5, generator=_seeded())


def test_a_whole_batch_is_swapped_with_the_given_probability() -> None:
    source = _seeded()
    share = sum(is_batch_swapped(0.3, generator=source) for _ in range(5000)) / 5000
    assert share == pytest.approx(0.3, abs=4 * math.sqrt(0.3 * 0.7 / 5000))
    assert is_batch_swapped(1.0, generator=source) and not is_batch_swapped(0.0, generator=source)
    with pytest.raises(ValueError, match="-0.1"):
        is_batch_swapped(-0.1, generator=source)


def test_the_rendered_side_grows() -> None:
    found = [neural_resolution(count, initial=64, final=128, fade_images=100) for count in (0, 1, 50, 100, 10**9)]
    assert found == [64, 65, 96, 128, 128]
    late = [neural_resolution(count, initial=64, final=32, fade_images=0, start_images=10) for count in (0, 9, 10, 99)]
    assert late == [64, 64, 32, 32]


def test_lazy_regularisation() -> None:
    lazy = LazyRegularisation(16)
    found = lazy.correct(AdamSettings(0.002, (0.0, 0.99)))
    assert found.learning_rate == pytest.approx(0.0018824, abs=1e-7)
    assert found.betas == (0.0, pytest.approx(0.99 ** (16 / 17)))
    assert found.betas[1] ** 17 == pytest.approx(0.99**16)  # 17 steps forget as much as 16 were meant to
    steps = range(64)
    assert sum(lazy.gain for step in steps if lazy.is_due(step)) == len(steps) and lazy.is_due(0)
    with pytest.raises(ValueError, match="got 0"):
        LazyRegularisation(0)


# --- averaged weights ---------------------------------------------------------------------------


def _constant_network(value: float) -> nn.BatchNorm1d:
    network = nn.BatchNorm1d(2)
    nn.init.constant_(network.weight, value)
    network.running_mean = torch.full((2,), value)
    return network


def _norm(average: WeightAverage) -> Any:
    """The averaged `_constant_network`."""
    return average.network


def test_average_has_its_half_life() -> None:
    average = WeightAverage(_constant_network(1.0), AverageConfig(half_life_images=500.0, ramp_up=None))
    target = _constant_network(0.0)
    for step in range(10):
        average.update(target, num_images=50 * step, batch_size=50)
    assert _norm(average).weight.allclose(torch.tensor(0.5))
    assert _norm(average).running_mean.equal(torch.zeros(2))  # buffers are copied, not averaged
    assert not average.network.training and not any(value.requires_grad for value in average.network.parameters())


def test_average_ramps_up() -> None:
    average = WeightAverage(_constant_network(1.0))
    assert average.decay(num_images=0, batch_size=32) == 0.0
    assert average.decay(num_images=20_000, batch_size=32) == pytest.approx(0.5 ** (32 / 1000))
    assert average.decay(num_images=10**7, batch_size=32) == pytest.approx(0.5 ** (32 / 10_000))
    average.update(_constant_network(3.0), num_images=0, batch_size=32)
    assert _norm(average).weight.equal(torch.full((2,), 3.0))


def test_average_is_saved_and_belongs_to_one_network() -> None:
    average = WeightAverage(_constant_network(1.0))
    average.update(_constant_network(0.0), num_images=1000, batch_size=32)
    other = WeightAverage(_constant_network(5.0))
    other.load_state_dict(average.state_dict())
    assert _norm(other).weight.equal(_norm(average).weight)
    with pytest.raises(ValueError, match="expected the network that is averaged"):
        average.update(nn.Linear(2, 2), num_images=0, batch_size=1)
