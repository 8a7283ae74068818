"""Runs of a toy training: they resume to the byte, do not depend on how a batch is split, and stop in order."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file

from flame.errors import InputError
from portrait4d.train.checkpoint import TENSORS, list_states, restore_state, trainer_tensors
from portrait4d.train.config_file import plain_values
from portrait4d.train.distributed import Workers
from portrait4d.train.run import run_training
from portrait4d.train.run_folder import RunFolder
from portrait4d.train.task import Step
from toy_training import ToyConfig, ToyTask, make_trainer, train_toy

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIG = ToyConfig()
PROGRAM = str(Path(__file__).parents[1] / "support" / "toy_training.py")


def _with(config: ToyConfig = CONFIG, **train: object) -> ToyConfig:
    return replace(config, train=replace(config.train, **train))  # pyright: ignore[reportArgumentType]


def _state(folder: Path) -> bytes:
    """The last checkpoint's tensors."""
    return (list_states(folder / "checkpoints")[-1].folder / TENSORS).read_bytes()


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "unbroken"
    report = train_toy(folder, CONFIG)
    assert report.is_finished and report.images_seen == 160 and report.resumed_at == 0
    return folder


def _start(output: Path, *overrides: str, processes: int = 0) -> subprocess.Popen[str]:
    """The toy as a program."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={processes}", "--rdzv-backend=c10d"]
    start = [*torchrun, "--rdzv-endpoint=localhost:0"] if processes else [sys.executable]
    paths = [str(Path(PROGRAM).parents[2]), str(Path(PROGRAM).parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*start, PROGRAM, str(output), *overrides],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment,
    )  # fmt: skip


def _end(process: subprocess.Popen[str]) -> str:
    """What it said until its end."""
    try:
        return process.communicate(timeout=240)[0]
    finally:
        _kill(process)


def _kill(process: subprocess.Popen[str]) -> None:
    """The process and those that it started, if they still run."""
    if process.poll() is None:
        for each in (*psutil.Process(process.pid).children(recursive=True), process):
            each.kill()


def test_the_folder_says_everything(unbroken: Path) -> None:
    rows = [json.loads(line) for line in (unbroken / "stats.jsonl").read_text().splitlines()]
    assert [row["images"] for row in rows] == list(range(16, 161, 16))
    assert {"generator/adversarial", "r1/penalty", "gradient/discriminator", "not_finite", "memory_mb"} <= set(rows[0])
    assert "r1/penalty" not in rows[-1]  # steps 18 and 19; it is due at 16
    facts = json.loads((unbroken / "facts.json").read_text())
    assert facts["versions"]["torch"] == torch.__version__ and facts["processors"]
    assert json.loads((unbroken / "run.json").read_text())["config"]["train"]["batch_size"] == 8
    assert [saved.images_seen for saved in list_states(unbroken / "checkpoints")] == [96, 128, 160]


def test_a_run_resumes_to_the_byte(unbroken: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert not train_toy(folder, _with(total_images=72, checkpoint_images=24)).resumed_at
    report = train_toy(folder, CONFIG)
    assert report.resumed_at == 72 and report.images_seen == 160
    assert _state(folder) == _state(unbroken)
    rows = [json.loads(line) for line in (folder / "stats.jsonl").read_text().splitlines()]
    images, clocks = [row["images"] for row in rows], [row["cpu_seconds"] for row in rows]
    assert images == sorted(set(images)) and images[-1] == 160
    assert clocks == sorted(clocks) and report.cpu_seconds + 0.01 > clocks[-1] > 0  # of both runs, rounded


@pytest.mark.parametrize("micro", [2, 4])
def test_rounds_do_not_change_the_result(micro: int) -> None:
    """Statistics over pairs of samples and the penalty's second derivative among it."""
    whole, split = make_trainer(CONFIG), make_trainer(_with(micro_batch=micro))
    for _ in range(10):
        first, second = whole.step(), split.step()
        assert first.terms == pytest.approx(second.terms, abs=1e-5)
    for name, value in trainer_tensors(whole).items():
        torch.testing.assert_close(trainer_tensors(split)[name], value, atol=1e-5, rtol=0)


def test_a_round_that_does_not_divide_the_share_ends_before_the_first_step() -> None:
    with pytest.raises(InputError, match=r"to divide 8, .* groups of 2: 0 or one of 2, 4, 8, got 3"):
        make_trainer(_with(micro_batch=3))
    with pytest.raises(InputError, match=r"to divide 4, .* got 8"):
        make_trainer(_with(micro_batch=8), Workers(rank=0, count=2))


@pytest.mark.slow
def test_two_processes_are_one_with_two_rounds(tmp_path: Path) -> None:
    said = _end(_start(tmp_path / "two", "train.total_images=80", processes=2))
    assert "rank 0: 80 images" in said and "rank 1: 80 images" in said, said
    one = make_trainer(_with(micro_batch=4, total_images=80))
    for _ in range(10):
        one.step()
    other = make_trainer(_with(total_images=80))
    restore_state(list_states(tmp_path / "two" / "checkpoints")[-1], other)
    for name, value in trainer_tensors(one).items():
        torch.testing.assert_close(trainer_tensors(other)[name], value, atol=1e-5, rtol=0)


