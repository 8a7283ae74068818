"""What a turned head of `lift` hides, and the light on it, against the truth: a toy person that really turns.

    python benchmarks/lift_turned.py [--publish]

`--publish` also draws docs/lift-turned.png. The person is made of the open head, so that every view is known.
"""

import argparse
import dataclasses
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from flame.landmarks.groups import NUM_MESH
from material import ROOT, conclude, table
from portrait4d.engines.lift.avatar import LiftAvatar
from portrait4d.engines.lift.engine import LiftEngine
from portrait4d.engines.lift.far_side import FarSide
from portrait4d.engines.lift.lighting import NUM_HARMONICS
from portrait4d.engines.retarget import RetargetOptions, retarget
from portrait4d.evaluation.pictures import psnr
from portrait4d.jobs.evaluation.material import in_crop
from preprocess.media.contact_sheet import with_caption
from preprocess.media.image import to_uint8
from preprocess.tracking.tracker import TrackedFrame, Tracker
from toy_views import placed, toy_views

PICTURE = ROOT / "docs" / "lift-turned.png"
CELL = 176
"""Side of a picture, px."""

SEED = 3
FAR_YAWS, FAR_LAMP, FAR_AMBIENT = (-30.0, -15.0, 0.0, 15.0, 30.0), (0.0, 0.3, 1.0), 0.5
"""The source is the first view; the lamp stands in front."""
LIGHT_YAWS, SIDE_LAMP, SIDE_AMBIENT = (0.0, -30.0, -15.0, 15.0, 30.0), (1.0, 0.2, 0.5), 0.25
"""The source is the first view; the lamp stands at the viewer's right."""
BLUR_PX = 8.0
"""Standard deviation of the blur under which only light is left of a difference."""


@dataclasses.dataclass(frozen=True)
class Views:
    """A person's true views in the crop of the first, and how its avatar shows them with and without a part.

    Attributes:
        yaws: degrees of each view after the first.
        truth: `[V, S, S, 3]`.
        without: likewise, without the part.
        shown: likewise, with it.
        faces: `[V, S, S]` the pixels of the face.
    """

    yaws: tuple[float, ...]
    truth: NDArray[np.uint8]
    without: NDArray[np.uint8]
    shown: NDArray[np.uint8]
    faces: NDArray[np.bool_]


def far_side(engine: LiftEngine, tracker: Tracker) -> Views:
    """A source turned by 30 degrees that turns to the front and beyond."""
    frames = tracked(engine, tracker, FAR_YAWS, FAR_LAMP, FAR_AMBIENT)
    avatar = engine.build(frames[:1])
    none = FarSide.empty(engine.head_model.num_expression)
    return views(engine, avatar, dataclasses.replace(avatar, far_side=none), frames, FAR_YAWS)


def side_lamp(engine: LiftEngine, tracker: Tracker) -> Views:
    """A frontal source in light from one side that turns both ways."""
    frames = tracked(engine, tracker, LIGHT_YAWS, SIDE_LAMP, SIDE_AMBIENT)
    avatar = engine.build(frames[:1])
    carried = torch.eye(1, NUM_HARMONICS)[0]
    return views(engine, avatar, dataclasses.replace(avatar, light=carried), frames, LIGHT_YAWS)


def tracked(
    engine: LiftEngine, tracker: Tracker, yaws: tuple[float, ...], lamp: tuple[float, float, float], ambient: float
) -> list[TrackedFrame]:
    """Views of the toy person, in the crop of the first."""
    pictures = toy_views(engine.head_model, yaws, seed=SEED, to_light=lamp, ambient=ambient)
    frames = [tracker.track_image(picture) for picture in pictures]
    return [in_crop(frame, frames[0].crop, engine.head_model) for frame in frames]


def views(
    engine: LiftEngine, avatar: LiftAvatar, without: LiftAvatar, frames: list[TrackedFrame], yaws: tuple[float, ...]
) -> Views:
    """All views but the first, as two avatars of the first show them."""
    others = frames[1:]
    faces = [face_pixels(frame) for frame in others]
    truth = np.stack([frame.crop.apply(frame.image) for frame in others])
    plain, full = (np.stack([show(engine, item, frame) for frame in others]) for item in (without, avatar))
    return Views(yaws[1:], truth, plain, full, np.stack(faces))


