"""`--flame FILE`: the user's FLAME in place of the one that the weights hold, in every command that loads an engine."""

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import portrait4d.reenactment.models
from flame.errors import InputError
from flame.heads.flame import load_flame
from flame.heads.head_model import HeadParams
from flame.pickles.numbers import read_numbers
from portrait4d.cli.main import run
from portrait4d.engines.choose import load_engine
from portrait4d.engines.identity import loaded_weights, recorded_weights
from portrait4d.engines.portrait4d.avatar import Portrait4DAvatar
from portrait4d.engines.portrait4d.engine import Portrait4DEngine
from portrait4d.options import ReenactOptions
from portrait4d.reconstructor.network import SourceFeatures
from portrait4d.reenactment.models import Models, check_models, load_models
from preprocess.tracking.tracker import Tracker

ENGINE = "portrait4d-v2"

pytestmark = pytest.mark.usefixtures("one_thread", "home")


def _write(folder: Path, synthetic_flame: Path, *, name: str = "mine.pkl", **changes: np.ndarray) -> Path:
    """A FLAME file with its landmarks beside it."""
    folder.mkdir(exist_ok=True)
    content = read_numbers(synthetic_flame / "geometry" / "generic_model.pkl")
    (folder / name).write_bytes(pickle.dumps({**content, **changes}))
    shutil.copy(synthetic_flame / "geometry" / "landmark_embedding_with_eyes.npy", folder)
    return folder / name


