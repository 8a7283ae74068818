"""The Portrait4D engines behind the pipeline: placement, caches, and the whole command with generated weights."""

import json
from dataclasses import fields, replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from torch import Tensor

import portrait4d.engines.portrait4d.network_engine as reconstructor_engine
from flame.errors import InputError
from flame.geometry.camera import Camera
from flame.geometry.rotation import axis_angle_to_matrix
from flame.heads.head_model import HeadParams
from flame.heads.head_pose import HeadPose
from flame.heads.pose_field import HeadPoseField
from flame_tensors import network_tensors
from generated_weights import SMALL, generated
from portrait4d.cli.main import run
from portrait4d.engines.base import Drive, Rendering
from portrait4d.engines.choose import choose_engine, load_engine
from portrait4d.engines.portrait4d.avatar import Portrait4DAvatar
from portrait4d.engines.portrait4d.engine import Portrait4DEngine
from portrait4d.options import ReenactOptions
from portrait4d.reconstructor.network import Reconstructor, SourceFeatures
from portrait4d.reenactment.models import Models, check_models
from portrait4d.render.planes import TriPlanes
from portrait4d.weights.config import CheckpointConfig
from portrait4d.weights.own_format import write_checkpoint
from preprocess.media.image import read_image, to_tensor
from preprocess.tracking.tracker import TrackedFrame, Tracker

ENGINE = "portrait4d-v2"

pytestmark = pytest.mark.usefixtures("one_thread", "home")


@pytest.fixture(scope="module")
def engine(home: Path) -> Portrait4DEngine:
    found = load_engine(ENGINE)
    assert isinstance(found, Portrait4DEngine)
    return found


@pytest.fixture(scope="module")
def tracked(engine: Portrait4DEngine, shared: Path) -> TrackedFrame:
    tracker = Tracker(head_model=engine.head_model, motion_encoder=engine.motion_encoder)
    return tracker.track_image(read_image(shared / "data" / "sources" / "s01_astronaut.png"))


@pytest.fixture(scope="module")
def avatar(engine: Portrait4DEngine, tracked: TrackedFrame) -> Portrait4DAvatar:
    return engine.build([tracked])


def _drive(avatar: Portrait4DAvatar, count: int, *, seed: int = 0) -> Drive:
    """The avatar's own motion, a little changed in every frame."""
    source, generator = avatar.motion, torch.Generator().manual_seed(seed)

    def near(values: np.ndarray, spread: float) -> Tensor:
        start = torch.from_numpy(values).expand(count, *values.shape[1:])
        return start + spread * torch.randn(start.shape, generator=generator)

    expression, rotation = near(source.expression, 0.1), near(source.rotation, 0.1)
    return Drive(
        pose=HeadPose(rotation=rotation, translation=near(source.translation, 0.01)),
        head=HeadParams(
            shape=torch.from_numpy(source.shape).repeat(count, 1),
            expression=expression,
            neck=torch.zeros(count, 3),
            jaw=near(source.jaw, 0.05),
            eyes=near(source.eyes, 0.05),
        ),
        eye_closed=torch.zeros(count, 2),
        residual=torch.zeros(count, 478, 3),
        codes=near(source.codes, 0.3),
        noise_seeds=torch.zeros(count, 0, dtype=torch.int64),
    )


def test_weights_that_are_here_make_an_engine_available() -> None:
    assert choose_engine("auto").name == ENGINE
    assert choose_engine("portrait4d-static").available and not choose_engine("portrait4d").available


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux's list of mapped files")
@pytest.mark.usefixtures("engine")
def test_no_weights_file_stays_in_memory() -> None:
    assert "safetensors" in Path("/proc/self/maps").read_text()  # the library itself
    assert "model.safetensors" not in Path("/proc/self/maps").read_text()


