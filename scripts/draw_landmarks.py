"""Draws the landmarks of the tracker by their groups, and iBUG's 68, on the open head: docs/landmarks.png.

Below the two heads: eyes and opened mouth, enlarged.

python scripts/draw_landmarks.py
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from flame.heads.head_model import HeadParams, expression_index
from flame.heads.open_head import load_open_head
from flame.landmarks import groups
from flame.landmarks.sets import IBUG_OF_478
from flame.mesh.raster import interpolate, rasterize
from preprocess.media.image import write_png

OUTPUT = Path(__file__).resolve().parents[1] / "docs" / "landmarks.png"


@dataclass(frozen=True)
class Panel:
    """A part of the head from the front.

    Attributes:
        height: in px.
        px_per_metre: of the picture.
        middle: y of the picture's middle, metres in the head frame.
        jaw_open: expression of the head in [0, 1].
    """

    height: int
    px_per_metre: float
    middle: float
    jaw_open: float = 0.0


WIDTH = 900
WHOLE, EYES, MOUTH = Panel(900, 4300.0, 0.105), Panel(300, 9000.0, 0.1465), Panel(300, 8000.0, 0.066, 0.35)

COLOURS: dict[str, tuple[tuple[int, ...], tuple[int, int, int]]] = {
    "contour": (groups.CONTOUR, (120, 120, 120)),
    "eyes": (groups.RIGHT_EYE + groups.LEFT_EYE, (30, 90, 220)),
    "irises": (groups.RIGHT_IRIS + groups.LEFT_IRIS, (0, 160, 160)),
    "brows": (groups.RIGHT_BROW + groups.LEFT_BROW, (150, 72, 0)),
    "nose": (groups.NOSE, (20, 140, 40)),
    "outer lips": (groups.OUTER_LIPS, (210, 30, 60)),
    "inner lips": (groups.INNER_LIPS, (230, 120, 0)),
}


def shaded_head(panel: Panel) -> tuple[np.ndarray, np.ndarray]:
    """Returns the open head, uint8 `[H, W, 3]`, and its 478 landmarks in the picture's px `[478, 2]`."""
    head = load_open_head()
    params = HeadParams.zeros(head)
    params.expression[0, expression_index(head, ["jawOpen"])] = panel.jaw_open
    vertices = head(params)[0]
    points = head.landmarks(vertices[None])[0]

    def to_picture(places: torch.Tensor) -> torch.Tensor:
        x = WIDTH / 2 + places[:, 0] * panel.px_per_metre
        y = panel.height / 2 - (places[:, 1] - panel.middle) * panel.px_per_metre
        return torch.stack([x, y, 1.0 - places[:, 2]], -1)

    fragments = rasterize(to_picture(vertices), head.faces, height=panel.height, width=WIDTH, cull_backfaces=True)
    corners = vertices[head.faces]
    normals = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    smooth = torch.zeros_like(vertices).index_add_(0, head.faces.flatten(), normals.repeat_interleave(3, 0))
    smooth = torch.nn.functional.normalize(smooth, dim=-1)
    light = interpolate(fragments, head.faces, smooth)[..., 2].clamp(min=0)
    grey = torch.where(fragments.face_id >= 0, 150 + 95 * light, 255.0).numpy().astype(np.uint8)
    return np.stack([grey] * 3, -1), to_picture(points)[:, :2].numpy()


def draw_points(picture: np.ndarray, points: np.ndarray, chosen: dict[int, str], colour: tuple[int, int, int]) -> None:
    """Marks the points with their names."""
    for index, name in chosen.items():
        x, y = (int(round(float(value))) for value in points[index])
        cv2.circle(picture, (x, y), 3, colour, -1, cv2.LINE_AA)
        cv2.putText(picture, name, (x + 4, y - 3), cv2.FONT_HERSHEY_SIMPLEX, 0.32, colour, 1, cv2.LINE_AA)


def draw_groups(panel: Panel) -> np.ndarray:
    """Returns a part of the head with the tracker's landmarks, those of groups in their colours and with numbers."""
    picture, points = shaded_head(panel)
    grouped = set().union(*(members for members, _ in COLOURS.values()))
    for index in set(range(groups.NUM_LANDMARKS)) - grouped:
        draw_points(picture, points, {index: ""}, (200, 190, 180))
    for members, colour in COLOURS.values():
        draw_points(picture, points, {index: str(index) for index in members}, colour)
    return picture


def write_line(picture: np.ndarray, text: str, line: int, colour: tuple[int, int, int]) -> None:
    """Writes a line of the legend."""
    cv2.putText(picture, text, (20, 40 + 26 * line), cv2.FONT_HERSHEY_SIMPLEX, 0.7, colour, 2, cv2.LINE_AA)


def main() -> None:
    """Draws the panels and puts them together."""
    tracker, eyes, mouth = (draw_groups(panel) for panel in (WHOLE, EYES, MOUTH))
    for line, (name, (_, colour)) in enumerate(COLOURS.items()):
        write_line(tracker, name, line, colour)
    ibug, points = shaded_head(WHOLE)
    draw_points(ibug, points, {index: str(number) for number, index in enumerate(IBUG_OF_478)}, (210, 30, 60))
    write_line(ibug, "68 of iBUG among the 478", 0, (210, 30, 60))
    picture = np.concatenate([np.concatenate([tracker, ibug], 1), np.concatenate([eyes, mouth], 1)])
    write_png(OUTPUT, picture & 0xF8)  # fewer shades: a smaller file


if __name__ == "__main__":
    main()
