"""Single-scene fitting: label readers, the scene of the open head, what a fit improves, stopping and going on."""

import json
import math
import os
import re
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from flame.errors import InputError
from flame.geometry.camera import Camera
from places import ROOT
from portrait4d.cli.main import run
from portrait4d.jobs.fit_scene import SceneOptions, fit_scene, make_task, make_trainer
from portrait4d.scene.box import SceneBox
from portrait4d.scene.choices import Background
from portrait4d.scene.evaluation import psnr
from portrait4d.scene.fitter import FitterConfig, roughness
from portrait4d.scene.labels import read_labels
from portrait4d.scene.model import FittedSceneConfig, load_scene
from portrait4d.scene.orbit import orbit_cameras, turntable
from portrait4d.scene.views import read_scene
from portrait4d.train.checkpoint import FACTS, TENSORS, list_states
from preprocess.media.image import read_image, to_tensor, write_png
from preprocess.media.video import probe

SIDE = 32
TINY = SceneOptions(steps=8, planes=16, checkpoint_seconds=0.0)
pytestmark = pytest.mark.usefixtures("one_thread")


def make_scene(folder: Path, *options: str) -> None:
    """By the script, in this process, which has loaded torch already."""
    script = ROOT / "scripts" / "make_open_head_scene.py"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(script.parent)
        patch.setattr(sys, "argv", [str(script), str(folder), "--size", str(SIDE), *options])
        runpy.run_path(str(script), run_name="__main__")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scene of the script, very small."""
    folder = tmp_path_factory.mktemp("scene")
    make_scene(folder, "--train", "12", "--test", "3")
    return folder


@pytest.fixture
def posed(tmp_path: Path) -> Path:
    """Three grey pictures with cameras around the origin, in both formats, without test views."""
    cameras = Camera.orbit(
        torch.tensor([-30.0, 0.0, 30.0]).double(), torch.zeros(3).double(), radius=2.0, target=torch.zeros(3)
    )
    labels, frames = [], []
    for index, label in enumerate(cameras.to_label25(axes="opencv").tolist()):
        write_png(tmp_path / f"{index}.png", np.full((SIDE, SIDE, 3), 60 * index, np.uint8))
        labels.append([f"{index}.png", label])
        frames.append({"file_path": f"{index}.png", "transform_matrix": cameras.cam2world[index].tolist()})
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels}))
    transforms = {"camera_angle_x": math.radians(12.0), "frames": frames}
    (tmp_path / "transforms.json").write_text(json.dumps(transforms))
    return tmp_path


def change(path: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    values = json.loads(path.read_text())
    edit(values)
    path.write_text(json.dumps(values))


def test_both_formats_say_the_same(data: Path):
    eg3d, nerf = read_labels(data, "eg3d"), read_labels(data, "nerf")
    assert (len(eg3d.train), len(eg3d.test)) == (len(nerf.train), len(nerf.test)) == (12, 3)
    for one, other in zip([*eg3d.train, *eg3d.test], [*nerf.train, *nerf.test], strict=True):
        assert one.path == other.path
        assert (one.cam2world - other.cam2world).abs().max() < 1e-6
        sizes = {"height": SIDE, "width": SIDE}
        assert (one.intrinsics(**sizes) - other.intrinsics(**sizes)).abs().max() < 1e-6


def test_cameras_of_the_scene_see_what_its_pictures_show(data: Path):
    """The head's outline projected through the labels is the outline in the picture."""
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        from open_head.scene import random_head  # pyright: ignore[reportMissingImports]  (a path set above)
    finally:
        sys.path.remove(str(ROOT / "scripts"))
    from flame.heads.open_head import load_open_head

    head = random_head(load_open_head(), torch.Generator().manual_seed(7))
    used = head.vertices[head.faces.unique()]
    scene = read_scene(data)
    pixels, depth = scene.train.camera.project(used[None], height=SIDE, width=SIDE)
    assert (depth > 0).all()
    for image, points in zip(scene.train.images, pixels, strict=True):
        rows, columns = (image < 0.97).any(0).nonzero(as_tuple=True)
        seen = torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        projected = torch.cat([points.amin(0), points.amax(0)])
        assert (seen - projected).abs().max() < 1.5


