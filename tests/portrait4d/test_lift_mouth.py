"""The mouth of the embedded engine: teeth on their arch, found in a photo, and the light between the lips."""

from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch

from flame.heads.open_head import load_open_head
from flame.landmarks.groups import INNER_LIPS, MOUTH_CORNERS, OUTER_LIP_MIDDLES
from portrait4d.engines.base import Drive
from portrait4d.engines.lift.avatar import LiftAvatar
from portrait4d.engines.lift.bind import patch_faces
from portrait4d.engines.lift.engine import LiftEngine
from portrait4d.engines.lift.mouth import fill_opening
from portrait4d.engines.lift.mouth_light import opening_light
from portrait4d.engines.lift.teeth import (
    Placement,
    arch_points,
    complete_teeth,
    load_teeth_model,
    match_teeth,
    strip_grid,
)
from portrait4d.engines.own_drive import edited_drive
from preprocess.media.image import to_uint8
from preprocess.tracking.tracker import Tracker


def test_steps_along_the_arch_are_as_long_as_they_say() -> None:
    along = np.linspace(-0.03, 0.03, 601)
    points = arch_points(along, np.zeros_like(along), Placement(np.zeros(3)))
    steps = np.linalg.norm(np.diff(points, axis=0), axis=-1)
    assert np.allclose(steps, np.diff(along), rtol=0.01)
    assert np.allclose(points[::-1] * [-1, 1, 1], points, atol=1e-9)  # both sides alike
    assert (points[:, 2] <= 0).all() and points[0, 2] < -0.01  # it bends backwards


@pytest.mark.parametrize(("along", "up"), [(0.0012, -0.003), (-0.0018, 0.0024)])
def test_a_row_of_teeth_is_found_where_it_was_put(along: float, up: float) -> None:
    model = load_teeth_model()
    x, _ = strip_grid(0.006)
    placed = np.concatenate([model.mean * 0.8, model.opacity[..., None]], -1)
    height_px, width_px = len(x), len(x[0])
    strip = np.zeros((height_px, width_px, 4), np.float32)
    strip[20:-20, 20:-20] = placed
    moved = np.zeros_like(strip)
    rows, columns = round(-up / 0.0003), round(along / 0.0003)
    moved[max(rows, 0) : height_px + min(rows, 0), max(columns, 0) : width_px + min(columns, 0)] = strip[
        max(-rows, 0) : height_px - max(rows, 0), max(-columns, 0) : width_px - max(columns, 0)
    ]
    score, found = match_teeth(moved, model.mean.mean(-1), model.opacity)
    assert score > 0.5
    assert found.along == pytest.approx(along, abs=7e-4) and found.up == pytest.approx(up, abs=5e-4)
    assert found.applied(Placement(np.zeros(3))).edge[1] == pytest.approx(found.up)


def test_hidden_teeth_are_completed_from_the_seen_ones() -> None:
    model = load_teeth_model()
    truth = 0.5 * (model.mean + 1.0 * model.components[0])
    visible = np.zeros_like(model.opacity)
    visible[15:38, 50:160] = 1
    strip = np.concatenate([truth, visible[..., None]], -1).astype(np.float32)
    completed = complete_teeth(model, strip)
    inside = np.zeros_like(visible, bool)
    inside[20:33, 56:154] = True
    assert np.abs(completed - truth)[inside].max() < 0.01  # what is visible stays
    hidden = (visible == 0) & (np.abs(model.components[0]).max(-1) > 0.05)
    plain = model.mean * truth[visible > 0].sum(0) / model.mean[visible > 0].sum(0)
    assert np.abs(completed - truth)[hidden].mean() < 0.8 * np.abs(plain - truth)[hidden].mean()


def test_the_learned_model_is_small_symmetric_and_tooth_coloured() -> None:
    model = load_teeth_model()
    assert np.abs(model.mean - model.mean[:, ::-1]).mean() < 0.02
    middle = model.mean[20:32, 80:132].reshape(-1, 3) * model.tooth_colour
    assert (middle.max(1) - middle.min(1)).mean() < 0.2 and middle.mean() > 0.5
    gums = model.mean[2:5].reshape(-1, 3) * model.tooth_colour
    assert (gums[:, 0] - gums[:, 2]).mean() > 1.5 * (middle[:, 0] - middle[:, 2]).mean()


def test_light_through_an_opening() -> None:
    wide, narrow = torch.zeros(80, 80), torch.zeros(80, 80)
    wide[20:60, 10:70] = 1
    narrow[38:41, 10:70] = 1
    light = opening_light(wide, 2000.0)
    assert light.max() <= 1 and light.min() > 0
    assert light[40, 40].mean() > 0.95  # the middle is lit
    assert light[22, 40].mean() < light[57, 40].mean()  # the upper lip shades more than the lower
    assert light[24, 12].mean() < 0.8 * light[24, 40].mean()  # corners are dark
    assert opening_light(narrow, 2000.0)[39, 40].mean() < 0.6 * light[40, 40].mean()
    assert light[22, 40, 0] > light[22, 40, 1]  # shadows are red
    assert torch.allclose(light, opening_light(wide.flip(1), 2000.0).flip(1))


