"""Whether leaving motion out of static subjects helps on people of another kind (Portrait4D, section 3.2, ablation).

    python benchmarks/disentangling.py WITH WITHOUT --portraits FOLDER [--count 80] [--publish]

WITH and WITHOUT are checkpoint folders of two trainings that differ in `data.disentangling` alone (split and none), on
synthesised subjects. FOLDER holds photos of real people, whom neither has seen. Each drives itself, and then acts out
the expression of the next one without turning; both results are compared with the photo.
"""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from flame.errors import InputError
from flame.landmarks.ibug import to_70
from lift_on_toys import TRACKED_PX
from material import conclude, output_folder, table
from portrait4d.engines.choose import load_engine
from portrait4d.engines.portrait4d.network_engine import NetworkEngine
from portrait4d.engines.retarget import RetargetOptions, retarget
from portrait4d.jobs.selfcheck import face_mask
from portrait4d.losses.embedders import thumbnail
from portrait4d.losses.identity import align_faces
from preprocess.media.contact_sheet import contact_sheet
from preprocess.media.image import read_image, to_tensor, to_uint8
from preprocess.tracking.tracker import TrackedFrame, Tracker

SHOWN = 6


@dataclass(frozen=True)
class Scores:
    """Means over the photos.

    Attributes:
        face_db: PSNR in the face when a photo drives itself.
        identity: cosine of thumbnails then.
        identity_driven: the same when another photo does.
        change: of the picture then, levels of 255.
    """

    face_db: float
    identity: float
    identity_driven: float
    change: float


def main() -> None:
    """Measures both networks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", type=Path, nargs=2, metavar=("WITH", "WITHOUT"))
    parser.add_argument("--portraits", type=Path, required=True)
    parser.add_argument("--count", type=int, default=80)
    parser.add_argument("--publish", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows, sheets = {}, []
    frames: list[TrackedFrame] = []
    for title, path in zip(("with", "without"), arguments.checkpoints, strict=True):
        engine = load_engine(str(path))
        assert isinstance(engine, NetworkEngine)
        frames = frames or track(engine, arguments.portraits, arguments.count)
        rows[title], pictures = measure(engine, frames)
        sheets.append(pictures)
    folder = output_folder("disentangling")
    contact_sheet(
        [[*own, *other[1:]] for own, other in zip(sheets[0], sheets[1], strict=True)],
        folder / "sheet.png",
        cell_height=128,
    )
    text = f"""## With and without disentangling

`benchmarks/disentangling.py`: {
        len(frames)
    } photos of real people, whom neither toy reconstructor has seen; both learned
from synthesised subjects, the same number of images. *face dB*, *identity*: a photo drives itself (PSNR in the face;
cosine of thumbnails of the aligned faces). *driven*: the next photo's expression, the head as in the photo: the cosine,
and how much the picture changes (levels of 255).

{
        table(
            ["disentangling", "face dB", "identity", "identity, driven", "change, driven"],
            [[title, *vars(scores).values()] for title, scores in rows.items()],
        )
    }
"""
    numbers = {title: vars(scores) for title, scores in rows.items()}
    conclude("disentangling", text, numbers, is_published=arguments.publish)


def track(engine: NetworkEngine, folder: Path, count: int) -> list[TrackedFrame]:
    """The first photos in which a face is found."""
    tracker, found = Tracker(head_model=engine.head_model), []
    for path in sorted(folder.rglob("*.[jp][pn]g")):
        try:
            found.append(tracker.track_image(read_image(path)))
        except InputError:
            continue
        if len(found) == count:
            break
    return found


def measure(engine: NetworkEngine, frames: list[TrackedFrame]) -> tuple[Scores, list[list[np.ndarray]]]:
    """Scores, and rows of photo, itself, and as driven by the next one."""
    options = RetargetOptions(mode="absolute", yaw_limit=None)
    rows, sheet = [], []
    for frame, other in zip(frames, [*frames[1:], frames[0]], strict=True):
        avatar = engine.build([frame])
        own = retarget(frame.motion, avatar, options, engine.head_model)
        driven = retarget(other.motion, avatar, options, engine.head_model)
        made, moved = (
            to_uint8(engine.render(avatar, replace(drive, pose=own.pose)).image)[0] for drive in (own, driven)
        )
        photo = avatar.crop.apply(frame.image)
        points = avatar.crop.to_crop(frame.landmarks.points)
        inside = face_mask(points, size=TRACKED_PX)
        error = np.square((made[inside].astype(np.float64) - photo[inside]) / 255).mean()
        landmarks = torch.from_numpy(to_70(points)[None, :, :2].astype(np.float32)) - 0.5
        thumbs = [thumbnail(align_faces(to_tensor(picture), landmarks)) for picture in (photo, made, moved)]
        cosines = [float(torch.cosine_similarity(thumbs[0], each)) for each in thumbs[1:]]
        rows.append([-10 * np.log10(error), *cosines, float(np.abs(made.astype(float) - moved).mean())])
        if len(sheet) < SHOWN:
            sheet.append([photo, made, moved])
    return Scores(*(float(value) for value in np.mean(rows, 0))), sheet


if __name__ == "__main__":
    main()
