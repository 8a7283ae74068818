"""Fixtures shared by all tests."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from places import shared_folder

if TYPE_CHECKING:  # tests of clips and pickles run where torch is not installed
    from free_material import FreeMaterial


def pytest_configure(config: pytest.Config) -> None:
    """Processes of `-n 2` use one thread each, as do their children: they share the cores already."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # read when torch, numpy are loaded
            os.environ.setdefault(name, "1")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says of each reason why tests were skipped how many they were, and with it what to do."""
    reasons: Counter[str] = Counter()
    for report in terminalreporter.stats.get("skipped", []):
        is_located = isinstance(report.longrepr, tuple)  # file, line, "Skipped: reason"
        reasons[str(report.longrepr[2] if is_located else report.longrepr).removeprefix("Skipped: ")] += 1
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"{count} {'test' if count == 1 else 'tests'} skipped: {reason}")
    if any("the reference photos" in reason or "reference material" in reason for reason in reasons):
        terminalreporter.write_line(
            "The reference material is not published: tests that need it are for its holders; the others cover the "
            "main job without it (tests/portrait4d/test_main_job.py)."
        )


def pytest_sessionfinish() -> None:
    """Leaves the errors of all comparisons with reference tensors where `benchmarks/fixtures.py` asks for them."""
    target = os.environ.get("PORTRAIT4D_FIXTURE_ERRORS")
    if target:
        from golden import MEASURED

        Path(target).write_text(json.dumps(MEASURED))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The reference material; the test is skipped where it is absent."""
    folder = shared_folder()
    if not (folder / "README.md").is_file():
        pytest.skip(f"reference material not found at {folder}: set PORTRAIT4D_SHARED")
    return folder


@pytest.fixture(scope="session")
def free(tmp_path_factory: pytest.TempPathFactory) -> "FreeMaterial":
    """Photo, clip with sound, frames and motion made by script: for what must be tested without the material."""
    from free_material import make_free_material

    return make_free_material(tmp_path_factory.mktemp("free"))


@pytest.fixture(scope="session", autouse=True)
def no_weights_from_outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Weights that happen to be on the machine play no part, and none are fetched; child processes inherit it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PORTRAIT4D_HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("PORTRAIT4D_OFFLINE", "1")
        yield


@pytest.fixture(scope="session")
def synthetic_flame(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of FLAME-shaped files, made by the reference material's own script; nothing licensed is in it."""
    folder = tmp_path_factory.mktemp("flame")
    script = shared / "spec" / "golden" / "synth_flame.py"
    subprocess.run([sys.executable, str(script), str(folder)], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="session")
def generated_home(shared: Path, synthetic_flame: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with generated weights of two small Portrait4D engines and the motion encoder; tests only read it."""
    from generated_weights import install_generated  # here, as torch below

    folder = tmp_path_factory.mktemp("generated")
    install_generated(folder, shared, synthetic_flame, engine="portrait4d-v2")
    shutil.copytree(folder / "weights" / "portrait4d-v2", folder / "weights" / "portrait4d-static")
    return folder


@pytest.fixture(scope="module")
def home(generated_home: Path) -> Iterator[Path]:
    """The generated weights, found where released ones are kept while a module's tests run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PORTRAIT4D_HOME", str(generated_home))
        yield generated_home


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """One thread of torch while a module's tests run: the small networks are faster so."""
    import torch  # here, so that tests of clips and pickles run where torch is not installed

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
