"""Heads turned beyond the limit are counted in seconds, and told."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from fakes_engine import FakeEngine, FakeHead, fake_models, fake_motion
from flame.geometry.rotation import euler_degrees_to_matrix, matrix_to_axis_angle
from portrait4d.engines.turns import soft_limit
from portrait4d.options import ReenactOptions
from portrait4d.reenactment.turn_warnings import driver_turn_warnings, view_warnings
from preprocess.tracking.motion import Motion


def turned(yaw_degrees: Sequence[float], *, rate: int = 10) -> Motion:
    yaw = torch.tensor(yaw_degrees)
    rotation = matrix_to_axis_angle(euler_degrees_to_matrix(yaw, 0 * yaw, 0 * yaw)).numpy()
    return replace(fake_motion([0.1] * len(yaw_degrees), Fraction(rate)), rotation=rotation.astype(np.float32))


@pytest.fixture
def avatar() -> Any:
    return FakeEngine().build(fake_models().tracker.track_images([np.full((64, 64, 3), 90, np.uint8)]))


def told(yaw_degrees: Sequence[float], avatar: Any, **changed: Any) -> list[str]:
    options = ReenactOptions(**{"mode": "absolute", **changed})
    return driver_turn_warnings(turned(yaw_degrees), avatar, options, FakeHead())


def test_seconds_and_largest_turn(avatar):
    way = [0, 10, 20, 24, 26, 40, -48, -30, -10, 0]
    (line,) = told(way, avatar)
    assert "up to 48 degrees, beyond 25 for 0.4 s: it is shown less far" in line
    assert told([0, 20, -24], avatar) == []
    (line,) = told(way, avatar, yaw_limit=None)
    assert "up to 48 degrees, beyond 25 for 0.4 s: the photo does not show that side" in line
    (line,) = told(way, avatar, yaw_limit=45.0)
    assert "beyond 45 for 0.1 s" in line


def test_a_smaller_share_of_the_turn_counts(avatar):
    assert told([0, 40, -48], avatar, pose_scale=0.5) == []


def test_relative_turns_count_from_the_neutral_frame(avatar):
    """A driver who sits turned by 30 degrees and moves little turns nobody beyond the limit."""
    assert told([30, 33, 27, 30, 30], avatar, mode="relative") == []
    assert len(told([30, 33, 27, 30, 30], avatar)) == 1


def test_a_source_that_is_turned_itself_is_free_up_to_its_turn(avatar):
    own = replace(avatar.motion, rotation=turned([35]).rotation)
    sideways = replace(avatar, motion=own)
    assert told([0, 30, 34], sideways) == []
    assert len(told([0, 30, 50], sideways)) == 1


def test_the_limit_bends_exactly_what_is_counted():
    """Up to 80 % of the limit nothing changes; no result passes it."""
    yaw = torch.linspace(-90, 90, 181)
    bent = soft_limit(yaw, 25.0, 0.0)
    torch.testing.assert_close(bent[yaw.abs() <= 20], yaw[yaw.abs() <= 20])
    assert (bent.abs() <= 25).all() and (bent.diff() >= 0).all()


def test_views():
    assert view_warnings([0, 20], [0, -8]) == []
    (line,) = view_warnings([0, -60], [0, 0])
    assert line.startswith("views up to 60 degrees from the front: beyond 25")
    assert len(view_warnings([0], [30])) == 1
