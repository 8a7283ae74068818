"""The embedded engine `toy`: small, honest about itself, and a head of its own kind does what it is told."""

import json

import numpy as np
import pytest
from numpy.typing import NDArray

from portrait4d.cli.main import run
from portrait4d.engines.choose import available_engines, load_engine
from portrait4d.engines.own_drive import orbit_drive
from portrait4d.engines.portrait4d.open_head_engine import OpenHeadEngine
from portrait4d.engines.retarget import RetargetOptions, retarget
from portrait4d.weights.folder import embedded_weights
from portrait4d.weights.own_format import read_checkpoint
from preprocess.dataset.toy.options import ToyOptions
from preprocess.dataset.toy.records import ToyRecords
from preprocess.media.image import to_uint8
from preprocess.tracking.tracker import TrackedFrame, Tracker

NAME = "portrait4d-toy64"

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def engine() -> OpenHeadEngine:
    loaded = load_engine("toy")
    assert isinstance(loaded, OpenHeadEngine)
    return loaded


@pytest.fixture(scope="module")
def tracked(engine: OpenHeadEngine) -> TrackedFrame:
    """A drawn person whom it has not seen, at the size of a photo."""
    options = ToyOptions(num_identities=1, pictures_per_identity=1, size=512, oversampling=1, seed=50_001)
    (record,) = ToyRecords(options)(0)
    return Tracker(head_model=engine.head_model).track_image(record.image)


def test_it_is_small_and_says_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    folder = embedded_weights()[NAME]
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 8e6
    config, _ = read_checkpoint(folder)
    assert config.licence == "Apache License 2.0, as this package" and "toy" in config.source
    assert run(["weights", "list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["embedded"]
    assert "toy_chain" in next(row["about"] for row in rows if row["name"] == NAME)
    status = next(status for status in available_engines() if status.name == "toy")
    assert status.available and available_engines()[-1].name == "toy"


def _picture(engine: OpenHeadEngine, tracked: TrackedFrame, **changes: NDArray) -> NDArray[np.float64]:
    avatar = engine.build([tracked])
    options = RetargetOptions(mode="absolute", yaw_limit=None)
    drive = retarget(tracked.motion, avatar, options, engine.head_model)
    for name, value in changes.items():
        drive.head.expression[:, engine.head_model.expression_names.index(name)] = float(value)
    return to_uint8(engine.render(avatar, drive).image)[0].astype(np.float64)


def test_it_shows_the_source(engine: OpenHeadEngine, tracked: TrackedFrame) -> None:
    """Much nearer to it, at its own 64 px, than the same upside down, or without its colours."""
    photo = engine.build([tracked]).crop.apply(tracked.image).astype(np.float64)
    shown = _picture(engine, tracked)
    small = [picture.reshape(64, 8, 64, 8, 3).mean((1, 3)) for picture in (shown, photo)]
    distance = np.abs(small[0] - small[1]).mean()
    assert distance < 0.6 * np.abs(small[0] - small[1][::-1]).mean()
    assert distance < 0.6 * np.abs(small[1] - small[1].mean((0, 1))).mean()


def test_it_opens_its_mouth_and_turns(engine: OpenHeadEngine, tracked: TrackedFrame) -> None:
    shut, wide = (_picture(engine, tracked, jawOpen=np.array(value)) for value in (0.0, 0.8))
    change = np.abs(wide - shut).mean(2)
    places = engine.build([tracked]).crop.to_crop(tracked.landmarks.points)[:, :2]
    mouth = places[[13, 14, 17]].mean(0).round().astype(int)
    around = change[mouth[1] - 40 : mouth[1] + 60, mouth[0] - 50 : mouth[0] + 50].mean()
    forehead = places[10].round().astype(int)
    above = change[max(forehead[1] - 40, 0) : forehead[1] + 40, forehead[0] - 50 : forehead[0] + 50].mean()
    assert around > 3 and around > 2 * above
    avatar = engine.build([tracked])
    drive = orbit_drive(avatar, engine.head_model, np.array([-25.0, 25.0]), np.zeros(2))
    left, right = to_uint8(engine.render(avatar, drive).image).astype(np.float64)
    assert np.abs(left - right).mean() > 5
