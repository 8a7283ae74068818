"""Weights at a path in place of an engine's name; avatars and options that are not of the engine that gets them."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fakes_engine import FakeEngine, FakeTracker, fake_motion
from flame.errors import InputError
from flame.heads.head_model import HeadParams
from flame.heads.head_pose import HeadPose
from generated_weights import SMALL
from official_pickles import build_module, official_names, save_official
from portrait4d import Portrait4D
from portrait4d.cli.console import tell_engine
from portrait4d.cli.main import run
from portrait4d.engines.abilities import Abilities, check_choices
from portrait4d.engines.base import Drive
from portrait4d.engines.choose import available_engines, choose_engine, load_engine
from portrait4d.engines.identity import loaded_weights, recorded_weights, trained_engine_at
from portrait4d.engines.portrait4d.avatar import Portrait4DAvatar
from portrait4d.engines.portrait4d.engine import Portrait4DEngine
from portrait4d.options import ReenactOptions
from portrait4d.pipeline import build_source, reenact_tracked
from portrait4d.reconstructor.config import ReconstructorConfig
from portrait4d.reenactment.driver import Driver
from portrait4d.reenactment.head_crops import render_frames
from portrait4d.reenactment.models import Models, check_models
from portrait4d.weights.config import CheckpointConfig, read_config
from portrait4d.weights.own_format import hash_file, read_checkpoint, write_checkpoint
from preprocess.media.image import read_image
from preprocess.tracking.tracker import Tracker

pytestmark = pytest.mark.usefixtures("one_thread")

DURATION = ["--duration", "0.04", "--quiet"]


@pytest.fixture(scope="module", autouse=True)
def home(generated_home: Path, tmp_path_factory: pytest.TempPathFactory):
    """A weights folder with the motion encoder alone, and weights of an engine elsewhere."""
    folder = tmp_path_factory.mktemp("portrait4d")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PORTRAIT4D_HOME", str(folder))
        shutil.copytree(generated_home / "weights" / "motion-model", folder / "weights" / "motion-model")
        shutil.copytree(generated_home / "weights" / "portrait4d-v2", folder / "mine" / "portrait4d-v2-tuned")
        yield folder


@pytest.fixture(scope="module")
def mine(home: Path) -> Path:
    return home / "mine" / "portrait4d-v2-tuned"


@pytest.fixture(scope="module")
def engine(mine: Path) -> Portrait4DEngine:
    found = load_engine(mine)
    assert isinstance(found, Portrait4DEngine)
    return found


@pytest.fixture(scope="module")
def photo(shared: Path) -> Path:
    return shared / "data" / "sources" / "s01_astronaut.png"


@pytest.fixture(scope="module")
def clip(shared: Path) -> Path:
    return shared / "data" / "drivers" / "d02_speech_woman.mp4"


@pytest.fixture(scope="module")
def avatar(engine: Portrait4DEngine, photo: Path) -> Portrait4DAvatar:
    tracker = Tracker(head_model=engine.head_model, motion_encoder=engine.motion_encoder)
    return engine.build([tracker.track_image(read_image(photo))])


def _copy(mine: Path, folder: Path, **changes: object) -> Path:
    """The weights elsewhere, with other values in their config."""
    shutil.copytree(mine, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
    return folder


def _official(path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    """The tensors as an official file has them."""
    with official_names() as plain:
        names = {"": "TriPlaneReconstructorNeutralize"}
        module = build_module(tensors, set(), class_names=names, plain=plain, init_kwargs={})
        module.__dict__.update(rendering_kwargs={"box_warp": 1.3}, neural_rendering_resolution=32)
        return save_official(path, {"G_ema": module})


@pytest.mark.slow
def test_an_official_file_is_an_engine(
    mine: Path, engine: Portrait4DEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the network of the folder of the same tensors, and known by its sha256."""
    path = _official(tmp_path / "portrait4d-v2-vfhq512.pkl", read_checkpoint(mine)[1])
    monkeypatch.setattr(ReconstructorConfig, "from_official", lambda *_, **__: SMALL)  # released ones are not as small
    found = load_engine(str(path))
    assert isinstance(found, Portrait4DEngine) and found.name == "portrait4d-v2"
    assert loaded_weights(found) == recorded_weights("portrait4d-v2", weights=path)
    assert found.weights == hash_file(path)
    ours = engine.network.state_dict()
    assert all(torch.equal(value, ours[name]) for name, value in found.network.state_dict().items())
    assert Portrait4D.from_pretrained(path).engine.weights == found.weights
    path.rename(tmp_path / "network.pkl")
    with pytest.raises(InputError, match=r"network.pkl does not say which network it holds"):
        load_engine(tmp_path / "network.pkl")


