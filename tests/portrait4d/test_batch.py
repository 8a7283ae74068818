"""Batch: items from folders and manifests, resuming, failures, and being killed at any moment."""

import csv
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import portrait4d.jobs.batch
from fakes_engine import SIZE, fake_models
from flame.errors import InputError
from portrait4d.jobs.batch import driver_key, item_key, run_batch
from portrait4d.jobs.batch_items import cross_items, read_manifest
from portrait4d.options import ReenactOptions
from portrait4d.reenactment.models import Models
from portrait4d.weights.config import CheckpointConfig
from portrait4d.weights.own_format import write_checkpoint
from preprocess.media.image import write_png
from preprocess.media.video import probe, read_frames
from preprocess.media.video_writer import VideoWriter

SCRIPT = Path(__file__).parents[1] / "support" / "run_with_fakes.py"
NUM_FRAMES = 30


def write_clip(path: Path, levels: list[int]) -> None:
    with VideoWriter(path, height=SIZE, width=SIZE, frame_rate=Fraction(25)) as writer:
        for level in levels:
            writer.write(np.full((SIZE, SIZE, 3), level, np.uint8))


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """Two good photos and one without a face; two clips and one damaged."""
    for name, level in (("anna", 90), ("bert", 200), ("nobody", 0)):
        write_png(tmp_path / "photos" / f"{name}.png", np.full((SIZE, SIZE, 3), level, np.uint8))
    write_clip(tmp_path / "clips" / "nod.mp4", [40 + 4 * index for index in range(NUM_FRAMES)])
    write_clip(tmp_path / "clips" / "talk.mp4", [200 - 4 * index for index in range(NUM_FRAMES)])
    (tmp_path / "clips" / "broken.mp4").write_bytes(b"\0\0\0\x18ftypmp42 and nothing else")
    return tmp_path


def items_of(folder: Path):
    return cross_items(folder / "photos", folder / "clips", folder / "out")


def test_each_driver_is_tracked_and_each_source_built_once(inputs: Path):
    models = fake_models()
    report = run_batch(items_of(inputs), inputs / "out", models=models)
    assert models.tracker.num_tracked_videos == 2  # pyright: ignore
    assert models.engine.num_built == 2  # pyright: ignore
    states = {result.item.output.stem: result.state for result in report.results}
    assert states == {
        "anna__broken": "failed", "anna__nod": "done", "anna__talk": "done",
        "bert__broken": "failed", "bert__nod": "done", "bert__talk": "done",
        "nobody__broken": "failed", "nobody__nod": "failed", "nobody__talk": "failed",
    }  # fmt: skip
    reasons = {result.item.output.stem: result.reason for result in report.results}
    assert "no face" in reasons["nobody__nod"]
    assert "broken" in reasons["anna__broken"]
    assert sorted(path.name for path in (inputs / "out").glob("*.mp4")) == [
        "anna__nod.mp4", "anna__talk.mp4", "bert__nod.mp4", "bert__talk.mp4",
    ]  # fmt: skip


def test_the_driver_reaches_the_result_frame_by_frame(inputs: Path):
    run_batch(items_of(inputs), inputs / "out", models=fake_models())
    levels = [float(frame.image.mean()) for frame in read_frames(inputs / "out" / "anna__nod.mp4")]
    assert levels == pytest.approx([40 + 4 * index for index in range(NUM_FRAMES)], abs=4)


def test_second_run_keeps_everything_and_loads_nothing(inputs: Path):
    items = [item for item in items_of(inputs) if item.driver.stem == "nod" and item.source.stem != "nobody"]
    run_batch(items, inputs / "out", models=fake_models())
    written = {item.output: item.output.stat().st_mtime_ns for item in items}
    models = fake_models()
    report = run_batch(items, inputs / "out", models=models)
    assert {result.state for result in report.results} == {"kept"}
    assert models.engine.num_built == models.tracker.num_tracked_videos == 0  # pyright: ignore
    assert {item.output: item.output.stat().st_mtime_ns for item in items} == written


