"""Draws docs/lift-behind.png: matte, completed wall and turned head, before the photo's own wall and a striped one.

    python scripts/make_behind_picture.py

The portrait is the astronaut of scikit-image (NASA, public domain); the stripes are drawn here.
"""

from pathlib import Path

import cv2
import numpy as np
import skimage.data
from numpy.typing import NDArray
from PIL import Image

from portrait4d.engines.lift.avatar import LiftAvatar
from portrait4d.engines.lift.canvas import MARGIN
from portrait4d.engines.lift.engine import LiftEngine
from portrait4d.engines.own_drive import edited_drive
from preprocess.media.contact_sheet import with_caption
from preprocess.media.image import to_uint8
from preprocess.tracking.tracker import TrackedFrame, Tracker

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "lift-behind.png"

CELL = 176
"""Side of a picture, px."""

TURNS = {"yaw -18": {"yaw_degrees": -18.0}, "yaw 18": {"yaw_degrees": 18.0}, "roll 10": {"roll_degrees": 10.0}}

GREEN = (40, 160, 72)
STRIPE_PX = 26


def draw_row(engine: LiftEngine, source: TrackedFrame) -> NDArray[np.uint8]:
    """A source, its matte on green, the wall behind it, and three turns, [H, W, 3]."""
    avatar = engine.build([source])
    photo, cut, wall = source.crop.apply(source.image), on_green(avatar), to_bytes(avatar.background.numpy())
    cells = [label(photo, "the photo"), label(cut, "its matte"), label(wall, "its wall")]
    for name, turn in TURNS.items():
        drive = edited_drive(avatar, avatar.motion.edit(turn), engine.head_model)
        cells.append(label(to_uint8(engine.render(avatar, drive).image)[0], name))
    return np.concatenate(cells, 1)


def on_green(avatar: LiftAvatar) -> NDArray[np.uint8]:
    """The person of an avatar before plain green, [S, S, 3]."""
    inside = slice(MARGIN, -MARGIN)
    person = avatar.person[inside, inside].numpy()
    return to_bytes(person[..., :3] + (1 - person[..., 3:]) * np.array(GREEN, np.float32) / 255)


def before_stripes(engine: LiftEngine, source: TrackedFrame) -> NDArray[np.uint8]:
    """The person of a source before slanted stripes, in the source's crop, [S, S, 3]."""
    avatar = engine.build([source])
    inside = slice(MARGIN, -MARGIN)
    person = avatar.person[inside, inside].numpy()
    y, x = np.mgrid[: len(person), : len(person)]
    light = ((x + y // 4) // STRIPE_PX % 2)[..., None]
    wall = np.where(light, np.array([0.86, 0.83, 0.74]), np.array([0.42, 0.5, 0.6])).astype(np.float32)
    soft = np.asarray(cv2.GaussianBlur(wall, (0, 0), 1))
    return to_bytes(person[..., :3] + (1 - person[..., 3:]) * soft)


def to_bytes(picture: NDArray) -> NDArray[np.uint8]:
    """A picture in [0, 1] as bytes."""
    return np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8)


def label(picture: NDArray[np.uint8], text: str) -> NDArray[np.uint8]:
    """A picture at the cells' size with a line of text below, [H, CELL, 3]."""
    small = cv2.resize(picture, (CELL, CELL), interpolation=cv2.INTER_AREA)
    return with_caption(np.asarray(small, np.uint8), text)


def main() -> None:
    """Writes the picture."""
    engine = LiftEngine()
    tracker = Tracker(head_model=engine.head_model)
    source = tracker.track_image(skimage.data.astronaut())
    striped = tracker.track_image(before_stripes(engine, source))
    rows = np.concatenate([draw_row(engine, source), draw_row(engine, striped)])
    Image.fromarray(rows).quantize(192).save(PICTURE, optimize=True)
    print(f"wrote {PICTURE.name}, {PICTURE.stat().st_size >> 10} kB")


if __name__ == "__main__":
    main()
