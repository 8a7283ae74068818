"""Warnings of a collapse come when they should, once, and not before."""

import math

import pytest
import torch

from flame.errors import InputError
from portrait4d.gan.adversarial import R1Weights
from portrait4d.train.alarms import CollapseAlarm, Vitals, gamma_heuristic, gamma_warning, grid_distance


def _told(rows: list[Vitals], alarm: CollapseAlarm | None = None) -> dict[int, list[str]]:
    """Warnings by the number of the report that brought them."""
    found = {index: (alarm or CollapseAlarm()).warnings(rows[: index + 1]) for index in range(len(rows))}
    return {index: warnings for index, warnings in found.items() if warnings}


def _signs(*signs: float | None) -> list[Vitals]:
    return [Vitals(images_seen=4000 * (index + 1), real_sign=sign) for index, sign in enumerate(signs)]


def _norms(*norms: float) -> list[Vitals]:
    return [
        Vitals(images_seen=1000 * (index + 1), gradient_norms={"generator": norm}) for index, norm in enumerate(norms)
    ]


def _distances(*distances: float | None) -> list[Vitals]:
    return [Vitals(images_seen=1000 * (index + 1), grid_distance=each) for index, each in enumerate(distances)]


def test_a_healthy_run_is_not_warned() -> None:
    rows = [
        Vitals(
            images_seen=4000 * index,
            real_sign=0.6 + 0.3 * math.sin(index),
            gradient_norms={"generator": 2 + math.sin(3 * index), "discriminator": 9.0 if index % 7 else 50.0},
            grid_distance=0.2 + 0.1 * math.cos(index) if index % 3 else None,
        )
        for index in range(60)
    ]
    assert _told(rows) == {}
    assert CollapseAlarm().warnings([]) == []


def test_a_discriminator_that_knows_all_by_heart() -> None:
    assert _told(_signs(0.96, 0.97, 0.98, 0.9, *[0.97] * 4)) == {}
    told = _told(_signs(0.5, *[0.98] * 9, 0.5, *[0.98] * 5))
    assert list(told) == [5, 15]  # once, and once more after it was well again
    assert len(told[5]) == 1
    assert told[5][0].startswith("after 24,000 images the discriminator knows 99.0% of the real pictures")
    assert list(_told(_signs(0.98, None, 0.98, None), CollapseAlarm(num_reports=2))) == [2]


@pytest.mark.parametrize(
    ("norm", "words"),
    [(201.0, "explodes"), (0.0019, "vanished"), (0.0, "vanished"), (math.inf, "not finite"), (math.nan, "not finite")],
)
def test_a_gradient_out_of_range(norm: float, words: str) -> None:
    told = _told(_norms(1.0, 2.0, 3.0, 2.0, 2.0, norm, norm, 2.0))
    assert list(told) == [5] and len(told[5]) == 1
    assert words in told[5][0] and "of the generator" in told[5][0]


def test_a_gradient_just_in_range() -> None:
    assert _told(_norms(2.0, 2.0, 2.0, 2.0, 2.0, 199.0, 0.0021)) == {}
    assert _told(_norms(1.0, 1000.0, 0.0001)) == {}  # too few to say what is usual
    assert _told(_norms(*[0.0] * 9)) == {}


def test_the_running_median_forgets() -> None:
    alarm = CollapseAlarm(num_reports=3, median_reports=3)
    assert _told(_norms(*[1.0] * 5, *[90.0] * 5, 5000.0), alarm) == {}
    assert list(_told(_norms(*[1.0] * 5, *[90.0] * 5, 9100.0), alarm)) == [10]


def test_networks_are_judged_by_themselves() -> None:
    rows = [Vitals(images_seen=index, gradient_norms={"a": 1.0, "b": 1000.0}) for index in range(9)]
    assert _told(rows) == {}
    rows.append(Vitals(images_seen=9, gradient_norms={"a": 1000.0, "b": 0.5}))
    told = _told(rows)
    assert list(told) == [9] and "of the a " in told[9][0] and "of the b " in told[9][1]


def test_pictures_that_become_alike() -> None:
    assert _told(_distances(0.3, None, 0.2, 0.08)) == {}
    told = _told(_distances(0.01, 0.3, None, 0.07, None, 0.05))  # alike at first, before anything was learned
    assert list(told) == [3]
    assert "0.07 apart, where it was 0.3" in told[3][0]


def test_grid_distance_is_the_mean_over_pairs() -> None:
    pictures = torch.tensor([0.0, 0.5, -1.0])[:, None, None, None].expand(3, 3, 4, 5)
    assert grid_distance(pictures) == pytest.approx((0.5 + 1.0 + 1.5) / 3)
    assert grid_distance(pictures[:1].expand(4, 3, 4, 5)) == 0
    drawn = torch.rand(5, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    pairs = [(drawn[a] - drawn[b]).abs().mean() for a in range(5) for b in range(a)]
    assert grid_distance(drawn) == pytest.approx(float(torch.stack(pairs).mean()), rel=1e-5)
    with pytest.raises(ValueError, match=r"two pictures .* got \[1, 3, 4, 5\]"):
        grid_distance(pictures[:1])


def test_gamma_of_the_paper() -> None:
    assert gamma_heuristic(256, 16) == pytest.approx(0.8192)
    assert gamma_heuristic(512, 32) == pytest.approx(1.6384)
    assert gamma_warning(R1Weights().image, resolution=512, batch_size=32) is None
    assert gamma_warning(16.3, resolution=512, batch_size=32) is None
    assert gamma_warning(0.17, resolution=512, batch_size=32) is None
    high = gamma_warning(16.5, resolution=512, batch_size=32)
    low = gamma_warning(0.16, resolution=512, batch_size=32)
    assert high is not None and "gamma 16.5 is more than 10 times above 1.64" in high
    assert low is not None and "below 1.64, which is usual for 512 pixels and a batch of 32" in low


def test_bad_limits_are_refused() -> None:
    with pytest.raises(InputError, match="alarm.median_reports"):
        CollapseAlarm(num_reports=5, median_reports=4)
    with pytest.raises(InputError, match="alarm.grid_share"):
        CollapseAlarm(grid_share=1.5)