def test_the_opening_is_filled_in_front_view() -> None:
    model = load_open_head()
    patch = torch.unique(patch_faces(model))
    faces = fill_opening(model, patch)
    opened = torch.zeros(1, model.num_expression)
    opened[0, model.expression_names.index("jawOpen")] = 1
    points = model.shaped(torch.zeros(1, model.num_shape), opened)[0, patch, :2]
    a, b, c = points[faces].unbind(1)
    doubled = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]
    loop = model.shaped(torch.zeros(1, model.num_shape), opened)[0, model.loops["lip_inner_loop"], :2]
    following = loop.roll(-1, 0)
    enclosed = (loop[:, 0] * following[:, 1] - loop[:, 1] * following[:, 0]).sum().abs()
    assert doubled.clamp(min=0).sum() == pytest.approx(float(enclosed), rel=0.02)


def _drive(avatar: LiftAvatar, engine: LiftEngine, **values: float) -> Drive:
    motion = avatar.motion.edit(values, model=engine.head_model)
    return edited_drive(avatar, motion, engine.head_model)


@pytest.fixture(scope="module")
def engine() -> LiftEngine:
    return LiftEngine()


@pytest.fixture(scope="module")
def smiling(engine: LiftEngine) -> LiftAvatar:
    """The astronaut, whose smile shows upper teeth."""
    return engine.build([Tracker(head_model=engine.head_model).track_image(skimage.data.astronaut())])


def _mouth(avatar: LiftAvatar, engine: LiftEngine, **values: float) -> np.ndarray:
    """The opening of the photo's lips in a picture, float [h, w, 3] in [0, 255]."""
    image = to_uint8(engine.render(avatar, _drive(avatar, engine, **values)).image)[0]
    lips = avatar.motion.landmarks[0, list(INNER_LIPS), :2].round().astype(int)
    (left, top), (right, bottom) = lips.min(0), lips.max(0)
    middle = (right - left) // 4
    return image[top:bottom, left + middle : right - middle].astype(float)


def _share_of_teeth(picture: np.ndarray) -> float:
    """Share of pixels that are bright and hardly coloured, as neither lips nor this skin are."""
    return float(((picture.min(-1) > 150) & (picture.min(-1) > 0.8 * picture.max(-1))).mean())


def _redness(picture: np.ndarray) -> float:
    return float((picture[..., 0] - picture[..., 2]).mean())


def test_a_smile_that_shows_teeth_shuts(smiling: LiftAvatar, engine: LiftEngine) -> None:
    shown = _mouth(smiling, engine, smile_left=float(smiling.motion.values("smile_left")[0]))
    shut = _mouth(smiling, engine, jaw_open=0.0, smile=0.2)
    assert _share_of_teeth(shown) > 0.3
    assert _share_of_teeth(shut) < 0.12  # what shines on the lower lip


def test_an_opened_mouth_is_neither_black_nor_grey(smiling: LiftAvatar, engine: LiftEngine) -> None:
    image = to_uint8(engine.render(smiling, _drive(smiling, engine, jaw_open=1.0)).image)[0]
    lips = smiling.motion.landmarks[0, list(MOUTH_CORNERS), :2].mean(0).round().astype(int)
    inside = image[lips[1] + 6 : lips[1] + 26, lips[0] - 8 : lips[0] + 8].astype(float)
    assert inside.mean() > 12 and _redness(inside) > 5


def test_a_tongue_that_is_out_covers_the_lower_lip(smiling: LiftAvatar, engine: LiftEngine) -> None:
    names = {"jaw_open": 0.6, "smile": 0.0}
    inside, out = (
        to_uint8(engine.render(smiling, _drive(smiling, engine, **names, tongueOut=amount)).image)[0].astype(float)
        for amount in (0.0, 1.0)
    )
    changed = np.abs(out - inside).sum(-1) > 40
    rows, columns = np.nonzero(changed)
    corners = smiling.motion.landmarks[0, list(MOUTH_CORNERS), :2]
    assert rows.max() > smiling.motion.landmarks[0, OUTER_LIP_MIDDLES[1], 1]  # below the photo's lower lip
    assert corners[:, 0].min() < columns.mean() < corners[:, 0].max()


def test_files_of_the_first_version_are_drawn(engine: LiftEngine) -> None:
    path = Path(__file__).parents[1] / "data" / "old" / "8c783d8" / "lift.safetensors"
    old = engine.load(path)
    assert len(old.own_mouth.opening_faces) == 0
    still = engine.render(old, edited_drive(old, old.motion, engine.head_model)).image
    assert torch.isfinite(still).all()
