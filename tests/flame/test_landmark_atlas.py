"""Every landmark index of the project stands in `flame/landmarks`, and its tables agree with each other."""

import ast
from collections.abc import Iterator
from itertools import chain

import pytest

from flame.heads.open_head import load_open_head
from flame.landmarks import groups, sets
from flame.landmarks.attention_mesh import EYE_LEFT, EYE_RIGHT, LIPS
from flame.landmarks.mirror_tables import MIRRORED_LANDMARKS
from places import ROOT

LANDMARK_NAMES = ("landmark", "points", "lm", "mesh", "valid", "usable", "seen", "given")
FOREIGN = {"benchmarks/measure.py": "runs in a Python without this project"}


def _indices(source: str) -> Iterator[int]:
    """Lines on which an array that is named like landmarks is indexed by a number from 10 on."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Subscript):
            continue
        base = node.value
        while isinstance(base, ast.Subscript | ast.Attribute | ast.Call):
            base = base.func if isinstance(base, ast.Call) else base.value
        name = base.id if isinstance(base, ast.Name) else ""
        called = {id(part) for call in ast.walk(node.slice) if isinstance(call, ast.Call) for part in ast.walk(call)}
        numbers = [
            part.value for part in ast.walk(node.slice) if isinstance(part, ast.Constant) and id(part) not in called
        ]
        if any(word in name for word in LANDMARK_NAMES) and any(isinstance(n, int) and n >= 10 for n in numbers):
            yield node.lineno


def _places() -> list[str]:
    found = []
    for path in chain.from_iterable(
        (ROOT / top).rglob("*.py") for top in ("flame", "preprocess", "portrait4d", "scripts", "benchmarks")
    ):
        name = path.relative_to(ROOT).as_posix()
        if name.startswith("flame/landmarks/") or name in FOREIGN:
            continue
        found += [f"{name}:{line}" for line in _indices(path.read_text(encoding="utf-8"))]
    return found


def test_no_landmark_index_stands_elsewhere() -> None:
    assert _places() == []


@pytest.mark.parametrize(
    "line", ["landmarks[:, 33, :2]", "points[[468, 473]]", "valid[468:] = False", "x = points[0, 152]"]
)
def test_the_scan_sees_an_index(line: str) -> None:
    assert list(_indices(line)) == [1]


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
