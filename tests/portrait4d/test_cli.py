"""The command line: quick help, exit codes, one-line errors, JSON, what each command writes."""

import json
import os
import signal
import subprocess
import sys
import threading
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import portrait4d.jobs.batch
import portrait4d.jobs.views
import portrait4d.pipeline
from fakes_engine import SIZE, fake_models, fake_motion
from places import ROOT
from portrait4d.cli.main import run
from preprocess.media.image import read_image, write_png
from preprocess.media.video import probe, read_frames
from preprocess.media.video_writer import VideoWriter
from preprocess.tracking.motion import Motion

COMMANDS = (
    *(
        "demo",
        "reenact",
        "batch",
        "evaluate",
        "track",
        "avatar",
        "render",
        "pose",
        "live",
        "studio",
        "fit-scene",
        "doctor",
        "metrics",
        "weights",
    ),
)
NUM_FRAMES = 12


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a photo and a clip, and the fakes in place of the models."""
    monkeypatch.chdir(tmp_path)
    for module in (portrait4d.pipeline, portrait4d.jobs.batch, portrait4d.jobs.views):
        monkeypatch.setattr(module, "load_models", fake_models)
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # the command line's SIGTERM handler is not for pytest
    write_png(tmp_path / "photo.png", np.full((SIZE, SIZE, 3), 90, np.uint8))
    with VideoWriter(tmp_path / "nod.mp4", height=SIZE, width=SIZE, frame_rate=Fraction(25)) as writer:
        for index in range(NUM_FRAMES):
            writer.write(np.full((SIZE, SIZE, 3), 40 + 15 * index, np.uint8))
    return tmp_path


def levels_of(path: Path) -> list[float]:
    return [float(frame.image.mean()) for frame in read_frames(path)]


def test_help_loads_no_torch():
    """What keeps it quick; benchmarks/startup.py measures how quick."""
    program = "import sys; from portrait4d.cli.main import run; print(run(['--help']), 'torch' in sys.modules)"
    assert _run_python(program).stdout.splitlines()[-1] == "0 False"


def test_every_command_has_help(capsys: pytest.CaptureFixture[str]):
    for command in COMMANDS:
        assert run([command, "--help"]) == 0
        assert f"portrait4d {command}" in capsys.readouterr().out


def test_version_is_the_package_s(capsys: pytest.CaptureFixture[str]):
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.split() == ["portrait4d", portrait4d.__version__]


def test_reenact_writes_the_driver_s_frames_at_its_rate(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert run(["reenact", "photo.png", "nod.mp4", "-o", "result.mp4", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["num_frames"] == NUM_FRAMES and report["frame_rate"] == "25" and report["engine"] == "fake"
    assert report["warnings"] == ["this is a fake"]
    assert set(report["seconds"]) >= {"source", "track", "render", "total"}
    info = probe(folder / "result.mp4")
    assert (info.frame_rate, info.num_frames_estimate) == (25, NUM_FRAMES)
    assert levels_of(folder / "result.mp4") == pytest.approx([40 + 15 * index for index in range(NUM_FRAMES)], abs=4)


def test_motion_file_drives_like_the_video_it_came_from(folder: Path):
    assert run(["track", "nod.mp4", "-o", "nod.npz", "--quiet"]) == 0
    assert len(Motion.load(folder / "nod.npz")) == NUM_FRAMES
    assert run(["reenact", "photo.png", "nod.mp4", "-o", "one.mp4", "--quiet"]) == 0
    assert run(["reenact", "photo.png", "nod.npz", "-o", "two.mp4", "--quiet"]) == 0
    assert levels_of(folder / "one.mp4") == levels_of(folder / "two.mp4")


def test_avatar_file_stands_for_the_photo(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert run(["avatar", "photo.png", "-o", "photo.safetensors"]) == 0
    assert run(["reenact", "photo.safetensors", "nod.mp4", "-o", "one.mp4", "--quiet"]) == 0
    assert probe(folder / "one.mp4").num_frames_estimate == NUM_FRAMES
    assert run(["avatar", "photo.png", "-o", "bare.safetensors", "--no-photo"]) == 0
    for option in ("--paste-back", "--side-by-side"):
        assert run(["reenact", "photo.safetensors", "nod.mp4", "-o", "two.mp4", "--quiet", option]) == 0
        assert run(["reenact", "bare.safetensors", "nod.mp4", "-o", "two.mp4", "--quiet", option]) == 2
        assert f"{option} needs the picture" in capsys.readouterr().err


def test_avatar_of_several_photos_says_which_it_shows(folder: Path, capsys: pytest.CaptureFixture[str]):
    write_png(folder / "bright.png", np.full((SIZE, SIZE, 3), 200, np.uint8))
    assert run(["avatar", "photo.png", "bright.png", "-o", "both.safetensors"]) == 0
    assert "shows bright.png (of 2 photos)" in capsys.readouterr().out
    assert run(["avatar", "photo.png", "bright.png", "-o", "both.safetensors", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["shown"] == "bright.png"


@pytest.mark.parametrize(
    "arguments",
    [["avatar", "photo.png", "-o", "photo.safetensors"], ["render", "photo.png", "-o", "view.png", "--yaw=0"]],
)
def test_quiet_leaves_the_warnings_only(folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]):
    assert run(arguments) == 0
    loud = capsys.readouterr()
    assert "(auto)" in loud.err
    assert run([*arguments, "--quiet"]) == 0
    quiet = capsys.readouterr()
    assert quiet.err == "warning: this is a fake\n" and quiet.out == loud.out


def test_source_and_driver_have_a_face_each(folder: Path, monkeypatch: pytest.MonkeyPatch):
    models = fake_models()
    for module in (portrait4d.pipeline, portrait4d.jobs.batch):
        monkeypatch.setattr(module, "load_models", lambda _: models)
    faces = models.tracker.faces  # pyright: ignore
    pair = ["photo.png", "nod.mp4", "--face", "3", "--driver-face", "2", "--quiet"]
    assert run(["reenact", *pair, "-o", "x.mp4"]) == 0
    assert sorted(faces) == [2, 3]
    assert run(["batch", *pair, "-o", "out"]) == 0
    assert sorted(faces[2:]) == [2, 3]
    for name in ("--face", "--driver-face"):
        assert run(["track", "nod.mp4", "-o", "x.npz", "--quiet", name, "4"]) == 0
        assert faces[-1] == 4


def test_auto_says_which_engine_it_takes_and_why(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert run(["reenact", "photo.png", "nod.mp4", "-o", "x.mp4"]) == 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("engine ")]
    assert "lift (auto)" in line and "needs no weights" in line and "portrait4d-v2" in line
    assert run(["reenact", "photo.png", "nod.mp4", "-o", "x.mp4", "--quiet"]) == 0
    assert "engine" not in capsys.readouterr().err


def test_start_duration_and_rate_cut_video_and_motion_file_alike(folder: Path):
    assert run(["track", "nod.mp4", "-o", "nod.npz", "--quiet"]) == 0
    for driver, result in (("nod.mp4", "one.mp4"), ("nod.npz", "two.mp4")):
        choice = ["--start", "0.16", "--duration", "0.24", "--fps", "50"]
        assert run(["reenact", "photo.png", driver, "-o", result, "--quiet", *choice]) == 0
        info = probe(folder / result)
        assert (info.frame_rate, info.num_frames_estimate) == (50, 12)
        assert levels_of(folder / result)[0] == pytest.approx(40 + 15 * 4, abs=4)


def test_side_by_side_shows_source_driver_and_result(folder: Path):
    assert run(["reenact", "photo.png", "nod.mp4", "-o", "wide.mp4", "--side-by-side", "--quiet"]) == 0
    frame = list(read_frames(folder / "wide.mp4"))[6].image
    assert frame.shape == (SIZE, 3 * SIZE, 3)
    means = [float(part.mean()) for part in np.split(frame.astype(float), 3, axis=1)]
    assert means == pytest.approx([90, 130, 130], abs=5)


def test_paste_back_keeps_the_rest_of_the_picture(folder: Path):
    write_png(folder / "large.png", np.full((SIZE, 3 * SIZE, 3), 90, np.uint8))
    assert run(["reenact", "large.png", "nod.mp4", "-o", "large.mp4", "--paste-back", "--quiet"]) == 0
    frame = list(read_frames(folder / "large.mp4"))[0].image
    assert frame.shape == (SIZE, 3 * SIZE, 3)


def test_picture_driver_writes_a_picture(folder: Path):
    write_png(folder / "smile.png", np.full((SIZE, SIZE, 3), 120, np.uint8))
    assert run(["reenact", "photo.png", "smile.png", "-o", "still.png", "--quiet"]) == 0
    assert read_image(folder / "still.png").mean() == pytest.approx(120, abs=2)


def test_gaps_are_held_and_reported(folder: Path, capsys: pytest.CaptureFixture[str]):
    fake_motion([0.2, 0.4, -1, -1, -1, 0.6]).save(folder / "gap.npz")
    assert run(["reenact", "photo.png", "gap.npz", "-o", "gap.mp4", "--json", "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out)["gaps"] == [[0.08, 0.2]]
    assert run(["reenact", "photo.png", "gap.npz", "-o", "gap.mp4", "--quiet"]) == 0
    assert "no face in 0.12 s of the driver (0.08-0.20 s)" in capsys.readouterr().out


def test_a_cut_driver_is_told_on_the_screen_and_in_the_report(folder: Path, capsys: pytest.CaptureFixture[str]):
    with VideoWriter(folder / "long.mp4", height=SIZE, width=SIZE, frame_rate=Fraction(25)) as writer:
        for index in range(60):
            writer.write(np.random.default_rng(index).integers(0, 255, (SIZE, SIZE, 3), np.uint8))
    data = (folder / "long.mp4").read_bytes()
    (folder / "cut.mp4").write_bytes(data[: len(data) * 6 // 10])
    assert run(["reenact", "photo.png", "cut.mp4", "-o", "result.mp4", "--json", "--quiet"]) == 0
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if "cut.mp4" in line]
    assert len(lines) == 1 and lines[0].startswith("warning: ") and "cut off" in lines[0]
    assert any("cut off" in line for line in json.loads(captured.out)["warnings"])


def test_render_writes_video_views_and_mesh(folder: Path):
    assert run(["render", "photo.png", "-o", "orbit.mp4", "--duration", "0.4", "--quiet"]) == 0
    assert probe(folder / "orbit.mp4").num_frames_estimate == 10
    assert run(["render", "photo.png", "-o", "view.png", "--yaw=-20,0,20", "--quiet"]) == 0
    assert sorted(path.name for path in folder.glob("view*")) == [
        "view_yaw+0_pitch+0.png", "view_yaw+20_pitch+0.png", "view_yaw-20_pitch+0.png",
    ]  # fmt: skip
    assert run(["render", "photo.png", "-o", "head.glb", "--quiet"]) == 0
    assert (folder / "head.glb").stat().st_size > 0


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["reenact", "nobody.png", "nod.mp4", "-o", "x.mp4"], "source not found"),
        (["reenact", "photo.png", "nobody.mp4", "-o", "x.mp4"], "driver not found"),
        (["reenact", "photo.png", "nod.mp4", "-o", "x.txt"], "expected an output name"),
        (["reenact", "photo.png", "nod.mp4", "-o", "x.png"], "one-frame driver"),
        (["reenact", "photo.png", "nod.mp4", "-o", "nod.mp4"], "one of the inputs"),
        (["reenact", "nod.mp4", "nod.mp4", "-o", "x.mp4"], "expected a photo"),
        (["reenact", "photo.png", "nod.mp4", "-o", "x.mp4", "--fps", "0"], "fps"),
        (["reenact", "photo.png", "nod.mp4", "-o", "x.mp4", "--yaw-limit", "wide"], "--yaw-limit"),
        (["reenact", "photo.png", "nod.mp4", "-o", "x.mp4", "--start", "9"], "start"),
        (["reenact", "photo.png", "nod.mp4", "-o", "x.mp4", "--mode", "copy"], "copy"),
        (["render", "photo.png", "-o", "x.mp4", "--yaw", "left"], "expected degrees"),
        (["render", "photo.png", "-o", "x.mp4", "--yaw", "1,2", "--pitch", "1,2,3"], "as many"),
        (["track", "nod.mp4", "-o", "x.mp4"], "expected an output name"),
        (["reenact", "photo.png", "nod.mp4", "-o", "x.mp4", "--device", "tpu9"], "device 'tpu9'"),
        (["reenact", "photo.png", "nod.mp4", "-o", "x.mp4", "--device", "mps"], "float64"),
        (["batch", "photo.png", "nod.mp4", "-o", "x", "--device", "tpu9"], "device 'tpu9'"),
        (["batch", "photo.png", "nod.mp4", "-o", "x", "--device", "mps"], "float64"),
        (["batch", "photo.png", "nod.mp4", "-o", "x", "--engine", "portrait4d"], "portrait4d is not on this machine"),
        (["batch", "photo.png", "-o", "x"], "SOURCES and DRIVERS"),
        (["batch", "photo.png", "none*.mp4", "-o", "x"], "no drivers found"),
    ],
)
def test_unusable_input_is_one_line_and_code_2(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], reason: str
):
    before = set(folder.rglob("*"))
    assert run([*arguments, "--quiet"]) == 2
    errors = capsys.readouterr().err
    assert reason in errors and "Traceback" not in errors
    assert set(folder.rglob("*")) == before


def test_bug_is_one_line_and_code_70(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    def explode(*_: object) -> None:
        raise RuntimeError("first line\nsecond line")

    monkeypatch.setattr(portrait4d.pipeline, "load_models", explode)
    arguments = ["reenact", "photo.png", "nod.mp4", "-o", "x.mp4", "--quiet"]
    assert run(arguments) == 70
    assert capsys.readouterr().err.splitlines() == [
        "error: unexpected RuntimeError: first line (run again with --debug for the traceback)"
    ]
    with pytest.raises(RuntimeError, match="first line"):
        run(arguments, is_debug=True)


def test_failure_while_rendering_leaves_no_file(folder: Path, monkeypatch: pytest.MonkeyPatch):
    models = fake_models()
    render, calls = models.engine.render, []

    def fail_late(avatar, drive):
        calls.append(len(drive))
        if len(calls) > 1:
            raise RuntimeError("out of memory")
        return render(avatar, drive)

    monkeypatch.setattr(models.engine, "render", fail_late)
    monkeypatch.setattr(portrait4d.pipeline, "load_models", lambda _: models)
    before = set(folder.iterdir())
    assert run(["reenact", "photo.png", "nod.mp4", "-o", "x.mp4", "--quiet"]) == 70
    assert set(folder.iterdir()) == before


@pytest.mark.parametrize(
    ("stop", "code"), [pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow), (signal.SIGTERM, 143)]
)
def test_stopping_leaves_no_file(folder: Path, stop: signal.Signals, code: int):
    script = Path(__file__).parents[1] / "support" / "run_with_fakes.py"
    before = set(folder.iterdir())
    process = subprocess.Popen(
        [sys.executable, str(script), "reenact", "photo.png", "nod.mp4", "-o", "x.mp4"],
        env={**__import__("os").environ, "PORTRAIT4D_FAKE_SECONDS": "0.5"}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    watchdog = threading.Timer(300, process.kill)  # a dead child ends every wait for its output below
    watchdog.start()
    try:
        assert process.stderr is not None
        said = ""
        while "rendering" not in said:
            line = process.stderr.readline()
            assert line, f"ended before it drew: {said}"
            said += line
        process.send_signal(stop)
        errors = process.communicate()[1]
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()
    assert process.returncode == code, errors
    assert "Traceback" not in errors
    assert set(folder.iterdir()) == before


def test_doctor_tells_what_is_missing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    import portrait4d.jobs.doctor as doctor

    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(
        doctor, "examine", lambda: [doctor.Check("numba", "optional", "not there", "pip install numba")]
    )
    assert run(["doctor"]) == 0
    monkeypatch.setattr(doctor, "examine", lambda: [doctor.Check("open head", "missing", "not there", "reinstall")])
    assert run(["doctor", "--json"]) == 1
    printed = capsys.readouterr().out
    assert "pip install numba" in printed and '"cure": "reinstall"' in printed


def test_doctor_misses_numba_and_offers_no_mps(monkeypatch: pytest.MonkeyPatch):
    import torch

    import portrait4d.jobs.doctor as doctor

    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    checks = {check.name: check for check in doctor.examine()}
    assert checks["numba"].state == "missing" and checks["numba"].cure == "pip install numba"
    assert not doctor.is_healthy(list(checks.values()))
    assert not any("mps" in check.detail for check in checks.values())


def test_doctor_tells_a_pyav_that_cannot_write_or_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    import av

    import portrait4d.jobs.doctor as doctor

    assert {check.name: check.state for check in doctor.examine()}["video"] == "ok"

    def open_of_another_interface(*_: object, **options: object):
        raise TypeError("open() got an unexpected keyword argument")

    monkeypatch.setattr(av, "open", open_of_another_interface)
    assert run(["doctor"]) == 1
    printed = capsys.readouterr().out
    assert "MISSING video" in printed and "TypeError: open() got an unexpected" in printed and "'av>=" in printed
    assert "missing: video" in printed


def test_doctor_tells_pictures_that_come_back_wrong(monkeypatch: pytest.MonkeyPatch):
    import portrait4d.jobs.doctor as doctor
    import preprocess.media.decode as decode

    convert = decode._to_rgb
    monkeypatch.setattr(decode, "_to_rgb", lambda *arguments: 255 - convert(*arguments))
    checks = {check.name: check for check in doctor.examine()}
    assert checks["video"].state == "missing" and "came back wrong" in checks["video"].detail


def test_foreign_distribution_is_named_with_the_cure(tmp_path: Path):
    folder = tmp_path / "lib" / "site-packages"
    (folder / "flame").mkdir(parents=True)
    (folder / "flame" / "__init__.py").write_text("")
    result = _run_python("import portrait4d", first=folder)
    assert result.returncode != 0
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: ") and str(folder / "flame") in last and "pip uninstall flame" in last


@pytest.mark.parametrize(("name", "shown"), [("preprocess.py", "file"), ("flame/__init__.py", "folder")])
def test_a_user_s_own_file_beside_the_script_is_to_be_renamed(name: str, shown: str, tmp_path: Path):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("")
    (tmp_path / "script.py").write_text("import portrait4d\n")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(tmp_path / "script.py")]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert result.returncode != 0
    last = result.stderr.strip().splitlines()[-1]
    own = tmp_path / name.split("/")[0]
    assert last.startswith("ImportError: ") and f"your own {shown} {own}, which hides it: rename" in last
    assert "pip uninstall" not in last


@pytest.mark.parametrize(("change", "expected"), [("pop(name, 0)", "passive"), ("update({name: 'active'})", "active")])
def test_torch_s_threads_sleep_while_they_wait_unless_the_user_says_else(change: str, expected: str):
    setting = f"import os; name = 'OMP_WAIT_POLICY'; os.environ.{change}; "
    program = "from portrait4d.cli.main import run; run(['--version']); print(os.environ[name])"
    assert _run_python(setting + program).stdout.split()[-1] == expected


def test_import_is_light():
    result = _run_python("import sys, portrait4d; print(sorted({'torch', 'cv2', 'av', 'genhead'} & set(sys.modules)))")
    assert result.stdout.strip() == "[]"


def test_public_names_resolve():
    for name in portrait4d.__all__:
        assert getattr(portrait4d, name) is not None
    with pytest.raises(AttributeError):
        portrait4d.nothing_of_this_name  # noqa: B018


def _run_python(program: str, *, first: Path | None = None) -> subprocess.CompletedProcess[str]:
    path = f"import sys; sys.path[:0] = {[str(item) for item in (first, ROOT) if item]!r}; "
    return subprocess.run([sys.executable, "-c", path + program], capture_output=True, text=True, timeout=60)
