"""The build of datasets: plans, deaths and restarts, with stages that need no networks."""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import pytest

from fakes_build import FailingStages, FakeStages, SlowlyLoadedStages
from flame.errors import InputError
from places import ROOT
from portrait4d.cli.main import run
from preprocess.dataset.building import build
from preprocess.dataset.building.build import BuildOptions, build_dataset, check_dataset
from preprocess.dataset.building.plan import Item, Part, make_plan
from preprocess.dataset.building.report import write_report
from preprocess.dataset.building.stage_options import StageOptions
from preprocess.dataset.building.workers import Work
from preprocess.dataset.reading.dataset import find_shards
from preprocess.dataset.records.shards import index_path, read_shard

SMALL = BuildOptions(num_workers=2, items_per_shard=4)


def _inputs(folder: Path, *, count: int = 10, kind: str = "good") -> Path:
    for index in range(count):
        path = folder / ("a" if index % 2 else "b") / f"{index}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{kind} {index}")
    return folder


def _shards(output: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(output.glob("*.tar*"))}


def _build(folder: Path, output: Path, options: BuildOptions = SMALL):
    return build_dataset(folder, output, StageOptions(), options=options, make_stages=FakeStages)


@contextmanager
def _without_processes() -> Iterator[None]:
    """The work is done here: processes of its own load torch each, which is most of a small build's time."""
    num_threads = cv2.getNumThreads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "run_workers", _work_here)
        yield
    cv2.setNumThreads(num_threads)


def _work_here(make_work: Callable[[], Work], items: Sequence[Item], **_: object) -> Iterator[tuple[Item, None]]:
    work = make_work()
    for item in items:
        work(item)
        yield item, None


@pytest.fixture
def without_processes() -> Iterator[None]:
    with _without_processes():
        yield


@pytest.fixture(scope="module")
def built_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("built")
    with _without_processes():
        assert _build(_inputs(root / "in"), root / "out").num_new == 10
    return root


@pytest.fixture
def built(built_once: Path, tmp_path: Path, without_processes: None) -> tuple[Path, Path]:
    """Ten inputs and the three shards that were built of them, for a test to change."""
    shutil.copytree(built_once, tmp_path, dirs_exist_ok=True)
    return tmp_path / "in", tmp_path / "out"


def test_bad_files_are_rejected_with_their_reason_and_stop_nothing(tmp_path: Path) -> None:
    folder = _inputs(tmp_path / "in")
    for kind in ("bad", "bug", "kill"):
        (folder / f"{kind}.png").write_text(kind)
    (folder / "z_copy.jpg").write_text("good 3")
    result = _build(folder, tmp_path / "out")
    report = write_report(result, tmp_path / "out", name="report")
    reasons = {item["source"]: item["reason"] for item in report["rejected"]}
    assert reasons.keys() == {"bad.png", "bug.png", "kill.png", "z_copy.jpg"}
    assert reasons["bad.png"] == "no face found"
    assert reasons["bug.png"] == "unexpected ZeroDivisionError: by nothing"
    assert reasons["kill.png"] == f"its process died 2 times (exit code {-signal.SIGSEGV})"
    assert reasons["z_copy.jpg"] == "same content as a/3.jpg"
    keys = [key for path in result.shards for key in read_shard(path).keys]
    assert keys == sorted(hashlib.sha256(f"good {index}".encode()).hexdigest()[:16] for index in range(10))
    assert (report["num_records"], report["num_rejected"], report["num_files"]) == (10, 4, 14)
    assert sum(report["histograms"]["fit_error"]["counts"]) == 10
    assert (tmp_path / "out/report.png").exists() and "kill.png" in (tmp_path / "out/report.html").read_text()
    assert not (tmp_path / "out/items").exists()


@pytest.mark.slow
def test_a_file_that_hangs_is_given_up_and_stalls_nothing(tmp_path: Path) -> None:
    folder, output = _inputs(tmp_path / "in", count=4), tmp_path / "out"
    for index in range(2):
        (folder / f"hang{index}.mp4").write_text(f"hang {index}")
    options = BuildOptions(num_workers=1, items_per_shard=4, item_seconds=3.0)  # alone, so that all others must wait
    result = _build(folder, output, options)
    reasons = {outcome["source"]: outcome["reason"] for outcome in result.outcomes if outcome["state"] == "rejected"}
    assert reasons == dict.fromkeys(("hang0.mp4", "hang1.mp4"), "given up after 3 seconds")
    assert sum(len(read_shard(path)) for path in result.shards) == 4
    assert _build(folder, output, options).num_new == 0
    with pytest.raises(InputError, match="timeout of 0 seconds or more"):
        BuildOptions(item_seconds=-1.0)


@pytest.mark.slow
def test_loading_models_does_not_count_for_the_first_item(tmp_path: Path) -> None:
    options = BuildOptions(num_workers=1, item_seconds=3.0)
    folder = _inputs(tmp_path / "in", count=2)
    result = build_dataset(folder, tmp_path / "out", StageOptions(), options=options, make_stages=SlowlyLoadedStages)
    assert [outcome["state"] for outcome in result.outcomes] == ["kept", "kept"]


