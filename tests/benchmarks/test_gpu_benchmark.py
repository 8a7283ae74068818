"""The script for a GPU machine: what it imports, what becomes of parts that fail, and a trial on the CPU."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import gpu
import gpu_parts
from genhead.training.task import GenHeadTraining
from gpu_parts import expected_memory, next_batch
from gpu_reconstructor import made_reconstruction
from gpu_training import Model, made_training
from places import ROOT
from portrait4d.eg3d.training import EG3DTraining
from portrait4d.jobs.train import forecast
from portrait4d.reconstructor.training.task import ReconstructorTraining
from portrait4d.train.config_file import read_config_file

WITHOUT = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("av", "yaml"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Refuse())
sys.path.insert(0, "benchmarks")
"""
"""A Python that lacks what a machine with a GPU may lack."""


def test_all_of_it_is_imported_without_pyav_and_pyyaml() -> None:
    code = f"""{WITHOUT}
import gpu, gpu_parts, gpu_training, gpu_reconstructor, reconstructor, generated_weights
import portrait4d.jobs.train, portrait4d.engines.lift.engine, preprocess.tracking.tracker
import pytest
code = pytest.main(["-m", "gpu", "--collect-only", "-q", "-p", "no:cacheprovider", *gpu.gpu_tests()])
raise SystemExit(code)
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "tests/house/test_gpu.py" in answer.stdout and "tests/preprocess/test_faces.py" in answer.stdout


def test_a_part_that_fails_or_hangs_is_a_row(tmp_path: Path) -> None:
    row = {"kind": "engine", "engine": "lift", "precision": "fp32", "stage": "frames"}
    row |= {"milliseconds": 4.0, "frames_per_second": 250.0, "memory_mb": 12}
    told = f"print({json.dumps(row)!r}, flush=True)"
    parts = [
        gpu.Part("good", ("-c", told), 20),
        gpu.Part("bad", ("-c", f"{told}; raise RuntimeError('out | of order')"), 20),
        gpu.Part("hanging", ("-c", f"{told}; import time; time.sleep(60)"), 1.5),
        gpu.Part("tests", ("-c", "print('FAILED tests/a.py::b - x'); print('1 failed, 2 passed in 3s'); exit(1)"), 20),
    ]
    findings = gpu.Findings("cuda")
    gpu.measure(parts, findings, tmp_path, seconds=100)
    assert len(findings.of("engine")) == 3 and list(findings.errors) == ["bad", "hanging"]
    (tests,) = findings.of("tests")
    assert (tests["passed"], tests["failed"], tests["names"]) == (2, 1, ["FAILED tests/a.py::b - x"])
    text = (tmp_path / "gpu.md").read_text(encoding="utf-8")
    assert "| bad | `RuntimeError: out / of order` |" in text and "| hanging | `ended after 2 s` |" in text
    assert gpu.Findings(**json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))) == findings
    late = gpu.Findings("cuda")
    gpu.measure(parts, late, tmp_path, seconds=1)
    assert late.left_out == ["good", "bad", "hanging", "tests"] and not late.rows
    assert "the time was over: good, bad, hanging, tests." in (tmp_path / "gpu.md").read_text(encoding="utf-8")


def test_batches_grow_to_the_memory() -> None:
    assert next_batch({4: 10.0}, None) == 8
    assert next_batch({4: 10.0}, 100.0) == 32  # 80 of 92 that are safe
    assert next_batch({4: 10.0, 32: 60.0}, 100.0) == 64
    assert expected_memory({4: 10.0, 32: 66.0}, 64) == pytest.approx(130.0)
    assert expected_memory({4: 10.0}, 64) == 0.0


@pytest.mark.parametrize(
    ("per_picture", "step_seconds", "batches", "end"),
    [
        (1.0, 0.0, [4, 64], (128, "would not fit")),  # two are enough to know
        (22.5, 0.0, [4], (8, "does not fit")),
        (1.0, 1.0, [4, 16], (32, "not tried: no time")),  # 3 + 12 of 26 seconds; 32 would take 24
    ],
)
def test_the_search_for_the_largest_batch_ends(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    per_picture: float,
    step_seconds: float,
    batches: list[int],
    end: tuple[int, str],
) -> None:
    clock, tried = [0.0], []

    def measured(model: str, precision: str, batch: int, device: str, *, is_tiny: bool) -> tuple[float, float]:
        if (memory := per_picture * batch) > 100:
            raise torch.cuda.OutOfMemoryError("no memory")
        tried.append(batch)
        clock[0] += 3 * step_seconds * batch / 4
        return memory, step_seconds * batch / 4

    monkeypatch.setattr(gpu_parts, "_measure_batch", measured)
    monkeypatch.setattr(gpu_parts.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (0, 100 * 2**20))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    gpu_parts.measure_training("eg3d", "fp16", "cuda", seconds=26.0, is_tiny=False)
    assert tried == batches
    row = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (row["batch"], row["note"]) == end
    cells = gpu.training_cells(row)
    assert cells[-1] == end[1] and cells[3] is None


def test_the_trainings_are_those_of_the_recipes() -> None:
    recipes: list[tuple[Model, type, str]] = [
        ("genhead", GenHeadTraining, "genhead/ffhq512.yaml"),
        ("eg3d", EG3DTraining, "eg3d/ffhq512-64.yaml"),
    ]
    for model, kind, path in recipes:
        recipe = read_config_file(kind, ROOT / "configs" / path)
        made = made_training(model, precision="fp16", batch_size=32, is_tiny=False).config
        loss = replace(recipe.loss, blur_images=0, swap_images=0)
        expected = replace(recipe, train=made.train, data=made.data, loss=loss)
        if isinstance(expected, GenHeadTraining):
            head = {name: getattr(made.generator, name) for name in ("head", "head_origin", "camera_fov_degrees")}
            expected = replace(expected, generator=replace(expected.generator, **head))
        assert made == expected
        assert made.train.batch_size == recipe.train.batch_size and made.train.precision == recipe.train.precision


@pytest.mark.parametrize("recomputes", [False, True])
def test_the_made_reconstruction_is_the_recipe_and_trains(recomputes: bool) -> None:
    recipe = read_config_file(ReconstructorTraining, ROOT / "configs" / "portrait4d" / "portrait4d.yaml")
    run = replace(recipe.train, batch_size=2, precision="tf32", recompute=recomputes)
    made = made_reconstruction(recomputes=recomputes, precision="tf32", batch_size=2, is_tiny=False)
    assert made.config == replace(recipe, train=run)
    tiny = made_reconstruction(recomputes=recomputes, precision="fp32", batch_size=2, is_tiny=True)
    found = forecast(tiny, steps=1)
    assert set(found.phases) == {"reconstructor", "density", "discriminator", "r1"}
    cells = gpu.training_cells(
        {"model": "reconstructor", "precision": "fp32", "batch": 2, "memory_mb": 1, "phases": found.phases}
    )
    assert cells[5:9] == list(found.phases.values())


def test_a_trial_is_not_published(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no measurement"):
        gpu.publish_measured(tmp_path)
    gpu.write(gpu.Findings("cpu"), tmp_path)
    with pytest.raises(SystemExit, match="says nothing"):
        gpu.publish_measured(tmp_path)
    gpu.write(gpu.Findings("cuda"), tmp_path)
    with pytest.raises(SystemExit, match="no GPU"):
        gpu.publish_measured(tmp_path)


@pytest.mark.slow
def test_a_trial_on_the_cpu_fills_every_table(tmp_path: Path) -> None:
    """Where there is no GPU its tests are skipped; the folder is named by $OUT."""
    environment = {**os.environ, "OUT": str(tmp_path / "found"), "PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    command = ["bash", str(ROOT / "benchmarks" / "gpu.sh"), "--cpu"]
    answer = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    found = gpu.Findings(**json.loads((tmp_path / "found" / "gpu.json").read_text(encoding="utf-8")))
    assert found.errors == {} and found.left_out == []
    assert {(row["model"], row["precision"]) for row in found.of("training")} == {
        *((model, precision) for model in gpu.GANS for precision in ("fp32", "bf16")),
        *((model, "fp32") for model in gpu.RECONSTRUCTORS),
    }
    for row in found.of("training"):
        assert row["seconds_per_kimg"] > 0 and all(value > 0 for value in gpu.training_cells(row)[5:9])
    assert {row["engine"] for row in found.of("engine")} == {"lift", "portrait4d"}
    (tests,) = found.of("tests")
    assert tests["passed"] + tests["skipped"] >= 9 and not tests["failed"] + tests["errors"]
    text = (tmp_path / "found" / "gpu.md").read_text(encoding="utf-8")
    assert text.count("| genhead/ffhq512, open head |") == 2 and text.count("| portrait4d |") == 1