def show(engine: LiftEngine, avatar: LiftAvatar, frame: TrackedFrame) -> NDArray[np.uint8]:
    """The avatar in the pose of a view, `[S, S, 3]`."""
    drive = retarget(frame.motion, avatar, RetargetOptions(mode="absolute", yaw_limit=None), engine.head_model)
    return to_uint8(engine.render(avatar, drive.replace(pose=placed(engine.head_model, avatar, frame))).image)[0]


def face_pixels(frame: TrackedFrame) -> NDArray[np.bool_]:
    """Pixels `[S, S]` inside the hull of the landmarks."""
    hull = cv2.convexHull(frame.motion.landmarks[0, :NUM_MESH, :2].round().astype(np.int32))
    return cv2.fillConvexPoly(np.zeros((frame.crop.size,) * 2, np.uint8), hull, 1) > 0


def light_error(shown: NDArray[np.uint8], truth: NDArray[np.uint8], face: NDArray[np.bool_]) -> float:
    """Mean difference of blurred pictures well inside the face, in levels."""
    inner = cv2.erode(face.astype(np.uint8), np.ones((15, 15), np.uint8)) > 0
    one, other = (cv2.GaussianBlur(item.astype(np.float32), (0, 0), BLUR_PX) for item in (shown, truth))
    return float(np.abs(one - other)[inner].mean())


def face_psnr(shown: NDArray[np.uint8], truth: NDArray[np.uint8], face: NDArray[np.bool_]) -> float:
    """Of the face's pixels, in dB."""
    return float(psnr(shown[face][None], truth[face][None]))


def draw(rows: dict[str, Views], path: Path) -> None:
    """Truth, without and with, of every view, a row for each; the parts one below the other."""
    lines = []
    for part, seen in rows.items():
        for name, pictures in (("truth", seen.truth), (f"without {part}", seen.without), ("lift", seen.shown)):
            cells = [label(one, f"{name}, {yaw:+.0f}") for one, yaw in zip(pictures, seen.yaws, strict=True)]
            lines.append(np.concatenate(cells, 1))
    Image.fromarray(np.concatenate(lines)).quantize(192).save(path, optimize=True)


def label(picture: NDArray[np.uint8], text: str) -> NDArray[np.uint8]:
    """A picture at the cells' size with a line of text below, `[H, CELL, 3]`."""
    small = cv2.resize(picture, (CELL, CELL), interpolation=cv2.INTER_AREA)
    return with_caption(np.asarray(small, np.uint8), text)


def main() -> None:
    """Measures, prints, and publishes on request."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--publish", action="store_true")
    options = parser.parse_args()
    engine = LiftEngine()
    tracker = Tracker(head_model=engine.head_model)
    far, lamp = far_side(engine, tracker), side_lamp(engine, tracker)
    results = {
        "far side": [[*measured, yaw] for *measured, yaw in zip(*compare(far, face_psnr), far.yaws, strict=True)],
        "light": [[*measured, yaw] for *measured, yaw in zip(*compare(lamp, light_error), lamp.yaws, strict=True)],
    }
    tables = {
        name: table(["turned to", "without", "with"], [[f"{yaw:+.0f}°", f"{a:.1f}", f"{b:.1f}"] for a, b, yaw in rows])
        for name, rows in results.items()
    }
    text = f"""## The far side

One toy person turned by 30° to the viewer's left is the source; the face of the same person turned further, in dB
against the truth, without and with the mirrored far side.

{tables["far side"]}

## Light from one side

The same person from the front under a lamp at the viewer's right; how far the light on the turned face is off, in
levels of 255 (pictures blurred by {BLUR_PX:.0f} px), with light that turns with the head and light that stays in the
room.

{tables["light"]}
"""
    conclude("lift-turned", text, results, is_published=options.publish)
    if options.publish:
        draw({"far side": far, "light": lamp}, PICTURE)


def compare(seen: Views, measure) -> tuple[list[float], list[float]]:
    """A measure of every view without and with the part."""
    plain, full = (
        [measure(*item) for item in zip(shown, seen.truth, seen.faces, strict=True)]
        for shown in (seen.without, seen.shown)
    )
    return plain, full


if __name__ == "__main__":
    main()
