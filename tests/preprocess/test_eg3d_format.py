"""EG3D's datasets and cameras: nothing moves in the picture, and every way back is exact."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from flame.errors import InputError
from flame.geometry.camera import Camera
from flame.heads.frame_parameters import FrameParameters, decompose_camera
from flame.heads.head_model import HeadParams
from flame.heads.open_head import load_open_head
from flame.landmarks.sets import PUPILS_OF_478
from preprocess.dataset.formats.eg3d_format import (
    EG3D_FOCAL,
    HEADS_IN_EG3D,
    eg3d_from_ours,
    ours_from_eg3d,
    read_eg3d,
    with_eg3d_lens,
    write_eg3d,
)
from preprocess.dataset.reading.flip import mirror_label
from preprocess.faces.aligned_crop import DEEP3D_FIVE_POINTS, crop_from_five, five_points
from preprocess.faces.detector import FaceDetector
from preprocess.faces.landmarker import FaceLandmarker, find_faces
from preprocess.fitting.batched.fit import BatchFitter
from preprocess.media.image import read_image

HEAD = HEADS_IN_EG3D["open"]


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
    metres = np.random.default_rng(0).normal(size=(20, 3)) * 0.1 + HEAD.centre
    ours = _labels()
    theirs = eg3d_from_ours(ours, HEAD, units_per_metre=3.0)
    wanted = _project(ours, 3.0 * metres, "opengl")
    assert _project(theirs, HEAD.place(metres), "opencv") == pytest.approx(wanted, abs=1e-3)


def test_ours_eg3d_portrait4d_and_back():
    """EG3D -> ours -> Portrait4D's vector of 437 -> ours -> EG3D, in float32 as the files are."""
    theirs = eg3d_from_ours(_labels(), HEAD, units_per_metre=3.0).astype(np.float32)
    ours = ours_from_eg3d(theirs, HEAD, units_per_metre=3.0).astype(np.float32)
    assert ours == pytest.approx(_labels(), abs=1e-5)
    zeros = torch.zeros
    head = HeadParams(zeros(6, 300), zeros(6, 100), zeros(6, 3), zeros(6, 3), zeros(6, 2, 3))
    frames = FrameParameters(Camera.from_label25(torch.from_numpy(ours), axes="opengl"), head)
    back = FrameParameters.from_vector437(frames.to_vector437()).camera.to_label25(axes="opengl").numpy()
    assert eg3d_from_ours(back, HEAD, units_per_metre=3.0) == pytest.approx(theirs, abs=1e-5)


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
    irises = model.landmarks(model.template[None])[0, list(PUPILS_OF_478)].numpy().astype(float)
    right, left = _project(label, HEAD.place(irises), "opencv")[0]
    assert left[0] - right[0] == pytest.approx(136, rel=0.12)
    assert 215 < right[1] < 256 and left[0] + right[0] == pytest.approx(512, abs=2)


def test_the_eg3d_lens_keeps_the_direction():
    theirs = eg3d_from_ours(_labels(), HEAD, units_per_metre=3.0)
    fixed = with_eg3d_lens(theirs)
    assert np.linalg.norm(fixed[:, [3, 7, 11]], axis=1) == pytest.approx(2.7)
    directions = [
        places[:, [3, 7, 11]] / np.linalg.norm(places[:, [3, 7, 11]], axis=1)[:, None] for places in (theirs, fixed)
    ]
    assert directions[0] == pytest.approx(directions[1])
    assert fixed[0, 16:] == pytest.approx([4.2647, 0, 0.5, 0, 4.2647, 0.5, 0, 0, 1], abs=1e-4)
    assert with_eg3d_lens(fixed) == pytest.approx(fixed)


