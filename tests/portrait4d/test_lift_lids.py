"""Lids of the embedded engine: edges that meet, and the picture of a shut eye."""

import numpy as np
import pytest
import skimage.data
import torch

from flame.heads.open_head import load_open_head
from portrait4d.engines.lift.engine import LiftEngine
from portrait4d.engines.lift.lids import OVERLAP, RISE
from portrait4d.engines.lift.shut_eyes import FADES, MOST_PAINTED, EyeFrame, shut_eye
from preprocess.tracking.tracker import Tracker


@pytest.fixture(scope="module")
def avatar():
    engine = LiftEngine()
    return engine.build([Tracker(head_model=engine.head_model).track_image(skimage.data.astronaut())])


def _posed(avatar, blink):
    """Patch points [1, P, 3] with the left eye's blink raised by so much, and that amount [1]."""
    rig = avatar.rig
    column = load_open_head().expression_names.index("eyeBlinkLeft")
    expression = rig.source_expression[None].clone()
    expression[:, column] += blink
    return rig.deform(expression, rig.source_residual[None])[:, : rig.num_patch], torch.tensor([float(blink)])


def test_open_lids_stay_where_they_are(avatar):
    points, blink = _posed(avatar, 0.3)
    for openness in (1.0, 1.4):
        assert avatar.left_lid.set_edges(points, torch.tensor([openness]), blink).abs().max() == 0


@pytest.mark.parametrize("blink", [0.0, 0.7, 1.4])
def test_shut_edges_meet_all_along_whatever_the_blink(avatar, blink):
    points, amount = _posed(avatar, blink)
    lid = avatar.left_lid
    moved = points + lid.set_edges(points, torch.zeros(1), amount)
    gap = moved[0, lid.upper, 1] - (lid.below @ moved[0, lid.lower])[:, 1]
    assert (gap < 3e-4).all() and (gap > -3 * OVERLAP).all()
    before = points[0, lid.upper, 1] - (lid.below @ points[0, lid.lower])[:, 1]
    assert (before - gap).abs().max() > 0.0015  # the blink alone leaves or crosses a gap


def test_a_half_open_eye_keeps_its_shape(avatar):
    points, blink = _posed(avatar, 0.0)
    lid = avatar.left_lid
    moved = points + lid.set_edges(points, torch.tensor([0.5]), blink)
    height = (moved[0, lid.upper] - lid.below @ moved[0, lid.lower])[:, 1]
    expected = 0.5 * lid.opening[:, 1]
    assert (height - expected).abs().max() < 1e-3
    risen = (moved - points)[0, lid.lower, 1].max()
    assert 0.3 * RISE < risen / (0.5 * lid.opening[:, 1].max()) < 1.2 * RISE


def test_lashes_hang_from_the_edge_as_far_as_the_eye_is_shut(avatar):
    points, _ = _posed(avatar, 0.0)
    lid = avatar.left_lid
    count = len(lid.upper)
    for openness in (0.0, 0.6):
        strip = lid.lash_strip(points, torch.tensor([openness]))[0]
        assert torch.allclose(points[0, lid.upper, 1] - strip[count:, 1], (1 - openness) * lid.lash_length, atol=1e-6)
    assert 0.001 < lid.lash_length < 0.01


def _drawn_eye():
    """A photo of skin with one eye, brown lashes above it and a brow, and the eye's frame."""
    along = np.linspace(-1, 1, 15)
    upper = np.stack([100 + 30 * along, 90 - 12 * (1 - along**2)], 1)
    lower = np.stack([100 + 30 * along, 90 + 8 * (1 - along**2)], 1)
    frame = EyeFrame.of(upper, lower, lower, 200)
    y, x = np.mgrid[:200, :200] + 0.5
    photo = np.tile(np.array([0.7, 0.5, 0.4], np.float32), (200, 200, 1))
    edge, bottom = np.interp(x, upper[:, 0], upper[:, 1]), np.interp(x, lower[:, 0], lower[:, 1])
    eye = (np.abs(x - 100) < 30) & (y > edge) & (y < bottom)
    photo[eye] = 0.95
    lashes = (np.abs(x - 100) < 26) & (y <= edge) & (y > edge - 5)
    photo[lashes] = (0.1, 0.06, 0.04)
    return photo.astype(np.float32), frame


def test_a_shut_eye_shows_skin_and_the_lashes_of_the_open_one():
    photo, frame = _drawn_eye()
    brow = np.array([[70.0, 68.0], [130.0, 68.0], [130.0, 60.0], [70.0, 60.0]])
    picture, lashes = shut_eye(photo, frame, brow)
    middle = np.abs(frame.along) < 0.3
    shut, upper = frame.height(frame.shut), frame.height(frame.upper)
    covered = middle & (frame.up > shut + 0.04) & (frame.up < upper)
    assert picture[covered, 3].min() > 0.95
    colour = picture[covered, :3]
    assert colour.max() < 0.8  # no white of the eye
    assert (colour[:, 0] > 1.2 * colour[:, 1]).all()  # still skin
    assert picture[middle & (frame.up > upper + MOST_PAINTED + FADES), 3].max() < 0.02
    assert lashes.picture[..., 3].max() > 0.7
    bare, without = shut_eye(np.where(photo < 0.2, np.float32(0.5), photo), frame, brow)
    assert without.picture[..., 3].max() < lashes.picture[..., 3].max() - 0.2
    assert bare.shape == picture.shape


def test_a_brow_is_never_painted_over():
    photo, frame = _drawn_eye()
    low = np.array([[70.0, 84.0], [130.0, 84.0], [130.0, 60.0], [70.0, 60.0]])
    picture, _ = shut_eye(photo, frame, low)
    rows = np.arange(frame.rows.start, frame.rows.stop) + 0.5
    assert picture[(rows > 62) & (rows < 80)][:, 42:-42, 3].max() < 0.1


def test_a_frame_has_its_corners_half_a_width_from_the_middle():
    angle = 0.3
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    line = np.stack([np.linspace(-30, 30, 7), np.zeros(7)], 1)
    arc = line + np.stack([np.zeros(7), -9 * (1 - (line[:, 0] / 30) ** 2)], 1)
    frame = EyeFrame.of(arc @ turn.T + 100, line @ turn.T + 100, line @ turn.T + 100, 200)
    assert np.allclose(frame.upper[0, [0, -1]], [-0.5, 0.5]) and np.allclose(frame.lower[1], 0, atol=1e-6)
    assert frame.upper[1].max() == pytest.approx(9 / 60, abs=1e-6)  # up is up in the picture
    assert np.allclose(frame.sample(frame.along, np.array([[0.2]]), np.array([[0.1]])), 0.2, atol=1e-4)
    assert np.allclose(frame.sample(frame.up, np.array([[0.2]]), np.array([[0.1]])), 0.1, atol=1e-4)
