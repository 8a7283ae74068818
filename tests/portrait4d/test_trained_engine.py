"""What `portrait4d train` wrote runs as an engine: of the open head as it is, of FLAME with the user's file."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import portrait4d.engines.identity as identity
from flame.errors import InputError
from flame.geometry.camera import Camera
from flame.heads.head_model import HeadParams
from flame.heads.open_head import load_open_head
from portrait4d import Portrait4D
from portrait4d.cli.main import run
from portrait4d.engines.base import Drive
from portrait4d.engines.choose import ENGINE_NAMES, available_engines, choose_engine, ensure_engine, load_engine
from portrait4d.engines.identity import loaded_weights, recorded_weights
from portrait4d.engines.own_drive import orbit_drive
from portrait4d.engines.portrait4d.avatar import Portrait4DAvatar
from portrait4d.engines.portrait4d.engine import Portrait4DEngine
from portrait4d.engines.portrait4d.network_engine import NetworkEngine
from portrait4d.engines.portrait4d.open_head_engine import OpenHeadEngine
from portrait4d.engines.retarget import RetargetOptions, retarget
from portrait4d.jobs.demo import MOTION_FILE, demo_photo
from portrait4d.jobs.selfcheck import run_selfcheck
from portrait4d.options import ReenactOptions
from portrait4d.reconstructor.canonicaliser import CanonicaliserConfig
from portrait4d.reconstructor.config import ReconstructorConfig
from portrait4d.reconstructor.encoders import EncoderConfig
from portrait4d.reconstructor.motion_codes import parameter_code
from portrait4d.reconstructor.network import Reconstructor
from portrait4d.reconstructor.training.weights import save_networks
from portrait4d.reenactment.models import Models, check_models
from portrait4d.render.renderer import RenderConfig
from portrait4d.stylegan.superresolution import SuperResolutionConfig
from preprocess.media.image import to_tensor, to_uint8, write_png
from preprocess.tracking.motion import Motion
from preprocess.tracking.tracker import TrackedFrame, Tracker

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = ReconstructorConfig(
    encoder=EncoderConfig(width_divisor=8, num_blocks=(1, 1, 1, 1), rates=(2,)),
    source_resolution=64,
    canonicaliser=CanonicaliserConfig(
        dim=16, motion_dim=95, hidden_dim=16, motion_grid=2, num_neutral_blocks=1, num_motion_blocks=1
    ),
    plane_decoder_dim=16,
    plane_channels=4,
    has_plane_mean=True,
    decoder_channels=8,
    style_dim=8,
    neural_resolution=32,
    render=RenderConfig(range_mode="plane", box_warp=1.3, num_coarse=6, num_fine=4),
    superresolution=SuperResolutionConfig(kind="2x64", style_source="ones", is_half=False),
    motion="parameters",
    head="open",
    head_origin=(0.0, 0.10, 0.045),
    camera_fov_degrees=13.5,
)
"""As `configs/portrait4d/toy64.yaml`, but smaller."""

QUIET = ["--quiet", "--duration", "0.08"]


def _save(folder: Path, config: ReconstructorConfig, *, is_static: bool = False) -> Path:
    """A checkpoint as a training writes it, with weights that make a volume of noise."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Reconstructor(config)
        for weights in (network.plane_mean, network.decoder.out_sigma.weight):
            torch.nn.init.normal_(weights, std=4.0)
    save_networks(folder, network, None, is_static=is_static)
    return folder


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Inside a run, whose folders have numbers for names."""
    return _save(tmp_path_factory.mktemp("run") / "checkpoints" / "000000012345", TINY)


@pytest.fixture(scope="module")
def flame_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    canonicaliser = replace(TINY.canonicaliser, motion_dim=109)
    config = replace(TINY, head="flame", head_origin=(0.0, 0.03, 0.02), canonicaliser=canonicaliser)
    return _save(tmp_path_factory.mktemp("trained") / "of-flame", config)


@pytest.fixture(scope="module")
def engine(mine: Path) -> OpenHeadEngine:
    found = load_engine(mine)
    assert isinstance(found, OpenHeadEngine)
    return found


@pytest.fixture(scope="module")
def models(engine: OpenHeadEngine) -> Models:
    return Models(engine, Tracker(head_model=engine.head_model, motion_encoder=engine.motion_encoder))


@pytest.fixture(scope="module")
def tracked(models: Models) -> TrackedFrame:
    return models.tracker.track_image(demo_photo())


@pytest.fixture(scope="module")
def avatar(engine: OpenHeadEngine, tracked: TrackedFrame) -> Portrait4DAvatar:
    return engine.build([tracked])


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    write_png(path, demo_photo())
    return path


def _still(avatar: Portrait4DAvatar, engine: NetworkEngine) -> Drive:
    """The source drives itself."""
    return retarget(avatar.motion, avatar, RetargetOptions(mode="absolute", yaw_limit=None), engine.head_model)


def _given(monkeypatch: pytest.MonkeyPatch, name: str) -> list:
    """What the network's method gets from now on, the motion and cameras among it."""
    seen, method = [], getattr(Reconstructor, name)

    def watched(self: Reconstructor, *arguments: object, **options: object):
        seen.append(arguments)
        return method(self, *arguments, **options)

    monkeypatch.setattr(Reconstructor, name, watched)
    return seen


