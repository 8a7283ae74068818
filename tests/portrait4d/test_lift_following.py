"""What follows the face: the skull in its pose, shoulders in its place, and nothing where nothing moves."""

import math

import pytest
import torch

from flame.geometry.rotation import axis_angle_to_matrix, matrix_to_axis_angle
from portrait4d.engines.lift.following import SKULL_LANDMARKS, crookedness, skull_pose, skull_shares, torso_shift

SOURCE = (torch.tensor([0.05, -0.2, 0.1]), torch.tensor([0.01, -0.12, -0.9]))
CENTRE = torch.tensor([0.0, 0.14, 0.1])


def _pose(turn_degrees: float, grimace: float, *, shift: float = 0.0, residual: float = 0.0):
    """Pose of the skull when the face turns about the skull's landmarks and moves sideways by `shift` metres."""
    own = axis_angle_to_matrix(SOURCE[0])
    turned = axis_angle_to_matrix(torch.tensor([0.0, math.radians(turn_degrees), 0.0])) @ own
    moved = torch.zeros(478, 3)
    moved[list(SKULL_LANDMARKS)] = turned.T @ torch.tensor([residual, 0.0, 0.0])
    place = own @ CENTRE + SOURCE[1] + torch.tensor([shift, 0.0, 0.0])
    rotation, translation = skull_pose(
        matrix_to_axis_angle(turned)[None],
        (place - turned @ CENTRE)[None],
        source_rotation=SOURCE[0],
        source_translation=SOURCE[1],
        centre=CENTRE,
        crooked=torch.tensor([[grimace]]),
        residual_change=moved[None],
    )
    turn = matrix_to_axis_angle(rotation[0] @ own.T)
    return math.degrees(float(turn.norm())), rotation[0] @ CENTRE + translation[0] - own @ CENTRE - SOURCE[1]


@pytest.mark.parametrize("grimace", [0.0, 0.5])
def test_an_unmoved_face_leaves_the_skull_unmoved(grimace):
    turn, shift = _pose(0.0, grimace)
    assert turn < 1e-3 and shift.norm() < 1e-6


def test_the_skull_makes_a_large_turn_and_leaves_out_most_of_a_grimace():
    assert _pose(20.0, 0.0)[0] == pytest.approx(20.0, rel=0.02)
    assert 15 < _pose(20.0, 0.5)[0] < 18
    assert _pose(3.0, 0.5)[0] < 0.5
    assert _pose(3.0, 0.0)[0] > 1.5


def test_only_a_lopsided_mouth_or_brow_is_crooked():
    names = ("eyeBlinkLeft", "eyeBlinkRight", "jawOpen", "mouthSmileLeft", "mouthSmileRight")
    even, wink, smirk = [0, 0, 1.0, 0.6, 0.6], [1.0, 0, 0, 0, 0], [0, 0, 0, 0.1, 0.9]
    values = crookedness(torch.tensor([even, wink, smirk]), names)
    assert torch.allclose(values, torch.tensor([[0.0], [0.0], [0.8 / math.sqrt(2)]]))


def test_the_skull_stays_where_its_landmarks_are_when_it_leaves_out_a_turn():
    _, shift = _pose(3.0, 0.5)
    assert shift.norm() < 1e-6
    _, shift = _pose(0.0, 0.0, shift=0.02)
    assert shift[0] == pytest.approx(0.02, rel=0.01) and shift[1:].abs().max() < 1e-4
    _, shift = _pose(0.0, 0.0, residual=0.01)  # landmarks that moved on a still head
    assert shift[0] == pytest.approx(0.01, rel=0.02)


def test_shoulders_stay_under_a_nod_and_go_with_a_step():
    nod, step = torch.tensor([[0.001, 0.001, 0.005]]), torch.tensor([[0.1, 0.0, 0.0]])
    assert (torso_shift(nod) / nod).abs().max() < 0.1
    assert torso_shift(step)[0, 0] == pytest.approx(0.08, rel=0.05)
    assert (torso_shift(torch.zeros(1, 3)) == 0).all()


def test_the_inside_of_the_face_and_the_jaw_follow_the_face_and_the_hair_the_skull():
    rest = torch.tensor([[0, 0.15, 0.14], [0, 0.15, 0.1], [0, 0.03, 0.12], [0.08, 0.2, 0.03], [0.001, 0.15, 0.13]])
    uv = torch.tensor([[100.0, 100], [60, 100], [100, 200], [20, 40], [101, 100]])
    shares = skull_shares(rest, uv, torch.tensor([1.0, 0.0, 0.0]))
    assert shares[0] == 0 and shares[1] == 1 and shares[2] == 0 and shares[3] == 1
    assert shares[4] < 0.1  # of the sheet, but under the face
