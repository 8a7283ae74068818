"""How good a GenHead of `configs/genhead/toy64.yaml` is: distance to the pictures, control, identity; table and sheet.

    python benchmarks/genhead_toy.py CHECKPOINT... --data FOLDER [--curve CHECKPOINT...] [--publish]

CHECKPOINT is a folder below a run's `checkpoints`; those of a curve are only compared with the pictures. FOLDER is
what `scripts/make_toy_faces.py` made: its persons can be drawn again with any expression, so what a parameter should
change in a picture is known.
"""

import argparse
import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from flame.geometry.camera import Camera
from flame.heads.head_model import HeadParams
from flame.heads.open_head import load_open_head
from genhead.generator import GenHeadGenerator
from genhead.training.codes import person_codes
from genhead.training.heads import HeadDataConfig, TrainingHeads
from genhead_measures import (
    CONTROLS,
    frontal_cameras,
    move_one,
    render,
    sample_like,
    sample_with_depth,
    show_grids_over_time,
)
from material import ROOT, conclude, output_folder
from portrait4d.headparts.head import PartHead
from portrait4d.metrics.control import picture_change, rank_correlation, score_control
from portrait4d.metrics.distances import measure_frechet
from portrait4d.metrics.extractor import load_extractor
from portrait4d.metrics.features import extract_features
from preprocess.dataset.reading.dataset import Dataset
from preprocess.dataset.reading.flip import open_head_mirror
from preprocess.dataset.toy.population import draw_person
from preprocess.dataset.toy.render import ToyRenderer
from preprocess.media.contact_sheet import contact_sheet

IDENTITIES, SAMPLES, PICTURES = 100, 500, 2000
YAW_DEGREES = 35.0
SEED = 0


class Evaluation:
    """Draws truth and prediction of the same change."""

    def __init__(self, generator: GenHeadGenerator, codes: torch.Tensor) -> None:
        self.generator, self.codes, self.model = generator, codes, load_open_head()
        self.truth = ToyRenderer(self.model, size=generator.config.resolution, oversampling=2)
        self.persons = [draw_person(self.model, np.random.default_rng([SEED, index])) for index in range(IDENTITIES)]
        self.shape = torch.from_numpy(np.stack([person.shape for person in self.persons]))

    def predict(self, latent: torch.Tensor, name: str, strength: NDArray) -> NDArray[np.uint8]:
        """Generated pictures of all persons with one parameter at given strengths in [-1, 1]."""
        front, params = self._cameras("", np.zeros(len(strength))), self._params(name, strength)
        return render(self.generator, latent, self._cameras(name, strength), params, seen_as=front)

    def true(self, name: str, strength: NDArray) -> NDArray[np.uint8]:
        """The same of the persons in the data."""
        vertices = self.model(self._params(name, strength)).numpy()
        cameras = self._cameras(name, strength)
        metres = cameras.cam2world.clone()
        origin = torch.tensor(self.generator.config.head_origin)
        metres[:, :3, 3] = metres[:, :3, 3] / self.generator.head.scale + origin
        seen = replace(cameras, cam2world=metres)
        return np.stack([
            self.truth(vertices[index], seen[index], person)[0] for index, person in enumerate(self.persons)
        ])  # fmt: skip

    def _random_codes(self) -> torch.Tensor:
        return torch.randn(self.codes.shape, generator=torch.Generator().manual_seed(5))

    def _params(self, name: str, strength: NDArray) -> HeadParams:
        return move_one(self.model, self.shape, name, strength)

    def _cameras(self, name: str, strength: NDArray) -> Camera:
        degrees = YAW_DEGREES * strength if name == "yaw" else np.zeros(len(strength))
        return frontal_cameras(self.generator, degrees)

    def control(self, name: str) -> dict[str, float]:
        """Gain and direction with known persons; rank correlation over random ones, each at a strength of its own."""
        is_signed = name in ("yaw", "gaze")
        low, high = np.full(IDENTITIES, -1.0 if is_signed else 0.0), np.ones(IDENTITIES)
        true = picture_change(self.true(name, low), self.true(name, high))
        known = picture_change(self.predict(self.codes, name, low), self.predict(self.codes, name, high))
        score, random = score_control(known, true), self._random_codes()
        strength = np.random.default_rng(1).uniform(low, high)
        rest = self.predict(random, name, np.zeros(IDENTITIES))
        changed = picture_change(rest, self.predict(random, name, strength))
        template = true.mean(0)
        measured = (changed * template).reshape(IDENTITIES, -1).sum(1)
        return {
            "gain": round(score.gain, 3),
            "direction": round(score.direction, 3),
            "rank": round(rank_correlation(measured, strength), 3),
        }

    def steadiness(self) -> float:
        """Change between expressions over change between identities, random persons; below 0.5 is steady."""
        random = self._random_codes()
        rest = self.predict(random, "", np.zeros(IDENTITIES)).astype(float)
        within = [np.abs(self.predict(random, name, np.ones(IDENTITIES)) - rest).mean() for name in CONTROLS]
        between = np.abs(rest - np.roll(rest, 1, 0)).mean()
        return round(float(np.mean(within) / between), 3)


def known_codes(data: Path, generator: GenHeadGenerator) -> torch.Tensor:
    """Codes `[IDENTITIES, Z]` with which the first persons of the data were learned."""
    config = HeadDataConfig(paths=(str(data),))
    heads = TrainingHeads(config, generator=generator.config, head=generator.head, mirror=open_head_mirror())
    names = [hashlib.sha256(f"toy face {SEED} {index}".encode()).hexdigest()[:16] for index in range(IDENTITIES)]
    return person_codes(heads, generator.config.latent_dim)[[heads.person_names.index(name) for name in names]]


