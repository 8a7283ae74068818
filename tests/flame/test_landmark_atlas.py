"""Every landmark index of the project stands in `flame/landmarks`, and its tables agree with each other."""

import ast
import re
from collections.abc import Iterator
from itertools import chain

import pytest

from flame.heads.open_head import load_open_head
from flame.landmarks import groups, sets
from flame.landmarks.attention_mesh import EYE_LEFT, EYE_RIGHT, LIPS
from flame.landmarks.mirror_tables import MIRRORED_LANDMARKS
from places import ROOT

FOLDERS = ("flame", "preprocess", "portrait4d", "genhead", "scripts", "benchmarks", "tests")
HERE = ("flame/landmarks/", "tests/flame/test_landmark_atlas.py")
EXCEPTIONS = {
    "benchmarks/measure.py": "runs in a Python without this project",
    "tests/flame/test_flame_tensors.py": "states by hand which point of one set is which of another",
    "tests/preprocess/test_frame_parameters.py": "states by hand which point of one set is which of another",
}

ARRAYS = re.compile("landmark|points|lm|mesh|valid|usable|seen|given|ibug|wflw|seventy|sixty_eight|reference")
FEATURES = re.compile(
    "(?<![A-Z])(EYES?|LIDS?|LIPS?|MOUTH|NOSE|BROWS?|IRIS(ES)?|CORNERS?|EARS?|CHIN|FOREHEAD|PUPILS?|CONTOUR)(?![A-Z])"
)
QUANTITIES = re.compile("NUM|SIZE|YAW|WIDTH")
COUNTS = (68, 70, 98)
"""Lengths of sets: `points[:68]` takes a set, no landmark."""

NAMED = frozenset(
    groups.CONTOUR + groups.NOSE + groups.OUTER_LIPS + groups.INNER_LIPS
    + groups.RIGHT_EYE + groups.RIGHT_BROW + groups.RIGHT_IRIS + groups.LEFT_EYE + groups.LEFT_BROW + groups.LEFT_IRIS
)  # fmt: skip


def _indices(source: str) -> list[int]:
    """Lines that hold a landmark index: in a subscript of landmarks, in the value of a feature, or in a group.

    A group is a tuple, list, set or dictionary of different numbers, all of which name a feature among the 478.
    """
    tests = {ast.Subscript: _is_subscript, ast.Assign: _is_feature}
    tests |= dict.fromkeys((ast.Tuple, ast.List, ast.Set, ast.Dict), _is_group)
    nodes = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.expr | ast.stmt))
    return sorted({node.lineno for node in nodes if type(node) in tests and tests[type(node)](node)})


def _is_subscript(node: ast.Subscript) -> bool:
    names, base = [], node.value
    while isinstance(base, ast.Subscript | ast.Attribute | ast.Call):
        names += [base.attr] if isinstance(base, ast.Attribute) else []
        base = base.func if isinstance(base, ast.Call) else base.value
    names += [base.id] if isinstance(base, ast.Name) else []
    is_array = any(ARRAYS.search(name) for name in names)
    bounds = [part for part in ast.walk(node.slice) if isinstance(part, ast.Slice)]
    counts = {id(bound) for part in bounds for bound in (part.lower, part.upper) if _value(bound) in COUNTS}
    return is_array and any(_value(part) >= 10 and id(part) not in counts for part in _literals(node.slice))


def _is_feature(node: ast.Assign) -> bool:
    """A constant such as `_EARS = (234, 454)`."""
    targets = chain.from_iterable(part.elts if isinstance(part, ast.Tuple) else [part] for part in node.targets)
    names = [part.id for part in targets if isinstance(part, ast.Name)]
    is_named = any(FEATURES.search(name) and not QUANTITIES.search(name) for name in names)
    return is_named and any(_value(part) >= 10 for part in _literals(node.value))


def _is_group(node: ast.Tuple | ast.List | ast.Set | ast.Dict) -> bool:
    numbers = [_value(part) for part in (node.keys if isinstance(node, ast.Dict) else node.elts)]
    # Of round numbers only groups that reach beyond the sizes of pictures: (160, 144) is one.
    is_size = all(number % 4 == 0 for number in numbers) or len(numbers) == 1
    return not is_size and len(set(numbers)) == len(numbers) and set(numbers) <= NAMED and max(numbers) > 100


def _literals(node: ast.AST) -> Iterator[ast.Constant]:
    """Constants that are no arguments of a function, except of those that make sequences of numbers."""
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") not in ("slice", "range", "tuple", "list"):
        return
    if isinstance(node, ast.Constant):
        yield node
    # The numbers of a subscript inside belong to another array.
    for part in [node.value] if isinstance(node, ast.Subscript) else ast.iter_child_nodes(node):
        yield from _literals(part)


