"""The demo: a public-domain portrait animated by a bundled motion, written as a video and a contact sheet."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from flame.errors import InputError
from portrait4d.options import ReenactOptions
from portrait4d.pipeline import load_models, reenact
from portrait4d.reenactment.report import ReenactReport
from portrait4d.reenactment.result_name import check_result
from portrait4d.runtime.progress import Progress, ignore_progress
from preprocess.media.contact_sheet import contact_sheet
from preprocess.media.image import write_png
from preprocess.media.video import read_frames

MOTION_FILE = Path(__file__).parents[1] / "assets" / "demo_motion.npz"
NUM_SHEET_FRAMES = 9


@dataclass(frozen=True)
class DemoReport:
    """Paths of what the demo wrote, and the report of its reenactment."""

    photo: str
    video: str
    sheet: str
    reenactment: ReenactReport


def demo_photo() -> np.ndarray:
    """The portrait of astronaut Eileen Collins, uint8 `[512, 512, 3]`: NASA, public domain, inside scikit-image."""
    from skimage import data

    return data.astronaut()


def run_demo(
    folder: str | Path,
    *,
    suffix: str = ".mp4",
    options: ReenactOptions | None = None,
    progress: Progress = ignore_progress,
) -> DemoReport:
    """Writes `photo.png`, `demo.mp4` and `demo.png` (photo and frames of the result) into `folder`.

    Args:
        folder: the output folder.
        suffix: of the result; empty for a folder of pictures.
        options: as in `reenact`, with engine auto or lift.
        progress: called after each step.

    Raises:
        InputError: an engine other than lift was chosen: the bundled motion is of lift's head model.
    """
    options = options or ReenactOptions()
    if options.engine not in ("auto", "lift"):
        raise InputError(
            f"expected engine lift for the demo, whose bundled motion holds no motion codes, got {options.engine!r}: "
            f"use portrait4d reenact PHOTO VIDEO --engine {options.engine}"
        )
    options = replace(options, engine="lift")
    folder = Path(folder)
    photo, video, sheet = folder / "photo.png", folder / f"demo{suffix}", folder / "demo.png"
    check_result(video, options)
    write_png(photo, demo_photo(), is_synthetic=False)
    models = load_models(options)
    report = reenact(photo, MOTION_FILE, video, options=options, models=models, progress=progress)
    write_sheet(demo_photo(), video, report.num_frames, sheet)
    return DemoReport(str(photo), str(video), str(sheet), report)


def write_sheet(photo: np.ndarray, video: Path, num_frames: int, path: Path) -> None:
    """Writes a contact sheet of the photo and evenly spaced frames of the result, in two rows.

    Args:
        photo: uint8 `[H, W, 3]`.
        video: the result.
        num_frames: number of its frames.
        path: the picture to write.
    """
    chosen = {int((index + 0.5) * num_frames / NUM_SHEET_FRAMES) for index in range(NUM_SHEET_FRAMES)}
    pictures = [frame.image for frame in read_frames(video) if frame.index in chosen]
    pictures = [photo, *pictures]
    half = (len(pictures) + 1) // 2
    contact_sheet([pictures[:half], pictures[half:]], path)