def test_changed_input_or_option_is_done_again(inputs: Path):
    item = next(item for item in items_of(inputs) if item.output.stem == "anna__nod")
    options = ReenactOptions()
    key = item_key(item, options, weights={})
    for changed in (dict(pose_scale=0.5), dict(jitter=0), dict(placement="canonical")):
        assert item_key(item, dataclasses.replace(options, **changed), weights={}) != key
    assert item_key(item, dataclasses.replace(options, device="cuda"), weights={}) == key
    write_png(item.source, np.full((SIZE, SIZE, 3), 91, np.uint8))
    assert item_key(item, options, weights={}) != key


def test_models_that_cannot_be_loaded_end_the_batch(inputs: Path, monkeypatch: pytest.MonkeyPatch):
    """Every item read damaged weights anew, and failed with the same line. Finished items need no models."""
    items = [item for item in items_of(inputs) if item.driver.stem == "nod" and item.source.stem != "nobody"]
    monkeypatch.setattr(portrait4d.jobs.batch, "load_models", fake_models)
    run_batch(items[:1], inputs / "out")
    loaded, states = [], []

    def damaged(_: ReenactOptions) -> Models:
        loaded.append(1)
        raise InputError("the weights are damaged")

    monkeypatch.setattr(portrait4d.jobs.batch, "load_models", damaged)
    assert run_batch(items[:1], inputs / "out").num_failed == 0
    with pytest.raises(InputError, match="the weights are damaged"):
        run_batch(items, inputs / "out", on_result=lambda result: states.append(result.state))
    assert states == ["kept"] and loaded == [1]


def test_other_weights_do_it_again_and_are_not_loaded_to_see_it(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Results of the weights that were here before counted as finished."""
    name, weights = "portrait4d-v2", tmp_path / "home" / "weights"
    monkeypatch.setenv("PORTRAIT4D_HOME", str(tmp_path / "home"))

    def put(folder: str, value: float) -> None:
        about = CheckpointConfig("portrait4d", "generator", {})
        write_checkpoint(weights / folder, about, {"tensor": torch.full((2,), value)})

    def state() -> str:
        items = [item for item in items_of(inputs) if item.output.stem == "anna__nod"]
        return run_batch(items, inputs / "out", options=ReenactOptions(engine=name)).results[0].state

    loaded = []

    def load_models(_: ReenactOptions) -> Models:
        models = fake_models()
        models.engine.name = name
        loaded.append(1)
        return models

    monkeypatch.setattr(portrait4d.jobs.batch, "load_models", load_models)
    put(name, 0)
    put("motion-model", 0)
    assert [state(), state()] == ["done", "kept"] and loaded == [1]
    put(name, 1)
    assert [state(), state()] == ["done", "kept"]
    put("motion-model", 1)
    assert [state(), state()] == ["done", "kept"] and loaded == [1, 1, 1]


def test_models_that_are_given_are_known_by_their_own_weights(inputs: Path):
    """They may be of a folder of the user's."""
    items = [item for item in items_of(inputs) if item.output.stem == "anna__nod"]
    models = fake_models()
    states = []
    for mark in ("a", "a", "b"):
        models.engine.weights = mark  # pyright: ignore
        states.append(run_batch(items, inputs / "out", models=models).results[0].state)
    assert states == ["done", "kept", "done"]


def test_another_engine_that_auto_takes_does_it_again(inputs: Path):
    """As after better weights were fetched; named outright, the same engine counts as the same."""
    items = [item for item in items_of(inputs) if item.output.stem == "anna__nod"]
    models = fake_models()
    models.engine.name = "lift"
    assert [run_batch(items, inputs / "out", models=models).results[0].state for _ in range(2)] == ["done", "kept"]
    named = ReenactOptions(engine="lift")
    assert run_batch(items, inputs / "out", options=named, models=models).results[0].state == "kept"
    models.engine.name = "better"
    assert run_batch(items, inputs / "out", models=models).results[0].state == "done"


def test_damaged_motion_cache_is_tracked_again(inputs: Path):
    items = [item for item in items_of(inputs) if item.output.stem == "anna__nod"]
    run_batch(items, inputs / "out", models=fake_models())
    (cache,) = (inputs / "out" / "motions").glob("nod-*.npz")
    cache.write_bytes(b"rubbish")
    items[0].output.unlink()
    report = run_batch(items, inputs / "out", models=fake_models())
    assert report.results[0].state == "done"


def test_bug_in_one_item_does_not_stop_the_others(inputs: Path, monkeypatch: pytest.MonkeyPatch):
    models = fake_models()
    render = models.engine.render

    def explode(avatar, drive):
        if avatar.level < 0.5:
            raise RuntimeError("a bug\nwith two lines")
        return render(avatar, drive)

    monkeypatch.setattr(models.engine, "render", explode)
    items = [item for item in items_of(inputs) if item.driver.stem == "nod" and item.source.stem != "nobody"]
    report = run_batch(items, inputs / "out", models=models)
    assert [result.state for result in report.results] == ["failed", "done"]
    assert report.results[0].reason == "unexpected RuntimeError: a bug"
    assert not list((inputs / "out").glob(".*"))


def test_manifests_name_the_same_items(inputs: Path):
    rows = [{"source": "photos/anna.png", "driver": "clips/nod.mp4", "output": "a.mp4"},
            {"source": "photos/bert.png", "driver": "clips/talk.mp4", "output": ""}]  # fmt: skip
    table, lines = inputs / "list.csv", inputs / "list.jsonl"
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["source", "driver", "output"])
        writer.writeheader()
        writer.writerows(rows)
    lines.write_text("\n".join(json.dumps({key: value for key, value in row.items() if value}) for row in rows))
    out = inputs / "out"
    assert read_manifest(table, out) == read_manifest(lines, out)
    assert [item.output.name for item in read_manifest(table, out)] == ["a.mp4", "bert__talk.mp4"]