def _value(node: ast.AST | None) -> int:
    """The number of a literal, -1 of anything else."""
    return node.value if isinstance(node, ast.Constant) and type(node.value) is int else -1


def _places() -> list[str]:
    found = []
    for path in sorted(chain.from_iterable((ROOT / folder).rglob("*.py") for folder in FOLDERS)):
        name = path.relative_to(ROOT).as_posix()
        if not name.startswith(HERE) and name not in EXCEPTIONS:
            found += [f"{name}:{line}" for line in _indices(path.read_text(encoding="utf-8"))]
    return found


def test_no_landmark_index_stands_elsewhere() -> None:
    assert _places() == []


@pytest.mark.parametrize(
    "line",
    [
        "landmarks[:, 33, :2]", "points[[468, 473]]", "valid[468:] = False", "x = points[0, 152]",
        "driver.landmarks[0, 36:42]", "head.landmarks(vertices)[0][[10, 61]]", "_EARS = (234, 454)",
        "_RIGHT_EYE, _MOUTH = slice(36, 42), slice(48, 68)", "NOSE_TIP = 30", "x = ((13, 312), (14, 317))",
        "x = {468: 1, 473: 2}", "pairs = [(33, 263), (1, 1)]",
    ],
)  # fmt: skip
def test_the_scan_sees_an_index(line: str) -> None:
    assert _indices(line) == [1]


@pytest.mark.parametrize(
    "line",
    [
        "points[:, :68]", "points[..., 2]", "size = (160, 144)", "MAX_CONTOUR_YAW = 13", "NUM_EYE_POINTS = 16",
        "landmarks[list(MIRRORED_LANDMARKS[478])]", "EYE_WIDTH = 40", "rates = (12, 24, 36)",
    ],
)  # fmt: skip
def test_the_scan_leaves_other_numbers_alone(line: str) -> None:
    assert _indices(line) == []


def test_pairs_are_mirror_images() -> None:
    mirror = MIRRORED_LANDMARKS[groups.NUM_LANDMARKS]
    for right, left in (
        groups.OUTER_EYE_CORNERS,
        groups.EARS,
        groups.NOSE_WINGS,
        groups.MOUTH_CORNERS,
        sets.PUPILS_OF_478,
    ):
        assert mirror[right] == left and mirror[left] == right
    for name in ("EYE", "BROW", "IRIS"):
        right, left = getattr(groups, f"RIGHT_{name}"), getattr(groups, f"LEFT_{name}")
        assert {mirror[point] for point in right} == set(left)
    for table in (groups.EYE_CORNERS, groups.LID_MIDDLES):
        assert tuple(mirror[point] for point in table["right"]) == table["left"]
    assert [mirror[point] for point in EYE_RIGHT] == list(EYE_LEFT)
    for point in (groups.FOREHEAD, groups.CHIN, groups.NOSE_TIP, groups.NOSE_FRONT, *groups.INNER_LIP_MIDDLES):
        assert mirror[point] == point


def test_rows_lie_inside_their_groups() -> None:
    assert set(groups.UPPER_INNER_LIP + groups.LOWER_INNER_LIP) < set(groups.INNER_LIPS)
    assert set(groups.UPPER_OUTER_LIP + groups.LOWER_OUTER_LIP) < set(groups.OUTER_LIPS)
    assert set(sum(groups.RIGHT_LIDS, ())) < set(groups.RIGHT_EYE)
    assert set(sum(groups.LEFT_LIDS, ())) < set(groups.LEFT_EYE)
    assert set(groups.INNER_LIPS + groups.OUTER_LIPS) <= set(LIPS)
    assert {groups.IRIS_CENTRES["right"], *groups.IRIS_ENDS["right"]} <= set(groups.RIGHT_IRIS)


def test_the_sets_name_the_same_places_of_a_head() -> None:
    """iBUG's points, taken from the 478 of the open head, stand on the right sides, from top to bottom."""
    head = load_open_head()
    points = head.landmarks(head.template[None])[0]
    ibug = points[list(sets.IBUG_OF_478)]
    right, left = (ibug[corner] for corner in sets.IBUG_OUTER_EYE_CORNERS)
    assert right[0] < 0 < left[0]  # x to the subject's left
    mouth_right, mouth_left = (ibug[corner] for corner in sets.IBUG_MOUTH_CORNERS)
    assert mouth_right[0] < 0 < mouth_left[0] and mouth_left[1] < ibug[sets.IBUG_NOSE_TIP][1] < left[1]
    assert points[groups.CHIN][1] < mouth_left[1] and points[groups.FOREHEAD][1] > left[1]
    assert int(points[: groups.NUM_MESH, 2].argmax()) in (groups.NOSE_TIP, groups.NOSE_FRONT)