def test_a_second_run_does_nothing_and_new_files_append_shards(built: tuple[Path, Path]) -> None:
    folder, output = built
    before = {path: path.stat().st_mtime_ns for path in output.glob("*.tar*")}
    assert _build(folder, output).num_new == 0
    (folder / "new.jpg").write_text("good new")
    result = _build(folder, output)
    assert result.num_new == 1 and len(result.shards) == 4 and len(read_shard(result.shards[-1])) == 1
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.slow
def test_number_of_workers_does_not_change_a_byte(tmp_path: Path) -> None:
    folder = _inputs(tmp_path / "in")
    _build(folder, tmp_path / "one", BuildOptions(num_workers=1, items_per_shard=4))
    _build(folder, tmp_path / "two", BuildOptions(num_workers=2, items_per_shard=4))
    assert len(_shards(tmp_path / "one")) == 6
    assert _shards(tmp_path / "one") == _shards(tmp_path / "two")


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="process groups of POSIX")
def test_killed_five_times_the_shards_are_the_same(tmp_path: Path) -> None:
    folder = _inputs(tmp_path / "in", count=40, kind="slow")
    options = "BuildOptions(num_workers=2, items_per_shard=7)"
    code = (
        "from pathlib import Path; from preprocess.dataset.building.build import *\n"
        "from fakes_build import FakeStages\n"
        "if __name__ == '__main__':\n"
        f"  build_dataset(Path({str(folder)!r}), Path({str(tmp_path / 'killed')!r}), StageOptions(), "
        f"options={options}, make_stages=FakeStages)\n"
    )
    script = tmp_path / "run.py"
    script.write_text(code)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")])}
    generator = random.Random(5)
    before: set[str] = set()
    for _ in range(5):
        process = subprocess.Popen(
            [sys.executable, str(script)],
            env={**environment, "PORTRAIT4D_FAKE_ITEMS": "3"},  # of each worker: it cannot end before it is killed
            start_new_session=True,
        )
        try:
            wanted, deadline = len(before) + generator.randint(1, 5), time.monotonic() + 300
            while len(_finished(tmp_path / "killed")) < wanted:
                assert time.monotonic() < deadline and process.poll() is None, "too few items were finished"
                time.sleep(0.002)
            time.sleep(generator.uniform(0, 0.05))
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        found = _finished(tmp_path / "killed")
        assert before < found, "finished items were lost"
        before = found
    subprocess.run([sys.executable, str(script)], env=environment, check=True)
    build_dataset(
        folder,
        tmp_path / "whole",
        StageOptions(),
        options=BuildOptions(num_workers=2, items_per_shard=7),
        make_stages=FakeStages,
    )
    assert len(_shards(tmp_path / "whole")) == 12
    assert _shards(tmp_path / "killed") == _shards(tmp_path / "whole")
    assert not (tmp_path / "killed/items").exists()


def _finished(output: Path) -> set[str]:
    """Keys of finished items; between assembly and clearing a shard's items stand in two places."""
    keys = {path.stem for path in output.glob("items/[!.]*.json") if not path.name.endswith(".index.json")}
    for path in output.glob("outcomes/[!.]*.json"):
        keys |= {outcome["key"] for outcome in json.loads(path.read_text())}
    return keys


@pytest.mark.usefixtures("without_processes")
def test_parts_share_the_items_without_coordination(tmp_path: Path) -> None:
    folder, output = _inputs(tmp_path / "in", count=12), tmp_path / "out"
    sources = []
    for index in range(3):
        options = BuildOptions(num_workers=1, part=Part.parse(f"{index}/3"))
        result = _build(folder, output, options)
        sources += [outcome["source"] for outcome in result.outcomes]
        assert all(int(outcome["key"], 16) % 3 == index for outcome in result.outcomes)
    assert sorted(sources) == sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.jpg"))
    assert sum(len(read_shard(path)) for path in output.glob("*.tar")) == 12


@pytest.mark.usefixtures("without_processes")
def test_a_listing_of_parts_holds_the_bytes_of_one_run(tmp_path: Path) -> None:
    folder = _inputs(tmp_path / "in", count=12)
    _build(folder, tmp_path / "whole", BuildOptions(num_workers=1))
    for index in range(3):
        options = BuildOptions(num_workers=1, items_per_shard=3, part=Part.parse(f"{index}/3"))
        _build(folder, tmp_path / f"machine{index}", options)
    (tmp_path / "all.txt").write_text("".join(f"machine{index}\n" for index in range(3)))
    assert len(find_shards(tmp_path / "all.txt")) > 3
    assert _records(tmp_path / "all.txt") == _records(tmp_path / "whole")


def _records(paths: Path) -> dict[str, dict[str, bytes]]:
    """Encoded records by key."""
    found = {}
    for shard in map(read_shard, find_shards(paths)):
        with shard.path.open("rb") as file:
            found |= {key: shard.parts(key, file) for key in shard.keys}
    return found