def test_the_mirrored_pose_negates_five_numbers():
    theirs = eg3d_from_ours(_labels(), HEAD, units_per_metre=3.0)
    expected = theirs.copy()
    for row, column in ((0, 1), (0, 2), (1, 0), (2, 0), (0, 3)):
        expected[:, 4 * row + column] *= -1
    assert mirror_label(theirs) == pytest.approx(expected)
    mirrored_ours = mirror_label(_labels())
    assert eg3d_from_ours(mirrored_ours, HEAD, units_per_metre=3.0) == pytest.approx(expected, abs=1e-6)


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


# Deep3DFaceRecon's origin, which its alignment puts into the middle of the picture, in EG3D's world
DEEP3D_ORIGIN = np.array([0.0, 0.006, 0.161])


def _portraits(shared: Path) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Files, 68 points and EG3D's labels by Portrait4D's own FLAME fits."""
    with np.load(shared / "data" / "p4d" / "params.npz", allow_pickle=False) as values:
        files, points, vectors = [str(file) for file in values["files"]], values["lmk68"], values["flame_optim"]
    return files, points, eg3d_from_ours(vectors[:, :25], HEADS_IN_EG3D["flame"], units_per_metre=3.0)


def test_the_middle_of_eg3d_s_crop_is_where_deep3d_has_its_origin(shared: Path):
    _, points, labels = _portraits(shared)
    seen = _project(labels, DEEP3D_ORIGIN[None], "opencv")[:, 0]
    crops = [crop_from_five(five_points(each), image_size=(512, 512), alignment="eg3d") for each in points]
    middles = np.array([crop.to_image(np.array([[256.0, 256.0]]))[0] for crop in crops])
    apart = np.linalg.norm(seen - middles, axis=1)
    assert np.sqrt((apart**2).mean()) < 5 and np.abs((seen - middles).mean(0)).max() < 2.5


def test_eg3d_s_axes_are_those_of_deep3d_s_template(shared: Path):
    """Five points tell a head's turn only roughly; of 16 the mean is good to a degree or two."""
    _, points, labels = _portraits(shared)
    pitches = []
    for each, label in zip(points, labels, strict=True):
        template = np.concatenate([DEEP3D_FIVE_POINTS, np.ones((5, 1))], 1)
        rows = np.linalg.lstsq(template, five_points(each) * [1.0, -1.0], rcond=None)[0].T[:, :3]
        left, _, right = np.linalg.svd(rows, full_matrices=False)
        first, second = left @ right
        turn = np.stack([first, second, np.cross(first, second)])  # of the template, seen with y up
        world2cam = np.linalg.inv(label[:16].reshape(4, 4))[:3, :3] * np.array([[1.0], [-1.0], [-1.0]])
        pitches.append(Rotation.from_matrix(turn.T @ world2cam).as_rotvec()[0])
    assert np.degrees(np.mean(pitches)) == pytest.approx(0, abs=3.5)


@pytest.mark.slow
def test_both_head_models_lead_to_the_same_eg3d_camera(shared: Path):
    files, _, theirs = _portraits(shared)
    detector, landmarker = FaceDetector(), FaceLandmarker()
    images = [read_image(shared / "data" / "p4d" / "images" / Path(file).name) for file in files[::2]]
    tracked = np.stack([find_faces(image, detector, landmarker)[0].points for image in images])
    cameras = BatchFitter(load_open_head()).fit(torch.from_numpy(tracked)).frame_parameters().camera
    ours = eg3d_from_ours(cameras.to_label25(axes="opengl").numpy(), HEAD, units_per_metre=3.0)
    turns = [label[:, :16].reshape(-1, 4, 4)[:, :3, :3] for label in (ours, theirs[::2])]
    apart = Rotation.from_matrix(turns[0]).inv() * Rotation.from_matrix(turns[1])
    assert np.degrees(np.median(apart.magnitude())) < 4
    assert np.degrees(np.abs(apart.as_rotvec().mean(0))).max() < 2
    seen = [_project(labels, DEEP3D_ORIGIN[None], "opencv")[:, 0] for labels in (ours, theirs[::2])]
    assert np.abs((seen[0] - seen[1]).mean(0)).max() < 3