@pytest.mark.slow
def test_a_killed_process_ends_the_others_with_one_line(tmp_path: Path) -> None:
    """Within a minute, and the run resumes."""
    process = _start(tmp_path / "run", "train.total_images=1000000", "train.checkpoint_images=80", processes=2)
    try:
        deadline = time.monotonic() + 120
        while not list((tmp_path / "run" / "checkpoints").glob("[0-9]*")) and time.monotonic() < deadline:
            time.sleep(0.2)
        workers = [child for child in psutil.Process(process.pid).children() if PROGRAM in child.cmdline()]
        assert len(workers) == 2
        workers[-1].kill()
        began = time.monotonic()
        said = _end(process)
    finally:
        _kill(process)
    assert time.monotonic() - began < 90 and process.returncode != 0
    assert "lost the others" in said or "SIGKILL" in said, said
    reached = list_states(tmp_path / "run" / "checkpoints")[-1].images_seen
    again = _end(_start(tmp_path / "run", f"train.total_images={reached + 80}"))
    assert f"rank 0: {reached + 80} images" in again, again


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_saves_and_ends(unbroken: Path, tmp_path: Path, number: signal.Signals) -> None:
    process = _start(tmp_path / "run", "train.total_images=1000000", "train.checkpoint_images=1000000")
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "run" / "stats.jsonl").is_file() and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(number)
        said = _end(process)
    finally:
        _kill(process)
    saved = list_states(tmp_path / "run" / "checkpoints")
    assert process.returncode == 0 and len(saved) == 1, said
    assert f"rank 0: {saved[0].images_seen} images" in said


def test_another_configuration_is_refused_with_its_lines(unbroken: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"another configuration \(train.seed: 0 -> 1; width: 6 -> 8\): resume it"):
        train_toy(unbroken, _with(replace(CONFIG, width=8), seed=1))
    with pytest.raises(InputError, match=r"data: toy -> other"):
        RunFolder(unbroken, json.loads((unbroken / "run.json").read_text())["config"], data_digest="other")
    before = json.loads((unbroken / "run.json").read_text())["config"]
    newer = {**before, "newer": 3, "train": {**before["train"], "newer": 4}}
    with pytest.raises(InputError, match=r"newer: None -> 3; train.newer: None -> 4"):
        RunFolder(unbroken, newer, data_digest="toy")
    RunFolder(unbroken, newer, data_digest="toy", defaults=newer)  # a run lacks what came later
    with pytest.raises(InputError, match=r"newer: 3 -> 5"):
        RunFolder(unbroken, {**newer, "newer": 5}, data_digest="toy", defaults=newer)
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="holds something else: name another"):
        train_toy(tmp_path, CONFIG)


def test_gradients_that_are_not_finite_end_the_run(tmp_path: Path) -> None:
    config = _with(replace(CONFIG, bad_from=80), max_bad_steps=3)
    with pytest.raises(InputError, match=r"not finite in 3 steps in a row, the last at 104 images: lower"):
        train_toy(tmp_path / "run", config)
    rows = [json.loads(line) for line in (tmp_path / "run" / "stats.jsonl").read_text().splitlines()]
    assert [row["not_finite"] > 0 for row in rows] == [False] * 5 + [True]
    assert list_states(tmp_path / "run" / "checkpoints")[-1].images_seen in (64, 96)


def test_a_board_that_is_not_installed_is_said_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(InputError, match=r"pip install 'portrait4d\[tensorboard\]'"):
        train_toy(tmp_path / "run", _with(is_tensorboard=True))


def test_a_board_gets_the_numbers_of_each_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[tuple[str, float, int]] = []

    class Writer:
        def __init__(self, folder: str) -> None:
            assert folder == str(tmp_path / "run" / "tensorboard")

        def add_scalar(self, name: str, value: float, images: int) -> None:
            written.append((name, value, images))

        def close(self) -> None:
            written.append(("closed", 0, 0))

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=Writer))
    train_toy(tmp_path / "run", _with(is_tensorboard=True, total_images=32))
    rows = [json.loads(line) for line in (tmp_path / "run" / "stats.jsonl").read_text().splitlines()]
    for row in rows:
        assert ("generator/adversarial", row["generator/adversarial"], row["images"]) in written
    assert written[-1][0] == "closed"


def test_a_checkpoint_without_a_moment_is_refused(tmp_path: Path) -> None:
    train_toy(tmp_path / "run", _with(total_images=32))
    file = list_states(tmp_path / "run" / "checkpoints")[-1].folder / TENSORS
    tensors = load_file(file)
    del tensors["adam.generator.2.weight.step"]
    save_file(tensors, file)
    with pytest.raises(InputError, match=r"differ in adam.generator.2.weight.step: remove the folder"):
        train_toy(tmp_path / "run", CONFIG)


