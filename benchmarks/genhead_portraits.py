"""How good a GenHead of `configs/genhead/portraits64.yaml` is: distance to the photos, and control, by the tracker.

    python benchmarks/genhead_portraits.py CHECKPOINT... --data FOLDER [--publish]

CHECKPOINT is a folder below a run's `checkpoints`. FOLDER is what `portrait4d data ffhq PHOTOS -o FOLDER` made. There
is no truth for a person who was never photographed with another expression: what a generated picture shows is read
from it by the tracker, after it was enlarged. What the tracker reads in the photos themselves, as small, is the bound.

The sheet `samples.png` shows generated people. `nearest.png` has the nearest photo beside each and is for the eyes of
whoever may see the photos.
"""

import argparse
import shutil
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from flame.geometry.camera import Camera
from flame.heads.head_model import HeadParams, expression_index
from flame.heads.open_head import load_open_head
from genhead.generator import GenHeadGenerator
from genhead_measures import CONTROLS, GAZE, frontal_cameras, move_one, sample_like, show_grids_over_time
from genhead_measures import render as render_heads
from material import ROOT, conclude, output_folder, table
from portrait4d.headparts.head import PartHead
from portrait4d.metrics.control import rank_correlation
from portrait4d.metrics.distances import measure_frechet
from portrait4d.metrics.extractor import load_extractor
from portrait4d.metrics.features import extract_features
from portrait4d.metrics.tracked import Heads, control_errors, track_heads
from preprocess.dataset.reading.dataset import Dataset
from preprocess.media.contact_sheet import contact_sheet
from preprocess.tracking.tracker import Tracker

SAMPLES, TRACKED, SHOWN = 500, 60, 6
YAW_DEGREES = 30.0
NAMES = ("yaw", *CONTROLS, "gaze")


