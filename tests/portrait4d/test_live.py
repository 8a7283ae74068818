"""Live driving: what a hand does is in the picture, newest frames only, stamps, errors, what is measured."""

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from flame.errors import InputError
from flame.geometry.rotation import axis_angle_to_matrix, matrix_to_euler_degrees
from flame.landmarks.groups import IRIS_CENTRES
from live_heads import free_avatar, free_models, free_puppet, portrait, rolled
from portrait4d.engines.own_drive import edited_drive
from portrait4d.live.by_hand import ByHand, motion_by_hand, move_by_hand, still_drive
from portrait4d.live.meter import FrameMeter
from portrait4d.live.puppet import Puppet
from portrait4d.live.worker import Answer, LiveWorker, Newest, Request


def drawn(by_hand: ByHand) -> np.ndarray:
    puppet = free_puppet()
    return puppet.draw(puppet.drive(None, by_hand))


def tracked(by_hand: ByHand):
    return free_models().tracker.track_image(drawn(by_hand)).motion


def angles(rotation: np.ndarray) -> list[float]:
    return [float(angle) for angle in matrix_to_euler_degrees(axis_angle_to_matrix(torch.as_tensor(rotation[0])))]


def named(motion, name: str) -> float:
    return float(motion.expression[0, free_models().head_model.expression_names.index(name)])


@pytest.fixture(scope="module")
def at_rest():
    return tracked(ByHand())


def test_nothing_set_by_hand_shows_the_photo() -> None:
    avatar = free_avatar()
    photo = avatar.crop.apply(portrait()).astype(float)
    assert np.abs(drawn(ByHand()).astype(float) - photo).mean() < 2.0
    still = still_drive(avatar, free_models().head_model)
    assert move_by_hand(still, ByHand(expression={"jawOpen": 0.0}), avatar, free_models().head_model) is still


