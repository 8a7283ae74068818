"""The mouth of the embedded engine: teeth on their arch, found in a photo, and the light between the lips."""

import numpy as np
import pytest
import torch

from flame.heads.open_head import load_open_head
from portrait4d.engines.lift.bind import patch_faces
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
    x, height = strip_grid(0.006)
    placed = np.concatenate([model.mean * 0.8, model.opacity[..., None]], -1)
    strip = np.zeros((*x.shape, 4), np.float32)
    strip[20:-20, 20:-20] = placed
    moved = np.zeros_like(strip)
    rows, columns = round(-up / 0.0003), round(along / 0.0003)
    moved[max(rows, 0) : len(strip) + min(rows, 0), max(columns, 0) : strip.shape[1] + min(columns, 0)] = strip[
        max(-rows, 0) : len(strip) - max(rows, 0), max(-columns, 0) : strip.shape[1] - max(columns, 0)
    ]
    score, found = match_teeth(moved, model.mean.mean(-1), model.opacity)
    assert score > 0.5
    assert found.along == pytest.approx(along, abs=7e-4) and found.up == pytest.approx(up, abs=5e-4)
    assert found.applied(Placement(np.zeros(3))).edge[1] == pytest.approx(found.up)


def test_hidden_teeth_are_completed_from_the_seen_ones() -> None:
    model = load_teeth_model()
    truth = 0.5 * (model.mean + 1.0 * model.components[0])
    seen = np.zeros_like(model.opacity)
    seen[15:38, 50:160] = 1
    strip = np.concatenate([truth, seen[..., None]], -1).astype(np.float32)
    completed = complete_teeth(model, strip)
    inside = np.zeros_like(seen, bool)
    inside[20:33, 56:154] = True
    assert np.abs(completed - truth)[inside].max() < 0.01  # what is seen stays
    hidden = (seen == 0) & (np.abs(model.components[0]).max(-1) > 0.05)
    plain = model.mean * truth[seen > 0].sum(0) / model.mean[seen > 0].sum(0)
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