@pytest.mark.slow
def test_the_head_is_drawn_where_it_was_tracked(
    engine: Portrait4DEngine, avatar: Portrait4DAvatar, tracked: TrackedFrame
) -> None:
    """Camera and posed head of the network's world put every vertex on the pixel of the tracked one."""
    motion, drive = tracked.motion, _drive(avatar, 3)
    view = engine.posed_view(avatar, drive)
    size = avatar.crop.size
    found, depth = view.camera.project(engine.flame(view.head), height=size, width=size)
    model = engine.head_model
    rest = model(drive.head)
    in_camera = rest @ axis_angle_to_matrix(drive.pose.rotation).mT + drive.pose.translation[:, None]
    focal = float(motion.camera(0).intrinsics[0, 0, 0]) * motion.crop_size
    flat = torch.stack([in_camera[..., 0], -in_camera[..., 1]], -1) / -in_camera[..., 2:] * focal
    in_image = tracked.crop.to_image((flat + motion.crop_size / 2).double().numpy())
    expected = avatar.crop.to_crop(in_image)
    # the pose correctives of the neck, which the tracker leaves out, move some vertices by a millimetre
    assert np.median(np.abs(found.numpy() - expected)) < 1.0
    joint = engine.flame.joint_names.index("neck")
    placed, _ = view.camera.project(engine.flame.joints(view.head)[:, joint : joint + 1], height=size, width=size)
    own = model.joints(drive.head)[:, joint]
    turned = (axis_angle_to_matrix(drive.pose.rotation) @ own[..., None])[..., 0] + drive.pose.translation
    at = torch.stack([turned[:, 0], -turned[:, 1]], -1) / -turned[:, 2:] * focal + motion.crop_size / 2
    expected_joint = avatar.crop.to_crop(tracked.crop.to_image(at.double().numpy()))
    assert np.abs(placed[:, 0].numpy() - expected_joint).max() < 0.05
    assert (depth > 2).all()


def test_canonical_placement_puts_the_camera_where_the_demonstrations_do(
    engine: Portrait4DEngine, avatar: Portrait4DAvatar
) -> None:
    drive = _drive(avatar, 2)
    other = _with_placement(engine, "canonical")
    view = other.posed_view(avatar, drive)
    assert torch.equal(view.camera.cam2world[:, :3, 3], torch.tensor([[0.0, 0.01, 4.2]]).expand(2, 3))
    assert torch.equal(view.head.neck, drive.pose.rotation)