def test_outputs_of_one_name_in_two_folders_keep_a_record_each(inputs: Path):
    """Their records had one name, so that each run did one of them again."""
    rows = [{"source": f"photos/{name}.png", "driver": "clips/nod.mp4", "output": f"{name}/x.mp4"}
            for name in ("anna", "bert")]  # fmt: skip
    (inputs / "list.jsonl").write_text("\n".join(map(json.dumps, rows)))
    items = read_manifest(inputs / "list.jsonl", inputs / "out")
    assert [item.state for item in run_batch(items, inputs / "out", models=fake_models()).results] == ["done"] * 2
    assert [item.state for item in run_batch(items, inputs / "out", models=fake_models()).results] == ["kept"] * 2
    assert (inputs / "out" / "records" / "anna" / "x.mp4.json").is_file()
    elsewhere = [dataclasses.replace(item, output=inputs / f"{item.source.stem}2" / "x.mp4") for item in items]
    run_batch(elsewhere, inputs / "out", models=fake_models())
    assert {item.state for item in run_batch(elsewhere, inputs / "out", models=fake_models()).results} == {"kept"}


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("a.csv", "source,driver\n,x.mp4\n", "row 1"),
        ("a.csv", "photo,driver\nx.png,x.mp4\n", "row 1"),
        ("a.csv", "source,driver,colour\nx.png,x.mp4,red\n", "colour"),
        ("a.csv", "source,driver\n", "got none"),
        ("a.jsonl", "{", "line 1"),
        ("a.jsonl", '{"source": "a.png", "driver": "b.mp4"}\n{"source": "c/a.png", "driver": "b.mp4"}', "outputs"),
        ("a.csv", "source,driver,output\na.png,b.mp4,../c.mp4\n", "inside the output folder"),
        ("a.csv", "source,driver,output\na.png,b.mp4,/tmp/c.mp4\n", "inside the output folder"),
        ("a.txt", "x", ".csv or .jsonl"),
    ],
)  # fmt: skip
def test_bad_manifest_is_one_clear_line(tmp_path: Path, name: str, text: str, reason: str):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=reason) as caught:
        read_manifest(tmp_path / name, tmp_path)
    assert "\n" not in str(caught.value)