def evaluate(evaluation: Evaluation, dataset: Dataset, real: NDArray, extractor) -> dict[str, object]:
    """All measures of one network."""
    controls = {name: evaluation.control(name) for name in ("yaw", *CONTROLS, "gaze")}
    return {
        "frechet": distance(evaluation.generator, dataset, real, extractor),
        "steadiness": evaluation.steadiness(),
        **controls,
    }


def distance(generator: GenHeadGenerator, dataset: Dataset, real: NDArray, extractor) -> float:
    """Of samples with the cameras and heads of the data to its pictures."""
    fake = extract_features(sample_like(generator, dataset, SAMPLES)[0], extractor)
    return round(measure_frechet(real, fake, extractor).distance, 1)


def main() -> None:
    """Evaluates the networks that the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", type=Path, nargs="+")
    parser.add_argument("--curve", type=Path, nargs="*", default=[])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--publish", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    dataset = Dataset(arguments.data)
    extractor = load_extractor("efficientnet-lite0")
    chosen = np.random.default_rng(0).permutation(len(dataset))
    features = extract_features((dataset[int(row)].image for row in chosen[: PICTURES + SAMPLES]), extractor)
    real, held = features[:PICTURES], features[PICTURES:]
    rows: dict[str, dict[str, object]] = {
        "pictures of the data": {"frechet": round(measure_frechet(real, held, extractor).distance, 1)}
    }
    first = GenHeadGenerator.from_pretrained(arguments.checkpoints[0])
    torch.manual_seed(0)
    untrained = GenHeadGenerator(first.config, PartHead.from_open_head(origin=first.config.head_origin)).eval()
    codes = known_codes(arguments.data, first)
    rows["untrained"] = evaluate(Evaluation(untrained.requires_grad_(False), codes), dataset, real, extractor)
    for path in arguments.curve:
        generator = GenHeadGenerator.from_pretrained(path)
        rows[_title(path)] = {"frechet": distance(generator, dataset, real, extractor)}
    for path in arguments.checkpoints:  # one at least
        evaluation = Evaluation(GenHeadGenerator.from_pretrained(path), codes)
        rows[_title(path)] = evaluate(evaluation, dataset, real, extractor)
    folder = output_folder("genhead-toy")
    show(evaluation, folder / "controls.png")
    show_samples(evaluation.generator, dataset, folder / "samples.png")
    show_grids_over_time(arguments.checkpoints[-1].parents[1], folder / "time.png")
    if arguments.publish:
        shutil.copy(folder / "samples.png", ROOT / "docs" / "genhead-toy.png")
        shutil.copy(folder / "time.png", ROOT / "docs" / "genhead-toy-time.png")
    conclude("genhead-toy", report_text(rows), rows, is_published=arguments.publish)


def report_text(rows: dict[str, dict[str, object]]) -> str:
    """The page."""
    return f"""## GenHead on renders of the open head

`configs/genhead/toy64.yaml` at the images that a row names. *distance*: Frechet distance in EfficientNet-lite0
features, {SAMPLES} samples against {PICTURES} pictures (not FID). Controls are *gain / rank*: of {IDENTITIES} persons
of the data, how far a parameter changes the picture compared with the truth (1 is right); of {IDENTITIES} random heads,
rank correlation of the change along the true direction with the parameter. *steadiness*: change between expressions
over change between heads.

{make_table(rows)}
"""


def make_table(rows: dict[str, dict[str, object]]) -> str:
    """Markdown: gain / rank correlation of each control."""
    names = ("yaw", *CONTROLS, "gaze")
    lines = [f"| network | distance | {' | '.join(names)} | steadiness |", "| --- " * (len(names) + 3) + "|"]
    for title, row in rows.items():
        cells = []
        for name in names:
            found = row.get(name)
            cells.append(f"{found['gain']:.2f} / {found['rank']:.2f}" if isinstance(found, dict) else "")
        lines.append(f"| {title} | {row['frechet']} | {' | '.join(cells)} | {row.get('steadiness', '')} |")
    return "\n".join(lines)


def _title(path: Path) -> str:
    return f"{path.parent.parent.name} {path.name.lstrip('0')}"


def show(evaluation: Evaluation, path: Path) -> None:
    """A sheet: truth and prediction of six known persons, at rest and with each control."""
    rows, still = [], np.zeros(IDENTITIES)
    names = ("", "yaw", *CONTROLS, "gaze")
    strengths = [still if not name else np.ones(IDENTITIES) for name in names]
    true = [evaluation.true(name, strength) for name, strength in zip(names, strengths, strict=True)]
    made = [
        evaluation.predict(evaluation.codes, name, strength) for name, strength in zip(names, strengths, strict=True)
    ]
    for index in range(6):
        rows.append([pictures[index] for pictures in true])
        rows.append([pictures[index] for pictures in made])
    contact_sheet(rows, path, cell_height=96)


def show_samples(generator: GenHeadGenerator, dataset: Dataset, path: Path) -> None:
    """A sheet: random heads with cameras and expressions of the data, and the depth of each below it."""
    pictures, depths = sample_with_depth(generator, dataset, 24)
    rows = []
    for start in range(0, len(pictures), 8):
        rows += [list(pictures[start : start + 8]), list(depths[start : start + 8])]
    contact_sheet(rows, path, cell_height=96)


if __name__ == "__main__":
    main()