@pytest.mark.slow
def test_the_command_places_the_head(
    home: Path, shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both commands draw from there; where it makes no sense they say so and write nothing."""
    seen = []

    def blank(
        _: Portrait4DEngine, which: Portrait4DAvatar, planes: TriPlanes, camera: Camera, *__: object
    ) -> Rendering:
        seen.append(camera.cam2world[:, :3, 3])
        return Rendering(torch.zeros(len(planes), 3, 512, 512), torch.ones(len(planes), 1, 512, 512))

    monkeypatch.setattr(Portrait4DEngine, "_draw", blank)  # the picture takes seconds and is not looked at
    photo = str(shared / "data" / "sources" / "s01_astronaut.png")
    clip = str(shared / "data" / "drivers" / "d02_speech_woman.mp4")
    options = ["--duration", "0.04", "--quiet", "--placement", "canonical"]
    trained = [*options, "--engine", ENGINE]
    assert run(["reenact", photo, clip, "-o", str(tmp_path / "r.mp4"), *trained]) == 0
    assert run(["batch", photo, clip, "-o", str(tmp_path / "b"), *trained]) == 0
    assert len(seen) == 2 and all(torch.equal(at, torch.tensor([[0.0, 0.01, 4.2]])) for at in seen)
    capsys.readouterr()
    for command, output in (("reenact", "lift.mp4"), ("batch", "lift")):
        assert run([command, photo, clip, "-o", str(tmp_path / output), *options, "--engine", "lift"]) == 2
        assert "expected placement 'tracked' for engine lift" in capsys.readouterr().err
        assert not (tmp_path / output).exists()
    assert run(["reenact", photo, clip, "-o", str(tmp_path / "p.mp4"), *trained, "--paste-back"]) == 2
    assert "--paste-back needs the head where it was tracked" in capsys.readouterr().err


def test_models_of_another_placement_are_refused(engine: Portrait4DEngine) -> None:
    models = Models(engine, Tracker(head_model=engine.head_model))
    with pytest.raises(InputError, match="expected models with placement 'canonical', got 'tracked'"):
        check_models(models, ReenactOptions(engine=ENGINE, placement="canonical"))
    assert check_models(models, ReenactOptions(engine=ENGINE)) is models


def _with_placement(engine: Portrait4DEngine, placement) -> Portrait4DEngine:
    return Portrait4DEngine(
        engine.name,
        engine.network,
        flame=engine.flame,
        coarse_mesh=engine.coarse_mesh,
        motion_encoder=engine.motion_encoder,
        placement=placement,
    )


@pytest.mark.slow
def test_a_saved_avatar_is_the_uncached_forward(
    engine: Portrait4DEngine, avatar: Portrait4DAvatar, tracked: TrackedFrame, tmp_path: Path
) -> None:
    avatar.save(tmp_path / "a.safetensors")
    loaded = engine.load(tmp_path / "a.safetensors")
    drive = _drive(avatar, 1)
    image = to_tensor(avatar.crop.apply(tracked.image))
    with torch.no_grad():
        anew = engine.network.encode(image, torch.from_numpy(tracked.motion.codes))
        planes = engine.network.animate(anew, drive.codes)
    cached = engine.animate(loaded, drive)
    assert float((cached.features - planes.features).abs().max()) < 1e-5
    first, second = engine.render(avatar, drive), engine.render(loaded, drive)
    assert torch.equal(first.image, second.image) and first.image.shape == (1, 3, 512, 512)
    assert first.alpha.shape == (1, 1, 512, 512)
    assert loaded.motion.codes.shape == (1, 548) and np.array_equal(loaded.motion.codes, tracked.motion.codes)


@pytest.mark.slow
def test_a_batch_of_frames_is_its_singles(engine: Portrait4DEngine, avatar: Portrait4DAvatar) -> None:
    drive = _drive(avatar, 2)
    view = engine.posed_view(avatar, drive)
    planes = engine.animate(avatar, drive)
    pose = HeadPoseField.build(engine.flame, view.head, engine.coarse_mesh, box_warp=planes.box_warp)
    with torch.no_grad():
        batch = engine.network.render(planes, avatar.features, view.camera, pose=pose)
    for index in range(2):
        one = slice(index, index + 1)
        single_planes = engine.animate(avatar, drive[one])
        scale = float(planes.features.std())
        assert float((planes.features[one] - single_planes.features).abs().max()) < 1e-4 * scale
        # the field itself is not made anew: ties between triangles hang on the last bit of the vertices
        with torch.no_grad():
            single = engine.network.render(planes[one], avatar.features, view.camera[one], pose=pose[one])
        assert torch.allclose(batch.image[one], single.image, atol=1e-4)


@pytest.mark.slow
def test_a_new_view_reuses_the_planes(engine: Portrait4DEngine, avatar: Portrait4DAvatar) -> None:
    drive = _drive(avatar, 2)
    planes = engine.animate(avatar, drive[:1])
    views = [engine.posed_view(avatar, drive[index : index + 1]).camera for index in range(2)]
    with torch.no_grad():
        seen = [engine.network.render(planes, avatar.features, camera) for camera in views]
        again = engine.network.render(engine.animate(avatar, drive[:1]), avatar.features, views[1])
    assert not torch.allclose(seen[0].image, seen[1].image, atol=1e-2)
    assert torch.equal(seen[1].image, again.image)


@pytest.mark.slow
def test_planes_of_a_still_face_are_made_once(
    engine: Portrait4DEngine, avatar: Portrait4DAvatar, tracked: TrackedFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Views of one motion, whatever the head does; another motion or avatar anew. A static engine reads no motion."""
    made, animate = [], Reconstructor.animate

    def counted(self: Reconstructor, source: SourceFeatures, motion: Tensor | None, **options: float) -> TriPlanes:
        made.append(1 if motion is None else len(motion))
        return animate(self, source, motion, **options)

    monkeypatch.setattr(Reconstructor, "animate", counted)
    moving = _drive(avatar, 3, seed=9)
    still = replace(moving, codes=moving.codes[:1].expand(3, -1))
    engine.render(avatar, still)
    assert made == [1]
    assert engine.animate(avatar, still).features.shape[0] == 3 and made == [1]
    for index in (1, 0):
        found = engine.animate(avatar, moving[index : index + 1])
        with torch.inference_mode():
            alone = animate(engine.network, avatar.features, moving.codes[index : index + 1])
        assert torch.equal(found.features, alone.features)
    assert made == [1, 1, 1]
    engine.animate(engine.build([tracked]), moving[:1])
    assert made == [1, 1, 1, 1]
    engine.animate(avatar, moving)
    assert made == [1, 1, 1, 1, 3]
    static = load_engine("portrait4d-static")
    assert isinstance(static, Portrait4DEngine)
    head = static.build([tracked])
    made.clear()
    for part in (moving[:1], moving[1:]):
        static.animate(head, part)
    assert made == [1]


def test_motion_scale_of_zero_is_the_static_path(shared: Path) -> None:
    """Also as a tensor, and whatever the motion; part of the way lies between."""
    network = Reconstructor(SMALL).eval()
    network.load_state_dict(generated(network, shared))
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, 64, 64, generator=generator) * 2 - 1
    first, second = torch.randn(2, 1, 548, generator=generator)

    def planes(source: Tensor | None, motion: Tensor | None, scale: float | Tensor) -> Tensor:
        with torch.no_grad():
            features = network.encode(image, source, motion_scale=scale)
            return network.animate(features, motion, motion_scale=scale).features

    static = planes(None, None, 0)
    assert torch.equal(planes(first, second, 0), static) and torch.equal(planes(second, first, 0.0), static)
    assert torch.allclose(planes(first, second, torch.zeros(1, 1, 1)), static, atol=1e-5)
    assert not torch.allclose(planes(first, second, 1.0), static, atol=1e-2)
    assert not torch.equal(planes(first, second, 1.0), planes(first, first, 1.0))
    with pytest.raises(ValueError, match=r"motion code must be \[B, 548\], got None"):
        planes(None, second, 1.0)


