"""Portrait4D from Python, with generated weights."""

from pathlib import Path

import numpy as np
import pytest
import torch

from flame.errors import InputError
from flame.geometry.camera import Camera
from portrait4d import Portrait4D
from portrait4d.engines.choose import load_engine
from portrait4d.engines.portrait4d.avatar import Portrait4DAvatar
from portrait4d.engines.portrait4d.engine import Portrait4DEngine
from portrait4d.options import ReenactOptions
from preprocess.media.image import read_image, to_uint8

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model(home: Path) -> Portrait4D:
    return Portrait4D.from_pretrained("portrait4d-v2")


@pytest.fixture(scope="module")
def photo(shared: Path) -> Path:
    return shared / "data" / "sources" / "s01_astronaut.png"


@pytest.fixture(scope="module")
def avatar(model: Portrait4D, photo: Path) -> Portrait4DAvatar:
    return model.avatar(photo)


def _cameras(*yaw: float) -> Camera:
    angles = torch.tensor(yaw)
    return Camera.orbit(angles, torch.zeros_like(angles), radius=4.2, target=torch.zeros(3))


@pytest.mark.slow
def test_paths_and_arrays_give_the_same_avatar(model: Portrait4D, avatar: Portrait4DAvatar, photo: Path) -> None:
    of_array = model.avatar([read_image(photo)])
    assert torch.equal(of_array.features.tokens, avatar.features.tokens)
    with pytest.raises(InputError, match=r"uint8 \[H, W, 3\] RGB, got float64 \[4, 4, 3\]"):
        model.avatar(np.zeros((4, 4, 3)))  # pyright: ignore[reportArgumentType]  (the error is tested)


@pytest.mark.slow
def test_a_view_is_a_frame_of_the_sources_own_codes(model: Portrait4D, avatar: Portrait4DAvatar) -> None:
    cameras = _cameras(-20.0, 20.0)
    views = model.render(avatar, cameras)
    assert views.shape == (2, 512, 512, 3) and views.dtype == np.uint8
    assert not np.array_equal(views[0], views[1])
    codes = np.concatenate([avatar.motion.codes, avatar.motion.codes + 1])
    frames = list(model.animate(avatar, codes, cameras))
    assert len(frames) == 2 and np.array_equal(frames[0], views[0]) and not np.array_equal(frames[1], views[1])


@pytest.mark.slow
def test_jitter_comes_from_a_seed_or_not_at_all(model: Portrait4D, avatar: Portrait4DAvatar) -> None:
    camera = _cameras(10.0)
    still = [model.render(avatar, camera) for _ in range(2)]
    seeded = [model.render(avatar, camera, generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert np.array_equal(still[0], still[1]) and np.array_equal(seeded[0], seeded[1])
    assert not np.array_equal(seeded[0], seeded[2]) and not np.array_equal(seeded[0], still[0])


@pytest.mark.slow
def test_a_motion_goes_through_the_pipeline(model: Portrait4D, avatar: Portrait4DAvatar, tmp_path: Path) -> None:
    """The source's own motion, as an object and as a file, is what the engine draws of it."""
    from portrait4d.engines.retarget import RetargetOptions, retarget

    (frame,) = model.animate(avatar, avatar.motion)
    drive = retarget(avatar.motion, avatar, RetargetOptions(), model.engine.head_model)
    assert np.array_equal(frame, to_uint8(model.engine.render(avatar, drive).image)[0])
    avatar.motion.save(tmp_path / "m.npz")
    (of_file,) = model.animate(avatar, tmp_path / "m.npz")
    assert np.array_equal(of_file, frame)


@pytest.mark.slow
def test_weights_by_path(home: Path, avatar: Portrait4DAvatar, tmp_path: Path) -> None:
    folder = tmp_path / "portrait4d-static-mine"
    folder.symlink_to(home / "weights" / "portrait4d-v2")
    static = Portrait4D.from_pretrained(folder)
    assert static.engine.name == "portrait4d-static" and static.engine.motion_encoder is None
    other = tmp_path / "mine"
    other.symlink_to(home / "weights" / "portrait4d-v2")
    with pytest.raises(InputError, match="mine does not say which network it holds"):
        Portrait4D.from_pretrained(other)
    with pytest.raises(InputError, match="got 'portrait4d-v3': did you mean 'portrait4d-v2'"):
        Portrait4D.from_pretrained("portrait4d-v3")
    with pytest.raises(InputError, match="float32, the only one"):
        Portrait4D.from_pretrained("portrait4d-v2", dtype=torch.bfloat16)


def test_codes_need_cameras(model: Portrait4D, avatar: Portrait4DAvatar) -> None:
    with pytest.raises(InputError, match="give cameras"):
        model.animate(avatar, np.zeros((2, 548)))
    with pytest.raises(InputError, match=r"got \[3, 548\] and 2 cameras"):
        model.animate(avatar, np.zeros((3, 548)), _cameras(0.0, 1.0))


def test_options_that_the_engine_was_not_loaded_with_are_refused(model: Portrait4D, home: Path) -> None:
    """A motion was drawn where it was tracked, whatever the options said."""
    with pytest.raises(InputError, match="expected models with placement 'canonical', got 'tracked'"):
        Portrait4D(model.engine, options=ReenactOptions(placement="canonical"))
    engine = load_engine("portrait4d-v2", placement="canonical")
    assert isinstance(engine, Portrait4DEngine)
    assert Portrait4D(engine).options.placement == "canonical"
    assert Portrait4D(model.engine, options=ReenactOptions(jitter=3)).options.jitter == 3