@pytest.mark.parametrize("damage", ["tensors", "facts", "cut"])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, damage: str) -> None:
    train_toy(tmp_path / "run", _with(total_images=32))
    folder = list_states(tmp_path / "run" / "checkpoints")[-1].folder
    file = folder / ("training.json" if damage == "facts" else TENSORS)
    content = file.read_bytes()
    file.write_bytes(
        content[: len(content) // 2] if damage == "cut" else b"{" + content[1:9] if damage == "facts" else b"x" * 40
    )
    with pytest.raises(InputError, match=r"damaged.*remove the folder to resume from an older checkpoint") as caught:
        train_toy(tmp_path / "run", CONFIG)
    assert "\n" not in str(caught.value)


def test_a_caller_hears_of_each_step_after_its_checkpoint(tmp_path: Path) -> None:
    heard: list[tuple[int, int]] = []
    config = _with(total_images=32, checkpoint_images=8)
    folder = RunFolder(tmp_path / "run", plain_values(config), data_digest="toy")

    def stepped(images: int) -> None:
        heard.append((images, list_states(folder.checkpoints)[-1].images_seen))

    run_training(make_trainer(config), folder, stepped=stepped)
    assert heard == [(8, 8), (16, 16), (24, 24), (32, 32)]


def test_rates_are_those_of_the_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a run resumes."""
    plain = make_trainer(CONFIG)
    rates = [group["lr"] for optimiser in plain.optimisers.values() for group in optimiser.param_groups]
    monkeypatch.setattr(ToyTask, "rate_share", lambda task, step: 0.5**step.index)
    train_toy(tmp_path / "run", _with(total_images=16))
    trainer = make_trainer(CONFIG)
    restore_state(list_states(tmp_path / "run" / "checkpoints")[-1], trainer)
    trainer.step()
    found = [group["lr"] for optimiser in trainer.optimisers.values() for group in optimiser.param_groups]
    assert found == pytest.approx([rate / 4 for rate in rates])


def test_old_checkpoints_go_and_milestones_stay(tmp_path: Path) -> None:
    train_toy(tmp_path / "run", _with(checkpoint_images=16, keep_last=2, keep_every_images=64))
    kept = [saved.images_seen for saved in list_states(tmp_path / "run" / "checkpoints")]
    assert kept == [64, 128, 144, 160]


@pytest.mark.parametrize(
    ("collapsed", "kept"),
    [
        (range(40, 1000), [64, 160]),  # five reports make an alarm
        (range(40, 96), [64, 160]),  # the trouble passes, its alarm stays in the statistics
        ((*range(40, 80), *range(88, 1000)), [112, 160]),  # a second one
        (range(1000, 1000), [160]),
    ],
)
def test_the_last_checkpoint_before_an_alarm_outlives_a_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, collapsed: Sequence[int], kept: list[int]
) -> None:
    def finish(task: ToyTask, step: Step, workers: Workers) -> dict[str, float]:
        return {"augment/real_sign": 0.99 if step.images_seen + step.batch_size in collapsed else 0.2}

    monkeypatch.setattr(ToyTask, "finish", finish)
    config = _with(checkpoint_images=8, report_images=8, keep_last=1, keep_every_images=0)
    for total in (72, 88, 136, 160):
        train_toy(tmp_path / "run", _with(config, total_images=total))
    assert [saved.images_seen for saved in list_states(tmp_path / "run" / "checkpoints")] == kept


def test_a_checkpoint_without_a_last_good_one_is_read(unbroken: Path, tmp_path: Path) -> None:
    """Those of older versions."""
    train_toy(tmp_path / "run", _with(total_images=32))
    file = list_states(tmp_path / "run" / "checkpoints")[-1].folder / "training.json"
    facts = json.loads(file.read_text())
    assert facts.pop("last_good") is None
    file.write_text(json.dumps(facts))
    assert train_toy(tmp_path / "run", CONFIG).resumed_at == 32
    assert _state(tmp_path / "run") == _state(unbroken)


def test_a_full_disk_leaves_older_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from portrait4d.train import checkpoint

    train_toy(tmp_path / "run", _with(total_images=32))

    def full(*values: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(InputError, match=r"No space left on device\): make room on the disk"):
        train_toy(tmp_path / "run", CONFIG)
    left = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert left == ["000000000032"]


@pytest.mark.long
def test_twenty_kills_end_in_the_same_bytes(unbroken: Path, tmp_path: Path) -> None:
    """At random moments, from before the first step to after the last."""
    folder, moments = tmp_path / "run", random.Random(0)
    kills = 0
    while kills < 20:
        process = _start(folder, "train.checkpoint_images=8", "train.keep_last=3")
        try:
            process.wait(timeout=moments.uniform(0.5, 6.0))
        except subprocess.TimeoutExpired:
            kills += 1
            _kill(process)
        _end(process)
        done = list_states(folder / "checkpoints") if (folder / "checkpoints").is_dir() else []
        if done and done[-1].images_seen == 160:
            assert _state(folder) == _state(unbroken)
            for saved in done[1:]:  # back to the oldest, so that kills go on
                shutil.rmtree(saved.folder)
    assert "160 images" in _end(_start(folder, "train.checkpoint_images=8", "train.keep_last=3"))
    assert _state(folder) == _state(unbroken)
