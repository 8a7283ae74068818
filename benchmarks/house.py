"""How the code is laid out: files on top of each package, rings, long files and functions; of several checkouts.

    python benchmarks/house.py [OTHER_CHECKOUT ...] [--publish]

Reads sources only. Lines of a function count from its `def` to its last line, docstring included; tests, scripts and
benchmarks do not count.
"""

import argparse
import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from import_graph import FLOORS, imports_of, rings_of
from material import ROOT, conclude, table

MOST_LINES, MOST_PARAMETERS, MOST_FILE_LINES = 50, 8, 300


@dataclass(frozen=True)
class Function:
    """A function or method: where it is, its lines, its parameters without `self` and `cls`."""

    name: str
    num_lines: int
    num_parameters: int


def functions(path: Path, name: str) -> Iterator[Function]:
    """All functions of a file, also those inside others."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            given = node.args
            parameters = [item.arg for item in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
            count = len([parameter for parameter in parameters if parameter not in ("self", "cls")])
            assert node.end_lineno is not None
            yield Function(f"{name}: {node.name}", node.end_lineno - node.lineno + 1, count)


def describe(root: Path) -> dict[str, str]:
    """The rows of one checkout."""
    paths = [path for floor in FLOORS for path in sorted((root / floor).rglob("*.py"))]
    lines = {path.relative_to(root).as_posix(): len(path.read_text(encoding="utf-8").splitlines()) for path in paths}
    found = [function for path in paths for function in functions(path, path.relative_to(root).as_posix())]
    found_rings = rings_of(imports_of(root))
    largest = max(lines, key=lambda name: lines[name])
    longest = max(found, key=lambda function: function.num_lines)
    return {
        **{f"modules on top of {floor}": str(len(list((root / floor).glob("*.py"))) - 1) for floor in FLOORS[:3]},
        "modules": str(len(paths)),
        "rings of imports": f"{len(found_rings)}, of {sum(map(len, found_rings))} files",
        "largest file": f"{largest}, {lines[largest]} lines",
        f"files over {MOST_FILE_LINES} lines": str(sum(count > MOST_FILE_LINES for count in lines.values())),
        "longest function": f"{longest.name}, {longest.num_lines} lines",
        f"functions over {MOST_LINES} lines": str(sum(item.num_lines > MOST_LINES for item in found)),
        f"functions of more than {MOST_PARAMETERS} parameters": str(
            sum(item.num_parameters > MOST_PARAMETERS for item in found)
        ),
    }


def main() -> None:
    """Prints a column for each checkout, this one last, and names what is long in it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("others", nargs="*", type=Path, help="checkouts of earlier states")
    parser.add_argument("--publish", action="store_true")
    options = parser.parse_args()
    checkouts = [*options.others, ROOT]
    columns = [describe(checkout.resolve()) for checkout in checkouts]
    rows = [[name, *(column[name] for column in columns)] for name in columns[-1]]
    header = ["", *(checkout.name for checkout in options.others), "now"]
    long = [
        [item.name, item.num_lines, item.num_parameters]
        for floor in FLOORS
        for path in sorted((ROOT / floor).rglob("*.py"))
        for item in functions(path, path.relative_to(ROOT).as_posix())
        if item.num_lines > MOST_LINES or item.num_parameters > MOST_PARAMETERS
    ]
    parts = ["## The layout of the code", table(header, rows)]
    if long:
        parts += ["What is long now:", table(["function", "lines", "parameters"], long)]
    conclude("house", "\n\n".join(parts), {"rows": rows, "long": long}, is_published=options.publish)


if __name__ == "__main__":
    main()
