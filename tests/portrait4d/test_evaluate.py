"""`portrait4d evaluate`: clips drawn or read, failures, resuming, equal reports, and what the command line says."""

import json
import shutil
import signal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import portrait4d.jobs.evaluation.material
import portrait4d.jobs.evaluation.run
from fakes_engine import SIZE, fake_models
from fakes_evaluation import LevelIdentity, LevelTracker
from flame.errors import InputError
from portrait4d.cli.main import run as command
from portrait4d.evaluation.scores import Networks
from portrait4d.jobs.evaluation.items import cross_reenactments, find_result, pair_items, self_items
from portrait4d.jobs.evaluation.report import Report
from portrait4d.jobs.evaluation.run import evaluate
from portrait4d.jobs.evaluation.shards import shard_items
from preprocess.dataset.records.shards import write_shard
from preprocess.dataset.toy.options import ToyOptions
from preprocess.dataset.toy.records import ToyRecords, toy_info
from preprocess.media.image import read_image, write_png
from preprocess.media.video_writer import VideoWriter

NUM_FRAMES = 30
LEVELS = 110 + 60 * np.sin(np.arange(NUM_FRAMES) * 0.5) + 30 * np.sin(np.arange(NUM_FRAMES) * 0.83)


def write_clip(path: Path, levels: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True)
    with VideoWriter(path, height=SIZE, width=SIZE, frame_rate=Fraction(25)) as writer:
        for level in levels:
            writer.write(np.full((SIZE, SIZE, 3), round(level), np.uint8))