@pytest.mark.slow
def test_every_command_takes_a_folder(
    mine: Path, photo: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What `avatar` and `track` write serves the other commands with the same weights."""
    chosen, made = ["--engine", str(mine)], tmp_path / "a.safetensors"
    motion = tmp_path / "m.npz"
    assert run(["avatar", str(photo), "-o", str(made), *chosen]) == 0
    told = capsys.readouterr()
    assert f"engine portrait4d-v2 with the weights at {mine}\n" in told.err and "engine portrait4d-v2" in told.out
    assert run(["track", str(clip), "-o", str(motion), *chosen, *DURATION]) == 0
    assert run(["reenact", str(made), str(motion), "-o", str(tmp_path / "r.mp4"), *chosen, *DURATION]) == 0
    assert run(["render", str(made), "-o", str(tmp_path / "v.png"), "--yaw=15", *chosen, "--quiet"]) == 0
    assert (tmp_path / "r.mp4").is_file() and (tmp_path / "v.png").is_file()
    capsys.readouterr()
    assert run(["selfcheck", str(mine), str(photo), "--json"]) == 1  # its pictures are noise
    assert json.loads(capsys.readouterr().out)["engine"] == "portrait4d-v2"
    assert "portrait4d-v2" in {status.name for status in available_engines()} and choose_engine().name == "lift"


@pytest.mark.slow
def test_a_batch_is_done_again_when_the_content_at_the_path_changed(
    mine: Path, photo: Path, clip: Path, tmp_path: Path
) -> None:
    """And not when the same content lies elsewhere."""
    copied = _copy(mine, tmp_path / "one" / "portrait4d-v2")
    moved = tmp_path / "portrait4d-v2-elsewhere"

    def times(engine: Path) -> int:
        batch = ["batch", str(photo), str(clip), "-o", str(tmp_path / "out"), "--engine", str(engine), *DURATION]
        assert run(batch) == 0
        (made,) = (tmp_path / "out").glob("*.mp4")
        return made.stat().st_mtime_ns

    first = times(copied)
    copied.rename(moved)
    assert times(moved) == first
    config, tensors = read_checkpoint(moved)
    name = next(
        name for name, value in tensors.items() if value.is_floating_point() and not name.startswith("deformer")
    )
    changed = {key: value.clone() for key, value in tensors.items()}
    changed[name] += 0.01
    write_checkpoint(moved, config, changed)
    assert times(moved) > first


def test_weights_are_known_by_their_content(engine: Portrait4DEngine, mine: Path, tmp_path: Path) -> None:
    """Without loading them, as when they are loaded; models with others are not what the options name."""
    found = loaded_weights(engine)
    assert found == recorded_weights("portrait4d-v2", weights=mine)
    assert found["portrait4d-v2"] == read_config(mine).tensors_sha256 and found["motion-model"]
    models = Models(engine, Tracker(head_model=engine.head_model))
    for named in (str(mine), mine, "portrait4d-v2", "auto", _copy(mine, tmp_path / "portrait4d-v2")):
        assert check_models(models, ReenactOptions(engine=named)) is models  # pyright: ignore[reportArgumentType]
    other = _copy(mine, tmp_path / "portrait4d-v2-b", tensors_sha256="other")
    with pytest.raises(InputError, match=r"expected models with the weights at .*portrait4d-v2-b, got portrait4d-v2"):
        check_models(models, ReenactOptions(engine=str(other)))
    static = _copy(mine, tmp_path / "portrait4d-static")
    said = "expected models of engine 'portrait4d-static' with the weights at .*portrait4d-static, got 'portrait4d-v2'"
    with pytest.raises(InputError, match=said):
        check_models(models, ReenactOptions(engine=str(static)))
    official = tmp_path / "portrait4d-v2.pkl"
    for content in (b"one", b"three"):
        official.write_bytes(content)
        assert recorded_weights("portrait4d-v2", weights=official)["portrait4d-v2"] == hash_file(official)


@pytest.mark.parametrize(
    ("name", "source", "expected"),
    [
        ("portrait4d-v2-tuned", "", "portrait4d-v2"),
        ("portrait4d-static", "", "portrait4d-static"),
        ("portrait4d-mine", "", "portrait4d"),
        ("mine", "portrait4d-static-genhead512.pkl", "portrait4d-static"),
        ("portrait4d-v2", "portrait4d-genhead512.pkl", "portrait4d"),
        ("portrait4d-v2", "network.pkl", "portrait4d-v2"),
    ],
)
def test_the_config_tells_the_engine_before_the_folder_does(
    mine: Path, tmp_path: Path, name: str, source: str, expected: str
) -> None:
    folder = _copy(mine, tmp_path / name, source=source)
    assert trained_engine_at(folder) == expected
    status = choose_engine(str(folder))
    assert (status.name, status.available, status.weights) == (expected, True, folder)
    assert str(folder) in status.reason


def test_a_name_wins_over_a_folder_of_that_name(mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _copy(mine, tmp_path / "portrait4d-v2")
    monkeypatch.chdir(tmp_path)
    assert choose_engine("portrait4d-v2").weights is None and not choose_engine("portrait4d-v2").available
    for named in ("./portrait4d-v2", Path("portrait4d-v2")):
        assert choose_engine(named).weights == Path("portrait4d-v2")


def test_the_motion_encoder_comes_from_the_weights_folder(
    mine: Path, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where one lies beside the path; static reconstruction needs none."""
    folder = _copy(mine, tmp_path / "portrait4d-v2")
    shutil.copytree(mine.parents[1] / "weights" / "motion-model", tmp_path / "motion-model")
    monkeypatch.setenv("PORTRAIT4D_HOME", str(tmp_path / "empty"))
    monkeypatch.setenv("PORTRAIT4D_OFFLINE", "1")
    status = choose_engine(folder)
    assert not status.available and status.reason.startswith("not on this machine: motion-model; get with")
    assert run(["avatar", str(photo), "-o", str(tmp_path / "a.safetensors"), "--engine", str(folder)]) == 2
    assert "motion-model is not on this machine" in capsys.readouterr().err
    static = _copy(mine, tmp_path / "portrait4d-static")
    assert choose_engine(static).available and load_engine(static).motion_encoder is None


def test_what_is_no_engine_is_one_line(
    mine: Path, photo: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_checkpoint(tmp_path / "faces", CheckpointConfig("eg3d", "generator", {}), {"a": torch.zeros(1)})
    write_checkpoint(tmp_path / "critic", CheckpointConfig("portrait4d", "discriminator", {}), {"a": torch.zeros(1)})
    damaged = _copy(mine, tmp_path / "portrait4d-v2-damaged")
    (damaged / "config.json").write_text("{")
    unread = _copy(mine, tmp_path / "portrait4d-v2-bare")
    (unread / "model.safetensors").unlink()
    nameless = _copy(mine, tmp_path / "nameless")
    (tmp_path / "nothing").mkdir()
    (tmp_path / "portrait4d-v2.pkl").write_bytes(b"rubbish")
    (tmp_path / "rubbish.pkl").write_bytes(b"rubbish")
    for named, said in (
        (tmp_path / "faces", f"got those of eg3d: give another folder than {tmp_path / 'faces'}"),
        (tmp_path / "critic", "got those of portrait4d's discriminator: give another folder"),
        (damaged, "config.json is not JSON"),
        (unread, "expected model.safetensors in the checkpoint folder"),
        (nameless, "nameless does not say which network it holds: expected a name that begins with portrait4d,"),
        (tmp_path / "nothing", "expected a checkpoint folder with config.json"),
        (tmp_path / "portrait4d-v2.pkl", "portrait4d-v2.pkl"),
        (tmp_path / "rubbish.pkl", "rubbish.pkl"),
        (tmp_path / "absent.pkl", "expected a checkpoint folder or an official file at"),
        (mine / "model.safetensors", f"got {mine / 'model.safetensors'}: give the folder it lies in"),
        ("portrait4d-v3", "got 'portrait4d-v3': did you mean 'portrait4d-v2'?"),
        ("lifted", "got 'lifted': did you mean 'lift'?"),
        ("", "got '': did you mean"),
    ):
        for command in (
            ["avatar", photo, "-o", "a.safetensors"],
            ["batch", photo, clip, "-o", "b", "--duration", "0.04"],
        ):
            arguments = [str(item) for item in command]
            arguments[arguments.index("-o") + 1] = str(tmp_path / "out" / arguments[arguments.index("-o") + 1])
            assert run([*arguments, "--engine", str(named), "--quiet"]) == 2, named
            message = capsys.readouterr().err
            assert said in message and message.count("\n") == 1, (named, message)
        if named:
            with pytest.raises(InputError):
                Portrait4D.from_pretrained(named)
    assert not list((tmp_path / "out").rglob("*.mp4")) and not (tmp_path / "out" / "a.safetensors").exists()
    with pytest.raises(InputError, match="expected portrait4d, portrait4d-static, portrait4d-v2, toy, or a folder"):
        Portrait4D.from_pretrained("lift")


def test_weights_are_not_written_over(
    mine: Path, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = _copy(mine, tmp_path / "portrait4d-v2")
    before = hash_file(folder / "model.safetensors")
    assert run(["avatar", str(photo), "-o", str(folder / "model.safetensors"), "--engine", str(folder)]) == 2
    assert "is one of the inputs" in capsys.readouterr().err
    assert hash_file(folder / "model.safetensors") == before


def test_an_avatar_of_another_engine_is_refused_by_both_names(
    engine: Portrait4DEngine, avatar: Portrait4DAvatar, photo: Path, tmp_path: Path
) -> None:
    lift = load_engine("lift")
    lifted = build_source(photo, models=Models(lift, Tracker(head_model=lift.head_model))).avatar
    both = "expected an avatar of engine {}, got one of engine {}: build it again"
    for owner, other in ((engine, lifted), (lift, avatar)):
        said = both.format(owner.name, other.engine)
        drive, source = _drive(1), avatar.motion if owner is engine else lifted.motion
        models = Models(owner, Tracker(head_model=owner.head_model, motion_encoder=owner.motion_encoder))
        for draw in (
            lambda: owner.render(other, drive),  # noqa: B023 (called at once)
            lambda: owner.mesh(other),  # noqa: B023
            lambda: render_frames(other, source, options=ReenactOptions(), models=models),  # noqa: B023
        ):
            with pytest.raises(InputError, match=said):
                draw()
    model = Portrait4D(engine)
    for draw in (
        lambda: model.animate(lifted, avatar.motion),  # pyright: ignore[reportArgumentType]  (the error is tested)
        lambda: model.mesh(lifted),  # pyright: ignore[reportArgumentType]
    ):
        with pytest.raises(InputError, match=both.format("portrait4d-v2", "lift")):
            draw()
    lifted.save(tmp_path / "lift.safetensors")
    with pytest.raises(InputError, match="was built by engine 'lift': use --engine lift"):
        engine.load(tmp_path / "lift.safetensors")
    with pytest.raises(InputError, match=r"expected engine portrait4d, .* got 'lift'"):
        Portrait4D(lift)  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="other weights of portrait4d-v2, or another FLAME: build it again"):
        engine.render(replace(avatar, weights="other"), _drive(1))


@pytest.mark.slow
def test_hints_name_the_weights_that_were_given(
    engine: Portrait4DEngine,
    avatar: Portrait4DAvatar,
    mine: Path,
    photo: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """They named the released engine, whose weights are not on this machine."""
    given = re.escape(str(mine))
    assert engine.engine_option == str(mine)
    with pytest.raises(InputError, match=f"track the video with --engine {given}, or give"):
        engine.render(avatar, _drive(1))
    lifted = replace(avatar, engine="lift")
    with pytest.raises(InputError, match=f"build it again with engine {given}, or use engine lift"):
        engine.render(lifted, _drive(1))
    other = replace(avatar, weights="other")
    other.save(tmp_path / "other.safetensors")
    for draw in (lambda: engine.render(other, _drive(1)), lambda: engine.load(tmp_path / "other.safetensors")):
        with pytest.raises(InputError, match=f"another FLAME: build it again with engine {given}$"):
            draw()

    def fail(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError

    with monkeypatch.context() as patch:
        patch.setattr(engine, "_render", fail)
        with pytest.raises(InputError, match=f"does not hold one frame of {given}: free"):
            engine.render(avatar, _drive(1))
        patch.setattr("portrait4d.engines.portrait4d.loading.build_network", fail)
        with pytest.raises(InputError, match=f"does not hold the weights {given}: free"):
            load_engine(mine)
    assert run(["selfcheck", str(mine), str(photo)]) == 1  # its pictures are noise
    assert f"the weights at {mine} do not do what they should" in capsys.readouterr().err


def test_a_reenactment_of_a_foreign_avatar_writes_nothing(photo: Path, tmp_path: Path) -> None:
    models = Models(FakeEngine(), FakeTracker())  # pyright: ignore[reportArgumentType]
    source = build_source(photo, models=models)
    options = ReenactOptions()
    foreign = replace(source, avatar=replace(source.avatar, engine="other"))  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="expected an avatar of engine fake, got one of engine other"):
        reenact_tracked(
            foreign,
            fake_motion([0.2, 0.4]),
            tmp_path / "r.mp4",
            driver=Driver.open(photo, options),
            options=options,
            models=models,
        )
    assert not list(tmp_path.iterdir())


def test_an_option_that_an_engine_does_not_know_is_refused_by_both_names() -> None:
    lift, trained = (choose_engine(name) for name in ("lift", "portrait4d"))
    for option, value, said in (
        (
            "placement",
            "canonical",
            "expected placement 'tracked' for engine lift, which draws the head where it was, got",
        ),
        ("jitter", 0, "expected no jitter for engine lift, which takes no samples along rays, got 0: drop --jitter"),
        ("flame", "f.pkl", "expected no flame for engine lift"),
        ("mesh_resolution", 64, "expected no mesh-resolution for engine lift, .* drop --mesh-resolution"),
    ):
        with pytest.raises(InputError, match=said):
            check_choices(lift, {option: value})
        check_choices(trained, {option: value})
    check_choices(lift, {"placement": "tracked", "jitter": None, "flame": None, "mode": "absolute"})
    made_up = replace(lift, name="sketch", abilities=Abilities(jitter="draws lines"))
    check_choices(made_up, {"mesh_resolution": 64})
    with pytest.raises(InputError, match="expected no jitter for engine sketch, which draws lines, got 3"):
        check_choices(made_up, {"jitter": 3})


def test_seeds_of_noise_are_refused_by_lift(photo: Path) -> None:
    lift = load_engine("lift")
    lifted = build_source(photo, models=Models(lift, Tracker(head_model=lift.head_model))).avatar
    with pytest.raises(InputError, match="expected no jitter for engine lift"):
        lift.render(lifted, replace(_drive(1), noise_seeds=torch.zeros(1, 1, dtype=torch.int64)))


def test_nothing_is_said_of_a_path_in_quiet(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tell_engine(str(mine), is_quiet=True)
    tell_engine("lift", is_quiet=False)
    assert capsys.readouterr().err == ""
    tell_engine(str(mine), is_quiet=False)
    assert capsys.readouterr().err.count("\n") == 1


def _drive(count: int) -> Drive:
    """Refused before it is looked at."""
    still = torch.zeros(count, 3)
    return Drive(
        pose=HeadPose(rotation=still, translation=still),
        head=HeadParams(
            shape=torch.zeros(count, 1),
            expression=torch.zeros(count, 1),
            neck=still,
            jaw=still,
            eyes=torch.zeros(count, 2, 3),
        ),
        eye_closed=torch.zeros(count, 2),
        residual=torch.zeros(count, 478, 3),
        codes=torch.zeros(count, 0),
        noise_seeds=torch.zeros(count, 0, dtype=torch.int64),
    )
