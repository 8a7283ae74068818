"""Draws the 52 named expressions on the open head: docs/expressions.png. Writes their table into docs/expressions.md.

python scripts/make_expression_sheet.py
"""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flame.heads.expression_names import ARKIT_ACTIONS, ARKIT_NAMES, GROUPS
from flame.heads.open_head import OpenHead, load_open_head
from preprocess.dataset.toy.population import draw_person
from preprocess.dataset.toy.render import ToyRenderer
from preprocess.media.contact_sheet import with_caption
from preprocess.tracking.motion import Motion

DOCS = Path(__file__).resolve().parents[1] / "docs"
SHEET, PAGE = DOCS / "expressions.png", DOCS / "expressions.md"
BEGIN, END = "<!-- names: begin (scripts/make_expression_sheet.py) -->", "<!-- names: end -->"

COLUMNS = 9
SIDE = 124
"""Of a picture, px."""

FACE = (slice(88, 388), slice(106, 406))
"""Rows and columns of the crop of 512 px that are shown."""

PERSON_SEED = 29
COLOURS = 128
"""Of the file: few, so that it is small."""


NONE = "none"
"""Name of the first picture, of the head without expression."""


def draw_sheet() -> NDArray[np.uint8]:
    """The sheet `[H, W, 3]`: no expression first, then each at 1, in the order of the open head."""
    cells = draw_cells((NONE, *ARKIT_NAMES))
    cells += [np.full_like(cells[0], 255)] * (-len(cells) % COLUMNS)
    rows = [np.concatenate(cells[first : first + COLUMNS], 1) for first in range(0, len(cells), COLUMNS)]
    return np.concatenate(rows, 0)


def draw_cells(names: Sequence[str]) -> list[NDArray[np.uint8]]:
    """Pictures `[H, SIDE, 3]` of expressions at 1, with their names below."""
    head = load_open_head()
    renderer = ToyRenderer(head, size=512, oversampling=1)
    below = {"mouthClose": {"jawOpen": 1.0}}
    return [
        _cell(head, renderer, name, {**below.get(name, {}), **({} if name == NONE else {name: 1})}) for name in names
    ]


def _cell(head: OpenHead, renderer: ToyRenderer, name: str, weights: dict[str, float]) -> NDArray[np.uint8]:
    person = draw_person(head, np.random.default_rng(PERSON_SEED))
    motion = Motion.from_arkit(weights)
    picture, mask = renderer(head(motion.params(head, 0))[0].numpy(), motion.camera(0), person)
    picture = np.where(mask[..., None] > 0, picture, np.uint8(255))[FACE]
    small = cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return with_caption(np.asarray(small, np.uint8), name)


def names_table() -> str:
    """The table of the page: names, short names, what they do."""
    short: dict[str, list[str]] = {name: [] for name in ARKIT_NAMES}
    for group, actions in GROUPS.items():
        for action in actions:
            short[action].append(f"`{group}`")
    lines = ["| name | short names | at 1 |", "|---|---|---|"]
    lines += [f"| `{name}` | {', '.join(short[name])} | {does} |" for name, does in ARKIT_ACTIONS.items()]
    return "\n".join(lines)


def main() -> None:
    """Writes the sheet and the table."""
    Image.fromarray(draw_sheet()).quantize(COLOURS, dither=Image.Dither.NONE).save(SHEET, optimize=True)
    text = PAGE.read_text(encoding="utf-8")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n\n{names_table()}\n\n{END}{after}", encoding="utf-8")
    print(f"{SHEET}: {SHEET.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
