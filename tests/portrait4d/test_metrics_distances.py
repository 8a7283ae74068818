"""Fréchet and kernel distances by their mathematics."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from portrait4d.metrics.frechet import GaussianFit, fit_gaussian, frechet_distance
from portrait4d.metrics.kernel import kernel_distance, squared_discrepancy


def gaussian(mean: list[float], covariance: np.ndarray) -> GaussianFit:
    return GaussianFit(np.array(mean), covariance, 100)


def random_covariance(seed: int, size: int = 6, rank: int = 6) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=(rank, size))
    return values.T @ values / rank


def test_a_fit_is_the_mean_and_the_unbiased_covariance() -> None:
    features = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    fit = fit_gaussian(features)
    np.testing.assert_allclose(fit.mean, features.mean(0), atol=1e-6)
    np.testing.assert_allclose(fit.covariance, np.cov(features.astype(np.float64).T), rtol=1e-9)
    assert fit.count == 50


def test_equal_gaussians_are_at_distance_0() -> None:
    fit = gaussian([1.0] * 6, random_covariance(0))
    assert frechet_distance(fit, fit) == pytest.approx(0, abs=1e-9)


def test_moved_means_are_at_their_squared_distance() -> None:
    covariance = random_covariance(1, size=2)
    assert frechet_distance(gaussian([0, 0], covariance), gaussian([3, 4], covariance)) == pytest.approx(25)


def test_gaussians_along_the_axes_differ_by_their_deviations() -> None:
    """Of commuting covariances it is the sum of `(a - b)^2` over standard deviations."""
    first, second = np.array([1.0, 2.0, 0.0]), np.array([3.0, 0.5, 2.0])
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    fits = [gaussian([0, 0, 0], turn @ np.diag(deviation**2) @ turn.T) for deviation in (first, second)]
    assert frechet_distance(*fits) == pytest.approx(np.square(first - second).sum())


def test_the_root_is_that_of_scipy_and_the_distance_symmetric() -> None:
    first, second = random_covariance(2), random_covariance(3)
    root = np.trace(np.real(sqrtm(first @ second)))
    expected = np.trace(first) + np.trace(second) - 2 * root
    fits = gaussian([0] * 6, first), gaussian([0] * 6, second)
    assert frechet_distance(*fits) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(*fits[::-1]) == pytest.approx(expected, rel=1e-9)


def test_covariances_without_full_rank_are_fine() -> None:
    """As of fewer pictures than features."""
    fits = [gaussian([0] * 6, random_covariance(seed, rank=2)) for seed in (4, 5)]
    assert np.isfinite(frechet_distance(*fits)) and frechet_distance(*fits) > 0
    assert frechet_distance(fits[0], fits[0]) == pytest.approx(0, abs=1e-6)


def test_one_picture_is_no_gaussian() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        fit_gaussian(np.zeros((1, 4)))


def test_features_of_two_networks_are_refused() -> None:
    with pytest.raises(ValueError, match="one length, got 2 and 3"):
        frechet_distance(gaussian([0] * 2, np.eye(2)), gaussian([0] * 3, np.eye(3)))


def test_the_discrepancy_is_the_sum_over_pairs_written_out() -> None:
    random = np.random.default_rng(0)
    first, second = random.normal(size=(4, 3)), random.normal(1, 1, size=(5, 3))

    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return float((x @ y / 3 + 1) ** 3)

    def inside(values: np.ndarray) -> float:
        return float(np.mean([kernel(x, y) for i, x in enumerate(values) for j, y in enumerate(values) if i != j]))

    expected = inside(first) + inside(second) - 2 * np.mean([kernel(x, y) for x in first for y in second])
    assert squared_discrepancy(first, second) == pytest.approx(expected)


def test_the_kernel_distance_of_one_source_is_around_0() -> None:
    """Unbiased: the mean over many draws of 40 is far below what a biased estimate would be, and has both signs."""
    random = np.random.default_rng(0)
    found = [squared_discrepancy(*random.normal(size=(2, 40, 8))) for _ in range(300)]
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found)) < 3 * error
    assert min(found) < 0 < max(found)
    moved = squared_discrepancy(random.normal(size=(40, 8)), random.normal(1, 1, size=(40, 8)))
    assert moved > 10 * max(found)


def test_subsets_are_the_same_every_time_and_no_larger_than_the_sets() -> None:
    random = np.random.default_rng(0)
    first, second = random.normal(size=(30, 4)), random.normal(size=(20, 4))
    found = kernel_distance(first, second, num_subsets=5)
    assert found == kernel_distance(first, second, num_subsets=5)
    assert (found.subset_size, found.num_subsets) == (20, 5)
    other = kernel_distance(first, second, num_subsets=5, random=np.random.default_rng(1))
    assert other.mean != found.mean


def test_a_subset_of_everything_is_the_discrepancy() -> None:
    random = np.random.default_rng(0)
    first, second = random.normal(size=(20, 4)), random.normal(size=(20, 4))
    found = kernel_distance(first, second, num_subsets=3)
    assert found.mean == pytest.approx(squared_discrepancy(first, second))
    assert (found.deviation, found.num_subsets) == (0, 1)
