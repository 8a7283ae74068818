"""Mirror images: twice is the identity, and the mirrored parameters make the mirrored head in the mirrored camera."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fakes import make_fake_head
from fakes_dataset import FIELDS, make_record
from flame.errors import InputError
from flame.geometry.camera import Camera
from flame.heads.flame import load_flame
from flame.heads.head_model import HeadModel, HeadParams
from flame.heads.open_head import OpenHead, load_open_head
from flame.landmarks.ibug import to_70
from flame.landmarks.mirror_tables import MIRRORED_LANDMARKS
from preprocess.dataset.reading.flip import HeadMirror, fit_head_mirror, flip_record, mirror_partners, open_head_mirror
from preprocess.dataset.records.record import Record

REFLECTION = torch.tensor([-1.0, 1, 1], dtype=torch.float64)


@pytest.fixture(scope="module")
def head() -> OpenHead:
    return load_open_head(dtype=torch.float64)


@pytest.fixture(scope="module")
def mirror(head: OpenHead) -> HeadMirror:
    return open_head_mirror(head)


def _record(head: OpenHead) -> Record:
    """A picture size, a camera off the middle with a lens off the middle, and all parameters at once."""
    random = np.random.default_rng(0)
    camera = Camera.orbit(torch.tensor([25.0]), torch.tensor([-12.0]), radius=4.2, target=torch.tensor([0.1, 0.3, 0.2]))
    label = camera.to_label25(axes="opengl")[0].numpy()
    label[18] = 0.47
    return replace(
        make_record("a", code_size=0, landmarks=478),
        camera=label,
        head=HeadParams(
            shape=random.normal(size=head.num_shape).astype(np.float32),
            expression=random.uniform(0, 0.3, head.num_expression).astype(np.float32),
            neck=np.array([0.1, 0.3, -0.2], np.float32),
            jaw=np.array([0.15, 0.05, 0.02], np.float32),
            eyes=np.array([[0.1, 0.2, 0.0], [0.1, -0.1, 0.03]], np.float32),
        ),
        quality={"yaw_degrees": 20.0, "opening_left": 0.2, "opening_right": 0.3, "sharpness": 5.0},
    )


def _vertices(head: HeadModel, record: Record) -> torch.Tensor:
    return head(record.head.map(lambda part: torch.from_numpy(part.copy()).double()[None]))[0]


def test_twice_is_the_identity(head: OpenHead, mirror: HeadMirror):
    record = _record(head)
    once = flip_record(record, mirror)
    twice = flip_record(once, mirror)
    for name in FIELDS:
        before, after = getattr(record, name), getattr(twice, name)
        if isinstance(before, np.ndarray) and before.size:
            assert after == pytest.approx(before, abs=1e-5 if name == "landmarks" else 1e-6), name
            assert after.dtype == before.dtype, name
            assert np.abs(getattr(once, name) - before).max() > 0.01, f"{name} was not mirrored"
        elif name != "code":
            assert after == before, name
    assert once.quality == {"yaw_degrees": -20.0, "opening_right": 0.2, "opening_left": 0.3, "sharpness": 5.0}


def test_mirrored_parameters_make_the_mirrored_head(head: OpenHead, mirror: HeadMirror):
    record = _record(head)
    wanted = _vertices(head, record)[head.mirror] * REFLECTION
    got = _vertices(head, flip_record(record, mirror))
    assert float((got - wanted).norm(dim=1).max()) < 1e-6  # metres
    assert mirror.residual_mm < 1e-6
    assert sorted(set(np.abs(mirror.shape).ravel())) == [0, 1] and 0 < (np.diag(mirror.shape) < 0).sum() < 150


def test_the_mirrored_camera_sees_the_mirrored_picture(head: OpenHead, mirror: HeadMirror):
    record = _record(head)
    point = np.array([100.0, 50, 1])
    before = record.crop_matrix @ point
    middle = next(index for index, partner in enumerate(MIRRORED_LANDMARKS[len(record.landmarks)]) if partner == index)
    record.landmarks[middle, :2] = before[:2] / before[2]
    flipped = flip_record(record, mirror)
    pixels = []
    for seen in (record, flipped):
        camera = Camera.from_label25(torch.from_numpy(seen.camera).double()[None], axes="opengl")
        pixels.append(camera.project(3 * _vertices(head, seen)[None], height=32, width=32)[0][0])
    wanted = torch.stack([32 - pixels[0][head.mirror, 0], pixels[0][head.mirror, 1]], -1)
    assert float((pixels[1] - wanted).abs().max()) < 1e-4
    after = flipped.crop_matrix @ point
    assert flipped.landmarks[middle, :2] == pytest.approx(after[:2] / after[2], rel=1e-4)
    assert after[:2] == pytest.approx([32 * before[2] - before[0], before[1]])
    assert (flipped.image[:, 0] == record.image[:, -1]).all() and (flipped.mask[:, 3] == record.mask[:, -4]).all()


def test_the_table_of_478_is_the_symmetry_of_the_open_head(head: OpenHead):
    points = head.landmarks(head.template[None], count=478)[0]
    distance, table = torch.cdist(points * REFLECTION, points).min(1)
    assert table.tolist() == list(MIRRORED_LANDMARKS[478])
    assert float(distance.max()) < 0.0005  # metres


@pytest.mark.parametrize("count", [478, 98, 70, 68])
def test_tables_are_their_own_inverse(count: int):
    table = np.array(MIRRORED_LANDMARKS[count])
    assert table[table].tolist() == list(range(count))


@pytest.mark.parametrize("count", [478, 98])
def test_mirroring_and_choosing_seventy_commute(count: int):
    points = np.random.default_rng(1).normal(size=(count, 2))
    seventy = to_70(points)[list(MIRRORED_LANDMARKS[70])]
    assert (to_70(points[list(MIRRORED_LANDMARKS[count])]) == seventy).all()


def test_the_table_of_98_fits_reference_landmarks(shared):
    """The mean of frontal faces is nearly symmetric: a wrong pair would stand out by an eye's width."""
    with np.load(shared / "data" / "p4d" / "params.npz", allow_pickle=False) as values:
        points = values["lmk98"].astype(float)
    mirrored = points[:, list(MIRRORED_LANDMARKS[98])] * [-1, 1]
    difference = (points - points.mean(1, keepdims=True)).mean(0)
    other = (mirrored - mirrored.mean(1, keepdims=True)).mean(0)
    assert np.linalg.norm(difference - other, axis=1).max() < 16  # px of 512; neighbours in the eye are 10 apart