@pytest.fixture(scope="module")
def mine(synthetic_flame: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights' own head, a tenth wider."""
    content = read_numbers(synthetic_flame / "geometry" / "generic_model.pkl")
    wider = np.asarray(content["v_template"]) * [1.1, 1.0, 1.0]
    return _write(tmp_path_factory.mktemp("user") / "flame", synthetic_flame, v_template=wider)


@pytest.fixture(scope="module")
def engine(home: Path, mine: Path) -> Portrait4DEngine:
    found = load_engine(ENGINE, flame=str(mine))
    assert isinstance(found, Portrait4DEngine)
    return found


def test_the_file_s_head_is_in_the_network_s_unit(engine: Portrait4DEngine, synthetic_flame: Path, mine: Path) -> None:
    """In metres x 3, as the weights hold their own; theirs is a tenth narrower, and otherwise the same."""
    own = load_engine(ENGINE)
    assert isinstance(own, Portrait4DEngine)
    heads = [each.flame(HeadParams.zeros(each.flame)) for each in (engine, own)]
    widths = [float(head[..., 0].max() - head[..., 0].min()) for head in heads]
    assert widths[0] / widths[1] == pytest.approx(1.1, rel=1e-3)
    assert torch.allclose(heads[0][..., 1:], heads[1][..., 1:], atol=2e-3)
    params = HeadParams.zeros(engine.head_model)
    assert torch.allclose(engine.head_model(params), load_flame(mine)(params), atol=1e-6)
    assert torch.equal(engine.coarse_mesh.faces, own.coarse_mesh.faces)
    Tracker(head_model=engine.head_model)  # knows enough landmarks


def test_what_is_kept_is_bound_to_the_file(
    engine: Portrait4DEngine, mine: Path, synthetic_flame: Path, tmp_path: Path
) -> None:
    """Batch keys (without loading weights), avatars, and models that are handed in."""
    recorded = recorded_weights(ENGINE, flame=str(mine))
    assert recorded == loaded_weights(engine) and set(recorded) == {ENGINE, "motion-model"}
    assert recorded_weights(ENGINE) != recorded
    same, other = _write(tmp_path / "a", synthetic_flame), _write(tmp_path / "b", synthetic_flame)
    assert recorded_weights(ENGINE, flame=str(same)) == recorded_weights(ENGINE, flame=str(other)) != recorded
    tracker = Tracker(head_model=engine.head_model, motion_encoder=engine.motion_encoder)
    models = Models(engine, tracker)
    assert check_models(models, ReenactOptions(flame=str(mine))) is models
    with pytest.raises(InputError, match="expected models with the FLAME file"):
        check_models(models, ReenactOptions(flame=str(same)))
    from portrait4d.jobs.demo import demo_photo

    tracked = tracker.track_image(demo_photo())
    features = SourceFeatures(torch.zeros(1, 4, 8), 2, 2, torch.zeros(1, 8, 2, 2), torch.zeros(1, 32, 2, 2))
    built = Portrait4DAvatar(features, engine.weights, tracked.motion, tracked.crop, ENGINE)
    built.save(tmp_path / "a.safetensors")
    assert engine.load(tmp_path / "a.safetensors").weights == engine.weights
    with pytest.raises(InputError, match="other weights of portrait4d-v2, or another FLAME: build it again"):
        load_engine(ENGINE).load(tmp_path / "a.safetensors")


@pytest.mark.parametrize("command", ["reenact", "batch", "track", "avatar", "render", "selfcheck"])
def test_each_command_hands_the_file_on(
    mine: Path, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    seen = []

    def load(name: str, *, flame: str | None, **_: object):
        seen.append((name, flame))
        raise InputError("seen enough")

    monkeypatch.setattr(portrait4d.reenactment.models, "load_engine", load)
    photo = str(shared / "data" / "sources" / "s01_astronaut.png")
    clip = str(shared / "data" / "drivers" / "d02_speech_woman.mp4")
    arguments, suffix = {
        "reenact": ([photo, clip], ".mp4"),
        "batch": ([photo, clip], ""),
        "track": ([clip], ".npz"),
        "avatar": ([photo], ".safetensors"),
        "render": ([photo], ".png"),
        "selfcheck": ([ENGINE, photo], ".png"),
    }[command]
    engine = [] if command == "selfcheck" else ["--engine", ENGINE]
    output = ["-o", str(tmp_path / f"out{suffix}"), *engine]
    assert run([command, *arguments, *output, "--flame", str(mine)]) == 2
    assert seen == [(ENGINE, str(mine))]


def test_files_that_cannot_be_used_are_one_line(
    synthetic_flame: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = read_numbers(synthetic_flame / "geometry" / "generic_model.pkl")
    small = _write(tmp_path / "a", synthetic_flame, v_template=np.asarray(content["v_template"])[:100])
    (tmp_path / "rubbish.pkl").write_bytes(b"rubbish")
    alone = _write(tmp_path / "c", synthetic_flame)
    (tmp_path / "c" / "landmark_embedding_with_eyes.npy").unlink()
    for path, said in (
        (small, "mine.pkl: expected v_template of shape (5023, 3) as in FLAME, got (100, 3)"),
        (tmp_path / "rubbish.pkl", "rubbish.pkl"),
        (tmp_path / "absent.pkl", "there is none: check the path"),
        (alone, "expected landmarks for mine.pkl, found none: put landmark_embedding_with_eyes.npy beside it"),
    ):
        output = tmp_path / "a.safetensors"
        photo = str(tmp_path / "never-read.png")
        Path(photo).touch()
        assert run(["avatar", photo, "-o", str(output), "--engine", ENGINE, "--flame", str(path)]) == 2
        message = capsys.readouterr().err
        assert said in message and message.count("\n") == 1 and not output.exists()
    assert run(["avatar", photo, "-o", str(output), "--engine", "lift", "--flame", str(small)]) == 2
    message = capsys.readouterr().err
    assert "expected no flame for engine lift, which has a head model of its own" in message


def test_models_are_loaded_with_it(mine: Path) -> None:
    """From the options to the tracker, which fits the same head."""
    models = load_models(ReenactOptions(engine=ENGINE, flame=str(mine)))
    expected = load_flame(mine).template
    assert torch.allclose(models.tracker.head_model.template, expected, atol=1e-6)
    assert torch.allclose(models.head_model.template, expected, atol=1e-6)
