"""The studio's line of keyframes: poses at its keys, between them, and as a motion that drives like it plays."""

import numpy as np
import pytest

from flame.errors import InputError
from live_heads import free_avatar, free_models, free_puppet
from portrait4d.live.by_hand import ByHand
from portrait4d.live.key_line import KeyLine, motion_of_line

POSES = (
    ByHand({"jawOpen": 0.6, "mouthSmileLeft": -0.5}, gaze=(1.0, 0.0), yaw_degrees=-10.0),
    ByHand({"jawOpen": 0.0, "browInnerUp": 1.0}, gaze=(-1.0, 0.5), yaw_degrees=15.0, roll_degrees=4.0),
    ByHand(),
)
LINE = KeyLine((0.2, 0.6, 0.8), POSES, 1.0)


def values(pose: ByHand) -> dict[str, float]:
    angles = {name: getattr(pose, name) for name in ("yaw_degrees", "pitch_degrees", "roll_degrees")}
    return {
        **{name: pose.expression.get(name, 0.0) for name in LINE.names},
        "x": pose.gaze[0],
        "y": pose.gaze[1],
        **angles,
    }


def test_at_its_keys_the_line_is_what_was_set() -> None:
    for found, meant in zip(LINE.at(LINE.seconds), POSES, strict=True):
        assert values(found) == pytest.approx(values(meant), abs=1e-12)
    for found, meant in zip(LINE.at([0.0, 1.0]), (POSES[0], POSES[2]), strict=True):
        assert values(found) == pytest.approx(values(meant), abs=1e-12)


def test_between_keys_nothing_leaves_their_range_and_so_the_range_of_a_pose() -> None:
    first, second = values(POSES[0]), values(POSES[1])
    for pose in LINE.at(np.linspace(0.2, 0.6, 101)):
        for name, value in values(pose).items():
            assert min(first[name], second[name]) <= value <= max(first[name], second[name])


def test_frames_are_the_line_at_25_a_second() -> None:
    assert LINE.num_frames == len(LINE.frames()) == 25
    assert values(LINE.frames()[5]) == pytest.approx(values(POSES[0]))
    assert values(LINE.frames()[15]) == pytest.approx(values(POSES[1]))
    one = KeyLine((0.0,), (ByHand(),), 0.01)
    assert one.num_frames == 1 and one.frames()[0].is_rest


def test_its_motion_drives_the_photo_as_the_line_plays() -> None:
    """A value is added to what the photo shows; in a motion it ends at 0 and 1."""
    line = KeyLine((0.0, 0.2), (ByHand(), ByHand({"jawOpen": 0.4}, yaw_degrees=8.0)), 0.24)
    puppet, still = free_puppet(), free_avatar().motion
    motion = motion_of_line(line, still, free_models().head_model)
    assert len(motion) == 6 and motion.frame_rate == 25
    np.testing.assert_allclose(motion.values("jawOpen")[[0, 5]] - still.values("jawOpen"), [0, 0.4], atol=1e-6)
    np.testing.assert_allclose(motion.values("yaw_degrees")[[0, 5]] - still.values("yaw_degrees"), [0, 8], atol=1e-3)
    played = puppet.draw(puppet.drive(None, line.frames()[5])).astype(float)
    driven = puppet.draw(puppet.drive(motion[5:6], ByHand(), neutral=motion)).astype(float)
    at_rest = puppet.draw(puppet.drive(None, ByHand())).astype(float)
    assert np.abs(played - driven).mean() < 0.25 * np.abs(played - at_rest).mean()


def test_values_at_their_limits_stay_within_them_between_equal_keys() -> None:
    full = ByHand({"jawOpen": 1.0}, gaze=(1.0, -1.0), yaw_degrees=60.0)
    for pose in KeyLine((0.1, 0.3, 0.7), (full, full, full), 1.0).at(np.linspace(0, 1, 301)):
        assert values(pose)["yaw_degrees"] == 60.0  # else ByHand would have refused it


@pytest.mark.parametrize(
    ("seconds", "duration", "reason"),
    [
        ((), 1.0, "1 to 60 keyframes"),
        ((0.0, 0.0), 1.0, "different seconds"),
        ((0.5, 0.2), 1.0, "different seconds"),
        ((0.0, 1.1), 1.0, "from 0 to 1 s, got 1.1"),
        ((-0.1, 0.5), 1.0, "from 0 to 1 s"),
        ((0.0,), 0.0, "more than 0"),
        ((0.0,), 61.0, "at most 60 s"),
        (tuple(number / 100 for number in range(61)), 1.0, "1 to 60 keyframes, got 61"),
    ],
)
def test_lines_that_are_none_are_refused(seconds: tuple[float, ...], duration: float, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        KeyLine(seconds, (ByHand(),) * len(seconds), duration)
