"""Eyes of the embedded engine: what shows when lids open that hide the eye, the lid's shadow, how far eyes turn."""

import numpy as np
import pytest
import torch

from portrait4d.engines.lift.eyeballs import believable_iris, complete_eye, lid_gap
from portrait4d.engines.lift.eyes import SHADOW, Eye, interpolation, plain_eye

SKIN = np.array([0.7, 0.5, 0.4], np.float32)


def _lids(height: float, middle: float = 64.0) -> np.ndarray:
    """Lid edges [16, 2] of a subject's right eye, 60 pixels wide, in the order of the landmarks."""
    along = np.linspace(-1, 1, 9)
    lower = np.stack([64 + 30 * along, middle + height / 2 * (1 - along**2)], 1)
    upper = np.stack([64 + 30 * along, middle - height / 2 * (1 - along**2)], 1)
    return np.concatenate([lower, upper[7:0:-1]])


def _iris(x: float, y: float, radius: float) -> np.ndarray:
    return np.array([[x, y], [x - radius, y], [x + radius, y], [x, y - radius], [x, y + radius]])


def test_an_eye_that_the_photo_hides_opens_to_white_and_iris():
    lids = _lids(3.0)
    photo = np.tile(SKIN, (128, 128, 1))
    photo[62:67, 34:94] = 0.04  # nothing but lashes
    iris = believable_iris(lids, _iris(64, 64, 11.5))
    found = complete_eye(photo, lids, iris)
    whole = photo.copy()
    whole[found.rows, found.columns] = found.free
    row, column = int(iris[0, 1]), int(iris[0, 0])
    white = whole[row, column + 20]
    assert white.mean() > 0.75 * SKIN.mean() and np.ptp(white) < 0.15
    ring = whole[row + 8, column]
    assert 0.08 < ring.mean() < 0.5 * white.mean()
    assert whole[row + 2, column].mean() < ring.mean()  # the pupil
    assert whole[row - 3 : row, column - 3 : column].max() > 0.3  # a light in it


def test_an_eye_that_the_photo_shows_keeps_its_colours():
    lids = _lids(20.0)
    photo = np.tile(SKIN, (128, 128, 1))
    y, x = np.mgrid[:128, :128] + 0.5
    open_eye = (np.abs(x - 64) < 30) & (np.abs(y - 64) < 10 * (1 - ((x - 64) / 30) ** 2))
    photo[open_eye] = (0.9, 0.85, 0.8)
    photo[open_eye & (np.hypot(x - 64, y - 64) < 11)] = (0.1, 0.3, 0.6)
    found = complete_eye(photo.astype(np.float32), lids, _iris(64, 64, 11.0))
    whole = photo.copy()
    whole[found.rows, found.columns] = found.free
    assert np.abs(whole[55, 64] - (0.1, 0.3, 0.6)).max() < 0.1  # below the upper lid
    assert np.abs(whole[60, 44] - (0.9, 0.85, 0.8)).max() < 0.1


def test_the_iris_of_a_shut_eye_lies_above_the_lower_lid():
    assert lid_gap(_lids(30.0)) == pytest.approx(30 * np.mean(1 - np.linspace(-0.75, 0.75, 7) ** 2) / 60)
    shut = believable_iris(_lids(2.0), _iris(64, 65, 30))
    assert shut[0, 1] < 65 - 4
    assert np.linalg.norm(shut[1] - shut[0]) < 0.25 * 60
    opened = _iris(60, 65, 11)
    assert np.allclose(believable_iris(_lids(20.0), opened), opened)


def _eye() -> Eye:
    """An eyeball of 12 mm at the origin, seen from +z, with its upper lid 5 mm above the middle."""
    grid = torch.linspace(-0.01, 0.01, 9)
    y, x = torch.meshgrid(grid, grid, indexing="ij")
    rest = torch.stack([x.flatten(), y.flatten(), torch.full((81,), 0.01)], 1)
    forward = (0.012**2 - rest[:, :2].square().sum(1)).clamp(min=0).sqrt()
    from_centre = torch.cat([rest[:, :2], forward[:, None]], 1)
    parts = plain_eye(81) | {"below_lid": interpolation(rest[:, 0], torch.tensor([-0.015, 0.015]))}
    faces = torch.tensor([[0, 1, 9]])
    return Eye(rest, from_centre, torch.ones(81), torch.zeros(81, 2), faces, torch.zeros(3), **parts)


def test_the_iris_stays_between_the_lids_and_moves_freely_in_their_middle():
    eye = _eye()
    lowest, highest = torch.tensor([-0.003]), torch.tensor([0.004])
    pitch = torch.linspace(-0.8, 0.8, 41)
    gaze = torch.stack([pitch, torch.full_like(pitch, 0.2), torch.zeros_like(pitch)], 1)
    limited = eye.within_lids(gaze, lowest, highest)
    radius = eye.from_centre.norm(dim=-1).max()
    height = -radius * torch.sin(limited[:, 0])
    assert (height < highest).all() and (height > lowest).all()
    assert (limited[1:, 0] >= limited[:-1, 0]).all()
    assert torch.equal(limited[:, 1:], gaze[:, 1:])
    near = pitch.abs() < 0.08
    assert torch.equal(limited[near], gaze[near])
    assert (height.max() > 0.003) and (height.min() < -0.0021)  # it goes most of the way


def test_the_lids_shadow_follows_their_edge():
    eye = _eye()
    edge = torch.tensor([[[-0.015, 0.005, 0.012], [0.015, 0.005, 0.012]]])
    points = torch.tensor([[[0.0, 0.0049, 0.01], [0.0, -0.008, 0.01]]]).repeat(1, 41, 1)[:, :81]
    at_edge, far = eye.shadow(points, edge)[0, :2]
    assert at_edge == pytest.approx(1 - SHADOW, abs=0.02) and far > 0.99
    lowered = eye.shadow(points, edge - torch.tensor([0.0, 0.004, 0.0]))[0]
    assert lowered[1] < far and lowered[0] == pytest.approx(1 - SHADOW)