def _error_px(camera: Camera, points: Tensor, avatar: Portrait4DAvatar) -> float:
    """Median distance of the open head's points `[1, 478, 3]`, network's world, from the tracked landmarks at 512."""
    found, _ = camera.project(points, height=512, width=512)
    motion = avatar.motion
    between = avatar.crop.matrix @ np.linalg.inv(motion.crop_matrix)
    flat = np.concatenate([motion.landmarks[0, :, :2], np.ones((478, 1))], 1)
    return float(np.median(np.linalg.norm(found[0].numpy() - (flat @ between.T)[:, :2], axis=1)))


def test_the_camera_shows_the_head_where_it_was_tracked(
    engine: OpenHeadEngine, avatar: Portrait4DAvatar, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network's own camera puts the open head's landmarks on the photo's, in the crop that is shown."""
    seen, drive = _given(monkeypatch, "render"), _still(avatar, engine)
    engine.render(avatar, drive)
    engine.view(avatar, engine.codes_of(avatar.motion), engine.frame_camera(avatar, drive)[0])
    model, origin = load_open_head(), torch.tensor(TINY.head_origin)
    head = model.landmarks(model(HeadParams.zeros(model).replace(**_moves(avatar.motion))))
    for arguments in seen:
        camera = arguments[2]
        assert _error_px(camera, (head - origin) * 3, avatar) < 3
        assert _error_px(camera, (head + origin) * 3, avatar) > 60  # the origin on the other side


def _moves(motion: Motion) -> dict[str, Tensor]:
    return {
        "shape": torch.from_numpy(motion.shape)[None],
        **{name: torch.from_numpy(getattr(motion, name)) for name in ("expression", "jaw", "eyes")},
    }


def test_the_crop_looks_like_the_pictures_of_the_training(engine: OpenHeadEngine, avatar: Portrait4DAvatar) -> None:
    """The origin is in the middle, and as large as from a camera of the training, whatever the photo's own size."""
    camera, _ = engine.frame_camera(avatar, _still(avatar, engine))
    origin = torch.tensor(TINY.head_origin)[None, None] * 3
    pixel, depth = camera.project(origin, height=512, width=512)
    assert torch.allclose(pixel, torch.full_like(pixel, 256.0), atol=0.05)
    focal = 0.5 / np.tan(np.radians(13.5) / 2)
    assert float(camera.intrinsics[0, 0, 0] / depth[0, 0]) == pytest.approx(focal / TINY.camera_radius, rel=1e-3)
    assert avatar.crop.size == 512 and avatar.crop.matrix[0, 1] == 0


def test_a_head_at_the_training_distance_gets_the_training_s_picture(models: Models, tracked: TrackedFrame) -> None:
    """A photo that shows less of the surroundings gives the same crop of the head."""
    image = tracked.image[20:420, 60:420]
    close = models.tracker.track_image(np.ascontiguousarray(image))
    assert isinstance(models.engine, OpenHeadEngine)
    whole, part = (models.engine.source_crop(each) for each in (tracked, close))
    assert part.scale == pytest.approx(whole.scale, rel=0.1)
    middle = part.to_image(np.array([256.0, 256.0])) + [60, 20]
    assert np.abs(whole.to_crop(middle) - 256).max() < 15


def test_the_code_is_the_head_model_s_numbers(
    engine: OpenHeadEngine, avatar: Portrait4DAvatar, tracked: TrackedFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the source as tracked, of the driver as retargeted."""
    encoded, animated = _given(monkeypatch, "encode"), _given(monkeypatch, "animate")
    engine.build([tracked])
    moves = _moves(tracked.motion)
    assert torch.equal(encoded[0][1], parameter_code(moves["expression"], moves["jaw"], moves["eyes"]))
    whole = to_tensor(avatar.crop.apply(tracked.image))
    assert torch.allclose(encoded[0][0], whole.unflatten(3, (64, 8)).unflatten(2, (64, 8)).mean((3, 5)), atol=1e-5)
    motion = Motion.load(MOTION_FILE)[:40]
    drive = retarget(motion, avatar, RetargetOptions(), engine.head_model)[30:33]
    engine.animate(avatar, drive)
    assert torch.equal(animated[0][1], parameter_code(drive.head.expression, drive.head.jaw, drive.head.eyes))
    assert not torch.equal(animated[0][1], engine.codes_of(motion[30:33]))  # relative to the source


def test_pictures_have_the_size_of_all_engines(engine: OpenHeadEngine, avatar: Portrait4DAvatar) -> None:
    drive = orbit_drive(avatar, engine.head_model, np.array([-15.0, 15.0]), np.zeros(2))
    seen = engine.render(avatar, drive)
    assert seen.image.shape == (2, 3, 512, 512) and seen.alpha.shape == (2, 1, 512, 512)
    assert float(seen.image.abs().max()) <= 1 and not torch.equal(seen.image[0], seen.image[1])
    jittered = [engine.render(avatar, replace(drive, noise_seeds=torch.tensor([[s], [s]]))).image for s in (1, 1, 2)]
    assert torch.equal(jittered[0], jittered[1]) and not torch.equal(jittered[0], jittered[2])


def test_a_saved_avatar_gives_the_same_picture(
    engine: OpenHeadEngine, avatar: Portrait4DAvatar, tmp_path: Path
) -> None:
    avatar.save(tmp_path / "a.safetensors")
    drive = _still(avatar, engine)
    built, loaded = (engine.render(each, drive) for each in (avatar, engine.load(tmp_path / "a.safetensors")))
    # the order of the numbers in memory differs, and with it the last bit of sums
    assert torch.allclose(built.image, loaded.image, atol=1e-5) and torch.allclose(built.alpha, loaded.alpha, atol=1e-5)
    with pytest.raises(InputError, match="built by engine 'trained': use --engine FOLDER with the weights"):
        load_engine("lift").load(tmp_path / "a.safetensors")


def test_the_mesh_is_in_metres_of_the_head_frame(
    engine: OpenHeadEngine, avatar: Portrait4DAvatar, monkeypatch: pytest.MonkeyPatch
) -> None:
    vertices = engine.mesh(avatar, resolution=24).vertices
    half, origin = 1.3 / 2 / 3, np.array(TINY.head_origin)
    assert len(vertices) and np.abs(vertices - origin).max() <= half + 1e-4
    assert np.ptp(vertices, axis=0).max() > half / 4
    monkeypatch.setattr(engine.network, "config", replace(TINY, head_origin=(0.0, 0.0, 0.0)))
    assert np.allclose(vertices - engine.mesh(avatar, resolution=24).vertices, origin, atol=1e-6)


def test_every_command_takes_the_folder(
    mine: Path, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen, made, motion = ["--engine", str(mine)], tmp_path / "a.safetensors", tmp_path / "m.npz"
    Motion.load(MOTION_FILE)[:2].save(motion)
    assert run(["avatar", str(photo), "-o", str(made), *chosen]) == 0
    assert f"engine trained with the weights at {mine}\n" in capsys.readouterr().err
    for source in (photo, made):
        output = tmp_path / f"{source.stem}.mp4"
        assert run(["reenact", str(source), str(motion), "-o", str(output), *chosen, *QUIET]) == 0
        assert output.stat().st_size
    assert run(["batch", str(photo), str(motion), "-o", str(tmp_path / "batch"), *chosen, *QUIET]) == 0
    for name, options in (("v.png", ["--yaw=15"]), ("v.mp4", QUIET[1:]), ("m.ply", ["--mesh-resolution", "16"])):
        assert run(["render", str(made), "-o", str(tmp_path / name), *options, *chosen, "--quiet"]) == 0
    assert (tmp_path / "m.ply").stat().st_size
    capsys.readouterr()
    for options, said in (
        (
            ["--placement", "canonical"],
            "expected placement 'tracked' for engine trained, which learned the",
        ),
        (["--flame", "f.pkl"], "expected no flame for engine trained, which has a head model of its own"),
    ):
        command = ["reenact", str(photo), str(motion), "-o", str(tmp_path / "no.mp4")]
        assert run([*command, *chosen, *options, "--quiet"]) == 2
        message = capsys.readouterr().err
        assert said in message and message.count("\n") == 1 and not (tmp_path / "no.mp4").exists()


def test_selfcheck_measures_the_folder(mine: Path) -> None:
    check = run_selfcheck(str(mine))
    assert check.engine == "trained" and not check.passed  # its pictures are noise
    assert check.picture.shape == (512, 1024, 3) and len(check.findings) > 5


def test_it_is_known_by_its_content(engine: OpenHeadEngine, mine: Path, models: Models, tmp_path: Path) -> None:
    """And needs no other weights."""
    status = choose_engine(mine)
    assert (status.name, status.available, status.weights) == ("trained", True, mine)
    assert loaded_weights(engine) == recorded_weights("trained", weights=mine) and len(engine.weights) == 64
    assert check_models(models, ReenactOptions(engine=str(mine))) is models
    other = tmp_path / "other"
    shutil.copytree(mine, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "tensors_sha256": "other"}))
    with pytest.raises(InputError, match=r"expected models with the weights at .*other, got trained with others"):
        check_models(models, ReenactOptions(engine=str(other)))
    with pytest.raises(InputError, match="sha256 differs"):
        load_engine(other)


def test_from_python(mine: Path, photo: Path, engine: OpenHeadEngine, avatar: Portrait4DAvatar) -> None:
    """A camera that sees the head at rest shows what a drive in that pose does."""
    model = Portrait4D.from_pretrained(mine)
    built = model.avatar(photo)
    drive = _still(built, model.engine)
    frames = list(model.animate(built, Motion.load(MOTION_FILE)[:2]))
    assert len(frames) == 2 and frames[0].shape == (512, 512, 3)
    camera, _ = engine.frame_camera(avatar, drive)
    assert np.array_equal(model.render(built, camera), to_uint8(engine.render(avatar, drive).image))
    with pytest.raises(InputError, match=r"expected motion codes \[B, 95\] .*got \[1, 548\]"):
        list(model.animate(built, np.zeros((1, 548)), camera))


def test_a_static_folder_reads_no_motion(tracked: TrackedFrame, tmp_path: Path) -> None:
    static = load_engine(_save(tmp_path / "static", TINY, is_static=True))
    assert isinstance(static, OpenHeadEngine) and static.motion_scale == 0
    built = static.build([tracked])
    drive = _still(built, static)
    changed = replace(drive, head=drive.head.replace(expression=drive.head.expression + 0.5))
    assert torch.equal(static.render(built, drive).image, static.render(built, changed).image)


def test_a_folder_of_flame_needs_the_user_s_file(
    flame_folder: Path, synthetic_flame: Path, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, model = tmp_path / "a.safetensors", synthetic_flame / "geometry" / "generic_model.pkl"
    alone = tmp_path / "alone" / "flame"
    alone.mkdir(parents=True)
    for name in ("generic_model.pkl", "landmark_embedding_with_eyes.npy"):
        shutil.copy(synthetic_flame / "geometry" / name, alone)
    for options, said in (
        ([], f"expected a FLAME file for the trained weights {flame_folder}, which hold none, got none: give --flame"),
        (["--flame", str(alone / "generic_model.pkl")], "found none: put simplify_baricentric2.npy"),
    ):
        command = ["avatar", str(photo), "-o", str(output), "--engine", str(flame_folder), *options]
        assert run([*command, "--quiet"]) == 2
        message = capsys.readouterr().err
        assert said in message and message.count("\n") == 1 and not output.exists()
    found = load_engine(flame_folder, flame=str(model))
    assert isinstance(found, Portrait4DEngine) and found.name == "trained" and found.motion_encoder is None
    assert loaded_weights(found) == recorded_weights("trained", weights=flame_folder, flame=str(model))


def test_a_folder_of_flame_draws_with_the_user_s_file(
    flame_folder: Path, synthetic_flame: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its codes are FLAME's numbers; the field of the neck lies where the network's origin does."""
    found = load_engine(flame_folder, flame=str(synthetic_flame / "geometry" / "generic_model.pkl"))
    assert isinstance(found, Portrait4DEngine)
    source = Tracker(head_model=found.head_model).track_image(demo_photo())
    seen, built = _given(monkeypatch, "render"), found.build([source])
    moves = _moves(source.motion)
    assert torch.equal(found.codes_of(source.motion), parameter_code(moves["expression"], moves["jaw"], moves["eyes"]))
    drive = _still(built, found)
    turned = replace(drive, pose=replace(drive.pose, rotation=drive.pose.rotation + torch.tensor([0.0, 0.3, 0.0])))
    assert found.render(built, turned).image.shape == (1, 3, 512, 512)
    view, pose = found.posed_view(built, turned), found.frame_camera(built, turned)[1]
    origin = 3 * torch.tensor(found.network.config.head_origin)
    vertices = found.flame(view.head)
    resting = found.flame(view.head.replace(neck=torch.zeros(1, 3)))
    apart = (pose(vertices - origin) - (resting - origin)).norm(dim=-1).median()
    moved = (vertices - resting).norm(dim=-1).median()
    assert float(apart) < 0.2 * float(moved)
    shown, _ = seen[0][2].project(vertices - origin, height=512, width=512)
    expected, _ = view.camera.project(vertices, height=512, width=512)
    assert torch.allclose(shown, expected, atol=0.05)


def test_pd_fgc_codes_need_the_motion_encoder(
    synthetic_flame: Path, generated_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which the checkpoint does not hold; without motion there is no need of it."""
    canonicaliser = replace(TINY.canonicaliser, motion_dim=548)
    config = replace(TINY, head="flame", motion="pd-fgc", canonicaliser=canonicaliser)
    folder, static = _save(tmp_path / "a", config), _save(tmp_path / "b", config, is_static=True)
    status = choose_engine(folder)
    assert not status.available and status.reason.startswith("not on this machine: motion-model; get with")
    with pytest.raises(InputError, match="motion-model is not on this machine"):
        ensure_engine(folder)
    assert choose_engine(static).available
    model = str(synthetic_flame / "geometry" / "generic_model.pkl")
    assert load_engine(static, flame=model).motion_encoder is None
    monkeypatch.setenv("PORTRAIT4D_HOME", str(generated_home))
    found = load_engine(folder, flame=model)
    assert found.motion_encoder is not None
    assert loaded_weights(found) == recorded_weights("trained", weights=folder, flame=model)


def test_codes_of_another_head_model_are_refused(tmp_path: Path) -> None:
    wrong = replace(TINY, canonicaliser=replace(TINY.canonicaliser, motion_dim=109))
    with pytest.raises(InputError, match="expected 95 numbers of motion for head model open-head, .* take 109"):
        load_engine(_save(tmp_path / "wrong", wrong))


def test_the_toy_is_a_name(mine: Path, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never taken unasked, and known as missing where the package lacks its weights."""
    assert "toy" in ENGINE_NAMES
    monkeypatch.setattr(identity, "embedded_weights", lambda: {})
    status = {each.name: each for each in available_engines()}["toy"]
    assert not status.available and "holds no weights of it" in status.reason
    for use in (ensure_engine, load_engine, Portrait4D.from_pretrained):
        with pytest.raises(InputError, match="engine toy cannot run: this package holds no weights of it"):
            use("toy")
    monkeypatch.setattr(identity, "embedded_weights", lambda: {"portrait4d-toy64": mine})
    assert choose_engine("toy").available and choose_engine("auto").name == "lift"
    found = load_engine("toy")
    assert isinstance(found, OpenHeadEngine) and (found.name, found.engine_option) == ("toy", "toy")
    assert loaded_weights(found) == recorded_weights("toy") == {"toy": found.weights}
    ensure_engine("toy")
    made = tmp_path / "a.safetensors"
    assert run(["avatar", str(photo), "-o", str(made), "--engine", "toy", "--quiet"]) == 0
    assert found.load(made).engine == "toy"