def networks() -> Networks:
    return Networks(LevelTracker(), identity=LevelIdentity())  # pyright: ignore[reportArgumentType]


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two clips, one that is damaged, and one that shows no face; a photo; fakes in place of all networks."""
    write_clip(tmp_path / "clips" / "nod.mp4", LEVELS)
    write_clip(tmp_path / "clips" / "talk.mp4", LEVELS[::-1])
    write_clip(tmp_path / "clips" / "empty.mp4", 0 * LEVELS)
    (tmp_path / "clips" / "broken.mp4").write_bytes(b"\0\0\0\x18ftypmp42 and nothing else")
    write_png(tmp_path / "photos" / "anna.png", np.full((SIZE, SIZE, 3), 90, np.uint8))
    monkeypatch.setattr(portrait4d.jobs.evaluation.material, "in_crop", lambda tracked, crop, model: tracked)
    monkeypatch.setattr(portrait4d.jobs.evaluation.run, "load_models", fake_models)
    monkeypatch.setattr(portrait4d.jobs.evaluation.run, "load_networks", lambda options: networks())
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # the command line's SIGTERM handler is not for pytest
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(folder: Path, **chosen: Any) -> Report:
    return evaluate(self_items(folder / "clips"), folder / "out", **{"networks": networks(), **chosen})


def values(report: Report, name: str) -> dict[str, Any]:
    (score,) = [result.score for result in report.results if result.name == name]
    assert score is not None
    return score.values


def test_an_engine_is_measured_against_the_clips_and_a_bad_clip_stops_no_other(inputs: Path) -> None:
    report = run(inputs, models=fake_models())
    assert {result.name: result.state for result in report.results} == {
        "broken": "failed", "empty": "failed", "nod": "done", "talk": "done",
    }  # fmt: skip
    assert report.num_failed == 2 and "no face" in report.results[1].reason
    for name in ("nod", "talk"):  # the fake engine paints what it is asked for
        found = values(report, name)
        assert found["psnr"] > 30 and found["motion_gain"] == pytest.approx(1, abs=0.05) and found["lag"] == 0
    assert read_image(inputs / "out" / "sheet.png").shape[2] == 3
    page = (inputs / "out" / "report.md").read_text(encoding="utf-8")
    assert "2 of 4 clips measured" in page and "- empty: failed: no face" in page
    assert "**motion gain** (→ 1): sum(dr dt)" in page and "perceptual: not measured: needs --perceptual" in page


def test_two_runs_write_the_same_report_and_measure_nothing_twice(inputs: Path) -> None:
    run(inputs, models=fake_models())
    written = [(inputs / "out" / name).read_bytes() for name in ("report.json", "report.md", "sheet.png")]
    again = fake_models()
    report = run(inputs, models=again)
    assert [result.state for result in report.results] == ["failed", "failed", "kept", "kept"]
    assert again.engine.num_built == 0  # pyright: ignore[reportAttributeAccessIssue]
    assert written == [(inputs / "out" / name).read_bytes() for name in ("report.json", "report.md", "sheet.png")]
    shutil.rmtree(inputs / "out")
    run(inputs, models=fake_models())
    assert written == [(inputs / "out" / name).read_bytes() for name in ("report.json", "report.md", "sheet.png")]


def test_a_record_that_was_changed_by_hand_is_measured_again(inputs: Path) -> None:
    run(inputs, models=fake_models())
    record = inputs / "out" / "records" / "nod.json"
    changed = json.loads(record.read_text())
    del changed["score"]["values"]
    record.write_text(json.dumps(changed))
    (inputs / "out" / "records" / "talk.json").write_text("{")
    states = {result.name: result.state for result in run(inputs, models=fake_models()).results}
    assert (states["nod"], states["talk"]) == ("done", "done")


def test_results_of_another_program_are_measured_by_name(inputs: Path) -> None:
    write_clip(inputs / "theirs" / "nod.mp4", np.roll(LEVELS, 3))
    shutil.copy(inputs / "clips" / "talk.mp4", inputs / "theirs" / "talk.mp4")
    write_clip(inputs / "theirs" / "empty.mp4", LEVELS)
    report = run(inputs, results=inputs / "theirs")
    assert values(report, "talk")["psnr"] == 100 and values(report, "talk")["keypoints"] == 0
    assert values(report, "nod")["lag"] == 3 and values(report, "nod")["psnr"] < 30
    reasons = {result.name: result.reason for result in report.results}
    assert "expected one result broken.mp4" in reasons["broken"] and "no face" in reasons["empty"]
    write_clip(inputs / "theirs" / "nod.mp4", LEVELS)  # mended, so it is measured again; the other is kept
    report = run(inputs, results=inputs / "theirs")
    assert {result.name: result.state for result in report.results if result.score} == {"nod": "done", "talk": "kept"}
    assert values(report, "nod")["lag"] == 0


def test_a_result_of_another_length_is_no_result(inputs: Path) -> None:
    write_clip(inputs / "theirs" / "nod.mp4", LEVELS[:-3])
    report = run(inputs, results=inputs / "theirs")
    reasons = {result.name: result.reason for result in report.results}
    assert "expected 30 frames in nod.mp4" in reasons["nod"] and "got 27" in reasons["nod"]
    with pytest.raises(InputError, match="expected a folder of results"):
        run(inputs, results=inputs / "nowhere")


def test_pictures_driven_by_clips_have_measures_without_truth(inputs: Path) -> None:
    (inputs / "pairs.csv").write_text("source,driver\nphotos/anna.png,clips/nod.mp4\n")
    for items in (
        cross_reenactments(inputs / "photos", inputs / "clips" / "nod.mp4"),
        pair_items(inputs / "pairs.csv"),
    ):
        report = evaluate(items, inputs / "cross", models=fake_models(), networks=networks())
        found = values(report, "anna__nod")
        assert "psnr" not in found and found["lag"] == 0 and found["identity"] == pytest.approx(1)
        assert report.kinds == ("cross",)


def test_results_of_pairs_are_found_under_both_names(inputs: Path) -> None:
    write_clip(inputs / "theirs" / "anna__nod.mp4", np.roll(LEVELS, 3))
    items = cross_reenactments(inputs / "photos", inputs / "clips" / "nod.mp4")
    found = values(evaluate(items, inputs / "out", results=inputs / "theirs", networks=networks()), "anna__nod")
    assert found["lag"] == 3 and found["lost"] == 0 and "keypoints" not in found and found["yaw_error"] is None


def test_a_stopped_run_goes_on_where_it_was(inputs: Path) -> None:
    def stop(result: Any) -> None:
        if result.name == "nod":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(inputs, models=fake_models(), on_result=stop)
    assert not (inputs / "out" / "report.json").exists()
    states = {result.name: result.state for result in run(inputs, models=fake_models()).results}
    assert (states["nod"], states["talk"]) == ("kept", "done")


def test_outputs_never_overwrite_inputs_and_names_of_results_are_sought_once(inputs: Path) -> None:
    photo = inputs / "strips" / "nod.png"
    write_png(photo, np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(InputError, match="one of the inputs"):
        evaluate(cross_reenactments(photo, inputs / "clips" / "nod.mp4") + self_items(inputs / "clips"), inputs)
    for suffix in ("mp4", "mov"):
        write_clip(inputs / "theirs" / f"nod.{suffix}", LEVELS)
    with pytest.raises(InputError, match="got 2"):
        find_result("nod", inputs / "theirs")


def test_command_tells_of_every_clip_and_fails_if_one_did(inputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    theirs = inputs / "theirs"
    theirs.mkdir()
    shutil.copy(inputs / "clips" / "nod.mp4", theirs)
    assert command(["evaluate", "clips/nod.mp4", "--results", "theirs", "-o", "one", "--quiet"]) == 0
    printed = capsys.readouterr().out
    assert "[1/1] done   nod" in printed and "| **mean** |" in printed and "### Definitions" in printed
    assert command(["evaluate", "clips", "--results", "theirs", "-o", "all", "--quiet", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["num_clips"] == 4 and report["num_failed"] == 3
    assert report["summary"]["self"]["psnr"]["mean"] == 100 and report["definitions"]["psnr"]["unit"] == "dB"
    assert report == json.loads((inputs / "all" / "report.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "expected CLIPS or --manifest"),
        (["clips", "--manifest", "pairs.csv"], "got both"),
        (["nowhere"], "no drivers found"),
        (["clips", "--device", "cuda:99"], "cannot be used here"),
        (["clips", "--engine", "lyft"], "did you mean 'lift'"),
        (["clips", "--protocol", "vfhq-50x50"], "expected 50 clips under --protocol vfhq-50x50, got 4"),
    ],
)
def test_command_explains_what_cannot_be_measured(
    inputs: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], reason: str
) -> None:
    assert command(["evaluate", *arguments, "--quiet"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert reason in line


def test_clips_of_shards_are_unpacked_once_and_measured(inputs: Path) -> None:
    """Frames as they were recorded, a folder a clip; single pictures are no clips."""
    options = ToyOptions(num_identities=3, pictures_per_identity=4, oversampling=1, seed=3)
    make = ToyRecords(options)
    records = [record for person in range(3) for record in make(person)][:-3]  # the last one has one picture
    write_shard(inputs / "shards" / "toy.tar", toy_info(options), records)
    items = shard_items(inputs / "shards", inputs / "out" / "clips")
    assert [item.name for item in items] == [records[0].key.split("-")[0], records[4].key.split("-")[0]]
    frames = sorted(items[1].clip.iterdir())
    assert len(frames) == 4
    assert all(
        np.array_equal(read_image(path), record.image) for path, record in zip(frames, records[4:8], strict=True)
    )
    before = [path.stat().st_mtime_ns for path in frames]
    frames[2].unlink()
    shard_items(inputs / "shards" / "toy.tar", inputs / "out" / "clips")
    assert [path.stat().st_mtime_ns for path in frames][:2] == before[:2] and frames[2].is_file()
    report = evaluate(items, inputs / "out", networks=networks(), models=fake_models())
    assert [result.state for result in report.results] == ["done", "done"]
    single = inputs / "single"
    write_shard(single / "toy.tar", toy_info(options), records[-1:])
    with pytest.raises(InputError, match="single pictures"):
        shard_items(single, inputs / "none")
    command(["evaluate", "shards", "-o", "told", "--engine", "lift"])  # the fake engine is not what the line names
    assert len(list((inputs / "told" / "clips").glob("*/*.png"))) == 8
