"""A driver's frames: camera against neck, the vector of 437, the released tools' files."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from fakes import make_fake_head
from flame.errors import InputError
from flame.geometry.camera import Camera
from flame.geometry.rotation import axis_angle_to_matrix
from flame.heads.flame import Flame, load_flame
from flame.heads.frame_parameters import FrameParameters, PosedView, decompose_camera
from flame.heads.head_model import HeadParams
from flame.landmarks.ibug import to_68, to_70
from golden import Fixture
from motions import make_motion
from preprocess.tracking.motion import Motion
from preprocess.tracking.released_files import frames_of_motion, read_driver_folder, read_frame, read_landmarks


@pytest.fixture(scope="module")
def model(synthetic_flame: Path) -> Flame:
    return load_flame(synthetic_flame / "geometry" / "generic_model.pkl", unit="portrait4d")


@pytest.fixture(scope="module")
def rigid(model: Flame) -> Flame:
    """Without pose correctives and without shoulders, the neck turns the head as a whole."""
    weights = model.skinning_weights.clone()
    weights[:, 1] += weights[:, 0]
    weights[:, 0] = 0
    tables = dataclasses.replace(model.tables, skinning_weights=weights)
    return Flame(tables, torch.zeros_like(model.pose_basis), model.origin, units_per_metre=3).eval()


@pytest.fixture(scope="module")
def vectors(shared: Path) -> dict[str, Tensor]:
    with np.load(shared / "data/p4d/params.npz") as archive:
        return {name: torch.from_numpy(archive[name]) for name in ("flame_optim", "bfm2flame")}


def _motion(count: int = 5) -> Motion:
    random = np.random.default_rng(8)
    motion = make_motion(count, num_shape=300, num_expression=100, head_model="flame")
    return dataclasses.replace(
        motion,
        shape=random.normal(0, 0.5, 300).astype(np.float32),
        rotation=random.uniform(-0.5, 0.5, (count, 3)).astype(np.float32),
        jaw=random.uniform(0, 0.1, (count, 3)).astype(np.float32),
        eyes=random.uniform(-0.1, 0.1, (count, 2, 3)).astype(np.float32),
    )


def _seen(view: PosedView, model: Flame) -> Tensor:
    """The 70 landmarks in px of a 512 picture."""
    points = model.landmarks(model(view.head), count=70)
    return view.camera.project(points, height=512, width=512)[0]


def test_the_three_views_of_a_tracked_frame(rigid: Flame) -> None:
    """The tracked head in front of a fixed camera, in metres; the resting head; the turned neck: one picture."""
    motion = _motion()
    frames = frames_of_motion(motion, rigid)
    metres = rigid.in_metres()
    turn = axis_angle_to_matrix(torch.from_numpy(motion.rotation))
    points = metres.landmarks(metres(motion.params(metres)), count=70)
    filmed = points @ turn.transpose(1, 2) + torch.from_numpy(motion.translation)[:, None]
    fixed = Camera(torch.eye(4)[None], frames.camera.intrinsics[:1])
    expected, depth = fixed.project(filmed, height=512, width=512)
    assert (depth > 1).all()
    torch.testing.assert_close(_seen(frames.resting_head(), rigid), expected, atol=5e-3, rtol=0)
    decomposed = frames.decomposed(rigid)
    torch.testing.assert_close(_seen(decomposed, rigid), expected, atol=5e-3, rtol=0)
    # what is left of the camera has no turn, and stands straight before the head
    straight = torch.eye(3).expand(5, 3, 3)
    torch.testing.assert_close(decomposed.camera.cam2world[:, :3, :3], straight, atol=1e-5, rtol=0)
    turned = frames.turned_head()
    torch.testing.assert_close(turned.camera.cam2world[:, :3, 3], torch.tensor([[0.0, 0.01, 4.2]]).expand(5, 3))
    assert torch.equal(turned.head.neck, torch.from_numpy(motion.rotation))
    assert not frames.resting_head().head.neck.any()


def test_decomposition_shows_the_same_and_goes_back(rigid: Flame) -> None:
    generator = torch.Generator().manual_seed(0)
    rotation, neck = (0.4 * torch.randn(6, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    translation = torch.tensor([0.1, -0.2, -4.2], dtype=torch.float64).expand(6, 3)
    composed = Camera.from_head_pose(rotation, translation)
    double = rigid.double()
    head = dataclasses.replace(
        HeadParams.zeros(double, 6),
        shape=torch.randn(6, 300, generator=generator, dtype=torch.float64),
        neck=neck,
    )
    joint = double.rest_joints(head.shape, head.expression)[:, 1]
    assert joint.abs().max() > 1e-3
    camera = decompose_camera(composed, neck, joint)
    at_rest = PosedView(composed, head.replace(neck=torch.zeros_like(neck)))
    torch.testing.assert_close(_seen(PosedView(camera, head), double), _seen(at_rest, double), atol=1e-5, rtol=0)
    torch.testing.assert_close(camera.cam2world @ camera.world2cam, torch.eye(4).double().expand(6, 4, 4))
    back = decompose_camera(camera, -neck, joint)
    torch.testing.assert_close(back.cam2world, composed.cam2world, atol=1e-12, rtol=0)
    still = decompose_camera(composed, torch.zeros_like(neck), joint)
    torch.testing.assert_close(still.cam2world, composed.cam2world, atol=1e-12, rtol=0)
    rigid.float()


def test_decomposition_equals_the_official_one(shared: Path, model: Flame) -> None:
    fixture = Fixture.load(shared, "p4d_deform_onlyhead")
    neck, jaw = fixture.input("pose").split(3, 1)
    eyes = fixture.input("eye_pose").unflatten(1, (2, 3))
    head = HeadParams(fixture.input("shape"), fixture.input("exp"), neck, jaw, eyes)
    frames = FrameParameters(Camera.from_label25(fixture.input("c"), axes="opengl"), head)
    label = frames.decomposed(model).camera.to_label25(axes="opengl")
    assert fixture.absolute_error("decompose_camera_pose", label) < 2e-6


def test_a_vector_survives(vectors: dict[str, Tensor]) -> None:
    for table in vectors.values():
        assert torch.equal(FrameParameters.from_vector437(table).to_vector437(), table)
    frames = FrameParameters.from_vector437(torch.arange(437.0)[None])
    assert frames.head.neck.tolist() == [[425, 426, 427]] and frames.head.jaw.tolist() == [[428, 429, 430]]
    assert frames.head.eyes.tolist() == [[[431, 432, 433], [434, 435, 436]]]
    assert frames.head.shape[0, 0] == 25 and frames.head.expression[0, 0] == 325


def test_other_head_models_have_no_vector() -> None:
    head = make_fake_head()
    motion = make_motion(2)
    with pytest.raises(InputError, match="6 shape and 9 expression numbers: track with FLAME"):
        frames_of_motion(motion, head).to_vector437()
    with pytest.raises(InputError, match="belongs to head model 'fake'"):
        frames_of_motion(dataclasses.replace(motion, shape=np.zeros(5, np.float32)), head)


def test_released_frames_follow_the_convention(vectors: dict[str, Tensor], rigid: Flame) -> None:
    """Our reading of 32 real files: the camera's turn is the neck's, backwards, and both views of it agree."""
    for name, table in vectors.items():
        frames = FrameParameters.from_vector437(table)
        turn = axis_angle_to_matrix(frames.head.neck)
        torch.testing.assert_close(frames.camera.cam2world[:, :3, :3], turn.transpose(1, 2), atol=2e-7, rtol=0)
        again = FrameParameters.from_head_pose(frames.head_pose(), frames.head)
        torch.testing.assert_close(again.to_vector437(), table, atol=2e-6, rtol=0)
        if name == "bfm2flame":
            place = frames.camera.world2cam[:, :3, 3]
            torch.testing.assert_close(place, torch.tensor([[0.0, -0.01, -4.2]]).expand(16, 3), atol=2e-6, rtol=0)
            assert not frames.head.eyes.any()
        difference = _seen(frames.decomposed(rigid), rigid) - _seen(frames.resting_head(), rigid)
        assert difference.abs().max() < 5e-3
        left = frames.decomposed(rigid).camera.cam2world[:, :3, :3] - torch.eye(3)
        assert left.abs().max() < 1e-6


# ---- files


@pytest.fixture
def driver(shared: Path, vectors: dict[str, Tensor], tmp_path: Path) -> Path:
    """A folder as the released preprocessing leaves it, of three portraits."""
    with np.load(shared / "data/p4d/params.npz") as archive:
        lmk68, lmk98 = archive["lmk68"], archive["lmk98"]
    for name in ("align_images", "3dldmks_align", "2dldmks_align", "flame_optim_params", "bfm2flame_params_simplified"):
        (tmp_path / name).mkdir()
    for index in range(3):
        stem = str(index + 9)  # 9, 10, 11: natural order is not that of the alphabet
        (tmp_path / "align_images" / f"{stem}.png").write_bytes(b"not opened here")
        np.save(tmp_path / "3dldmks_align" / f"{stem}.npy", lmk68[index])
        np.save(tmp_path / "2dldmks_align" / f"{stem}.npy", lmk98[index])
        np.save(tmp_path / "flame_optim_params" / f"{stem}.npy", vectors["flame_optim"][index].numpy())
        np.save(tmp_path / "bfm2flame_params_simplified" / f"{stem}.npy", vectors["bfm2flame"][index].numpy())
    return tmp_path


def test_a_released_folder_is_read(driver: Path, vectors: dict[str, Tensor], shared: Path) -> None:
    file = driver / "flame_optim_params" / "9.npy"
    assert file.stat().st_size == 1876
    assert torch.equal(read_frame(file).to_vector437(), vectors["flame_optim"][:1])
    found = read_driver_folder(driver)
    assert [path.name for path in found.pictures] == ["9.png", "10.png", "11.png"]
    assert torch.equal(found.frames.to_vector437(), vectors["flame_optim"][:3])
    with np.load(shared / "data/p4d/params.npz") as archive:
        np.testing.assert_array_equal(found.landmarks, archive["lmk68"][:3])
        of_98 = read_landmarks(driver / "2dldmks_align" / "9.npy")
        np.testing.assert_array_equal(of_98[[0, 8, 16, 30, 36, 45]], archive["lmk98"][0][[0, 16, 32, 54, 60, 72]])
    for path in (driver / "flame_optim_params").iterdir():
        path.unlink()
    (driver / "flame_optim_params").rmdir()
    assert torch.equal(read_driver_folder(driver).frames.to_vector437(), vectors["bfm2flame"][:3])


def test_broken_driver_files_get_one_line(driver: Path, vectors: dict[str, Tensor]) -> None:
    vector = vectors["flame_optim"][0].numpy()
    file = driver / "flame_optim_params" / "10.npy"
    skewed = vector.copy()
    skewed[:3] *= 1.1
    mirrored = vector.copy()
    mirrored[[0, 4, 8]] *= -1
    for content, said in (
        (vector[:-1], r"expected 437 numbers.*\(436,\)"),
        (np.full_like(vector, np.nan), "not finite"),
        (skewed, "not a camera pose"),
        (mirrored, "not a camera pose"),
        (np.array(["a"] * 437), "does not hold an array of numbers"),
    ):
        np.save(file, content)
        with pytest.raises(InputError, match=said) as caught:
            read_driver_folder(driver)
        assert "10.npy" in str(caught.value) and "\n" not in str(caught.value)
    file.write_bytes(b"")
    with pytest.raises(InputError, match="10.npy"):
        read_frame(file)
    file.unlink()
    with pytest.raises(InputError, match="there is none"):
        read_driver_folder(driver)
    np.save(file, np.zeros((5, 2)))
    with pytest.raises(InputError, match=r"shape \(68, 2\) or \(98, 2\), got \(5, 2\)"):
        read_landmarks(file)
    with pytest.raises(InputError, match="has no folder align_images"):
        read_driver_folder(driver / "3dldmks_align")


# ---- landmarks


def test_landmark_sets_by_their_numbers() -> None:
    points = np.arange(478)[None, :, None] * np.ones((1, 1, 3))
    assert to_70(points).shape == (1, 70, 3) and to_68(points).shape == (1, 68, 3)
    seventy = to_70(points)[0, :, 0].astype(int).tolist()
    assert [seventy[index] for index in (8, 33, 36, 39, 42, 45, 48, 54, 62, 66, 68, 69)] == [
        152, 2, 33, 133, 362, 263, 61, 291, 13, 14, 468, 473,
    ]  # fmt: skip
    assert len(set(seventy)) == 70
    wflw = np.arange(98)[:, None]
    assert to_70(wflw)[[0, 16, 17, 22, 27, 36, 39, 42, 45, 48, 60, 68, 69], 0].tolist() == [
        0, 32, 33, 42, 51, 60, 64, 68, 72, 76, 88, 96, 97,
    ]  # fmt: skip
    assert to_68(wflw[:68]) is not None and np.array_equal(to_70(wflw[:70]), wflw[:70])
    with pytest.raises(ValueError, match="468"):
        to_70(np.zeros((468, 3)))
