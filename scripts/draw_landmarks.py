"""Draws the landmarks of the tracker by their groups, and iBUG's 68, on the open head: docs/landmarks.png.

python scripts/draw_landmarks.py
"""

from pathlib import Path

import cv2
import numpy as np
import torch

from flame.heads.open_head import load_open_head
from flame.landmarks import groups
from flame.landmarks.sets import IBUG_OF_478
from flame.mesh.raster import interpolate, rasterize
from preprocess.media.image import write_png

OUTPUT = Path(__file__).resolve().parents[1] / "docs" / "landmarks.png"
SIDE, PX_PER_METRE, CENTRE = 900, 4300.0, (0.0, 0.105)

COLOURS: dict[str, tuple[tuple[int, ...], tuple[int, int, int]]] = {
    "contour": (groups.CONTOUR, (120, 120, 120)),
    "eyes": (groups.RIGHT_EYE + groups.LEFT_EYE, (30, 90, 220)),
    "irises": (groups.RIGHT_IRIS + groups.LEFT_IRIS, (0, 160, 160)),
    "brows": (groups.RIGHT_BROW + groups.LEFT_BROW, (150, 70, 0)),
    "nose": (groups.NOSE, (20, 140, 40)),
    "outer lips": (groups.OUTER_LIPS, (210, 30, 60)),
    "inner lips": (groups.INNER_LIPS, (230, 120, 0)),
}


def shaded_head() -> tuple[np.ndarray, np.ndarray]:
    """The open head from the front, uint8 `[S, S, 3]`, and its 478 landmarks in the picture's px `[478, 2]`."""
    head = load_open_head()
    vertices = head.template
    points = head.landmarks(vertices[None])[0]

    def to_picture(places: torch.Tensor) -> torch.Tensor:
        x = SIDE / 2 + (places[:, 0] - CENTRE[0]) * PX_PER_METRE
        y = SIDE / 2 - (places[:, 1] - CENTRE[1]) * PX_PER_METRE
        return torch.stack([x, y, 1.0 - places[:, 2]], -1)

    fragments = rasterize(to_picture(vertices), head.faces, height=SIDE, width=SIDE, cull_backfaces=True)
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


def main() -> None:
    """Draws both panels beside each other."""
    head, points = shaded_head()
    tracker, ibug = head.copy(), head.copy()
    grouped = set().union(*(members for members, _ in COLOURS.values()))
    for index in range(groups.NUM_LANDMARKS):
        if index not in grouped:
            draw_points(tracker, points, {index: ""}, (200, 190, 180))
    for line, (name, (members, colour)) in enumerate(COLOURS.items()):
        draw_points(tracker, points, {index: str(index) for index in members}, colour)
        cv2.putText(tracker, name, (20, 40 + 26 * line), cv2.FONT_HERSHEY_SIMPLEX, 0.7, colour, 2, cv2.LINE_AA)
    draw_points(ibug, points, {index: str(number) for number, index in enumerate(IBUG_OF_478)}, (210, 30, 60))
    cv2.putText(
        ibug, "68 of iBUG among the 478", (20, 40), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (210, 30, 60), 2, cv2.LINE_AA
    )
    write_png(OUTPUT, np.concatenate([tracker, ibug], 1) & 0xF8)  # fewer shades: a smaller file


if __name__ == "__main__":
    main()