class Portraits:
    """The photos, as pictures of the networks' size, with what the tracker reads in them."""

    def __init__(self, folder: Path, side: int) -> None:
        self.dataset, self.tracker = Dataset(folder), Tracker()
        self.extractor = load_extractor("efficientnet-lite0")
        self.images = np.stack([_shrunk(self.dataset[index].image, side) for index in range(len(self.dataset))])
        self.features = extract_features(self.images, self.extractor)

    def evaluate(self, generator: GenHeadGenerator) -> dict[str, float]:
        """All measures of one network."""
        pictures, params, rows = sample_like(generator, self.dataset, SAMPLES)
        features = extract_features(pictures, self.extractor)
        found = track_or_none(pictures[:TRACKED], self.tracker)
        row = {
            "distance": measure_frechet(self.features, features, self.extractor).distance,
            "nearest": float(np.mean(_nearest(features, self.features)[1]) / self._own_spacing()),
        }
        if found is None:
            return row | {"found": 0.0}
        photos = track_heads(self.images[rows[:TRACKED]], self.tracker)
        wanted = Heads(
            params.expression[:TRACKED].numpy(), photos.rotation, params.eyes[:TRACKED].numpy(), photos.found
        )
        errors = control_errors(found, wanted)
        row |= {"found": errors.found_share, "expression error": errors.expression, "turn error": errors.pose_degrees}
        for name in NAMES:
            row |= {f"{name} {key}": value for key, value in self.control(generator, params, name).items()}
        return row

    def control(self, generator: GenHeadGenerator, params: HeadParams, name: str) -> dict[str, float]:
        """Slope and rank correlation of what the tracker reads against what was asked for, over random persons."""
        strength = np.random.default_rng(1).uniform(-1.0 if name in ("yaw", "gaze") else 0.0, 1.0, TRACKED)
        asked, camera = ask(generator, params.shape[:TRACKED], name, strength)
        latent = torch.randn(TRACKED, generator.config.latent_dim, generator=torch.Generator().manual_seed(5))
        front = frontal_cameras(generator, np.zeros(TRACKED))
        found = track_or_none(render_heads(generator, latent, camera, asked, seen_as=front), self.tracker)
        if found is None or found.found.sum() < 3:
            return {"gain": float("nan"), "rank": float("nan")}
        measured, wanted = _read(found, name)[found.found], strength[found.found] * _most(name)
        return {"gain": float(np.polyfit(wanted, measured, 1)[0]), "rank": rank_correlation(measured, wanted)}

    def photo_row(self) -> dict[str, float]:
        """The photos against each other, and the tracker on small photos against the fits to the large ones."""
        order = np.random.default_rng(0).permutation(len(self.images))
        half = len(order) // 2
        chosen = order[:TRACKED]
        heads = [self.dataset[int(index)].head for index in chosen]
        found = track_heads(self.images[chosen], self.tracker)
        fitted = Heads(
            np.stack([head.expression for head in heads]),
            found.rotation,
            np.stack([head.eyes for head in heads]),
            found.found,
        )
        errors = control_errors(found, fitted)
        row = {
            "distance": measure_frechet(
                self.features[order[:half]], self.features[order[half:]], self.extractor
            ).distance,
            "nearest": 1.0,
            "found": float(found.found.mean()),
            "expression error": errors.expression,
        }
        for name in (*CONTROLS, "gaze"):
            known, measured = (_read(values, name)[found.found] for values in (fitted, found))
            if known.std() > 0:
                row[f"{name} gain"] = float(np.polyfit(known, measured, 1)[0])
                row[f"{name} rank"] = rank_correlation(measured, known)
        return row

    def show_nearest(self, generator: GenHeadGenerator, path: Path) -> None:
        """Samples, each with the nearest photo by its features."""
        pictures, _, _ = sample_like(generator, self.dataset, SAMPLES)
        nearest, _ = _nearest(extract_features(pictures[:48], self.extractor), self.features)
        cells = [cell for index in range(48) for cell in (pictures[index], self.images[nearest[index]])]
        contact_sheet([cells[start : start + 12] for start in range(0, len(cells), 12)], path, cell_height=128)

    def _own_spacing(self) -> float:
        """Mean distance of a photo to the nearest other photo."""
        return float(np.mean(_nearest(self.features, self.features, is_same=True)[1]))


def track_or_none(images: NDArray[np.uint8], tracker: Tracker) -> Heads | None:
    """Heads of pictures, None where not one has a face."""
    try:
        return track_heads(images, tracker)
    except ValueError:
        return None


def ask(
    generator: GenHeadGenerator, shape: torch.Tensor, name: str, strength: NDArray[np.float64]
) -> tuple[HeadParams, Camera]:
    """Heads `[N]` with one control at a strength in [-1, 1], and the cameras that see them."""
    degrees = YAW_DEGREES * strength if name == "yaw" else np.zeros(len(strength))
    return move_one(generator.head.model, shape, name, strength), frontal_cameras(generator, degrees)


def _read(heads: Heads, name: str) -> NDArray[np.float64]:
    """What a control moves: degrees of yaw, radians of gaze, mean weight of expressions."""
    if name == "yaw":
        return np.degrees(-heads.rotation[:, 1].astype(float))
    if name == "gaze":
        return heads.eyes[:, :, 1].mean(1).astype(float)
    return heads.expression[:, expression_index(load_open_head(), CONTROLS[name][0])].mean(1).astype(float)


def _most(name: str) -> float:
    return {"yaw": YAW_DEGREES, "gaze": GAZE}.get(name) or CONTROLS[name][1]


def _nearest(features: NDArray, others: NDArray, *, is_same: bool = False) -> tuple[NDArray, NDArray]:
    """Index and distance of the nearest of others, not of the same row where both are one set."""
    distances = np.linalg.norm(features[:, None].astype(np.float32) - others[None], axis=-1)
    if is_same:
        np.fill_diagonal(distances, np.inf)
    return distances.argmin(1), distances.min(1)


