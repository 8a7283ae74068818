"""`genhead sample | video | shape`: what a tiny network shows when it is told by name or by a motion."""

import json
import signal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from flame.errors import InputError
from flame.geometry.camera import Camera
from flame.geometry.rotation import axis_angle_to_matrix
from flame.heads.head_model import HeadParams
from genhead.generator import GenHeadGenerator
from genhead.jobs.faces import face_params, setting_names, with_settings
from genhead.jobs.heads import seed_volume, view_cameras
from genhead.jobs.options import FaceOptions, HeadSampleOptions, HeadShapeConfig, HeadShapeOptions, HeadVideoOptions
from genhead.jobs.samples import render_head
from genhead.jobs.shape import PosedField, head_shape
from genhead.jobs.video import render_script, write_script
from genhead.training.grid import frontal_camera
from motions import make_motion
from portrait4d.cli.main import run
from portrait4d.jobs.eg3d.options import StyleOptions
from preprocess.media.image import read_image
from preprocess.media.video import probe
from preprocess.tracking.motion import Motion
from tiny_genhead import SIDE, tiny_generator, write_tiny_network

QUICK = ["--quiet"]


@pytest.fixture(autouse=True)
def quick(one_thread: None) -> None:
    """The network is small."""


@pytest.fixture(scope="module")
def generator() -> GenHeadGenerator:
    return tiny_generator()


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_network(tmp_path_factory.mktemp("tiny") / "network")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, generator: GenHeadGenerator) -> Path:
    """A working directory with a motion file of the network's head."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # the command line's SIGTERM handler is not for pytest
    model = generator.head.model
    motion = make_motion(4, num_shape=model.num_shape, num_expression=model.num_expression, head_model=model.name)
    motion.save(tmp_path / "clip.npz")
    return tmp_path


def _run(*words: str) -> int:
    return run([*words, *QUICK], program="genhead", module="genhead.cli")


def test_settings_are_the_numbers_they_name(generator: GenHeadGenerator) -> None:
    model = generator.head.model
    settings = ("jawOpen=0.6", "jaw=0.2", "neck_y=-0.3", "eyes_y=0.1", "eye_left_x=0.4", "shape_7=1.5")
    params = with_settings(model, HeadParams.zeros(model), settings)
    assert params.expression.sum() == params.expression[0, model.expression_names.index("jawOpen")] == 0.6
    assert torch.equal(params.jaw, torch.tensor([[0.2, 0, 0]])) and torch.equal(
        params.neck, torch.tensor([[0, -0.3, 0]])
    )
    assert torch.equal(params.eyes, torch.tensor([[[0.4, 0.1, 0], [0, 0.1, 0]]]))
    assert params.shape[0, 7] == params.shape.sum() == 1.5
    for name in setting_names(model):
        assert any(bool(array.any()) for array in with_settings(model, HeadParams.zeros(model), [f"{name}=1"]).arrays())


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("jawOpne=1", "has no 'jawOpne': did you mean jawOpen"),
        ("jaw_q=1", "did you mean jaw_"),
        ("shape_300=1", "shape_0 to shape_299"),
        ("smile", "expected a setting NAME=VALUE like jawOpen=0.6, got 'smile'"),
        ("jaw=nan", "expected a setting NAME=VALUE"),
    ],
)
def test_a_wrong_setting_is_told_with_the_nearest(generator: GenHeadGenerator, setting: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        face_params(generator.head.model, FaceOptions(settings=(setting,)))


def test_sample_writes_rows_and_keeps_finished_ones(folder: Path, network: Path, capsys: pytest.CaptureFixture) -> None:
    command = ["sample", str(network), "-o", "out", "--seeds", "0-1", "--yaw=-20,0,20", "--grid", "--set", "jawOpen=1"]
    assert _run(*command) == 0
    grid = read_image(folder / "out/grid.png")
    assert grid.shape == (2 * SIDE, 3 * SIDE, 3) and not np.array_equal(grid[:SIDE], grid[SIDE:])
    capsys.readouterr()
    assert _run(*command) == 0 and capsys.readouterr().out.count("finished earlier") == 2
    assert _run(*command, "--motion", "clip.npz", "--frame", "3") == 0
    assert "finished earlier" not in capsys.readouterr().out
    assert _run(*command, "--motion", "clip.npz", "--frame", "4") == 2
    assert "expected a frame of 0 to 3, the motion's, got 4" in capsys.readouterr().err


def test_a_face_changes_the_picture_and_not_the_person(generator: GenHeadGenerator) -> None:
    pictures = [
        render_head(generator, 0, HeadSampleOptions(yaw_degrees=(0.0,), face=FaceOptions(settings=settings)))[0].image
        for settings in ((), ("jawOpen=1",), ("neck_y=0.3",))
    ]
    assert not torch.equal(pictures[0], pictures[1]) and not torch.equal(pictures[0], pictures[2])
    volumes = [
        seed_volume(generator, 0, face_params(generator.head.model, FaceOptions(settings=settings)), StyleOptions())
        for settings in ((), ("jawOpen=1",))
    ]
    assert torch.equal(volumes[0].face.features, volumes[1].face.features)


def test_views_without_an_angle_are_the_frontal_camera(generator: GenHeadGenerator) -> None:
    view, front = view_cameras(generator.config, torch.zeros(1), torch.zeros(1)), frontal_camera(generator.config)
    assert torch.allclose(view.to_label25(axes="opengl"), front.to_label25(axes="opengl"), atol=1e-6)


def test_a_motion_turns_the_head_by_its_camera(folder: Path, generator: GenHeadGenerator) -> None:
    """What a fixed camera would see of the turned head, the head's place aside."""
    motion = Motion.load(folder / "clip.npz")
    options = HeadVideoOptions(path="drive", face=FaceOptions(motion="clip.npz"))
    script = write_script(generator, options)
    assert len(script) == len(motion) and script.frame_rate == Fraction(25)
    point = torch.tensor([[[0.1, 0.2, 0.3]]])
    rotation = axis_angle_to_matrix(torch.from_numpy(motion.rotation))
    seen = (rotation @ point[0, 0] + torch.tensor([0.0, 0.0, -generator.config.camera_radius]))[:, None]
    fixed = Camera(torch.eye(4)[None].repeat(len(motion), 1, 1), script.cameras.intrinsics)
    expected, _ = fixed.project(seen, height=64, width=64)
    found, _ = script.cameras.project(point, height=64, width=64)
    assert torch.allclose(found, expected, atol=1e-3)
    model = generator.head.model
    assert torch.equal(script.params.expression, motion.params(model).expression) and not script.params.shape.any()


