"""docs/architecture.md describes the house as it stands."""

import re

from places import ROOT
from rooms import FLOORS, ROOMS

PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def _tree() -> set[str]:
    """The folders of the page's tree, as paths."""
    block = re.search(r"```\n(.*?)```", PAGE, re.DOTALL)
    assert block
    found, above = set(), []
    for line in block[1].splitlines():
        match = re.match(r"( *)(\w+)/", line)
        assert match, line
        above = [*above[: len(match[1]) // 2], match[2]]
        found.add("/".join(above))
    return found


def _packages() -> set[str]:
    return {
        path.parent.relative_to(ROOT).as_posix() for floor in FLOORS for path in (ROOT / floor).rglob("__init__.py")
    }


def test_the_tree_names_every_package_and_only_folders_that_exist() -> None:
    tree = _tree()
    assert _packages() <= tree
    assert [name for name in sorted(tree) if not (ROOT / name).is_dir()] == []


def test_the_order_is_the_one_that_is_tested() -> None:
    """Rooms without a tenant yet stand in the test's order only."""
    written = {name: rooms.split(", ") for name, rooms in re.findall(r"^- `([\w.]+)`: (.*)$", PAGE, re.MULTILINE)}
    assert set(written) == set(ROOMS)
    for package, rooms in ROOMS.items():
        folder = ROOT / package.replace(".", "/")
        present = [room for room in rooms if (folder / f"{room}.py").is_file() or any((folder / room).glob("*.py"))]
        assert written[package] == present


def test_what_the_page_names_is_there() -> None:
    for name in re.findall(r"`((?:flame|preprocess|portrait4d)(?:\.\w+)+)`", PAGE):
        path = ROOT / name.replace(".", "/")
        assert path.is_dir() or path.with_suffix(".py").is_file(), name
    for name in re.findall(r"`([\w/]+\.py)`", PAGE):
        assert (ROOT / name).is_file(), name
