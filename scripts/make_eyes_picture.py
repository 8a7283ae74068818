"""Draws what `lift` makes of the eyes of one photo: docs/lift-eyes.png. The photo is public domain (NASA).

python scripts/make_eyes_picture.py
"""

from pathlib import Path

import cv2
import numpy as np
import skimage.data
from numpy.typing import NDArray
from PIL import Image

from flame.landmarks.groups import OUTER_EYE_CORNERS, outer_eye_distance
from portrait4d.engines.own_drive import edited_drive
from portrait4d.options import PoseOptions
from portrait4d.reenactment.head_crops import render_drive
from portrait4d.reenactment.models import load_models
from preprocess.media.contact_sheet import with_caption

PICTURE = Path(__file__).parent.parent / "docs" / "lift-eyes.png"

EDITS: dict[str, dict[str, float | tuple[float, float]]] = {
    "as in the photo": {},
    "blink 0.5": {"blink": 0.5},
    "blink 1": {"blink": 1.0},
    "blink_left 1": {"blink_left": 1.0},
    "gaze down": {"gaze": (0.0, -1.0)},
    "gaze up": {"gaze": (0.0, 1.0)},
    "gaze to the side": {"gaze": (0.8, 0.0)},
    "eyes_wide 1": {"eyes_wide": 1.0},
}
COLUMNS = 4
HEIGHT, WIDTH = 104, 240
"""Of a picture, px."""


def draw_cells() -> list[NDArray[np.uint8]]:
    """Pictures `[H, WIDTH, 3]` of both eyes, one an edit, with their names below."""
    models = load_models(PoseOptions(engine="lift"))
    avatar = models.engine.build([models.tracker.track_image(skimage.data.astronaut())])
    points = avatar.motion.landmarks[0]
    scale = WIDTH / (1.45 * float(outer_eye_distance(points)))
    middle = points[list(OUTER_EYE_CORNERS), :2].mean(0)
    place = np.array([[scale, 0, WIDTH / 2 - scale * middle[0]], [0, scale, HEIGHT / 2 - scale * middle[1]]])
    cells = []
    for name, edit in EDITS.items():
        motion = avatar.motion.edit(edit, model=models.head_model)
        drawn = render_drive(avatar, edited_drive(avatar, motion, models.head_model), models=models)[0]
        both = cv2.warpAffine(drawn, place, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC)
        cells.append(with_caption(np.asarray(both, np.uint8), name))
    return cells


def main() -> None:
    """Writes the sheet."""
    cells = draw_cells()
    rows = [np.concatenate(cells[first : first + COLUMNS], 1) for first in range(0, len(cells), COLUMNS)]
    Image.fromarray(np.concatenate(rows)).save(PICTURE, optimize=True)
    print(f"{PICTURE}: {PICTURE.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