@pytest.mark.slow
def test_static_engine_reads_no_motion(tracked: TrackedFrame, avatar: Portrait4DAvatar) -> None:
    static = load_engine("portrait4d-static")
    assert isinstance(static, Portrait4DEngine) and static.motion_encoder is None
    built = static.build([tracked])
    drive = _drive(avatar, 1)
    changed = replace(drive, codes=drive.codes + 1)
    assert torch.equal(static.render(built, drive).image, static.render(built, changed).image)


@pytest.mark.slow
def test_memory_that_is_too_small_halves_the_batch(
    engine: Portrait4DEngine,
    avatar: Portrait4DAvatar,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    drive, sizes, render = _drive(avatar, 2), [], Portrait4DEngine._render

    def limited(self: Portrait4DEngine, which: Portrait4DAvatar, part: Drive):
        sizes.append(len(part))
        if len(part) > 1:
            raise torch.OutOfMemoryError("no room")
        return render(self, which, part)

    monkeypatch.setattr(Portrait4DEngine, "_render", limited)
    monkeypatch.setattr(engine, "_frames_at_once", None)
    assert len(engine.render(avatar, drive).image) == 2
    assert sizes == [2, 1, 1] and "1 frames at once" in caplog.text
    monkeypatch.setattr(Portrait4DEngine, "_render", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("no")))
    with pytest.raises(InputError, match="does not hold one frame"):
        engine.render(avatar, drive)


