"""`portrait4d eg3d`: pictures, videos and shapes of a generator whose heads are known."""

import json
import math
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

import portrait4d.jobs.eg3d.samples
import portrait4d.jobs.seed_rows
from fakes_eg3d import CENTRE, COLOUR_SLOPE, CONFIG, BallGenerator, fake_loader, radius_of
from places import ROOT
from portrait4d.cli.main import run
from portrait4d.eg3d.generator import EG3DGenerator
from portrait4d.jobs.eg3d.options import SampleOptions, StyleOptions, StyleVideoOptions
from portrait4d.jobs.eg3d.samples import map_seeds, render_seed
from portrait4d.jobs.eg3d.video import render_frames
from preprocess.media.image import read_image
from preprocess.media.video import probe, read_frames

SIDE, RAW_SIDE = 128, CONFIG.neural_resolution
QUICK = ["--quiet"]


@pytest.fixture(autouse=True)
def quick(one_thread: None) -> None:
    """The networks are small."""


@pytest.fixture
def generator() -> BallGenerator:
    return BallGenerator()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, generator: BallGenerator) -> Path:
    """A working directory, and the fake in place of weights."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(EG3DGenerator, "from_pretrained", fake_loader(generator))
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # the command line's SIGTERM handler is not for pytest
    return tmp_path


def _radius(generator: BallGenerator, seed: int, style: StyleOptions | None = None) -> float:
    return float(radius_of(map_seeds(generator, (seed,), style or StyleOptions())))


# sample


def test_sample_writes_views_depth_and_raw_pictures_side_by_side(folder: Path, generator: BallGenerator) -> None:
    command = ["eg3d", "sample", "ball", "-o", "out", "--seeds", "0-1,7", "--depth", "--depth-array", "--raw", "--grid"]
    assert run(command + QUICK) == 0
    for seed in (0, 1, 7):
        assert read_image(folder / f"out/seed{seed:04d}.png").shape == (SIDE, 3 * SIDE, 3)
        assert read_image(folder / f"out/seed{seed:04d}_raw.png").shape == (RAW_SIDE, 3 * RAW_SIDE, 3)
        assert read_image(folder / f"out/seed{seed:04d}_depth.png").shape == (RAW_SIDE, 3 * RAW_SIDE, 3)
        depth = np.load(folder / f"out/seed{seed:04d}_depth.npy")
        assert depth.shape == (3, RAW_SIDE, RAW_SIDE) and depth.dtype == np.float32
        nearest = CONFIG.camera_radius - _radius(generator, seed)
        assert float(depth[1].min()) == pytest.approx(nearest, abs=0.03)
    rows = [read_image(folder / f"out/seed{seed:04d}.png") for seed in (0, 1, 7)]
    assert np.array_equal(read_image(folder / "out/grid.png"), np.concatenate(rows))
    assert generator.num_synthesised == 3  # one volume a seed, whatever the number of views


def test_a_sample_is_what_the_library_renders(folder: Path, generator: BallGenerator) -> None:
    assert run(["eg3d", "sample", "ball", "-o", "out", "--seeds", "4", "--psi", "0.5", "--cutoff", "3"] + QUICK) == 0
    views = render_seed(generator, 4, SampleOptions(seeds=(4,), style=StyleOptions(0.5, 3)))
    expected = torch.cat([view.image[0] for view in views], 2).add(1).mul(127.5).round().clamp(0, 255)
    found = torch.from_numpy(read_image(folder / "out/seed0004.png")).permute(2, 0, 1)
    assert torch.equal(found.float(), expected)


def test_views_turn_the_head_the_public_way(folder: Path) -> None:
    """Red grows with x: a nose turned to the viewer's right shows the head's -x side, so less red."""
    assert (
        run(["eg3d", "sample", "ball", "-o", "out", "--seeds", "0", "--yaw=-40,0,40", "--pitch=0", "--raw"] + QUICK)
        == 0
    )
    views = np.split(read_image(folder / "out/seed0000_raw.png").astype(float), 3, axis=1)
    left, middle, right = (view[view.sum(2) > 150].mean(0) for view in views)
    assert left[0] > middle[0] + 10 > right[0] + 20
    # the ball's centre lies at x > 0: in the front view to the right
    columns = np.nonzero((views[1].sum(2) > 150).any(0))[0]
    assert columns.mean() > RAW_SIDE / 2
    assert (
        run(["eg3d", "sample", "ball", "-o", "up", "--seeds", "0", "--yaw=0", "--pitch=-40,40", "--raw"] + QUICK) == 0
    )
    down, up = np.split(read_image(folder / "up/seed0000_raw.png").astype(float), 2, axis=1)
    # green grows with y: a head that looks down shows its top
    assert down[down.sum(2) > 150].mean(0)[1] > up[up.sum(2) > 150].mean(0)[1] + 20


def test_field_of_view_is_in_true_degrees(folder: Path, generator: BallGenerator) -> None:
    """A ball of radius r at distance d covers 2 asin(r / d) of the angle."""
    assert (
        run(
            ["eg3d", "sample", "ball", "-o", "out", "--seeds", "0", "--yaw=0", "--pitch=0", "--fov", "30", "--raw"]
            + QUICK
        )
        == 0
    )
    picture = read_image(folder / "out/seed0000_raw.png").astype(float)
    rows = (picture.sum(2) > 150).any(1).sum()
    tangent = math.tan(math.asin(_radius(generator, 0) / CONFIG.camera_radius))
    assert rows == pytest.approx(RAW_SIDE * tangent / math.tan(math.radians(15)), abs=1.5)


def test_finished_seeds_are_kept_until_something_changes(
    folder: Path, generator: BallGenerator, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["eg3d", "sample", "ball", "-o", "out", "--yaw=0", "--pitch=0", "--json"] + QUICK

    def states(*more: str) -> list[str]:
        assert run([*command, *more]) == 0
        return [result["state"] for result in json.loads(capsys.readouterr().out)["results"]]

    assert states("--seeds", "0,1") == ["done", "done"]
    first = (folder / "out/seed0000.png").stat().st_mtime_ns
    assert states("--seeds", "0-2") == ["kept", "kept", "done"]
    assert (folder / "out/seed0000.png").stat().st_mtime_ns == first
    assert generator.num_synthesised == 3
    (folder / "out/seed0001.png").unlink()
    assert states("--seeds", "0-2") == ["kept", "done", "kept"]
    assert states("--seeds", "0-2", "--psi", "0.5") == ["done"] * 3
    assert states("--seeds", "2,2,1", "--psi", "0.5", "--grid") == ["kept", "kept"]
    assert read_image(folder / "out/grid.png").shape == (2 * SIDE, SIDE, 3)


def test_other_weights_under_the_same_path_are_sampled_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, generator: BallGenerator
) -> None:
    weights = tmp_path / "network.pkl"
    weights.write_bytes(b"first")
    monkeypatch.setattr(EG3DGenerator, "from_pretrained", lambda *_, **__: generator)
    options = SampleOptions(seeds=(0,), yaw_degrees=(0.0,))
    states = []
    for content in (b"first", b"first", b"second"):
        if weights.read_bytes() != content:
            weights.write_bytes(content)
        report = portrait4d.jobs.eg3d.samples.write_samples(weights, tmp_path / "out", options=options)
        states.append(report.results[0].state)
    assert states == ["done", "kept", "done"]


def test_a_stopped_run_leaves_nothing_half_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written = portrait4d.jobs.seed_rows.write_png

    def stop_at_second(path: Path, image: np.ndarray) -> None:
        if path.name == "seed0001.png":
            raise KeyboardInterrupt
        written(path, image)

    monkeypatch.setattr(portrait4d.jobs.seed_rows, "write_png", stop_at_second)
    command = ["eg3d", "sample", "ball", "-o", "out", "--seeds", "0-1", "--yaw=0"] + QUICK
    assert run(command) == 130
    assert sorted(path.name for path in (folder / "out").rglob("*")) == ["records", "seed0000.json", "seed0000.png"]
    monkeypatch.setattr(portrait4d.jobs.seed_rows, "write_png", written)
    capsys.readouterr()
    assert run(command) == 0
    assert "seed0000.png  finished earlier" in capsys.readouterr().out


# video


def _frames(path: Path) -> list[np.ndarray]:
    return [frame.image for frame in read_frames(path)]


def test_a_video_of_one_head_makes_its_planes_once(folder: Path, generator: BallGenerator) -> None:
    command = ["eg3d", "video", "ball", "-o", "orbit.mp4", "--seeds", "3", "--frames-per-seed", "8", "--path", "orbit"]
    assert run(command + QUICK) == 0
    assert generator.num_synthesised == 1
    frames = _frames(folder / "orbit.mp4")
    assert len(frames) == 8 and frames[0].shape == (SIDE, SIDE, 3) and probe(folder / "orbit.mp4").frame_rate == 60
    red = [frame[..., 0][frame.sum(2) > 150].mean() for frame in frames]
    assert int(np.argmax(red)) == 6 and int(np.argmin(red)) == 2  # a quarter on: nose to the right


def test_a_video_passes_through_the_heads_and_closes(generator: BallGenerator) -> None:
    options = StyleVideoOptions(seeds=(0, 5, 9), frames_per_seed=4, shown="raw")
    frames = list(render_frames(generator, options))
    assert len(frames) == 12 and frames[0].shape == (RAW_SIDE, RAW_SIDE, 3)
    assert generator.num_synthesised == 12
    radii = [_radius(generator, seed) for seed in (0, 5, 9)]
    widths = [int((frames[4 * index].sum(2) > 150).any(0).sum()) for index in range(3)]
    assert np.argsort(radii).tolist() == np.argsort(widths).tolist() and len(set(widths)) == 3


def test_videos_of_depth_are_grey_and_do_not_flicker(generator: BallGenerator) -> None:
    options = StyleVideoOptions(seeds=(0,), frames_per_seed=6, shown="depth")
    frames = list(render_frames(generator, options))
    assert all(np.ptp(frame, axis=2).max() == 0 for frame in frames)
    brightest = [int(frame.max()) for frame in frames]
    # scaled by the first frame: later the ball is a little farther, which its own scale would hide
    assert brightest[0] == 255 and 200 < brightest[4] < 250
    assert frames[0][0, 0, 0] == 0  # nothing is seen there: as far as can be


def test_videos_of_raw_pictures_have_their_size(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["eg3d", "video", "ball", "-o", "raw.mp4", "--seeds", "0,1", "--frames-per-seed", "2", "--show", "raw"]
    assert run(command + ["--fps", "12.5", "--json"] + QUICK) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["num_frames"], report["frame_rate"], report["seeds"]) == (4, "25/2", [0, 1])
    frames = _frames(folder / "raw.mp4")
    assert len(frames) == 4 and frames[0].shape == (RAW_SIDE, RAW_SIDE, 3)


# shape


@pytest.mark.parametrize("suffix", ["ply", "obj", "glb"])
def test_shape_writes_the_head_in_world_units(
    folder: Path, generator: BallGenerator, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    command = ["eg3d", "shape", "ball", "-o", f"head.{suffix}", "--seed", "4", "--resolution", "48", "--json"]
    assert run(command + ["--iso", "0"] + QUICK) == 0
    report = json.loads(capsys.readouterr().out)
    radius = _radius(generator, 4)
    mesh = trimesh.load(folder / f"head.{suffix}", process=False, force="mesh")
    assert mesh.is_watertight and mesh.volume == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.03)
    np.testing.assert_allclose(mesh.center_mass, CENTRE, atol=2e-3)
    np.testing.assert_allclose(report["size"], 2 * radius, rtol=0.02)
    assert report["num_vertices"] == len(mesh.vertices) and report["iso"] == 0.0


def test_vertex_colours_are_those_of_the_surface(folder: Path) -> None:
    assert run(["eg3d", "shape", "ball", "-o", "head.ply", "--resolution", "32", "--iso", "0"] + QUICK) == 0
    mesh = trimesh.load(folder / "head.ply", process=False, force="mesh")
    expected = 255 / (1 + np.exp(-COLOUR_SLOPE * mesh.vertices))
    assert np.abs(mesh.visual.vertex_colors[:, :3] - expected).max() < 4


def test_the_level_is_found_where_none_is_given(
    folder: Path, generator: BallGenerator, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["eg3d", "shape", "ball", "-o", "head.ply", "--resolution", "32"] + QUICK) == 0
    out = capsys.readouterr().out
    assert "iso " in out and "world units" in out
    mesh = trimesh.load(folder / "head.ply", process=False, force="mesh")
    assert mesh.is_watertight
    assert mesh.volume == pytest.approx(4 / 3 * np.pi * _radius(generator, 0) ** 3, rel=0.2)


def test_a_level_outside_is_refused_with_the_range(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["eg3d", "shape", "ball", "-o", "head.ply", "--resolution", "16", "--iso", "5000"] + QUICK) == 2
    error = capsys.readouterr().err
    assert "expected an iso level between -" in error and "got 5000" in error
    assert not list(folder.glob("*.ply"))


# what can be got wrong, and help


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sample", "ball", "-o", "out", "--seeds", "0-"], "expected seeds like 0-7,12"),
        (["sample", "ball", "-o", "out", "--seeds", "a"], "expected seeds like 0-7,12"),
        (["sample", "ball", "-o", "out", "--seeds", ""], "expected seeds like 0-7,12"),
        (["sample", "ball", "-o", "out", "--seeds", "7-3"], "write 3-7"),
        (["sample", "ball", "-o", "out", "--seeds", "0-9999999999"], "at most 100000 seeds"),
        (["sample", "ball", "-o", "out", "--seeds", "4294967296"], "between 0 and 4294967295"),
        (["sample", "ball", "-o", "out", "--psi", "7"], "expected psi between -2 and 2"),
        (["sample", "ball", "-o", "out", "--psi", "nan"], "expected psi between -2 and 2"),
        (["sample", "ball", "-o", "out", "--cutoff=-1"], "expected a cutoff of 0 layers or more"),
        (["sample", "ball", "-o", "out", "--cutoff", "99"], "expected a cutoff of at most"),
        (["sample", "ball", "-o", "out", "--fov", "0"], "expected a field of view between"),
        (["sample", "ball", "-o", "out", "--yaw", "left"], "expected degrees like -20,0,20"),
        (["sample", "ball", "-o", "out", "--yaw=1,2", "--pitch=1,2,3"], "as many pitch as yaw angles"),
        (["sample", "ball", "-o", "out", "--yaw=,"], "expected yaw angles in degrees"),
        (["sample", "bell", "-o", "out"], "no weights of the name bell"),
        (["sample", "ball", "-o", "out", "--device", "abacus"], "device 'abacus' cannot be used"),
        (["video", "ball", "-o", "out.avi"], "got .avi"),
        (["video", "ball", "-o", "out.mp4", "--frames-per-seed", "0"], "expected 1 frame per seed or more"),
        (["video", "ball", "-o", "out.mp4", "--fps", "0"], "expected 1 to 240 frames per second"),
        (["video", "ball", "-o", "out.mp4", "--path", "spiral"], "spiral"),
        (["shape", "ball", "-o", "out.stl"], "got .stl"),
        (["shape", "ball", "-o", "out.ply", "--seed", "-1"], "expected seeds between 0"),
        (["shape", "ball", "-o", "out.ply", "--iso", "high"], "expected --iso as a density or 'auto'"),
        (["shape", "ball", "-o", "out.ply", "--resolution", "3"], "expected a resolution between"),
        (["shape", "ball", "-o", "out.ply", "--margin", "0.6"], "expected a margin"),
    ],
)
def test_what_can_be_got_wrong_is_said_in_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert run(["eg3d", *arguments, *QUICK]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("command", ["", "sample", "video", "shape"])
def test_help_is_quick_and_loads_no_torch(command: str) -> None:
    arguments = ["eg3d", *command.split(), "--help"]
    program = (
        f"import sys, time; from portrait4d.cli.main import run; code = run({arguments!r});"
        "print(code, 'torch' in sys.modules, 'numpy' in sys.modules, time.process_time())"
    )
    results = []
    for _ in range(2):
        result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)
        results.append(result.stdout.splitlines()[-1].split())
    assert results[0][:3] == ["0", "False", "False"]
    assert min(float(result[3]) for result in results) < 0.5  # CPU seconds: others may use this machine
