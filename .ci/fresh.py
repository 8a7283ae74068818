"""Installs portrait4d into fresh environments of every Python here, and tries it.

`fresh.py light` leaves torch out: the newest and the oldest allowed version of everything else, and what goes without
torch (imports, command line help, media read and written, pickles). About two minutes; run by `.ci/run`.
`fresh.py full` installs what `pip install .` brings, torch included, and runs the demo. Minutes and gigabytes for each
Python; run by `.ci/pythons`.

The Pythons are those of pyenv from 3.10 to 3.13, or the one that runs this. `--only 3.12` takes one of them.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.parser import Parser
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SUPPORTED = ("3.10", "3.11", "3.12", "3.13")
FLOORS = ("flame", "preprocess", "portrait4d", "genhead")
LIGHT_TESTS = ("test_video.py", "test_mesh_files.py", "test_crop.py")
"""Test files that need no torch."""
NUM_AT_ONCE = 2


@dataclass(frozen=True)
class Attempt:
    """One environment: a Python ("3.12" and its program) and which versions it gets, newest or oldest."""

    version: str
    program: Path
    versions: str

    @property
    def name(self) -> str:
        """The environment in a few words."""
        return f"python {self.version}, {self.versions} versions"


def main() -> int:
    """Tries all environments; returns 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=["light", "full"])
    parser.add_argument("--only", choices=SUPPORTED)
    choices = parser.parse_args()
    pythons = {version: path for version, path in find_pythons().items() if choices.only in (None, version)}
    if not pythons:
        raise SystemExit(f"no Python {choices.only} found here: it would lie in {pyenv_folder()}")
    kinds = ("newest", "oldest") if choices.mode == "light" else ("newest",)
    attempts = [Attempt(version, path, kind) for version, path in pythons.items() for kind in kinds]
    with tempfile.TemporaryDirectory(prefix="portrait4d-fresh-") as folder:
        wheel = build_wheel(Path(folder))
        if choices.mode == "light":
            with ThreadPoolExecutor(NUM_AT_ONCE) as pool:
                results = list(pool.map(lambda attempt: run_attempt(attempt, wheel, is_full=False), attempts))
        else:
            results = [run_attempt(attempt, wheel, is_full=True) for attempt in attempts]
    print(f"{sum(results)} of {len(results)} environments work")
    return 0 if all(results) else 1


def pyenv_folder() -> Path:
    """Where pyenv keeps its Pythons."""
    if program := shutil.which("pyenv"):
        answer = subprocess.run([program, "root"], capture_output=True, text=True)
        if answer.returncode == 0:
            return Path(answer.stdout.strip()) / "versions"
    return Path.home() / ".pyenv" / "versions"


def find_pythons() -> dict[str, Path]:
    """Program of each supported Python, by version; without pyenv the Python that runs this."""
    found = {}
    for folder in sorted(pyenv_folder().glob("3.*")):
        version = ".".join(folder.name.split(".")[:2])
        if version in SUPPORTED and re.fullmatch(r"3\.\d+\.\d+", folder.name) and (folder / "bin/python").is_file():
            found[version] = folder / "bin/python"
    return found or {f"{sys.version_info[0]}.{sys.version_info[1]}": Path(sys.executable)}


def build_wheel(folder: Path) -> Path:
    """Built once, from a copy, so that nothing lands in the checkout."""
    source = folder / "source"
    for name in (*FLOORS, "configs"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(folder), str(source)]
    subprocess.run(command, check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def run_attempt(attempt: Attempt, wheel: Path, *, is_full: bool) -> bool:
    """Tries one environment, which is removed again, and prints one line, or all output if it fails."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="portrait4d-fresh-") as name:
        folder = Path(name)
        log = folder / "log.txt"
        variables = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
        variables |= {"NUMBA_CACHE_DIR": str(folder / "numba"), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        commands = full_commands(folder, wheel) if is_full else light_commands(attempt, folder, wheel)
        code = 0
        for command in [[str(attempt.program), "-m", "venv", str(folder / "venv")], *commands]:
            with log.open("a") as output:
                print("+", *command, file=output, flush=True)
                code = subprocess.run(
                    command, stdout=output, stderr=subprocess.STDOUT, env=variables, cwd=folder
                ).returncode
            if code:
                break
        if code or is_full:
            print(log.read_text(errors="replace"))
    print(f"{'FAILED' if code else 'ok    '} {attempt.name}: {time.monotonic() - start:.0f} s", flush=True)
    return code == 0


def light_commands(attempt: Attempt, folder: Path, wheel: Path) -> list[list[str]]:
    """Everything but torch, then what works without it."""
    python = str(folder / "venv/bin/python")
    tests = [str(path) for name in LIGHT_TESTS for path in sorted((ROOT / "tests").rglob(name))]
    if len(tests) != len(LIGHT_TESTS):
        raise SystemExit(f"expected the test files {', '.join(LIGHT_TESTS)} under tests, found {len(tests)}")
    install = [python, "-m", "pip", "install", "--quiet", "--only-binary", ":all:"]
    return [
        [*install, *requirements(wheel, attempt), "pytest>=8", "pytest-timeout>=2.2"],
        [*install, "--no-deps", str(wheel)],
        [python, str(ROOT / ".ci/without_torch.py")],
        # not `python -m pytest`, which would import the checkout instead of what is installed
        [str(folder / "venv/bin/pytest"), "-c", str(ROOT / "pyproject.toml"), "-p", "no:cacheprovider", *tests],
    ]


def full_commands(folder: Path, wheel: Path) -> list[list[str]]:
    """What the README's first command does."""
    python, program = str(folder / "venv/bin/python"), str(folder / "venv/bin/portrait4d")
    return [
        [python, "-m", "pip", "install", "--quiet", str(wheel)],
        [python, "-m", "pip", "freeze"],
        ["du", "-sh", str(folder / "venv")],
        [program, "doctor"],
        [program, "demo", "-o", str(folder / "demo")],
    ]


def requirements(wheel: Path, attempt: Attempt) -> list[str]:
    """What the wheel asks for on this Python, torch and extras left out; of "oldest" exactly the lower bounds."""
    from packaging.requirements import Requirement

    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        lines = Parser().parsestr(archive.read(name).decode()).get_all("Requires-Dist", [])
    asked = []
    for requirement in map(Requirement, lines):
        here = {"python_version": attempt.version, "extra": ""}
        if requirement.name == "torch" or (requirement.marker and not requirement.marker.evaluate(here)):
            continue
        specifier = str(requirement.specifier)
        if attempt.versions == "oldest":
            (specifier,) = [f"=={part.version}" for part in requirement.specifier if part.operator == ">="]
        asked.append(f"{requirement.name}{specifier}")
    return asked


if __name__ == "__main__":
    sys.exit(main())