@pytest.mark.slow
def test_memory_that_is_too_small_for_anything_else_is_one_line(
    engine: Portrait4DEngine, avatar: Portrait4DAvatar, shared: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    def full(*_: object, **__: object):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 ...")

    monkeypatch.setattr(Reconstructor, "animate", full)
    camera = engine.posed_view(avatar, _drive(avatar, 1)).camera
    for draw in (lambda: engine.mesh(avatar), lambda: engine.view(avatar, _drive(avatar, 1).codes, camera)):
        with pytest.raises(InputError, match="the memory of cpu does not hold"):
            draw()
    monkeypatch.setattr(Reconstructor, "encode", full)
    photo, output = str(shared / "data" / "sources" / "s01_astronaut.png"), tmp_path / "a.safetensors"
    assert run(["avatar", photo, "-o", str(output), "--engine", ENGINE]) == 2
    message = capsys.readouterr().err
    assert "does not hold what a source needs of portrait4d-v2" in message and message.count("\n") == 1
    monkeypatch.setattr(Reconstructor, "to", full)
    assert run(["avatar", photo, "-o", str(output), "--engine", ENGINE]) == 2
    message = capsys.readouterr().err
    assert "memory of cpu does not hold the weights of portrait4d-v2" in message and message.count("\n") == 1
    assert not output.exists()


def test_what_does_not_fit_is_told_in_one_line(
    engine: Portrait4DEngine, avatar: Portrait4DAvatar, tmp_path: Path, home: Path
) -> None:
    drive = _drive(avatar, 1)
    with pytest.raises(InputError, match="holds no motion codes"):
        engine.render(avatar, replace(drive, codes=torch.zeros(1, 0)))
    replace(avatar, weights="other").save(tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="built with other weights"):
        engine.load(tmp_path / "other.safetensors")
    replace(avatar, engine="portrait4d").save(tmp_path / "v1.safetensors")
    with pytest.raises(InputError, match="built by engine 'portrait4d': use --engine portrait4d"):
        engine.load(tmp_path / "v1.safetensors")
    with pytest.raises(InputError, match="built by engine 'portrait4d-v2'"):
        load_engine("lift").load(_saved(avatar, tmp_path))


def _saved(avatar: Portrait4DAvatar, folder: Path) -> Path:
    avatar.save(folder / "saved.safetensors")
    return folder / "saved.safetensors"


@pytest.mark.slow
def test_the_mesh_is_in_metres_and_coloured(
    engine: Portrait4DEngine, avatar: Portrait4DAvatar, monkeypatch: pytest.MonkeyPatch
) -> None:
    mesh = engine.mesh(avatar, resolution=48)
    assert mesh.colours is not None and mesh.colours.shape == mesh.vertices.shape
    assert np.abs(mesh.vertices).max() <= 1.3 / 2 / 3 + 1e-4
    assert len(engine.mesh(avatar, resolution=24).vertices) < len(mesh.vertices) / 2
    monkeypatch.setattr(reconstructor_engine, "MESH_RESOLUTION", 24)
    assert len(engine.mesh(avatar).vertices) == len(engine.mesh(avatar, resolution=24).vertices)


@pytest.mark.slow
def test_the_command_says_how_fine_a_mesh_is(
    avatar: Portrait4DAvatar, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file of noise at 256 has 600 MB."""
    source, sizes = str(_saved(avatar, tmp_path)), []
    for resolution in ("16", "32"):
        output = tmp_path / f"{resolution}.ply"
        options = ["--engine", ENGINE, "--mesh-resolution", resolution, "--quiet"]
        assert run(["render", source, "-o", str(output), *options]) == 0
        sizes.append(output.stat().st_size)
    assert sizes[0] < sizes[1] / 2
    capsys.readouterr()
    for arguments, said in (
        (["-o", str(tmp_path / "v.png"), *options], "--mesh-resolution is for meshes (.glb, .obj, .ply), got v.png"),
        (["-o", str(tmp_path / "m.glb"), *options, "--jitter", "1"], "--jitter is for pictures and videos"),
        (["-o", str(tmp_path / "m.glb"), *options, "--engine", "lift"], "expected no mesh-resolution for engine lift"),
        (
            ["-o", str(tmp_path / "m.glb"), *options, "--mesh-resolution", "4"],
            "expected a resolution between 8 and 1024",
        ),
    ):
        assert run(["render", source, *arguments]) == 2
        message = capsys.readouterr().err
        assert said in message and message.count("\n") == 1
    assert not (tmp_path / "v.png").exists() and not (tmp_path / "m.glb").exists()


def test_codes_are_kept_in_motion_files_and_scaled(shared: Path, engine: Portrait4DEngine, tmp_path: Path) -> None:
    from fractions import Fraction

    from preprocess.media.video import read_frames
    from preprocess.tracking.motion import Motion

    tracker = Tracker(head_model=engine.head_model, motion_encoder=engine.motion_encoder)
    clip = shared / "data" / "drivers" / "d02_speech_woman.mp4"
    motion = tracker.track_video(read_frames(clip, duration=0.12, frame_rate=Fraction(25)), Fraction(25))
    assert motion.codes.shape == (len(motion), 548) and motion.codes.std() > 0
    motion.save(tmp_path / "m.npz")
    loaded = Motion.load(tmp_path / "m.npz")
    assert all(
        np.array_equal(getattr(loaded, entry.name), getattr(motion, entry.name))
        for entry in fields(Motion)
        if isinstance(getattr(motion, entry.name), np.ndarray)
    )


@pytest.mark.slow
def test_the_whole_command(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A real photo and a real clip: a playable file of the right length; a batch run again does nothing."""
    photo = shared / "data" / "sources" / "s01_astronaut.png"
    clip = shared / "data" / "drivers" / "d02_speech_woman.mp4"
    options = ["--engine", ENGINE, "--duration", "0.12", "--quiet"]
    assert run(["reenact", str(photo), str(clip), "-o", str(tmp_path / "r.mp4"), *options]) == 0
    with av.open(str(tmp_path / "r.mp4")) as video:
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
        assert video.streams.audio
    assert len(frames) == 3 and frames[0].shape == (512, 512, 3)
    batch = ["batch", str(photo), str(clip), "-o", str(tmp_path / "batch"), *options]
    assert run(batch) == 0
    (made,) = (tmp_path / "batch").glob("*.mp4")
    before = made.stat().st_mtime_ns
    assert run(batch) == 0
    assert made.stat().st_mtime_ns == before
    assert run(["render", str(photo), "-o", str(tmp_path / "v.png"), "--yaw=15", "--engine", ENGINE, "--quiet"]) == 0
    capsys.readouterr()


def test_the_demo_stays_with_the_engine_that_its_motion_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever weights are here: the bundled motion is of the open head and holds no codes."""
    assert choose_engine("auto").name == ENGINE
    assert run(["demo", "-o", str(tmp_path / "demo"), "--duration", "0.04", "--quiet", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["reenactment"]["engine"] == "lift"
    assert run(["demo", "-o", str(tmp_path / "other"), "--engine", ENGINE]) == 2
    message = capsys.readouterr().err
    assert "expected engine lift for the demo" in message and message.count("\n") == 1
    assert not (tmp_path / "other").exists()


@pytest.mark.slow
def test_a_motion_is_tracked_for_the_engine_named(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Weights of another engine being here does not decide it."""
    from preprocess.tracking.motion import Motion

    clip = str(shared / "data" / "drivers" / "d02_speech_woman.mp4")
    for engine, model, num_codes in (
        (ENGINE, "flame", 548),
        ("portrait4d-static", "flame", 0),
        ("lift", "open-head", 0),
    ):
        output = tmp_path / f"{engine}.npz"
        assert run(["track", clip, "-o", str(output), "--engine", engine, "--duration", "0.04", "--quiet"]) == 0
        motion = Motion.load(output)
        assert (motion.head_model, motion.codes.shape) == (model, (1, num_codes))
    photo, lifted = str(shared / "data" / "sources" / "s01_astronaut.png"), str(tmp_path / "lift.npz")
    capsys.readouterr()
    assert run(["reenact", photo, lifted, "-o", str(tmp_path / "r.mp4"), "--engine", ENGINE, "--quiet"]) == 2
    message = capsys.readouterr().err
    assert "track d02_speech_woman.mp4 again for the engine" in message and message.count("\n") == 1


def test_weights_of_another_family_or_size_are_one_line(
    shared: Path, synthetic_flame: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setenv("PORTRAIT4D_HOME", str(tmp_path))
    name, template = "portrait4d-static", "deformer.flame_deform.flame_model.v_template"
    tensors = generated(Reconstructor(SMALL), shared) | network_tensors(synthetic_flame)
    ours = CheckpointConfig("portrait4d", "generator", SMALL.to_dict(), plane_layout="orthogonal", box_warp=1.3)
    photo = str(shared / "data" / "sources" / "s01_astronaut.png")
    for about, content, said in (
        (ours, tensors | {template: tensors[template][:100]}, "v_template of shape (5023, 3) in the checkpoint, got"),
        (CheckpointConfig("eg3d", "generator", {}), tensors, f"engine {name}, got those of eg3d: delete {tmp_path}"),
    ):
        write_checkpoint(tmp_path / "weights" / name, about, content)
        assert run(["avatar", photo, "-o", str(tmp_path / "a.safetensors"), "--engine", name]) == 2
        message = capsys.readouterr().err
        assert said in message and message.count("\n") == 1 and not (tmp_path / "a.safetensors").exists()