@pytest.mark.slow
def test_a_head_that_mixes_both_sides_is_solved_by_least_squares(head: OpenHead, mirror: HeadMirror):
    fitted = fit_head_mirror(head, mirror_partners(head))
    assert fitted.residual_mm < 1e-3
    assert fitted.shape == pytest.approx(mirror.shape, abs=1e-4)
    assert fitted.expression == pytest.approx(mirror.expression, abs=1e-4)


@pytest.mark.slow
def test_least_squares_is_its_own_inverse_even_where_the_components_are_not_closed(head: OpenHead):
    names = [head.expression_names.index(name) for name in ("mouthSmileLeft", "browDownRight", "jawOpen")]
    with torch.no_grad():
        partial = load_open_head(dtype=torch.float64)
        partial.expression_basis = head.expression_basis[..., names]
    fitted = fit_head_mirror(partial, head.mirror)
    assert fitted.expression @ fitted.expression == pytest.approx(np.eye(3), abs=1e-5)
    assert fitted.residual_mm > 5  # and says that a smile on one side has no mirror image here


def test_a_record_without_a_head_needs_no_mirror_of_its_own(head: OpenHead, mirror: HeadMirror):
    """EG3D's datasets, which are mirrored more than others, know no head."""
    empty = np.zeros(0, np.float32)
    record = _record(head)
    once = flip_record(replace(record, head=record.head.replace(shape=empty, expression=empty)), mirror)
    assert once.shape.shape == once.expression.shape == (0,) and once.shape.dtype == np.float32
    assert (once.camera == flip_record(record, mirror).camera).all() and (once.image == record.image[:, ::-1]).all()


def test_what_cannot_be_mirrored_is_refused(head: OpenHead, mirror: HeadMirror):
    with pytest.raises(InputError, match="motion code"):
        flip_record(make_record("a"), mirror)
    with pytest.raises(InputError, match=r"expected \(300, 86\)"):
        flip_record(make_record("a", code_size=0), mirror)
    with pytest.raises(InputError, match="symmetric mesh"):
        mirror_partners(make_fake_head())


def test_flame_in_the_mirror(synthetic_flame: Path):
    """Components that mix both sides, as FLAME's do; its pose correction, which no parameter mirrors, is left out."""
    flame = load_flame(synthetic_flame / "geometry" / "generic_model.pkl").double()
    flame.pose_basis.zero_()
    partners = mirror_partners(flame)
    mirror = fit_head_mirror(flame, partners)
    assert mirror.residual_mm < 0.2
    for matrix in (mirror.shape, mirror.expression):
        assert matrix @ matrix == pytest.approx(np.eye(len(matrix)), abs=2e-3)  # float32
        assert np.abs(matrix - np.diag(np.diag(matrix))).max() > 0.1, "no component is its own mirror image"
    random = np.random.default_rng(3)
    record = replace(
        make_record("a", code_size=0, landmarks=70),
        head=HeadParams(
            shape=random.normal(size=300).astype(np.float32),
            expression=random.normal(size=100).astype(np.float32),
            neck=np.array([0.1, 0.3, -0.2], np.float32),
            jaw=np.array([0.15, 0.0, 0.0], np.float32),
            eyes=np.array([[0.1, 0.2, 0.0], [0.1, -0.1, 0.0]], np.float32),
        ),
    )
    flipped = flip_record(record, mirror)
    twice = flip_record(flipped, mirror)
    for name in ("shape", "expression", "neck", "jaw", "eyes", "landmarks", "camera"):
        assert getattr(twice, name) == pytest.approx(getattr(record, name), abs=5e-3), name
    wanted = _vertices(flame, record)[partners] * REFLECTION
    assert float((_vertices(flame, flipped) - wanted).norm(dim=1).max()) < 0.0005  # metres
    unmirrored = replace(flipped, head=flipped.head.replace(shape=record.shape, expression=record.expression))
    assert float((_vertices(flame, unmirrored) - wanted).norm(dim=1).max()) > 0.005
