"""How well the head model fits: 16 reference portraits with 98 reference landmarks each.

    python benchmarks/fitting.py [--publish]

`fit` is the mean distance of the fitted model's 468 points from the tracker's, `model` and `tracker` those of eye, nose
and mouth corners from the reference landmarks, all in percent of the reference's outer-eye distance.
"""

import argparse
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from flame.errors import InputError
from flame.heads.open_head import load_open_head
from flame.landmarks.sets import CORNERS_OF_98_AND_478, WFLW_OUTER_EYE_CORNERS
from material import conclude, output_folder, shared_folder, table
from preprocess.fitting.frames import HeadFitter
from preprocess.media.contact_sheet import contact_sheet
from preprocess.media.image import read_image
from preprocess.tracking.tracker import TrackedFrame, Tracker

GOALS = "Goals: all detected, mean fit error at most 1.8 % of the outer-eye distance."


def fitted_points(fitter: HeadFitter, tracked: TrackedFrame) -> np.ndarray:
    """The fitted model's 478 landmarks in pixels of the picture."""
    motion = tracked.motion
    points = fitter.project(motion.pose.row(0), motion.head.row(0))
    return tracked.crop.to_image(points)


def corner_errors(points: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """Mean distance per group and over all of them, percent of the reference's outer-eye distance.

    Args:
        points: [478, 2 or 3] px.
        reference: [98, 2] px.
    """
    unit = np.linalg.norm(reference[WFLW_OUTER_EYE_CORNERS[0]] - reference[WFLW_OUTER_EYE_CORNERS[1]])
    errors = {}
    for group, pairs in CORNERS_OF_98_AND_478.items():
        wanted, got = reference[list(pairs)], points[list(pairs.values()), :2]
        errors[group] = float(100 * np.linalg.norm(got - wanted, axis=-1).mean() / unit)
    wanted = np.concatenate([reference[list(CORNERS_OF_98_AND_478[group])] for group in ("eyes", "nose", "mouth")])
    got = np.concatenate(
        [points[list(CORNERS_OF_98_AND_478[group].values()), :2] for group in ("eyes", "nose", "mouth")]
    )
    errors["corners"] = float(100 * np.linalg.norm(got - wanted, axis=-1).mean() / unit)
    return errors


def overlay(image: np.ndarray, fitted: np.ndarray, tracked: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """The picture with tracked (green) and fitted (red) points and the reference (blue)."""
    scale = 2
    canvas = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    for points, colour, radius in (
        (tracked, (0, 220, 0), 2),
        (fitted, (255, 30, 30), 2),
        (reference, (40, 90, 255), 3),
    ):
        for x, y in points[:, :2] * scale:
            cv2.circle(canvas, (int(x), int(y)), radius, colour, -1, cv2.LINE_AA)
    low, high = reference.min(0) * scale, reference.max(0) * scale
    pad = 0.15 * (high - low)
    top, bottom = int(max(0, low[1] - 2 * pad[1])), int(high[1] + pad[1])
    left, right = int(max(0, low[0] - pad[0])), int(high[0] + pad[0])
    return np.ascontiguousarray(canvas[top:bottom, left:right])


def main() -> None:
    """Tracks the portraits, writes table and overlay sheet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--publish", action="store_true", help="rewrite its page in docs/results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder = shared_folder() / "data" / "p4d"
    with np.load(folder / "params.npz", allow_pickle=False) as values:
        files, references = values["files"], values["lmk98"]
    model = load_open_head()
    tracker, fitter = Tracker(head_model=model), HeadFitter(model)
    rows: list[dict[str, Any]] = []
    pictures = []
    for file, reference in zip(files, references, strict=True):
        image = read_image(folder / "images" / Path(str(file)).name)
        try:
            tracked = tracker.track_image(image)
        except InputError as error:
            print(f"{file}: {error}")
            rows.append({"file": str(file), "detected": False})
            continue
        fitted, seen = fitted_points(fitter, tracked), tracked.landmarks.points
        row: dict[str, Any] = {"file": str(file), "detected": True, "fit": 100 * float(tracked.motion.fit_error[0])}
        row |= {f"model_{name}": value for name, value in corner_errors(fitted, reference).items()}
        row |= {f"tracker_{name}": value for name, value in corner_errors(seen, reference).items()}
        rows.append(row)
        pictures.append(overlay(image, fitted, seen, reference))
    contact_sheet(
        [pictures[start : start + 4] for start in range(0, len(pictures), 4)],
        output_folder("fitting") / "overlay.png",
        ["green: tracker, red: fitted model, blue: reference"] * 4,
        cell_height=420,
    )
    conclude("fitting", report_text(rows), rows, is_published=arguments.publish)


def report_text(rows: list[dict[str, Any]]) -> str:
    """The table, means first."""
    found = [row for row in rows if row["detected"]]
    names = [
        "fit",
        *(f"{who}_{group}" for who in ("model", "tracker") for group in ("corners", *CORNERS_OF_98_AND_478)),
    ]
    means = [float(np.mean([row[name] for row in found])) for name in names] if found else []
    body = [[row["file"], *(row.get(name) for name in names)] for row in rows]
    worst = max((row["fit"] for row in found), default=float("nan"))
    summary = f"Detected: {len(found)} of {len(rows)}. Worst fit: {worst:.2f} %."
    header = ["portrait, errors in %", *(name.replace("_", ": ") for name in names)]
    lines = table(header, [["mean", *means], *body], digits=2)
    notes = "\n".join(line for line in (__doc__ or "").splitlines()[4:]).strip()
    return "\n\n".join(["## Fit of the head model", GOALS, notes, summary, lines])


if __name__ == "__main__":
    main()
