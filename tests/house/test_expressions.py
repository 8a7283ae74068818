"""docs/expressions.md and its sheet are those of the head model and the names."""

import re

import numpy as np
import pytest

from flame.heads.expression_names import ARKIT_NAMES, GROUPS
from preprocess.media.contact_sheet import CAPTION_PX
from preprocess.media.image import read_image
from scripts.make_expression_sheet import BEGIN, COLUMNS, END, NONE, PAGE, SHEET, SIDE, draw_cells, names_table


def test_the_table_of_the_page_is_made_of_the_names() -> None:
    text = PAGE.read_text(encoding="utf-8")
    table = text.split(BEGIN)[1].split(END)[0]
    assert table.strip() == names_table(), "run scripts/make_expression_sheet.py"
    assert re.findall(r"^\| `(\w+)`", table, flags=re.MULTILINE) == list(ARKIT_NAMES)
    assert set(re.findall(r"`([a-z_]+)`", table)) == set(GROUPS) | {n for n in ARKIT_NAMES if n.islower()}


@pytest.mark.parametrize(
    "names",
    [
        (NONE, "jawOpen", "mouthSmileLeft", "mouthSmileRight", "eyeBlinkRight", "browInnerUp", "eyeLookUpLeft"),
        pytest.param((NONE, *ARKIT_NAMES), marks=pytest.mark.slow),
    ],
)
def test_each_picture_of_the_sheet_is_its_own_expression(names: tuple[str, ...]) -> None:
    """The file has few colours, so that its pictures are not equal to what is drawn, but nearest to it."""
    kept = read_image(SHEET).astype(np.float32)
    assert SHEET.stat().st_size < 200_000
    cells = np.stack(draw_cells(names))[:, :SIDE].astype(np.float32)
    for name, drawn in zip(names, cells, strict=True):
        row, column = divmod((NONE, *ARKIT_NAMES).index(name), COLUMNS)
        top, left = row * (SIDE + CAPTION_PX), column * SIDE
        off = np.abs(cells - kept[top : top + SIDE, left : left + SIDE]).mean((1, 2, 3))
        assert names[int(off.argmin())] == name, "run scripts/make_expression_sheet.py"
        assert np.abs(drawn - kept[top : top + SIDE, left : left + SIDE]).mean() < 1.5