def test_other_settings_are_refused(built: tuple[Path, Path]) -> None:
    folder, output = built
    with pytest.raises(InputError, match=r"other settings \(crop\)"):
        build_dataset(folder, output, StageOptions(crop="eg3d"), make_stages=FakeStages)


@pytest.mark.usefixtures("without_processes")
def test_parts_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    """Their shards would hold records twice, or records of two kinds."""
    folder, output = _inputs(tmp_path / "in"), tmp_path / "out"
    first, second = (BuildOptions(part=Part(index, 2)) for index in range(2))
    for options in (first, second):
        with pytest.raises(InputError, match="no such head model"):
            build_dataset(folder, output, StageOptions(crop="eg3d"), options=options, make_stages=FailingStages)
    _build(folder, output, first)
    _build(folder, output, second)  # begun as eg3d, but nothing came of it
    for part in (Part(0, 3), Part()):
        with pytest.raises(InputError, match=r"begun with --shard 0/2, got 0/\d"):
            _build(folder, output, BuildOptions(part=part))
    for path in output.glob("plan-0001*"):
        path.unlink()
    with pytest.raises(InputError, match=r"other settings \(crop\)"):
        build_dataset(folder, output, StageOptions(crop="eg3d"), options=second, make_stages=FakeStages)


@pytest.mark.slow
def test_models_that_cannot_be_loaded_end_the_build_and_blame_no_item(tmp_path: Path) -> None:
    folder, output = _inputs(tmp_path / "in"), tmp_path / "out"
    with pytest.raises(InputError, match="no such head model"):
        build_dataset(folder, output, StageOptions(detector="insightface"), make_stages=FailingStages)
    assert _build(folder, output).num_new == 10, "nothing was done: other settings are as good"


@pytest.mark.parametrize("text", ["3/3", "1", "-1/2", "a/b", "0/0"])
def test_parts_that_make_no_sense(text: str) -> None:
    with pytest.raises(InputError, match="--shard as i/n"):
        Part.parse(text)


def test_an_empty_or_missing_folder(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(InputError, match="expected"):
            make_plan(folder, tmp_path / "out", part=Part(), items_per_shard=1, settings={})


@pytest.mark.usefixtures("without_processes")
def test_an_output_that_cannot_be_is_refused(tmp_path: Path) -> None:
    folder, file = _inputs(tmp_path / "in", count=2), tmp_path / "file"
    file.write_text("here already")
    for output, words in ((folder, "does not hold the inputs"), (tmp_path, "does not hold"), (file, "cannot make")):
        with pytest.raises(InputError, match=words):
            _build(folder, output)
    assert _build(folder, folder / "out").num_new == 2
    assert _build(folder, folder / "out").num_new == 0, "an output below the inputs is none of them"


def test_a_changed_byte_is_found_and_its_shard_named(built: tuple[Path, Path]) -> None:
    output = built[1]
    damaged = find_shards(output)[1]
    (output / "outcomes" / "0_000000.json").write_text('{"shard": "as the example for Ray writes it"}')
    assert check_dataset(output) == (3, [])
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    num_whole, faults = check_dataset(output)
    assert num_whole == 2 and len(faults) == 1 and damaged.name in faults[0]


def test_check_takes_one_shard_or_a_list(
    built: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And says "1 shard"."""
    output = built[1]
    first, second, third = find_shards(output)
    second.write_bytes(second.read_bytes()[:-700])
    (tmp_path / "list.txt").write_text(f"out/{first.name}\nout/{second.name}\n")
    for path, code, said in (
        (first, 0, "1 shard whole, 0 damaged"),
        (second, 1, "0 shards whole, 1 damaged"),
        (tmp_path / "list.txt", 1, "1 shard whole, 1 damaged"),
        (output, 1, "2 shards whole, 1 damaged"),
    ):
        assert run(["data", "check", str(path)]) == code
        shown = capsys.readouterr().out
        assert shown.endswith(f"{said}\n") and (second.name in shown) == (code == 1) and third.name not in shown
    assert run(["data", "check", str(output / "absent.tar")]) == 2
    assert "no such shard; expected a .tar or a folder of them" in capsys.readouterr().err


@pytest.mark.parametrize("lost", ["shard", "index", "both"])
def test_a_shard_that_was_deleted_is_missed_and_built_again(lost: str, built: tuple[Path, Path]) -> None:
    """As its user does whom `data check` told of damage."""
    folder, output = built
    before, path = _shards(output), find_shards(output)[1]
    for gone in [path] * (lost != "index") + [index_path(path)] * (lost != "shard"):
        gone.unlink()
    num_whole, faults = check_dataset(output)
    assert num_whole == 2 and [path.name in fault for fault in faults] == [True]
    assert _build(folder, output).num_new == 4 and _shards(output) == before
    assert _build(folder, output).num_new == 0 and not (output / "items").exists()