def _shrunk(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    return cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA).astype(np.uint8)


def show_samples(generator: GenHeadGenerator, dataset: Dataset, path: Path) -> None:
    """Six seeds: an orbit, then every control at its most."""
    shape = sample_like(generator, dataset, SHOWN)[1].shape
    still = move_one(generator.head.model, shape, "", np.zeros(SHOWN))
    latent = torch.randn(SHOWN, generator.config.latent_dim, generator=torch.Generator().manual_seed(11))
    front = frontal_cameras(generator, np.zeros(SHOWN))
    turns = [(still, frontal_cameras(generator, np.full(SHOWN, angle))) for angle in (-40.0, -20.0, 0.0, 20.0, 40.0)]
    faces = [ask(generator, shape, name, np.ones(SHOWN)) for name in (*CONTROLS, "gaze")]
    columns = [render_heads(generator, latent, camera, params, seen_as=front) for params, camera in (*turns, *faces)]
    contact_sheet([[column[index] for column in columns] for index in range(SHOWN)], path, cell_height=80)


def main() -> None:
    """Evaluates the networks that the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", type=Path, nargs="+")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--publish", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    first = GenHeadGenerator.from_pretrained(arguments.checkpoints[0])
    portraits = Portraits(arguments.data, first.config.resolution)
    torch.manual_seed(0)
    untrained = GenHeadGenerator(first.config, PartHead.from_open_head(origin=first.config.head_origin)).eval()
    rows = {"photos": portraits.photo_row(), "untrained": portraits.evaluate(untrained.requires_grad_(False))}
    for path in arguments.checkpoints:
        generator = GenHeadGenerator.from_pretrained(path)
        rows[f"{path.parent.parent.name} {path.name.lstrip('0')}"] = portraits.evaluate(generator)
    last, folder = GenHeadGenerator.from_pretrained(arguments.checkpoints[-1]), output_folder("genhead-portraits")
    show_samples(last, portraits.dataset, folder / "samples.png")
    portraits.show_nearest(last, folder / "nearest.png")
    show_grids_over_time(arguments.checkpoints[-1].parents[1], folder / "time.png")
    if arguments.publish:
        shutil.copy(folder / "samples.png", ROOT / "docs" / "genhead-portraits.png")
        shutil.copy(folder / "time.png", ROOT / "docs" / "genhead-portraits-time.png")
    conclude("genhead-portraits", report_text(rows, len(portraits.images)), rows, is_published=arguments.publish)


def report_text(rows: dict[str, dict[str, float]], num_photos: int) -> str:
    """The page."""
    header = ("network", "distance", "nearest", "found", "expression error", "turn error", *NAMES)
    lines = []
    for title, row in rows.items():
        controls = [_pair(row.get(f"{name} gain"), row.get(f"{name} rank")) for name in NAMES]
        lines.append([title, *(row.get(name) for name in header[1:6]), *controls])
    return f"""## GenHead on {num_photos} photos

`configs/genhead/portraits64.yaml` at the images that a row names. *distance*: Frechet distance in EfficientNet-lite0
features, {SAMPLES} samples against the photos (not FID); the photos' own row is one half against the other, which is
biased upwards by their number. *nearest*: mean distance of a sample to the nearest photo in these features over that of
a photo to the nearest other photo; far below 1 would be copies. The rest is read by the tracker in {TRACKED} enlarged
pictures: *found*, the share with a face; errors of expression (weights) against what was asked for and of the turn
(degrees) against the photo of the same camera; controls as *slope / rank* of what is read against what was asked for,
of random persons at a strength of their own. In the photos' row small photos are read against the fits to large ones.

{table(header, lines, digits=2)}
"""


def _pair(slope: float | None, rank: float | None) -> str:
    return "" if slope is None or rank is None else f"{slope:.2f} / {rank:.2f}"


if __name__ == "__main__":
    main()