def test_a_sweep_rises_and_falls(generator: GenHeadGenerator) -> None:
    options = HeadVideoOptions(path="sweep", sweep=("jawOpen", "eyes_y=0.4"), frames_per_step=4)
    script = write_script(generator, options)
    jaw = script.params.expression[:, generator.head.model.expression_names.index("jawOpen")]
    assert torch.allclose(jaw, torch.tensor([0, 0.5, 1, 0.5, 0, 0, 0, 0]), atol=1e-6)
    assert torch.allclose(script.params.eyes[4:, 0, 1], torch.tensor([0, 0.2, 0.4, 0.2]), atol=1e-6)


def test_video_writes_heads_side_by_side(folder: Path, network: Path, capsys: pytest.CaptureFixture) -> None:
    command = ["video", str(network), "-o", "out.mp4", "--seeds", "0-1", "--frames-per-step", "3"]
    assert _run(*command) == 0
    video = probe(folder / "out.mp4")
    assert (video.height, video.width, video.num_frames_estimate) == (SIDE, 2 * SIDE, 3)
    assert _run(*command, "--path", "drive") == 2
    assert "expected --path drive and --motion FILE together" in capsys.readouterr().err
    assert _run(*command, "--path", "sweep", "--sweep", "jawOpne") == 2
    assert "did you mean jawOpen" in capsys.readouterr().err


def test_an_orbit_begins_and_ends_alike(generator: GenHeadGenerator) -> None:
    options = HeadVideoOptions(seeds=(0,), frames_per_step=4, shown="depth")
    script = write_script(generator, options)
    first, third = script.cameras.cam2world[0], script.cameras.cam2world[2]
    mirror = torch.tensor([1.0, -1.0, 1.0])
    assert torch.allclose(first[:3, 3], third[:3, 3] * mirror, atol=1e-5)
    frames = list(render_script(generator, script, options))
    assert len(frames) == 4 and frames[0].shape == (SIDE, SIDE, 3)


def test_the_shape_is_where_the_renderer_sees_it(generator: GenHeadGenerator) -> None:
    """The field of the frontal camera's rays gives the densities that a picture is made of."""
    params = face_params(generator.head.model, FaceOptions(settings=("jaw=0.3",)))
    volume = seed_volume(generator, 0, params, StyleOptions())
    field = PosedField.of(generator, volume, generator.head.pose(params))
    assert field.masks.mouth.max() == 1
    points = torch.rand(1, 500, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    query = generator.query(volume, points, generator.deform(generator.head.pose(params)))
    found = field(points).density
    is_face = torch.isclose(found, query.face.density, atol=1e-5)
    behind = points[..., 2] < 0
    assert is_face[behind].all() and is_face.float().mean() > 0.8 and not is_face.all()


def test_shape_writes_a_closed_mesh_in_metres(folder: Path, network: Path, generator: GenHeadGenerator) -> None:
    command = ["shape", str(network), "--seed", "2", "--resolution", "20", "--margin", "0.05"]
    assert _run(*command, "-o", "head.ply") == 0
    mesh = trimesh.load(folder / "head.ply", process=False)
    assert isinstance(mesh, trimesh.Trimesh) and mesh.is_watertight
    params = HeadParams.zeros(generator.head.model)
    options = HeadShapeOptions(seed=2, shape=HeadShapeConfig(resolution=20, margin=0.05))
    expected = head_shape(generator, params, options).vertices / 3 + np.array(generator.config.head_origin)
    assert np.allclose(mesh.vertices, expected, atol=1e-6)


def test_shape_of_a_motion_is_a_folder(folder: Path, network: Path, capsys: pytest.CaptureFixture) -> None:
    command = ["shape", str(network), "-o", "meshes", "--resolution", "12", "--json"]
    assert _run(*command) == 2 and "or --motion FILE for a folder" in capsys.readouterr().err
    assert _run(*command, "--motion", "clip.npz", "--frame", "2") == 0
    reports = json.loads(capsys.readouterr().out)
    assert [Path(report["output"]).name for report in reports] == ["frame000002.ply", "frame000003.ply"]
    assert reports[0]["iso"] == reports[1]["iso"] and all(Path(report["output"]).is_file() for report in reports)
