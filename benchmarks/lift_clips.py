"""Lifts the first frame of every open clip, drives it by its clip, keeps the frames and measures where it hurts.

python benchmarks/lift_clips.py FOLDER [--clips d01 d02] [--network st-lpips-alex]

FOLDER gets `results.json`, `results.md`, and for each clip the true and the made frames; photos of the data never enter
the repository, so it lies outside or in `out/`. `PYTHONPATH` says whose `lift` it is: run it on two checkouts, then
`lift_compare.py` on both folders.
"""

import argparse
import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from local_measures import (
    DEFINITIONS,
    OPEN_MOUTH,
    box_distance,
    eye_box,
    halo_energy,
    halo_ring,
    head_motion,
    mouth_box,
    mouth_gap,
    shut_eyes,
)
from material import find, table
from portrait4d.evaluation.motion import pose_differences
from portrait4d.evaluation.perceptual import PerceptualDistance
from portrait4d.evaluation.pictures import psnr
from portrait4d.losses.choices import TrainedPerceptualName
from portrait4d.options import ReenactOptions
from portrait4d.pipeline import Models, load_models
from preprocess.faces.matte import PortraitMatte
from preprocess.media.image import write_png
from self_reenactment import Clip, drive_of, load_clip, render

CLIPS = ("d01", "d02", "d03", "d04", "d05", "d06", "d07", "d08", "d10")
"""All drivers of the reference material but d09, whose scene changes."""
MOST_SHUT, MOST_OPEN, NUM_SPREAD = 10, 10, 12
"""Frames of a clip with a shut eye, with an open mouth, and evenly spread."""

COLUMNS = {"lid": "lid", "mouth_box": "mouth box", "halo": "halo", "frame_psnr": "frame dB"}


def choose_frames(clip: Clip) -> dict[str, list[int]]:
    """Numbers of the frames that are made, of the true track alone: `shut`, `open`, `turn` (the largest), `spread`."""
    frames = np.array(clip.spread)
    landmarks = clip.motion.landmarks[frames]
    turns = pose_differences(clip.motion.rotation[frames], clip.motion.rotation[:1].repeat(len(frames), 0))
    return {
        "shut": _evenly(frames[shut_eyes(landmarks).any(1)], MOST_SHUT),
        "open": _evenly(frames[mouth_gap(landmarks) >= OPEN_MOUTH], MOST_OPEN),
        "turn": [int(frames[np.argmax(turns)])],
        "spread": _evenly(frames, NUM_SPREAD),
    }


def _evenly(frames: NDArray, most: int) -> list[int]:
    places = np.unique(np.linspace(0, len(frames) - 1, most).round().astype(int)) if len(frames) else []
    return [int(frames[place]) for place in places]


def boxes_of(clip: Clip, index: int) -> dict[str, Any]:
    """The boxes of one frame: `eyes` (those that are shut) and `mouth` (None unless open), as in `local_measures`."""
    landmarks = clip.motion.landmarks
    order = clip.spread.index(index)
    is_shut = shut_eyes(landmarks[clip.spread])[order]
    is_open = mouth_gap(landmarks[index : index + 1])[0] >= OPEN_MOUTH
    size = clip.crop.size
    return {
        "eyes": [eye_box(landmarks[index], side, size) for side in (0, 1) if is_shut[side]],
        "mouth": mouth_box(landmarks[index], size) if is_open else None,
    }


def measure_frames(
    images: dict[int, NDArray], clip: Clip, boxes: dict[int, Any], mattes: dict[int, NDArray], network: Any
) -> dict[str, float | None]:
    """The local measures of made frames, uint8 [S, S, 3] by number; None where no frame shows what is measured."""
    lids, mouths, halos, decibels = [], [], [], []
    for index, image in images.items():
        truth = clip.truth[index]
        lids += [box_distance(image, truth, box, network) for box in boxes[index]["eyes"]]
        if boxes[index]["mouth"] is not None:
            mouths.append(box_distance(image, truth, boxes[index]["mouth"], network))
        halos.append(halo_energy(image, truth, halo_ring(mattes[index], mattes[0])))
        decibels.append(psnr(image, truth))
    values = {"lid": lids, "mouth_box": mouths, "halo": halos, "frame_psnr": decibels}
    return {name: float(np.mean(value)) if value else None for name, value in values.items()}


def lift_clip(name: str, models: Models, matte: PortraitMatte, network: Any, folder: Path) -> dict[str, Any]:
    """Makes and measures the chosen frames of a clip; its part of `results.json`."""
    clip = load_clip(find(name), models, max_seconds=6.0, num_spread=10**6, num_run=0)
    chosen = choose_frames(clip)
    indices = sorted({index for part in chosen.values() for index in part})
    avatar = models.engine.build([clip.source])
    drive = drive_of(clip.motion, avatar, models, options=ReenactOptions(mode="absolute", yaw_limit=None))
    made = dict(zip(indices, render(avatar, drive, indices, models), strict=True))
    boxes = {index: boxes_of(clip, index) for index in indices}
    mattes = {index: matte(clip.truth[index]) for index in (0, *indices)}
    (folder / name).mkdir(parents=True, exist_ok=True)
    write_png(folder / name / "source.png", clip.truth[0], is_synthetic=False)
    for index in indices:
        write_png(folder / name / f"truth_{index:04d}.png", clip.truth[index], is_synthetic=False)
        write_png(folder / name / f"lift_{index:04d}.png", made[index])
    landmarks = clip.motion.landmarks
    still = dict.fromkeys(indices, clip.truth[0])
    return {
        "clip": name,
        "chosen": chosen,
        "boxes": {str(index): box for index, box in boxes.items()},
        "motion": float(np.median(head_motion(landmarks[clip.spread], landmarks[0], clip.crop.size))),
        "num_shut_eyes": sum(len(box["eyes"]) for box in boxes.values()),
        "num_open": sum(box["mouth"] is not None for box in boxes.values()),
        "photo": measure_frames(still, clip, boxes, mattes, network),
        "lift": measure_frames(made, clip, boxes, mattes, network),
    }


def describe(results: list[dict[str, Any]], network: str) -> str:
    """The table of one run, with its definitions."""
    rows = [
        [item["clip"], variant, item["motion"], item["num_shut_eyes"], item["num_open"]]
        + [item[variant][key] for key in COLUMNS]
        for item in results
        for variant in ("photo", "lift")
    ]
    for variant in ("photo", "lift"):
        columns = [[item[variant][key] for item in results] for key in COLUMNS]
        means = [np.mean([value for value in column if value is not None] or [np.nan]).item() for column in columns]
        rows.append(["mean", variant, None, None, None, *means])
    header = ["clip", "variant", "motion, %", "shut eyes", "open mouths", *COLUMNS.values()]
    return f"Network: {network}.\n\n{DEFINITIONS}\n\n{table(header, rows)}"


def main() -> None:
    """Lifts the clips and writes the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clips", nargs="+", default=list(CLIPS))
    parser.add_argument("--network", choices=get_args(TrainedPerceptualName), default="st-lpips-alex")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    network = PerceptualDistance(arguments.network)
    models, matte = load_models(ReenactOptions()), PortraitMatte()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    results = []
    for name in arguments.clips:
        results.append(lift_clip(name, models, matte, network, arguments.folder))
        print(name, results[-1]["lift"])
    (arguments.folder / "results.json").write_text(json.dumps(results, indent=1))
    text = describe(results, arguments.network)
    (arguments.folder / "results.md").write_text(text + "\n")
    print("\n" + text)


if __name__ == "__main__":
    main()