def test_the_tracker_reads_back_what_a_hand_sets(at_rest) -> None:
    """With their signs: turns in degrees, the jaw, lids, gaze."""
    own = angles(at_rest.rotation)
    turns = (ByHand(yaw_degrees=12.0), ByHand(pitch_degrees=12.0), ByHand(roll_degrees=12.0))
    for index, by_hand in enumerate(turns):
        assert angles(tracked(by_hand).rotation)[index] - own[index] == pytest.approx(12, abs=4.0), by_hand
    assert named(tracked(ByHand(expression={"jawOpen": 0.6})), "jawOpen") - named(at_rest, "jawOpen") > 0.3
    shut = tracked(ByHand(expression={"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0}))
    assert shut.eye_open.max() < 0.5 * at_rest.eye_open.min()
    wink = tracked(ByHand(expression={"eyeBlinkLeft": 1.0}))
    assert wink.eye_open[0, 0] < 0.6 * wink.eye_open[0, 1]
    right, left = tracked(ByHand(gaze=(0.8, 0))), tracked(ByHand(gaze=(-0.8, 0)))
    assert np.degrees(right.eyes[0, :, 1] - left.eyes[0, :, 1]).min() > 12
    up, down = tracked(ByHand(gaze=(0, 1))), tracked(ByHand(gaze=(0, -0.5)))
    assert (up.landmarks[0, list(IRIS_CENTRES.values()), 1] < down.landmarks[0, list(IRIS_CENTRES.values()), 1]).all()


def test_eyes_turn_where_the_gaze_says() -> None:
    """x to the viewer's right is the head's +x, y up is +y (docs/conventions.md)."""
    model, avatar = free_models().head_model, free_avatar()
    still = still_drive(avatar, model)
    forward = torch.tensor([0.0, 0.0, 1.0])
    before = axis_angle_to_matrix(still.head.eyes) @ forward
    for gaze, axis, sign in (((0.5, 0.0), 0, 1), ((-0.5, 0.0), 0, -1), ((0.0, 0.5), 1, 1), ((0.0, -0.5), 1, -1)):
        drive = move_by_hand(still, ByHand(gaze=gaze), avatar, model)
        change = axis_angle_to_matrix(drive.head.eyes) @ forward - before
        assert (sign * change[..., axis] > 0.15).all(), gaze
        assert (change[..., 1 - axis].abs() < 0.05).all(), gaze


def test_expressions_stay_in_the_range_of_the_head_model() -> None:
    model, avatar = free_models().head_model, free_avatar()
    still = still_drive(avatar, model)
    far = move_by_hand(still, ByHand(expression={"mouthSmileLeft": 1.0, "jawOpen": -1.0}), avatar, model)
    assert (far.head.expression <= model.expression_max).all() and (far.head.expression >= model.expression_min).all()


def test_a_motion_by_hand_draws_what_the_hand_drew() -> None:
    """What a file holds against what was on the screen."""
    model, avatar, puppet = free_models().head_model, free_avatar(), free_puppet()
    by_hand = ByHand(expression={"jawOpen": 0.5, "browInnerUp": 0.6}, gaze=(0.4, 0.0), yaw_degrees=10, roll_degrees=4)
    seen = drawn(by_hand).astype(float)
    file = puppet.draw(edited_drive(avatar, motion_by_hand(avatar.motion, by_hand, model), model)).astype(float)
    assert np.abs(file - seen).mean() < 1.5 < np.abs(drawn(ByHand()).astype(float) - seen).mean()
    assert motion_by_hand(avatar.motion, ByHand(), model) is avatar.motion


def test_what_cannot_be_set_is_refused() -> None:
    with pytest.raises(InputError, match="from -1 to 1, got 1.5"):
        ByHand(expression={"jawOpen": 1.5})
    with pytest.raises(InputError, match="from -1 to 1, got nan"):
        ByHand(gaze=(float("nan"), 0))
    with pytest.raises(InputError, match="yaw_degrees from -60 to 60"):
        ByHand(yaw_degrees=61)
    with pytest.raises(InputError, match="got 'grin'"):
        free_puppet().drive(None, ByHand(expression={"grin": 0.5}))


def test_a_tilted_driver_tilts_the_head_relative_to_what_they_held() -> None:
    puppet = free_puppet(mode="relative")
    for index in range(12):
        motion = puppet.track(rolled(6), index / 25)
    own = angles(free_avatar().motion.rotation)[2]
    assert abs(angles(puppet.drive(motion, ByHand()).pose.rotation.numpy())[2] - own) < 1.5
    for index in range(12, 18):
        motion = puppet.track(rolled(14), index / 25)
    assert angles(puppet.drive(motion, ByHand()).pose.rotation.numpy())[2] - own == pytest.approx(8, abs=2.0)
    for index in range(18, 30):
        motion = puppet.track(rolled(14), index / 25)
    assert puppet.hold_neutral()
    motion = puppet.track(rolled(14), 31 / 25)
    assert abs(angles(puppet.drive(motion, ByHand()).pose.rotation.numpy())[2] - own) < 1.5
    puppet.options = replace(puppet.options, mode="absolute")
    assert angles(puppet.drive(motion, ByHand()).pose.rotation.numpy())[2] == pytest.approx(14 + own, abs=3.5)


def test_a_hand_acts_on_top_of_a_driver() -> None:
    puppet = free_puppet()
    motion = puppet.track(portrait(), 0.0)
    plain, raised = puppet.drive(motion, ByHand()), puppet.drive(motion, ByHand(yaw_degrees=10.0))
    difference = angles(raised.pose.rotation.numpy())[0] - angles(plain.pose.rotation.numpy())[0]
    assert difference == pytest.approx(10, abs=0.5)


def test_a_driver_turned_beyond_the_limit_is_told() -> None:
    puppet = free_puppet(mode="absolute", yaw_limit=20.0)
    still = free_avatar().motion
    for degrees, is_turned in ((0.0, False), (15.0, False), (45.0, True), (-45.0, True)):
        turned = still.edit(yaw_degrees=degrees, model=free_models().head_model)
        assert puppet.drive_and_turn(turned, ByHand(yaw_degrees=50))[1] == is_turned, degrees
    puppet.options = replace(puppet.options, yaw_limit=None)
    assert not puppet.drive_and_turn(turned, ByHand())[1]


def test_an_export_that_takes_another_reference_meanwhile_changes_no_drive() -> None:
    """Frames on the screen were now and then drawn relative to the clip that was exported."""

    class Contested(Puppet):
        """Another thread puts its reference in place before every look at it but the first."""

        num_looks = 0

        @property
        def _reference(self):  # pyright: ignore[reportIncompatibleVariableOverride]
            self.num_looks += 1
            return None if self.num_looks == 1 else foreign

        @_reference.setter
        def _reference(self, value) -> None:
            pass

    calm = free_puppet()
    tilted, upright = (calm.track(rolled(degrees), 0.0) for degrees in (10, 0))
    assert tilted is not None and upright is not None
    expected = calm.drive(tilted, ByHand(), neutral=upright)
    calm.drive(tilted, ByHand(), neutral=tilted)
    foreign = calm._reference
    contested = Contested(free_avatar(), free_models(), calm.options)
    contested.num_looks = 0
    assert torch.equal(contested.drive(tilted, ByHand(), neutral=upright).pose.rotation, expected.pose.rotation)


def test_neutral_cannot_be_held_before_anyone_was_seen() -> None:
    assert not free_puppet().hold_neutral()


def test_a_place_keeps_the_newest_and_counts_what_it_dropped() -> None:
    place: Newest[int] = Newest()
    for number in range(5):
        place.put(number)
    assert place.take() == 4 and place.num_dropped == 4
    place.close()
    assert place.take() is None


class Asker:
    """Collects what a worker says."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.errors: list[str] = []
        self.taken: list[float] = []
        self.changed = threading.Condition()

    def worker(self) -> LiveWorker:
        return LiveWorker(free_puppet(), answer=self._answer, taken=self._taken, failed=self._failed)

    def _answer(self, answer: Answer) -> None:
        with self.changed:
            self.answers.append(answer)
            self.changed.notify_all()

    def _taken(self, request: Request) -> None:
        self.taken.append(request.stamp)

    def _failed(self, request: Request, error: Exception) -> None:
        with self.changed:
            self.errors.append(f"{request.stamp}: {error}")
            self.changed.notify_all()

    def wait(self, count: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.answers) + len(self.errors) >= count, timeout=60)


def test_a_flood_of_requests_is_answered_by_the_newest_with_their_stamps() -> None:
    asker = Asker()
    with asker.worker() as worker:
        for number in range(200):
            worker.submit(Request(float(number)))
        with asker.changed:
            asker.changed.wait_for(lambda: bool(asker.answers) and asker.answers[-1].request.stamp == 199, timeout=60)
    stamps = [answer.request.stamp for answer in asker.answers]
    assert stamps[-1] == 199 and stamps == sorted(stamps) and len(stamps) < 20
    assert worker.num_dropped + len(stamps) == 200
    assert worker.meter.rates().num_frames == len(stamps)


def test_a_picture_that_fails_is_told_and_the_next_one_is_drawn() -> None:
    asker = Asker()
    with asker.worker() as worker:

        def damaged() -> np.ndarray:
            raise InputError("the picture is damaged")

        worker.submit(Request(1.0, picture=damaged))
        asker.wait(1)
        worker.submit(Request(2.0, picture=portrait))
        asker.wait(2)
        worker.submit(Request(3.0, picture=lambda: np.full((512, 512, 3), 90, np.uint8)))
        asker.wait(3)
    assert asker.errors == ["1.0: the picture is damaged"]
    seen, unseen = asker.answers
    assert not seen.is_lost and seen.motion is not None
    assert unseen.is_lost and unseen.motion is seen.motion
    assert np.array_equal(seen.image, unseen.image)
    assert asker.taken == [1.0, 2.0, 3.0]


def test_an_answer_that_fails_is_told_and_the_next_frame_is_drawn() -> None:
    """A recorder without room on its disk ended the drawing thread, and nobody heard of it."""
    asker, calls = Asker(), []

    def answer(answer: Answer) -> None:
        calls.append(answer)
        if len(calls) == 1:
            raise OSError("no space left")
        asker._answer(answer)

    with LiveWorker(free_puppet(), answer=answer, failed=asker._failed) as worker:
        worker.submit(Request(1.0))
        asker.wait(1)
        worker.submit(Request(2.0))
        asker.wait(2)
    assert asker.errors == ["1.0: a frame failed: OSError no space left"]
    assert [answer.request.stamp for answer in asker.answers] == [2.0]


def test_a_closed_worker_leaves_no_thread() -> None:
    before = threading.active_count()
    with Asker().worker():
        assert threading.active_count() == before + 2
    assert threading.active_count() == before


def test_rates_count_the_frames_of_the_window_only() -> None:
    now = [100.0]
    meter = FrameMeter(lambda: now[0], window_seconds=10)
    assert meter.rates().p50_ms is None
    for index in range(41):
        now[0] = 100 + index * 0.5
        meter.add(now[0] - (0.2 if index == 40 else 0.1))
    rates = meter.rates()
    assert rates.num_frames == 21 and rates.frames_per_second == pytest.approx(2.0)
    assert rates.p50_ms == pytest.approx(100) and rates.p95_ms == pytest.approx(100)
    now[0] += 60
    assert meter.rates().num_frames == 0