def test_equal_stems_get_distinct_outputs(tmp_path: Path):
    for name in ("a.png", "a.jpg"):
        write_png(tmp_path / "photos" / name, np.zeros((40, 40, 3), np.uint8))
    (tmp_path / "nod.mp4").write_bytes(b"x")
    names = [item.output.name for item in cross_items(tmp_path / "photos", tmp_path / "nod.mp4", tmp_path)]
    assert names == ["a_jpg__nod.mp4", "a_png__nod.mp4"]


def visible_videos(folder: Path) -> set[Path]:
    return {path for path in folder.glob("*.mp4") if not path.name.startswith(".")}


def run_cli(folder: Path, **environment: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), "batch", "photos", "clips", "-o", "out"],
        cwd=folder, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    "stop",
    [pytest.param(signal.SIGINT, id="ctrl-c"), pytest.param(signal.SIGKILL, id="kill", marks=pytest.mark.slow)],
)
def test_stopped_batch_leaves_whole_files_and_goes_on(inputs: Path, stop: signal.Signals):
    """Stopped in the middle of an item: whole results stay, the next run does the rest and cleans up."""
    out = inputs / "out"
    process = run_cli(inputs, PORTRAIT4D_FAKE_SECONDS="0.06")
    try:
        deadline = time.monotonic() + 300
        while not ((out / "anna__nod.mp4").exists() and list(out.glob(".*.partial.mp4"))):
            assert time.monotonic() < deadline, "no second item was begun"
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        process.send_signal(stop)
        _, errors = process.communicate(timeout=300)
    finally:
        process.kill()
        process.wait()
    assert "Traceback" not in errors
    if stop == signal.SIGINT:
        assert process.returncode == 130
        assert not list(out.glob(".*"))
    whole = visible_videos(out)
    assert out / "anna__nod.mp4" in whole
    for path in whole:
        assert probe(path).num_frames_estimate == NUM_FRAMES
    recorded = {path.name[: -len(".json")] for path in (out / "records").glob("*.json")}
    written = {name: (out / name).stat().st_mtime_ns for name in recorded}

    process = run_cli(inputs)
    try:
        printed, errors = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 1, errors  # the bad inputs of the fixture
    assert f"{4 - len(recorded)} done, {len(recorded)} kept, 5 failed" in printed
    assert len(visible_videos(out)) == 4
    assert not list(out.rglob(".*"))
    assert {name: (out / name).stat().st_mtime_ns for name in recorded} == written


def test_motions_of_another_head_model_are_not_taken_for_ours(inputs: Path):
    """The cache of one engine was read by another, which then refused every item."""
    models, driver, options = fake_models(), inputs / "clips" / "nod.mp4", ReenactOptions()
    key = driver_key(driver, options, models.engine)
    assert driver_key(driver, options, fake_models().engine) == key
    models.engine.head_model.name = "another"  # pyright: ignore
    assert driver_key(driver, options, models.engine) != key
    same_name = fake_models()
    same_name.engine.head_model.get_buffer("template").add_(1e-3)
    assert driver_key(driver, options, same_name.engine) != key


def test_motions_of_other_encoder_weights_are_not_taken_for_ours(inputs: Path):
    driver, options, models = inputs / "clips" / "nod.mp4", ReenactOptions(), fake_models()
    keys = [driver_key(driver, options, models.engine)]
    for mark in ("a", "b"):
        models.engine.motion_encoder = SimpleNamespace(weights=mark)  # pyright: ignore
        keys.append(driver_key(driver, options, models.engine))
    assert len(set(keys)) == 3
    models.engine.weights = "another generator"  # pyright: ignore
    assert driver_key(driver, options, models.engine) == keys[2]  # which motions do not depend on
