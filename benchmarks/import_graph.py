"""Which modules of the project import which, and rings among them; for the tests of the house and its measures."""

import ast
from pathlib import Path

FLOORS = ("flame", "preprocess", "portrait4d", "genhead")

Imports = dict[str, set[str]]
"""The modules that each module imports, by full name."""


def imports_of(root: Path) -> Imports:
    """What every module of the floors imports of the floors, anywhere in it, also inside functions."""
    modules = {}
    for floor in FLOORS:
        for path in sorted((root / floor).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return {name: _imported_by(path, set(modules)) - {name} for name, path in modules.items()}


def _imported_by(path: Path, modules: set[str]) -> set[str]:
    """Modules among `modules` that a file imports; a name of a package counts as the package."""
    named: set[tuple[str, str]] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            named |= {(alias.name, "") for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports by dots: write the whole name"
            named |= {(node.module or "", alias.name) for alias in node.names}
        elif (
            isinstance(node, ast.Call)
            and ast.unparse(node.func).endswith("import_module")
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            named.add((str(node.args[0].value), ""))
    found = set()
    for module, name in named:
        candidates = (f"{module}.{name}", module)
        found |= set(next(([item] for item in candidates if item in modules), []))
    return found


def rings_of(imports: Imports) -> list[list[str]]:
    """Sets of modules that import each other, straight or through others."""
    reached = {module: _reach(module, imports) for module in imports}
    rings = {frozenset(other for other in reached[module] if module in reached[other]) for module in imports}
    return sorted(sorted(ring) for ring in rings if ring)


def _reach(start: str, imports: Imports) -> set[str]:
    found: set[str] = set()
    waiting = [start]
    while waiting:
        for other in imports[waiting.pop()] - found:
            found.add(other)
            waiting.append(other)
    return found
