"""Small pieces of the training steps against those of the official code: blur, resizing, schedules, optimisers.

The units of the reconstructor's losses are in `test_losses.py`.
"""

from pathlib import Path

import pytest

from golden import Fixture
from portrait4d.gan.blur import blur, blur_kernel, blur_sigma
from portrait4d.gan.distortion import distortion
from portrait4d.gan.resolution import neural_resolution
from portrait4d.gan.swap import swap_probability
from portrait4d.ops.resample import resize
from portrait4d.train.average import AverageConfig, WeightAverage
from portrait4d.train.lazy import AdamSettings, LazyRegularisation

OPERATION = 1e-5


@pytest.fixture(scope="module")
def units(shared: Path) -> Fixture:
    return Fixture.load(shared, "train_units")


def test_blur(units: Fixture) -> None:
    for sigma in (10.0, 6.0, 3.0, 0.5, 0.34):
        assert units.error(f"blur_kernel_sigma{sigma}", blur_kernel(sigma)) < OPERATION
        assert units.absolute_error(f"blur_sigma{sigma}", blur(units.input("img"), sigma)) < OPERATION
    assert len(blur_kernel(0.3)) == 1


def test_resizing(units: Fixture) -> None:
    picture = units.input("img")[:, :, :36, :36]
    for side in (64, 48, 17, 9):
        assert units.error(f"filtered_resizing_{side}", resize(picture, height=side, width=side)) < OPERATION


def test_schedules(units: Fixture) -> None:
    schedules = units.about["schedules"]
    images = schedules["nimg"]
    found = [neural_resolution(count, initial=64, final=128, fade_images=1_000_000) for count in images]
    assert found == schedules["eg3d_neural_64_to_128_fade1000"]
    late = [
        neural_resolution(count, initial=64, final=128, fade_images=1_000_000, start_images=1_000_000)
        for count in images
    ]
    assert late == schedules["recon_v1_neural_64_to_128_from_1000"]
    assert [blur_sigma(count) for count in images] == pytest.approx(schedules["blur_sigma_batch32"])
    assert [len(blur_kernel(blur_sigma(count))) // 2 for count in images] == schedules["blur_radius_batch32"]
    for final, name in ((0.5, "swapping_prob_gpc05"), (0.8, "swapping_prob_gpc08")):
        assert [swap_probability(count, final=final) for count in images] == pytest.approx(schedules[name])


@pytest.mark.parametrize(
    ("name", "batch", "half_life", "ramp_up"),
    [
        ("ema_beta_batch32", 32, 10_000.0, 0.05),
        ("ema_beta_batch4", 4, 1_250.0, 0.05),
        ("ema_beta_batch32_resume", 32, 10_000.0, None),
    ],
)
def test_averages(units: Fixture, name: str, batch: int, half_life: float, ramp_up: float | None) -> None:
    """The official half-life is in proportion to the batch."""
    from torch import nn

    average = WeightAverage(nn.Linear(1, 1), AverageConfig(half_life_images=half_life, ramp_up=ramp_up))
    schedules = units.about["schedules"]
    found = [average.decay(num_images=count, batch_size=batch) for count in schedules["nimg"]]
    assert found == pytest.approx(schedules[name])


@pytest.mark.parametrize(
    ("name", "interval", "rate", "betas"),
    [
        ("eg3d_G_interval4", 4, 0.0025, (0.0, 0.99)),
        ("eg3d_D_interval16", 16, 0.002, (0.0, 0.99)),
        ("recon_v1_G_interval16", 16, 1e-4, (0.9, 0.999)),
        ("recon_D_interval16", 16, 1e-4, (0.9, 0.999)),
        ("recon_v2_G_interval4", 4, 1e-4, (0.9, 0.999)),
    ],
)
def test_lazy_optimisers(units: Fixture, name: str, interval: int, rate: float, betas: tuple[float, float]) -> None:
    found = LazyRegularisation(interval).correct(AdamSettings(rate, betas))
    expected = units.about["lazy_optimiser"][name]
    assert found.learning_rate == pytest.approx(expected["lr"])
    assert found.betas == pytest.approx(tuple(expected["betas"]))


def test_distortion(units: Fixture) -> None:
    depths, weights = units.input("t").sort().values, units.input("w").requires_grad_()
    spread = distortion(depths, weights)
    spread.sum().backward()
    assert weights.grad is not None
    assert units.scale_error("distortion", spread) < OPERATION
    assert units.scale_error("distortion_grad_w", weights.grad) < OPERATION
