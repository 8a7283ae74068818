"""Motion: the file round trip, refusals in one line, views as head parameters and cameras."""

import dataclasses
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from fakes import make_fake_head
from flame.errors import InputError
from motions import make_motion
from preprocess.tracking.motion import Motion


def test_file_round_trip(tmp_path: Path) -> None:
    motion = make_motion(12)
    motion.save(tmp_path / "new folder" / "clip.npz")
    loaded = Motion.load(tmp_path / "new folder" / "clip.npz")
    for field in dataclasses.fields(Motion):
        got, want = getattr(loaded, field.name), getattr(motion, field.name)
        if isinstance(want, np.ndarray):
            assert got.dtype == want.dtype, field.name
            np.testing.assert_array_equal(got, want, err_msg=field.name)
        else:
            assert got == want and type(got) is type(want), field.name
    assert [path.name for path in (tmp_path / "new folder").iterdir()] == ["clip.npz"]


def test_no_warnings_round_trip(tmp_path: Path) -> None:
    dataclasses.replace(make_motion(2), warnings=()).save(tmp_path / "clip.npz")
    assert Motion.load(tmp_path / "clip.npz").warnings == ()


def _resave(path: Path, **changes: np.ndarray) -> None:
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    np.savez(path, **{name: array for name, array in {**arrays, **changes}.items() if array.dtype != object})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": np.array(99)}, "version 99"),
        ({"version": np.array("x")}, "version x"),
        ({"format": np.array("other")}, "not a motion file"),
        ({"eyes": np.zeros((3, 2, 3))}, "eyes"),
        ({"frame_rate": np.array([25, 0])}, "frame rate"),
        ({"expression": np.full((12, 9), np.nan)}, "finite"),
        ({"rotation": np.array(None, dtype=object)}, "lacks rotation"),
    ],
)
def test_foreign_files_are_refused_in_one_line(tmp_path: Path, changes: dict, message: str) -> None:
    path = tmp_path / "clip.npz"
    make_motion(12).save(path)
    _resave(path, **changes)
    with pytest.raises(InputError, match=message) as error:
        Motion.load(path)
    assert "\n" not in str(error.value)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "clip.npz"
    make_motion(12).save(path)
    whole = path.read_bytes()
    for content in (b"", b"not a zip at all", whole[:500], whole[: len(whole) // 2], whole[:-30]):
        path.write_bytes(content)
        with pytest.raises(InputError):
            Motion.load(path)
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 0xFF  # inside the landmarks: only the checksum tells
    path.write_bytes(bytes(damaged))
    with pytest.raises(InputError):
        Motion.load(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(InputError):
        Motion.load(path)
    np.save(tmp_path / "array.npz", np.zeros(3))
    (tmp_path / "array.npz.npy").rename(path)
    with pytest.raises(InputError):
        Motion.load(path)
    with pytest.raises(InputError, match="no motion file"):
        Motion.load(tmp_path / "absent.npz")


def test_objects_are_not_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "clip.npz"
    np.savez(path, format=np.array({"a": 1}, dtype=object))
    with pytest.raises(InputError):
        Motion.load(path)


def test_slices_keep_frames_together() -> None:
    motion = make_motion(12)
    part = motion[3:7]
    assert len(part) == 4 and part.shape is motion.shape
    np.testing.assert_array_equal(part.seconds, motion.seconds[3:7])
    np.testing.assert_array_equal(part.landmarks, motion.landmarks[3:7])
    with pytest.raises(TypeError):
        motion[3]  # pyright: ignore[reportArgumentType]


def test_params_and_camera_agree_with_the_pose() -> None:
    """The camera sees the resting head where a fixed camera sees the turned one."""
    motion, head = make_motion(12), make_fake_head()
    params = motion.params(head, 5)
    assert len(params) == 1 and params.shape.dtype == torch.float64
    assert len(motion.params(head)) == 12 and len(motion.params(head, slice(2, 4))) == 2
    points = head(params).float()
    pixels, depth = motion.camera(5).project(points, height=512, width=512)
    from scipy.spatial.transform import Rotation

    in_camera = points[0].numpy() @ Rotation.from_rotvec(motion.rotation[5]).as_matrix().T + motion.translation[5]
    focal = 0.5 / np.tan(np.radians(6)) * 512
    expected = 256 + focal * in_camera[:, :2] * [1, -1] / -in_camera[:, 2:]
    np.testing.assert_allclose(pixels[0].numpy(), expected, atol=1e-2)
    np.testing.assert_allclose(depth[0].numpy(), -in_camera[:, 2], atol=1e-5)


def test_other_head_models_are_refused() -> None:
    with pytest.raises(InputError, match="track .* again"):
        make_motion(3, num_expression=10).params(make_fake_head(), 0)
    with pytest.raises(InputError, match="track .* again"):
        make_motion(3, num_expression=10).check_model(make_fake_head())
    make_motion(3).check_model(make_fake_head())


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(ValueError, match="eyes"):
        dataclasses.replace(make_motion(3), eyes=np.zeros((3, 3), np.float32))


def test_file_name_must_say_npz(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="npz"):
        make_motion(3).save(tmp_path / "clip.mp4")
