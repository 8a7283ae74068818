"""EG3D's datasets and cameras: nothing moves in the picture, and every way back is exact."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from flame.camera import Camera
from flame.errors import InputError
from flame.frame_parameters import FrameParameters, decompose_camera
from flame.head_model import HeadParams
from flame.open_head import load_open_head
from preprocess.dataset.eg3d_format import (
    EG3D_FOCAL,
    HEAD_CENTRES_METRES,
    eg3d_from_ours,
    ours_from_eg3d,
    read_eg3d,
    with_eg3d_lens,
    write_eg3d,
)
from preprocess.dataset.flip import mirror_label

CENTRE = HEAD_CENTRES_METRES["open"]


def _labels(count: int = 6) -> np.ndarray:
    """Ours: turned heads with a lens of 12 degrees, some off the middle."""
    random = torch.Generator().manual_seed(0)
    rotation = torch.randn(count, 3, generator=random) * 0.4
    translation = torch.randn(count, 3, generator=random) * 0.1 - torch.tensor([0.0, 0.1, 4.17])
    return Camera.from_head_pose(rotation, translation).to_label25(axes="opengl").numpy()


def _project(labels: np.ndarray, points: np.ndarray, axes) -> np.ndarray:
    camera = Camera.from_label25(torch.from_numpy(np.array(labels, np.float64)), axes=axes)
    return camera.project(torch.from_numpy(points)[None], height=512, width=512)[0].numpy()


def test_the_same_point_stays_on_its_pixel():
    metres = np.random.default_rng(0).normal(size=(20, 3)) * 0.1 + CENTRE
    ours = _labels()
    theirs = eg3d_from_ours(ours, CENTRE, units_per_metre=3.0)
    wanted = _project(ours, 3.0 * metres, "opengl")
    assert _project(theirs, 2.7 * (metres - CENTRE), "opencv") == pytest.approx(wanted, abs=1e-3)


def test_ours_eg3d_portrait4d_and_back():
    """EG3D -> ours -> Portrait4D's vector of 437 -> ours -> EG3D, in float32 as the files are."""
    theirs = eg3d_from_ours(_labels(), CENTRE, units_per_metre=3.0).astype(np.float32)
    ours = ours_from_eg3d(theirs, CENTRE, units_per_metre=3.0).astype(np.float32)
    assert ours == pytest.approx(_labels(), abs=1e-5)
    zeros = torch.zeros
    head = HeadParams(zeros(6, 300), zeros(6, 100), zeros(6, 3), zeros(6, 3), zeros(6, 2, 3))
    frames = FrameParameters(Camera.from_label25(torch.from_numpy(ours), axes="opengl"), head)
    back = FrameParameters.from_vector437(frames.to_vector437()).camera.to_label25(axes="opengl").numpy()
    assert eg3d_from_ours(back, CENTRE, units_per_metre=3.0) == pytest.approx(theirs, abs=1e-5)


def test_camera_and_neck_are_one_turn():
    """Spec of the released files: a turned head in the decomposed camera is the resting head in the file's camera."""
    model = load_open_head(dtype=torch.float64)
    random = torch.Generator().manual_seed(1)
    neck = torch.randn(4, 3, generator=random, dtype=torch.float64) * 0.5
    params = HeadParams.zeros(model, 4)
    translation = torch.tensor([[0.0, -0.01, -4.2]], dtype=torch.float64).repeat(4, 1)
    camera = Camera.from_head_pose(neck, translation)
    decomposed = decompose_camera(camera, neck, model.rest_joints(params.shape, params.expression)[:, 1])
    points = model.landmarks(model(params), count=478)
    turned = model.landmarks(model(params.replace(neck=neck)), count=478)
    seen = decomposed.project(turned, height=512, width=512)[0]
    assert float((seen - camera.project(points, height=512, width=512)[0]).abs().max()) < 1e-5
    again = decompose_camera(decomposed, -neck, torch.zeros(4, 3, dtype=torch.float64))
    assert again.cam2world.numpy() == pytest.approx(camera.cam2world.numpy(), abs=1e-5)
    assert decomposed.cam2world[:, :3, :3].numpy() == pytest.approx(np.tile(np.eye(3), (4, 1, 1)), abs=1e-7)


