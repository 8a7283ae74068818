"""Draws docs/lift-mouth.png: the learned teeth, and the mouth of a public-domain portrait as it shuts and opens.

    python scripts/make_mouth_picture.py

The portrait is the astronaut of scikit-image (NASA, public domain).
"""

from pathlib import Path

import cv2
import numpy as np
import skimage.data
from numpy.typing import NDArray
from PIL import Image

from flame.landmarks.groups import MOUTH_CORNERS, OUTER_LIP_MIDDLES
from portrait4d.engines.lift.engine import LiftEngine
from portrait4d.engines.lift.teeth import load_teeth_model
from portrait4d.engines.own_drive import edited_drive
from preprocess.media.contact_sheet import with_caption
from preprocess.media.image import to_uint8
from preprocess.tracking.tracker import Tracker

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "lift-mouth.png"

CELL = 176
"""Side of a picture, px."""

POSES: dict[str, dict[str, float]] = {
    "the photo": {},
    "shut": {"jaw_open": 0.0, "smile": 0.2},
    "jaw_open .3": {"jaw_open": 0.3},
    "jaw_open .6": {"jaw_open": 0.6},
    "jaw_open 1, no smile": {"jaw_open": 1.0, "smile": 0.0},
    "tongueOut": {"jaw_open": 0.6, "smile": 0.0, "tongueOut": 1.0},
}


def mouths() -> NDArray[np.uint8]:
    """One row of mouths `[H, W, 3]`."""
    engine = LiftEngine()
    avatar = engine.build([Tracker(head_model=engine.head_model).track_image(skimage.data.astronaut())])
    lips = avatar.motion.landmarks[0, [*MOUTH_CORNERS, *OUTER_LIP_MIDDLES], :2]
    (x, y), reach = lips.mean(0).round().astype(int), round(0.9 * float(np.ptp(lips[:, 0])))
    cells = []
    for name, values in POSES.items():
        motion = avatar.motion.edit(values, model=engine.head_model) if values else avatar.motion
        image = to_uint8(engine.render(avatar, edited_drive(avatar, motion, engine.head_model)).image)[0]
        cells.append(_labelled(image[y - reach : y + reach, x - reach : x + reach], name, CELL))
    return np.concatenate(cells, 1)


def learned_teeth(width: int) -> NDArray[np.uint8]:
    """The mean teeth, and the mean moved by two standard deviations of the first two components, `[H, width, 3]`."""
    model = load_teeth_model()
    looks = {"mean of 291 smiles": model.mean} | {
        f"{sign} component {number + 1}": model.mean + factor * model.components[number]
        for number in range(2)
        for sign, factor in (("+", 2.0), ("-", -2.0))
    }
    cells = []
    for name, look in looks.items():
        picture = look * model.tooth_colour * model.opacity[..., None] + 0.1 * (1 - model.opacity[..., None])
        cells.append(_labelled(np.asarray((picture.clip(0, 1) * 255).round(), np.uint8), name, width // len(looks)))
    row = np.concatenate(cells, 1)
    return np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0)), constant_values=255)


def _labelled(picture: NDArray[np.uint8], name: str, width: int) -> NDArray[np.uint8]:
    height = round(width * picture.shape[0] / picture.shape[1])
    shown = np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)
    return with_caption(shown, name)


def main() -> None:
    """Writes the picture."""
    row = mouths()
    sheet = np.concatenate([row, learned_teeth(row.shape[1])])
    Image.fromarray(sheet).quantize(200).save(PICTURE, optimize=True)
    print(f"{PICTURE}: {PICTURE.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
