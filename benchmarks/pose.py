"""Expressions set by name, read back: 12 names at 0, 0.25, 0.5 and 1 on 4 portraits, drawn by `lift`.

    python benchmarks/pose.py [--publish]

The tracker reads the pictures; the measuring Python (`$PORTRAIT4D_METRICS_PYTHON`), if there is one, reads them by
MediaPipe's own network and compares identities.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from flame.heads.expression_names import actions_of
from material import conclude, measure, output_folder, shared_folder, table
from portrait4d.engines.own_drive import edited_drive
from portrait4d.options import ReenactOptions
from portrait4d.pipeline import build_source
from portrait4d.reenactment.head_crops import render_drive
from portrait4d.reenactment.models import Models, load_models
from portrait4d.runtime.streams import one_torch_thread
from preprocess.media.image import write_png

PORTRAITS = ("5b4c64433c30", "61f531f6cb52", "6624618d2d4e", "65b0409d17ea")
"""A shut mouth; a little smile that shows teeth; a wide smile with teeth; a shut mouth, glasses."""

NAMES = (
    *("smile", "frown", "jaw_open", "pucker", "funnel", "mouthLeft"),
    *("blink", "blink_left", "eyes_wide", "brows_up", "brows_down", "sneer"),
)
LEVELS = (0.0, 0.25, 0.5, 1.0)

INTRODUCTION = """Each name is set on the photo's own motion, alone, at 0, 0.25, 0.5 and 1, drawn by `lift` and read
back from the picture: by the project's tracker, which is sparse (small actions are zero, and of similar ones it may
choose another), and by MediaPipe's blendshape network, which is not ours. Rank correlation (Spearman) of what was asked
and what was read over the four levels, mean of 4 portraits and the least; goal .9 for each name that a photo can show.
Gain: the read value at 1 less that at 0. Identity: probability that the picture at 1 shows the person of the photo,
least of 4 (a calibrated mean of two foreign networks)."""


def main() -> None:
    """Draws, reads and reports."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--publish", action="store_true", help="rewrite its page in docs/results")
    arguments = parser.parse_args()
    folder = output_folder("pose")
    models = load_models(ReenactOptions(engine="lift"))
    reads = [row for name in PORTRAITS for row in read_portrait(name, models, folder)]
    pictures = [str(folder / row["picture"]) for row in reads]
    photos = {
        str(folder / row["picture"]): str(folder / f"{row['portrait']}.png") for row in reads if row["level"] == 1
    }
    seen = measure({"pictures": pictures, "sources": photos}, folder, script="measure_pictures.py")
    for row in reads:
        found = {} if seen is None else seen[str(folder / row["picture"])]
        blend = found.get("blend") or {}
        actions = [blend[action] for action in actions_of(row["name"]) if action in blend]
        row["mediapipe"] = float(np.mean(actions)) if actions else None
        row["identity"] = found.get("identity")
    conclude("pose", report_text(reads), reads, is_published=arguments.publish)


@one_torch_thread()
def read_portrait(name: str, models: Models, folder: Path) -> list[dict[str, Any]]:
    """Draws all names at all levels on one portrait, keeps the pictures, and reads them by the tracker."""
    (path,) = (shared_folder() / "data" / "portraits").glob(f"{name}*")
    source = build_source(path, models=models)
    assert source.picture is not None
    write_png(folder / f"{name}.png", source.avatar.crop.apply(source.picture))
    rows = []
    for expression in NAMES:
        for level in LEVELS:
            motion = source.avatar.motion.edit({expression: level}, model=models.head_model)
            drive = edited_drive(source.avatar, motion, models.head_model)
            image = render_drive(source.avatar, drive, models=models)[0]
            picture = f"{name}_{expression}_{100 * level:03.0f}.png"
            write_png(folder / picture, image)
            read = models.tracker.track_image(image).motion.values(expression)[0]
            rows.append(
                {"portrait": name, "name": expression, "level": level, "picture": picture, "tracker": float(read)}
            )
    return rows


def rank_correlations(rows: list[dict[str, Any]], reader: str) -> list[float]:
    """The rank correlation of levels and readings of each portrait; 0 where the readings do not change."""
    found = []
    for portrait in PORTRAITS:
        mine = [row for row in rows if row["portrait"] == portrait]
        values = [row[reader] for row in mine]
        if any(value is None for value in values):
            continue
        is_still = len(set(values)) == 1
        found.append(0.0 if is_still else float(np.asarray(spearmanr([row["level"] for row in mine], values))[0]))
    return found


def gain(rows: list[dict[str, Any]], reader: str) -> float | None:
    """The mean reading at level 1 less that at level 0."""
    ends = [[row[reader] for row in rows if row["level"] == level] for level in (1.0, 0.0)]
    if any(value is None for side in ends for value in side):
        return None
    return float(np.mean(ends[0]) - np.mean(ends[1]))


def report_text(reads: list[dict[str, Any]]) -> str:
    """The table."""
    rows = []
    for name in NAMES:
        mine = [row for row in reads if row["name"] == name]
        ours, theirs = rank_correlations(mine, "tracker"), rank_correlations(mine, "mediapipe")
        identity = [row["identity"] for row in mine if row["identity"] is not None]
        rows.append(
            [
                f"`{name}`",
                float(np.mean(ours)), min(ours), gain(mine, "tracker"),
                float(np.mean(theirs)) if theirs else None, min(theirs, default=None), gain(mine, "mediapipe"),
                min(identity, default=None),
            ]
        )  # fmt: skip
    header = ["name", "tracker: rank", "least", "gain", "MediaPipe: rank", "least", "gain", "identity, least"]
    return "\n\n".join(["## Expressions set by name, read back", INTRODUCTION, table(header, rows, digits=2)])


if __name__ == "__main__":
    main()