def test_the_worlds_fit_a_head_in_the_frontal_eg3d_picture():
    """Eyes of the open head land where EG3D's alignment puts them: 136 px apart, a little above the middle."""
    frontal = np.diag([1.0, -1, -1, 1])
    frontal[2, 3] = 2.7
    intrinsics = [EG3D_FOCAL, 0, 0.5, 0, EG3D_FOCAL, 0.5, 0, 0, 1]
    label = np.concatenate([frontal.ravel(), intrinsics])[None]
    model = load_open_head()
    irises = model.landmarks(model.template[None])[0, [468, 473]].numpy().astype(float)
    right, left = _project(label, 2.7 * (irises - CENTRE), "opencv")[0]
    assert left[0] - right[0] == pytest.approx(136, rel=0.12)
    assert 215 < right[1] < 256 and left[0] + right[0] == pytest.approx(512, abs=2)


def test_the_eg3d_lens_keeps_the_direction():
    theirs = eg3d_from_ours(_labels(), CENTRE, units_per_metre=3.0)
    fixed = with_eg3d_lens(theirs)
    assert np.linalg.norm(fixed[:, [3, 7, 11]], axis=1) == pytest.approx(2.7)
    directions = [
        places[:, [3, 7, 11]] / np.linalg.norm(places[:, [3, 7, 11]], axis=1)[:, None] for places in (theirs, fixed)
    ]
    assert directions[0] == pytest.approx(directions[1])
    assert fixed[0, 16:] == pytest.approx([4.2647, 0, 0.5, 0, 4.2647, 0.5, 0, 0, 1], abs=1e-4)
    assert with_eg3d_lens(fixed) == pytest.approx(fixed)


def test_the_mirrored_pose_negates_five_numbers():
    theirs = eg3d_from_ours(_labels(), CENTRE, units_per_metre=3.0)
    expected = theirs.copy()
    for row, column in ((0, 1), (0, 2), (1, 0), (2, 0), (0, 3)):
        expected[:, 4 * row + column] *= -1
    assert mirror_label(theirs) == pytest.approx(expected)
    mirrored_ours = mirror_label(_labels())
    assert eg3d_from_ours(mirrored_ours, CENTRE, units_per_metre=3.0) == pytest.approx(expected, abs=1e-6)


def _items(count: int = 3, side: int = 16) -> list:
    random = np.random.default_rng(0)
    return [(random.integers(0, 256, (side, side, 3), dtype=np.uint8), label) for label in _labels(count)]


@pytest.mark.parametrize("name", ["set.zip", "set"])
def test_what_is_written_comes_back(tmp_path: Path, name: str):
    assert write_eg3d(tmp_path / name, _items()) == 3
    dataset = read_eg3d(tmp_path / name)
    assert dataset.names[1] == "00000/img00000001.png" and len(dataset) == 3
    for (image, label), (wanted, wanted_label) in zip(dataset, _items(), strict=True):
        assert (image == wanted).all() and (label == wanted_label).all()


def test_the_zip_is_stored_and_the_same_each_time(tmp_path: Path):
    for name in ("a.zip", "b.zip"):
        write_eg3d(tmp_path / name, _items())
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    with pytest.raises(InputError, match="a new .zip"):
        write_eg3d(tmp_path / "a.zip", _items(1))
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert {member.compress_type for member in archive.infolist()} == {zipfile.ZIP_STORED}
        assert [name for name, _ in json.loads(archive.read("dataset.json"))["labels"]] == archive.namelist()[:-1]


def test_what_is_no_dataset_is_refused(tmp_path: Path):
    (tmp_path / "text.zip").write_text("no zip")
    for path, words in (
        (tmp_path, "it has none"),
        (tmp_path / "text.zip", "cannot be read"),
        (tmp_path / "x", "cannot"),
    ):
        with pytest.raises(InputError, match=words):
            read_eg3d(path)
    labels = {
        "not there": {"labels": [["a.png", [0.0] * 25]]},
        "25": {"labels": [["a.png", [0.0] * 24]]},
        "inside": {"labels": [["../a.png", [0.0] * 25]]},
        "expected dataset.json": {"labels": None},
    }
    for words, content in labels.items():
        (tmp_path / "dataset.json").write_text(json.dumps(content))
        with pytest.raises(InputError, match=words):
            read_eg3d(tmp_path)
    with pytest.raises(InputError, match="power of two"):
        write_eg3d(tmp_path / "new.zip", _items(side=24))
    with pytest.raises(InputError, match="empty folder"):
        write_eg3d(tmp_path, _items())


def test_a_damaged_picture_is_named(tmp_path: Path):
    write_eg3d(tmp_path / "a.zip", _items())
    content = bytearray((tmp_path / "a.zip").read_bytes())
    content[content.index(b"IDAT") + 40] ^= 255
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(InputError, match="img00000000.png is damaged"):
        list(read_eg3d(tmp_path / "a.zip"))
