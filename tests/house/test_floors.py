"""A package imports its own floor or a lower one, nothing else (standard library only, reads the sources)."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from places import ROOT

FLOORS = ["flame", "preprocess", "portrait4d", "genhead"]
HEAVY = ["torch", "numba", "cv2", "av", "scipy", "skimage", "PIL", "genhead"]


def _imported(path: Path) -> set[str]:
    """Top-level packages that a file imports anywhere, also inside functions and by name in `import_module`."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").split(".")[0] if node.level == 0 else path.relative_to(ROOT).parts[0])
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module") and node.args:
            if isinstance(node.args[0], ast.Constant):
                found.add(str(node.args[0].value).split(".")[0])
    return found


@pytest.mark.parametrize("floor", FLOORS)
def test_imports_run_downhill(floor: str) -> None:
    files = sorted((ROOT / floor).rglob("*.py"))
    assert files
    above = set(FLOORS[FLOORS.index(floor) + 1 :]) | {"tests", "scripts", "benchmarks"}
    climbing = {str(path.relative_to(ROOT)): sorted(_imported(path) & above) for path in files}
    assert not {name: packages for name, packages in climbing.items() if packages}


def test_the_reader_of_imports_sees_all_kinds(tmp_path: Path) -> None:
    """The check above must not pass because it is blind."""
    source = (
        "import os.path\nfrom genhead.parts import x\ndef f():\n  import portrait4d as p\n  import_module('flame.a')\n"
    )
    (tmp_path / "file.py").write_text(source)
    assert _imported(tmp_path / "file.py") == {"os", "genhead", "portrait4d", "flame"}


def test_importing_portrait4d_loads_neither_genhead_nor_heavy_packages() -> None:
    """`portrait4d --help` and shell completion wait for this import."""
    code = f"import sys, portrait4d; print([name for name in {HEAVY!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert result.stdout.strip() == "[]"


def test_the_command_line_starts_without_heavy_packages() -> None:
    code = f"import sys, portrait4d.cli.main; print([name for name in {HEAVY!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert result.stdout.strip() == "[]"
