"""Gain, direction and rank correlation of a parameter's control, by their mathematics."""

import numpy as np
import pytest

from portrait4d.metrics.control import (
    change_direction,
    motion_gain,
    picture_change,
    rank_correlation,
    score_control,
)

TRUE = np.random.default_rng(0).normal(size=(5, 3, 4, 4))
OTHER = np.random.default_rng(1).normal(size=(5, 3, 4, 4))


@pytest.mark.parametrize("factor", [1.0, 0.5, 0.0, -1.0, 2.0])
def test_a_scaled_change_has_its_factor_as_gain(factor: float) -> None:
    np.testing.assert_allclose(motion_gain(factor * TRUE, TRUE), np.full(5, factor), atol=1e-12)


def test_the_direction_does_not_see_the_scale() -> None:
    np.testing.assert_allclose(change_direction(0.1 * TRUE, TRUE), np.ones(5))
    np.testing.assert_allclose(change_direction(-3 * TRUE, TRUE), -np.ones(5))
    np.testing.assert_allclose(change_direction(0 * TRUE, TRUE), np.zeros(5))


def test_a_wrong_change_of_right_gain_shows_in_the_direction() -> None:
    """What is orthogonal to the truth adds no gain."""
    across = OTHER - motion_gain(OTHER, TRUE)[:, None, None, None] * TRUE
    np.testing.assert_allclose(motion_gain(TRUE + 9 * across, TRUE), np.ones(5))
    assert change_direction(TRUE + 9 * across, TRUE).max() < 0.2


def test_outside_the_weight_nothing_counts() -> None:
    mask = np.zeros((5, 1, 4, 4))
    mask[..., 1:3, 1:3] = 1
    np.testing.assert_allclose(motion_gain(TRUE * mask + OTHER * (1 - mask), TRUE, weight=mask), np.ones(5))
    np.testing.assert_allclose(change_direction(TRUE * mask + OTHER * (1 - mask), TRUE, weight=mask), np.ones(5))


def test_heads_without_a_true_change_are_left_out() -> None:
    true = TRUE.copy()
    true[2] = 0
    assert np.isnan(motion_gain(TRUE, true)).tolist() == [False, False, True, False, False]
    score = score_control(0.5 * TRUE, true)
    assert score.gain == pytest.approx(0.5) and score.direction == pytest.approx(1)
    assert score.num_identities == 4 and score.gain_deviation == pytest.approx(0)
    with pytest.raises(ValueError, match="changes for none of 5 identities"):
        score_control(TRUE, 0 * TRUE)


def test_changes_of_uint8_pictures_do_not_wrap_around() -> None:
    before, after = np.full((1, 2, 2, 3), 200, np.uint8), np.full((1, 2, 2, 3), 100, np.uint8)
    assert (picture_change(before, after) == -100).all()
    assert motion_gain(picture_change(before, after), picture_change(after, before))[0] == pytest.approx(-1)


def test_changes_of_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        motion_gain(TRUE, TRUE[:, :1])
    with pytest.raises(ValueError, match="one shape"):
        picture_change(TRUE, TRUE[:1])


def test_rank_correlation_sees_the_order_only() -> None:
    known = np.array([0.1, 0.4, 0.2, 0.9])
    assert rank_correlation(np.exp(5 * known), known) == pytest.approx(1)
    assert rank_correlation(-known, known) == pytest.approx(-1)
    assert rank_correlation([1, 2, 4, 3], [1, 2, 3, 4]) == pytest.approx(1 - 6 * 2 / (4 * 15))
    assert rank_correlation([0, 0, 1, 1], [0, 0, 5, 5]) == pytest.approx(1)


def test_measures_that_ignore_the_parameter_have_no_rank_correlation() -> None:
    assert rank_correlation([7, 7, 7], [1, 2, 3]) == 0
    with pytest.raises(ValueError, match="not all equal"):
        rank_correlation([1, 2, 3], [7, 7, 7])
    with pytest.raises(ValueError, match="finite"):
        rank_correlation([1, np.nan, 3], [1, 2, 3])
