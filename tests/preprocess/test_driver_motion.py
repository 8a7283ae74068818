"""Folders of the released preprocessing as drivers: what comes out is what their files say."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from flame.errors import InputError
from flame.heads.flame import Flame, flame_from_tensors
from flame.heads.open_head import load_open_head
from flame.landmarks.sets import IBUG_OF_478, IBUG_RIGHT_EYE
from flame_tensors import network_tensors
from portrait4d.cli.main import run
from portrait4d.engines.choose import load_engine
from portrait4d.jobs.batch_items import find_drivers
from portrait4d.pipeline import track_driver
from preprocess.media.image import read_image, to_tensor, write_png
from preprocess.tracking.released_files import frames_of_motion, read_driver_folder
from preprocess.tracking.released_motion import is_driver_folder, motion_of_folder

ENGINE = "portrait4d-v2"

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def folder(shared: Path, tmp_path: Path) -> Path:
    """Two frames with one shape, as a clip's have; numbers of real files, one picture."""
    path = tmp_path / "clip"
    for name in ("align_images", "3dldmks_align", "flame_optim_params"):
        (path / name).mkdir(parents=True)
    with np.load(shared / "data/p4d/params.npz") as archive:
        landmarks, vectors = archive["lmk68"], archive["flame_optim"].copy()
    vectors[:, 25:325] = vectors[0, 25:325]
    for index in range(2):
        image = read_image(shared / "data/p4d/images" / f"p4d_open_{index:02d}.jpg")
        write_png(path / "align_images" / f"{index}.png", image)
        np.save(path / "3dldmks_align" / f"{index}.npy", landmarks[index])
        np.save(path / "flame_optim_params" / f"{index}.npy", vectors[index])
    return path


@pytest.fixture(scope="module")
def flame(synthetic_flame: Path) -> Flame:
    return flame_from_tensors(network_tensors(synthetic_flame)).in_metres()


def test_the_vectors_of_the_files_come_back(folder: Path, flame: Flame) -> None:
    """Camera, shape, expression, neck, jaw and eyes: through metres and back; both cameras follow from them."""
    driver = read_driver_folder(folder)
    motion = motion_of_folder(folder, flame, motion_encoder=None, frame_rate=Fraction(30))
    frames = frames_of_motion(motion, flame)
    torch.testing.assert_close(frames.to_vector437(), driver.frames.to_vector437(), atol=2e-5, rtol=0)
    assert motion.frame_rate == 30 and motion.codes.shape == (2, 0) and not motion.neck.any()
    assert frames.turned_head().camera.cam2world[0, :3, 3].tolist() == pytest.approx([0, 0.01, 4.2])
    np.testing.assert_allclose(motion.landmarks[:, list(IBUG_OF_478), :2], driver.landmarks, atol=1e-4)
    right = driver.landmarks[0, list(IBUG_RIGHT_EYE)]
    gap = (np.linalg.norm(right[1] - right[5]) + np.linalg.norm(right[2] - right[4])) / 2
    assert motion.eye_open[0, 1] == pytest.approx(gap / np.linalg.norm(right[0] - right[3]), rel=1e-5)


def test_codes_are_those_of_the_pictures_with_the_landmarks_given(home: Path, folder: Path) -> None:
    engine = load_engine(ENGINE)
    motion = track_driver(folder, models=_models(engine))
    image = to_tensor(read_image(folder / "align_images" / "1.png"))
    points = torch.from_numpy(np.load(folder / "3dldmks_align" / "1.npy")).float()[None]
    assert engine.motion_encoder is not None
    np.testing.assert_allclose(motion.codes[1], engine.motion_encoder(image, points)[0].numpy(), atol=1e-5)
    assert not np.allclose(motion.codes[0], motion.codes[1])


def _models(engine):
    from portrait4d.reenactment.models import Models
    from preprocess.tracking.tracker import Tracker

    return Models(engine, Tracker(head_model=engine.head_model, motion_encoder=engine.motion_encoder))


def test_what_does_not_fit_is_told_in_one_line(folder: Path, flame: Flame) -> None:
    assert is_driver_folder(folder) and not is_driver_folder(folder / "align_images")
    with pytest.raises(InputError, match=r"head model 'open-head'.* give .*align_images"):
        motion_of_folder(folder, load_open_head(), motion_encoder=None)
    file = folder / "flame_optim_params" / "1.npy"
    vector = np.load(file)
    for where, said in (
        (slice(425, 428), "frame 1 .* have different rotations"),
        (16, "another field of view than the 12"),
    ):
        changed = vector.copy()
        changed[where] += 0.1
        np.save(file, changed)
        with pytest.raises(InputError, match=said):
            motion_of_folder(folder, flame, motion_encoder=None)
    np.save(file, vector)
    write_png(folder / "align_images" / "1.png", np.zeros((256, 200, 3), np.uint8))
    with pytest.raises(InputError, match="1.png is 200 x 256: expected aligned pictures"):
        motion_of_folder(folder, flame, motion_encoder=None)


@pytest.mark.slow
def test_the_command_takes_such_a_folder(home: Path, folder: Path, shared: Path, tmp_path: Path, capsys) -> None:
    photo = shared / "data" / "sources" / "s01_astronaut.png"
    output = tmp_path / "r.mp4"
    options = ["--quiet", "--side-by-side", "--duration", "0.04"]
    assert run(["reenact", str(photo), str(folder), "-o", str(output), "--engine", ENGINE, *options]) == 0
    assert output.stat().st_size > 1000 and "1 frames" in capsys.readouterr().out
    assert run(["reenact", str(photo), str(folder), "-o", str(output), "--engine", "lift", "--quiet"]) == 2
    assert "align_images" in capsys.readouterr().err


@pytest.mark.slow
def test_a_batch_takes_such_folders(home: Path, folder: Path, shared: Path, tmp_path: Path, capsys) -> None:
    """By name, and among videos in a folder of drivers; run again, it does only the one whose numbers changed."""
    photo = shared / "data" / "sources" / "s01_astronaut.png"
    out = tmp_path / "out"
    options = ["-o", str(out), "--engine", ENGINE, "--duration", "0.04", "--quiet"]
    assert run(["batch", str(photo), str(folder), *options]) == 0
    result = out / "s01_astronaut__clip.mp4"
    written = result.stat().st_mtime_ns
    assert run(["batch", str(photo), str(folder), *options]) == 0
    assert result.stat().st_mtime_ns == written, "nothing had changed"
    vector = np.load(folder / "flame_optim_params" / "0.npy")
    np.save(folder / "flame_optim_params" / "0.npy", vector)  # the folder itself does not get a new time from that
    assert run(["batch", str(photo), str(folder), *options]) == 0
    assert result.stat().st_mtime_ns > written
    assert run(["batch", str(photo), str(folder), *options[:2], "--engine", "lift", "--quiet"]) == 1
    assert "align_images" in capsys.readouterr().out


def test_driver_folders_are_found_beside_videos(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "video.mp4").touch()
    (tmp_path / "frames").mkdir()
    assert [path.name for path in find_drivers(tmp_path)] == ["clip", "video.mp4"]
    assert [path.name for path in find_drivers(str(tmp_path / "cl*"))] == ["clip"]
    assert find_drivers(folder) == [folder]
    (tmp_path / "video.mp4").unlink()
    write_png(tmp_path / "picture.png", np.zeros((8, 8, 3), np.uint8))
    assert [path.name for path in find_drivers(tmp_path)] == ["clip"]
    with pytest.raises(InputError, match="no drivers found"):
        find_drivers(tmp_path / "frames")