def test_scene_script_is_deterministic_and_obeys_its_options(data: Path, tmp_path: Path):
    make_scene(tmp_path / "again", "--train", "2", "--test", "1")
    make_scene(tmp_path / "other", "--train", "1", "--test", "1", "--seed", "8", "--background", "black")
    for name in ("train/000.png", "train/001.png", "test/000.png"):
        assert (data / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    both = [json.loads((folder / "train/dataset.json").read_text())["labels"] for folder in (data, tmp_path / "again")]
    assert both[0][:2] == both[1] and both[0][0] != both[0][1]
    assert read_image(data / "train" / "000.png")[0, 0].tolist() == [255, 255, 255]
    assert read_image(tmp_path / "other" / "train" / "000.png")[0, 0].tolist() == [0, 0, 0]
    assert json.loads((data / "train" / "dataset.json").read_text())["unit"] == "metre"


def test_intrinsics_in_pixels_become_shares_of_the_picture(posed: Path):
    def to_pixels(values: dict[str, Any]) -> None:
        del values["camera_angle_x"]
        values.update(fl_x=80.0, fl_y=72.0, cx=20.0, cy=12.0)

    change(posed / "transforms.json", to_pixels)
    expected = torch.tensor([[2.5, 0, 0.625], [0, 2.25, 0.375], [0, 0, 1]])
    assert torch.allclose(read_scene(posed, scene_format="nerf").train.camera.intrinsics[0], expected)
    change(
        posed / "transforms.json", lambda values: values.update(w=64, h=64, fl_x=160.0, fl_y=144.0, cx=40.0, cy=24.0)
    )
    assert torch.allclose(read_scene(posed, scene_format="nerf").train.camera.intrinsics[0], expected)


def test_without_test_views_some_are_held_out_and_it_says_so(posed: Path):
    scene = read_scene(posed, hold_out=3)
    assert scene.test.names == ("1.png",) and scene.train.names == ("0.png", "2.png")
    assert any("one of every 3 is held out, 1 of 3" in note for note in scene.notes)
    assert torch.equal(scene.test.images[0], to_tensor(read_image(posed / "1.png"))[0])


def test_transparent_pixels_show_the_background(posed: Path):
    rgba = np.zeros((SIDE, SIDE, 4), np.uint8)
    rgba[..., 0], rgba[: SIDE // 2, :, 3], rgba[SIDE // 2, :, 3] = 200, 255, 128
    Image.fromarray(rgba).save(posed / "0.png")
    expected: dict[Background, float] = {"auto": 1.0, "black": -1.0}
    for background, behind in expected.items():
        image = read_scene(posed, background=background, hold_out=3).train.images[0]
        opaque = 200 / 127.5 - 1
        assert torch.allclose(image[:, 0, 0], torch.tensor([opaque, -1.0, -1.0]), atol=1e-6)
        assert torch.allclose(image[:, -1, 0], torch.full((3,), behind), atol=1e-6)
        half = 128 / 255 * torch.tensor([opaque, -1.0, -1.0]) + 127 / 255 * behind
        assert torch.allclose(image[:, SIDE // 2, 0], half, atol=0.005)


def test_large_pictures_are_scaled_down_with_their_cameras_as_they_are(posed: Path):
    for index in range(3):
        write_png(posed / f"{index}.png", np.full((2 * SIDE, 2 * SIDE, 3), 77, np.uint8))
    small, large = read_scene(posed, max_side=SIDE), read_scene(posed)
    assert small.train.side == SIDE and large.train.side == 2 * SIDE
    assert torch.equal(small.train.camera.intrinsics, large.train.camera.intrinsics)
    assert any(f"from {2 * SIDE} to {SIDE}" in note for note in small.notes)


def drop_picture(folder: Path) -> None:
    (folder / "1.png").unlink()


def make_oblong(folder: Path) -> None:
    write_png(folder / "1.png", np.zeros((SIDE, SIDE + 8, 3), np.uint8))


def make_larger(folder: Path) -> None:
    write_png(folder / "1.png", np.zeros((SIDE + 8, SIDE + 8, 3), np.uint8))


def edit_labels(edit: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    return lambda folder: change(folder / "dataset.json", edit)


def edit_transforms(edit: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    return lambda folder: change(folder / "transforms.json", edit)


BAD = {
    "missing picture": (drop_picture, "eg3d", "1.png, which is missing"),
    "not square": (make_oblong, "eg3d", "expected a square picture, got 40 x 32"),
    "another size": (make_larger, "nerf", "expected 32 pixels like 0.png, got 40"),
    "no labels": (edit_labels(lambda values: values.update(labels=None)), "eg3d", "got nothing"),
    "one view": (edit_labels(lambda values: values["labels"].__delitem__(slice(1, 3))), "eg3d", "at least 2 views"),
    "pose without intrinsics": (
        edit_labels(lambda values: values["labels"][1].__setitem__(1, values["labels"][1][1][:16])),
        "eg3d",
        "expected 25 numbers .*got 16",
    ),
    "zero focal": (edit_labels(lambda values: values["labels"][1][1].__setitem__(16, 0.0)), "eg3d", "no intrinsics"),
    "scaled pose": (
        edit_labels(lambda values: values["labels"][1][1].__setitem__(0, 3.0)),
        "eg3d",
        "scales or mirrors",
    ),
    "label of words": (edit_labels(lambda values: values["labels"][1].__setitem__(1, "x")), "eg3d", "expected 25"),
    "no field of view": (edit_transforms(lambda values: values.pop("camera_angle_x")), "nerf", "no intrinsics"),
    "lens distortion": (edit_transforms(lambda values: values.update(k1=0.1)), "nerf", "without lens distortion"),
    "no matrix": (
        edit_transforms(lambda values: values["frames"][0].pop("transform_matrix")),
        "nerf",
        "expected a transform_matrix",
    ),
    "no frames": (edit_transforms(lambda values: values.update(frames=[])), "nerf", "got an empty list"),
    "broken file": (lambda folder: (folder / "dataset.json").write_text("{"), "eg3d", "cannot be read"),
    "format absent": (lambda folder: (folder / "dataset.json").unlink(), "eg3d", "expected dataset.json"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named_in_one_line(posed: Path, name: str, capsys: pytest.CaptureFixture[str]):
    spoil, label_format, message = BAD[name]
    spoil(posed)
    with pytest.raises(InputError, match=message) as caught:
        read_scene(posed, scene_format=label_format)
    assert "\n" not in str(caught.value)
    assert run(["fit-scene", str(posed), "-o", str(posed / "out"), "--format", label_format, "--quiet"]) == 2
    assert "error: " in capsys.readouterr().err
    assert not (posed / "out").exists()


@pytest.mark.parametrize("options", [["--steps", "0"], ["--box", "-1"], ["--planes", "2"], ["--device", "nonsense"]])
def test_bad_options_are_refused(posed: Path, options: list[str], capsys: pytest.CaptureFixture[str]):
    assert run(["fit-scene", str(posed), "-o", str(posed / "out"), "--quiet", *options]) == 2
    assert capsys.readouterr().err.startswith("error: expected" if options[0] != "--device" else "error: device")


def test_box_is_what_the_cameras_look_at():
    target = torch.tensor([0.3, -2.0, 5.0], dtype=torch.float64)
    yaw, pitch = torch.tensor([[-40.0, 10.0, 70.0], [0.0, 20.0, -15.0]], dtype=torch.float64)
    camera = Camera.orbit(yaw, pitch, radius=4.0, target=target, fov_degrees=30.0)
    box = SceneBox.from_cameras(camera)
    assert np.allclose(box.centre, target.tolist(), atol=1e-9)
    assert math.isclose(box.side, 2 * 4.0 * math.tan(math.radians(15)), rel_tol=1e-9)
    pixels, _ = box.to_fitted(camera).project(torch.zeros(1, 1, 3, dtype=torch.float64), height=10, width=10)
    assert torch.allclose(pixels, torch.full_like(pixels, 5.0))
    corner = torch.tensor([[[0.1, 0.2, -0.1]]], dtype=torch.float64)
    before = camera.project(target + corner, height=10, width=10)[0]
    after, depth = box.to_fitted(camera).project(corner * box.scale, height=10, width=10)
    assert torch.allclose(before, after)
    assert torch.allclose(depth / box.scale, camera.project(target + corner, height=10, width=10)[1])


def test_parallel_cameras_still_have_a_box():
    camera = Camera.orbit(torch.zeros(1).double(), torch.zeros(1).double(), radius=2.0, target=torch.zeros(3))
    assert np.allclose(SceneBox.from_cameras(camera).centre, 0, atol=1e-9)


def test_orbit_stays_where_the_cameras_were(data: Path):
    """A mirrored or upside-down orbit would be far from every camera."""
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(4), dtype=torch.float64))[0]
    turn = turn * torch.linalg.det(turn)  # any world axes: NeRF's have z up
    camera = read_scene(data).train.camera.to(torch.float64)
    world = camera.cam2world.clone()
    world[:, :3] = turn @ camera.cam2world[:, :3]
    turned = Camera(world, camera.intrinsics)
    orbit = orbit_cameras(turned, SceneBox.from_cameras(turned), num_frames=24)
    cosine = torch.einsum("aij,bij->ab", orbit.cam2world[:, :3, :3], world[:, :3, :3])
    angle = torch.rad2deg(torch.acos(((cosine - 1) / 2).clamp(-1, 1)))
    assert angle.amin(1).max() < 35
    assert angle.amin(0).max() < 60  # and it passes most of them
    assert torch.allclose(
        orbit.cam2world[0], orbit_cameras(turned, SceneBox.from_cameras(turned), num_frames=2).cam2world[0]
    )


def test_turntable_stands_where_its_angles_say_and_looks_at_the_target():
    target = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)
    angles = torch.tensor([[0.0, 90.0, -90.0, 30.0], [0.0, 0.0, 45.0, -30.0]], dtype=torch.float64)
    camera = turntable(*angles, radius=2.0, target=target, fov_degrees=20.0)
    half, root = 0.5, math.sqrt(0.5)
    expected = [[0, 0, 1], [1, 0, 0], [-root, root, 0], [half * math.sqrt(0.75), -half, 0.75]]
    assert torch.allclose(camera.cam2world[:, :3, 3], target + 2 * torch.tensor(expected, dtype=torch.float64))
    above = torch.stack([target, target + torch.tensor([0.0, 0.1, 0.0])])[None]
    pixels, depth = camera.project(above, height=10, width=10)
    assert torch.allclose(pixels[:, 0], torch.full((4, 2), 5.0).double()) and torch.allclose(depth[:, 0], depth[0, 0])
    assert torch.allclose(pixels[:, 1, 0], torch.full((4,), 5.0).double()) and (pixels[:, 1, 1] < 4.9).all()
    rotation = camera.cam2world[:, :3, :3]
    assert torch.allclose(rotation @ rotation.transpose(1, 2), torch.eye(3).double().expand(4, 3, 3))


def test_orbit_turns_fully_at_the_height_of_cameras_all_around():
    azimuth = torch.arange(0, 360, 20).double()
    camera = turntable(azimuth, torch.full_like(azimuth, 40.0), radius=3.0, target=torch.tensor([1.0, 2.0, 3.0]))
    orbit = orbit_cameras(camera, SceneBox.from_cameras(camera), num_frames=36)
    distance = torch.cdist(camera.cam2world[:, :3, 3], orbit.cam2world[:, :3, 3])
    assert distance.amin(0).max() < 0.5 and distance.amin(1).max() < 0.5
    pixels, _ = orbit.project(torch.tensor([[[1.0, 2.0, 3.0]]], dtype=torch.float64), height=2, width=2)
    assert torch.allclose(pixels, torch.ones_like(pixels), atol=1e-6)


def test_roughness_of_a_ramp():
    ramp = 3.0 * torch.arange(5.0) + 2.0 * torch.arange(4.0)[:, None]
    assert math.isclose(float(roughness(ramp.expand(1, 2, 4, 5))), 9.0 + 4.0, rel_tol=1e-6)


def test_psnr_of_a_known_difference():
    image = torch.zeros(2, 3, 4, 4)
    assert torch.allclose(psnr(image, torch.stack([image[0] + 0.2, image[0] + 0.02])), torch.tensor([20.0, 40.0]))


@pytest.fixture(scope="module")
def fitted(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short fit by the command."""
    folder = tmp_path_factory.mktemp("fitted")
    code = run(["fit-scene", str(data), "--planes", "32", "--steps", "80", "--quiet", "--json", "-o", str(folder)])
    assert code == 0
    return folder


@pytest.mark.slow
def test_fit_improves_held_out_views(data: Path, fitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """The saved scene itself beats one after a single step, and a blank picture, by far."""
    command = ["fit-scene", str(data), "--planes", "32", "--quiet", "--json", "-o", str(tmp_path), "--steps", "1"]
    assert run(command) == 0
    begun = json.loads(capsys.readouterr().out)
    assert begun == json.loads((tmp_path / "metrics.json").read_text())
    report = json.loads((fitted / "metrics.json").read_text())
    scene, views = load_scene(fitted), read_scene(data).test
    blank = float(psnr(torch.ones_like(views.images), views.images).mean())
    quality = []
    for index in range(len(views)):
        seen = scene.render(views.camera[index], height=SIDE, width=SIDE).features * 2 - 1
        quality.append(float(psnr(seen.clamp(-1, 1), views.images[index : index + 1])))
    assert np.mean(quality) > max(begun["mean_psnr"], blank) + 8
    assert np.allclose(quality, list(report["psnr"].values()), atol=2e-3)
    assert math.isclose(report["mean_psnr"], np.mean(quality), abs_tol=2e-3)


@pytest.mark.slow
def test_fit_leaves_pictures_video_and_history(fitted: Path):
    report = json.loads((fitted / "metrics.json").read_text())
    assert report["history"][-1]["step"] == report["num_steps"] == 80
    assert abs(report["mean_psnr"] - report["history"][-1]["held_out_psnr"]) < 2  # some rays stand for all
    assert report["cpu_seconds"] > 0 and report["wall_seconds"] > 0
    assert probe(fitted / "orbit.mp4").num_frames_estimate == 48
    assert read_image(fitted / "test_views.png").shape[1] > 9 * SIDE


@pytest.mark.slow
def test_depth_is_in_the_units_of_the_cameras(data: Path, fitted: Path):
    """The head's middle is 1 m away, its surface a little less."""
    seen = load_scene(fitted).render(read_scene(data).train.camera[0], height=SIDE, width=SIDE)
    depth = seen.depth[seen.alpha > 0.9]
    assert len(depth) > 50 and 0.75 < float(depth.median()) < 1.0


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "scene.safetensors")


@pytest.mark.slow
def test_a_stopped_fit_goes_on_to_the_same_scene(data: Path, tmp_path: Path):
    fit_scene(data, tmp_path / "whole", options=TINY)

    def stop(stage: str, done: int, total: int | None) -> None:
        if stage == "fit" and done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_scene(data, tmp_path / "parts", options=TINY, progress=stop)
    assert not (tmp_path / "parts" / "scene.safetensors").exists()
    report = fit_scene(data, tmp_path / "parts", options=TINY)
    assert report.resumed_at == 5 and report.num_steps == TINY.steps
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    for name in whole:
        assert torch.equal(whole[name], parts[name]), name
    again = fit_scene(data, tmp_path / "parts", options=TINY)
    assert again.resumed_at == TINY.steps and again.mean_psnr == report.mean_psnr


@pytest.mark.slow
def test_a_killed_fit_goes_on(data: Path, tmp_path: Path):
    program = (
        "import sys; from portrait4d.jobs.fit_scene import SceneOptions, fit_scene;"
        "fit_scene(sys.argv[1], sys.argv[2], options=SceneOptions(steps=100000, planes=16, checkpoint_seconds=0.0))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    child = subprocess.Popen([sys.executable, "-c", program, str(data), str(tmp_path)], env=environment)
    try:
        deadline = time.monotonic() + 300
        while not list((tmp_path / "checkpoints").glob("[0-9]*")):
            assert time.monotonic() < deadline and child.poll() is None, "no checkpoint came of it"
            time.sleep(0.05)
    finally:
        child.kill()
        child.wait()
    reached = []

    def stop(stage: str, done: int, total: int | None) -> None:
        reached.append(done)
        if len(reached) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_scene(data, tmp_path, options=SceneOptions(steps=100000, planes=16, checkpoint_seconds=0.0), progress=stop)
    assert reached[0] >= 1 and reached == [reached[0], reached[0] + 1, reached[0] + 2]


def test_another_fit_in_the_same_folder_is_refused(data: Path, tmp_path: Path):
    fit_scene(data, tmp_path, options=SceneOptions(steps=2, planes=16))
    with pytest.raises(InputError, match="num_steps: 2 -> 3"):
        fit_scene(data, tmp_path, options=SceneOptions(steps=3, planes=16))
    (list_states(tmp_path / "checkpoints")[-1].folder / TENSORS).write_bytes(b"junk")
    with pytest.raises(InputError, match="damaged"):
        fit_scene(data, tmp_path, options=SceneOptions(steps=2, planes=16))


def test_a_checkpoint_that_lacks_a_part_is_refused_in_one_line(data: Path, tmp_path: Path):
    """A missing tensor or step was a bare KeyError."""
    options = SceneOptions(steps=2, planes=16)
    fit_scene(data, tmp_path, options=options)
    folder = list_states(tmp_path / "checkpoints")[-1].folder
    whole, facts = load_file(folder / TENSORS), json.loads((folder / FACTS).read_text())
    assert {name.partition(".")[0] for name in whole} == {"network", "adam"}
    cases = [(re.escape(name), {key: value for key, value in whole.items() if key != name}, facts) for name in whole]
    cases.append(("network.scene.planes", {**whole, "network.scene.planes": torch.zeros(1)}, facts))
    cases.append(("adam.scene.planes.exp_avg", {**whole, "adam.scene.planes.exp_avg": torch.zeros(1)}, facts))
    cases.append(("damaged", whole, {key: value for key, value in facts.items() if key != "step_index"}))
    cases.append(("damaged", whole, {**facts, "step_index": "x"}))
    for message, tensors, said in cases:
        save_file(tensors, folder / TENSORS)
        (folder / FACTS).write_text(json.dumps(said))
        with pytest.raises(InputError, match=message) as caught:
            fit_scene(data, tmp_path, options=options)
        assert "\n" not in str(caught.value) and str(folder) in str(caught.value)


def test_the_rates_fall_exponentially(data: Path):
    options = SceneOptions(steps=5, planes=16)
    trainer = make_trainer(make_task(read_scene(data), options), options)
    rates = []
    for _ in range(5):
        trainer.step()
        rates.append([group["lr"] for group in trainer.optimisers["scene"].param_groups])
    config = FitterConfig()
    shares = torch.logspace(0, 1, 5, base=config.final_share, dtype=torch.float64)
    expected = shares[:, None] * torch.tensor([config.planes_rate, config.decoder_rate], dtype=torch.float64)
    assert torch.allclose(torch.tensor(rates, dtype=torch.float64), expected, rtol=1e-9)


def test_a_signal_saves_the_fit_and_ends_it(data: Path, tmp_path: Path):
    def stop(stage: str, done: int, total: int | None) -> None:
        if stage == "fit" and done == 3:
            signal.raise_signal(signal.SIGTERM)

    options = SceneOptions(steps=8, planes=16)
    with pytest.raises(KeyboardInterrupt, match="4 of 8 steps are kept"):
        fit_scene(data, tmp_path, options=options, progress=stop)
    assert fit_scene(data, tmp_path, options=options).resumed_at == 4  # the step after it was finished


def test_a_fit_runs_beside_the_main_thread(data: Path, tmp_path: Path):
    """Only a main thread is told of signals."""
    with ThreadPoolExecutor(1) as threads:
        report = threads.submit(fit_scene, data, tmp_path, options=SceneOptions(steps=2, planes=16)).result()
    assert report.num_steps == 2


def test_seeds_choose_the_fit(data: Path):
    scene = read_scene(data)

    def planes(seed: int) -> Tensor:
        options = SceneOptions(steps=2, planes=16, seed=seed)
        task = make_task(scene, options)
        make_trainer(task, options).step()
        return task.scene.planes.detach()

    assert torch.equal(planes(1), planes(1)) and not torch.allclose(planes(1), planes(2), atol=1e-3)


def test_scene_settings_are_read_strictly(data: Path, tmp_path: Path):
    with pytest.raises(InputError, match="scene.safetensors, config.json"):
        load_scene(tmp_path)
    fit_scene(data, tmp_path, options=SceneOptions(steps=1, planes=16))
    change(tmp_path / "config.json", lambda values: values.update(plane_resolution=32))
    with pytest.raises(InputError, match="does not fit"):
        load_scene(tmp_path)
    change(tmp_path / "config.json", lambda values: values.update(plane_size=32))
    with pytest.raises(InputError, match="plane_size"):
        load_scene(tmp_path)
    change(tmp_path / "config.json", lambda values: values.pop("plane_size"))
    weights = tmp_path / "scene.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(InputError, match="(?s)damaged.*fit-scene again"):
        load_scene(tmp_path)
    (tmp_path / "config.json").write_text('{"centre": [0')
    with pytest.raises(InputError, match="expected JSON"):
        load_scene(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(InputError, match="settings of a fitted scene, got list"):
        load_scene(tmp_path)


def test_defaults_of_the_command_are_those_of_the_library(capsys: pytest.CaptureFixture[str]):
    assert run(["fit-scene", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    defaults = SceneOptions()
    assert f"[default: {FitterConfig().num_steps}]" in shown and defaults.steps == FitterConfig().num_steps
    assert defaults.planes == FittedSceneConfig((0, 0, 0), 1.0, True).plane_resolution
    for value in (defaults.size, defaults.hold_out, defaults.steps, defaults.planes):
        assert f"[default: {value}]" in shown
