"""Imports run downhill: floor by floor, room by room, and no files in a ring (standard library only, reads sources)."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from import_graph import Imports, imports_of, rings_of
from places import ROOT
from rooms import FLOORS, ROOMS

HEAVY = ["torch", "numba", "cv2", "av", "scipy", "skimage", "PIL", "genhead"]


def _room(module: str, package: str) -> str:
    """The part of the module's name below the package; empty for the package itself."""
    return module.removeprefix(package).lstrip(".").partition(".")[0]


def _climbing(imports: Imports, package: str, rooms: list[str]) -> list[str]:
    """Imports from a room of the package to a higher one, or to one that has no place in the order."""
    found = []
    for module, others in imports.items():
        for other in others:
            if not all(f"{name}.".startswith(f"{package}.") for name in (module, other)):
                continue
            above, below = _room(module, package), _room(other, package)
            if not above or above == below:  # the package itself hands names on
                continue
            if not {above, below} <= set(rooms) or rooms.index(above) < rooms.index(below):
                found.append(f"{module} imports {other}")
    return sorted(found)


@pytest.fixture(scope="module")
def house() -> Imports:
    imports = imports_of(ROOT)
    assert len(imports) > 100
    return imports


def test_floors_import_downhill(house: Imports) -> None:
    order = {floor: index for index, floor in enumerate(FLOORS)}
    floor = lambda module: order[module.partition(".")[0]]  # noqa: E731
    assert [(a, b) for a, others in house.items() for b in others if floor(a) < floor(b)] == []


@pytest.mark.parametrize("floor", FLOORS)
def test_no_floor_imports_what_is_not_installed_with_it(floor: str) -> None:
    outside = ("tests", "scripts", "benchmarks")
    for path in (ROOT / floor).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not [name for name in names if name.partition(".")[0] in outside], path


@pytest.mark.parametrize("package", ROOMS)
def test_rooms_import_downhill(house: Imports, package: str) -> None:
    assert _climbing(house, package, ROOMS[package]) == []


def test_every_room_has_its_place_in_the_order(house: Imports) -> None:
    for package, rooms in ROOMS.items():
        inside = [module for module in house if module.startswith(f"{package}.")]
        assert {_room(module, package) for module in inside} <= set(rooms)


def test_no_files_import_each_other_in_a_ring(house: Imports) -> None:
    assert rings_of(house) == []


def test_the_checks_see_what_they_look_for(tmp_path: Path) -> None:
    """They must not pass because they are blind."""
    sources = {
        "flame/__init__.py": "",
        "flame/low.py": "def f():\n    from flame.high import g\n",
        "flame/high.py": "import os\nfrom flame import middle\n",
        "flame/middle.py": "import_module('flame.low')\nfrom genhead.parts import x\n",
        "genhead/__init__.py": "",
        "genhead/parts.py": "import flame.low as low\n",
        "preprocess/__init__.py": "",
        "portrait4d/__init__.py": "",
    }
    for name, text in sources.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    imports = imports_of(tmp_path)
    assert imports["flame.middle"] == {"flame.low", "genhead.parts"}
    assert rings_of(imports) == [["flame.high", "flame.low", "flame.middle", "genhead.parts"]]
    climbing = _climbing(imports, "flame", ["low", "middle", "high"])
    assert climbing == ["flame.low imports flame.high"]
    assert _climbing(imports, "flame", ["low", "middle"]) == [
        "flame.high imports flame.middle", "flame.low imports flame.high"
    ]  # fmt: skip


def test_importing_portrait4d_loads_neither_genhead_nor_heavy_packages() -> None:
    """`portrait4d --help` and shell completion wait for this import."""
    code = f"import sys, portrait4d; print([name for name in {HEAVY!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert result.stdout.strip() == "[]"


def test_the_command_line_starts_without_heavy_packages() -> None:
    code = f"import sys, portrait4d.cli.main; print([name for name in {HEAVY!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert result.stdout.strip() == "[]"
