"""Trains everything, end to end, on renders alone: `python scripts/toy_chain.py FOLDER`.

Renders of the open head -> a GenHead learns them -> it synthesises subjects in three views -> a static reconstructor
learns from those -> a dynamic one goes on from it -> it learns from clips of people who act out a tracked motion -> it
is measured on people and motions that nobody has seen. Every stage is a command that a user would type, printed before
it runs; stopped, the same line goes on where it was. Nothing in it is licensed or photographed.

At 64 px on two cores the defaults take about two hours, half of them for GenHead, which `--genhead
genhead-toy64` leaves out: a network of that kind comes with the package. `--share 0.004` tries every stage in minutes.
"""

import argparse
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]

PEOPLE, CLIP_PEOPLE, CLIP_FRAMES = 1088, 1024, 8
SUBJECTS = 2500
"""Of each kind, dynamic and static."""

GENHEAD_IMAGES, STATIC_IMAGES, DYNAMIC_IMAGES, CLIP_IMAGES = 64_000, 6_000, 6_000, 48_000
_LEAST_IMAGES = 48

TRAINED_SECONDS = 6
"""Of the bundled motion that clips follow; the rest of it drives people whom nobody has seen."""

HELD_OUT_SEED = 30_000


@dataclass(frozen=True)
class Sizes:
    """How much of everything; a share of 1 is the whole chain."""

    share: float

    def people(self, count: int) -> int:
        """Of a dataset."""
        return max(round(count * self.share), 6)

    def images(self, count: int) -> int:
        """Of a training, whole batches of 8."""
        return max(round(count * self.share) // 8 * 8, _LEAST_IMAGES)


@dataclass(frozen=True)
class Stage:
    """One command."""

    name: str
    command: Sequence[str]


def main() -> None:
    """Runs the stages that the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--share", type=float, default=1.0, help="of people, subjects and images (default 1)")
    parser.add_argument("--workers", type=int, default=2, help="processes that draw and synthesise")
    parser.add_argument("--genhead", help="name or checkpoint of a GenHead that has been trained")
    parser.add_argument("--until", help="name of the last stage to run")
    parser.add_argument("--dry-run", action="store_true", help="print the commands only")
    arguments = parser.parse_args()
    sizes = Sizes(arguments.share)
    stages = chain(arguments.folder, sizes, workers=arguments.workers, genhead=arguments.genhead)
    names = [stage.name for stage in stages]
    if arguments.until is not None and arguments.until not in names:
        sys.exit(f"expected --until to name one of {', '.join(names)}, got {arguments.until!r}")
    for stage in stages[: names.index(arguments.until) + 1 if arguments.until else None]:
        print(f"\n# {stage.name}\n{shlex.join(stage.command)}", flush=True)
        if not arguments.dry_run and (code := subprocess.run(stage.command, check=False).returncode):
            sys.exit(f"{stage.name} ended with {code}: run the same line again to go on")


def chain(folder: Path, sizes: Sizes, *, workers: int, genhead: str | None = None) -> list[Stage]:
    """All stages in their order; without the training of GenHead where one is given."""
    place = {name: str(folder / name) for name in ("faces", "clips", "genhead", "subjects", "static", "dynamic", "v2")}
    images = {
        "genhead": sizes.images(GENHEAD_IMAGES),
        "static": sizes.images(STATIC_IMAGES),
        "dynamic": sizes.images(DYNAMIC_IMAGES),
        "v2": sizes.images(CLIP_IMAGES),
    }
    last = {name: str(folder / name / "checkpoints" / f"{count:012d}") for name, count in images.items()}
    motion = str(ROOT / "portrait4d" / "assets" / "demo_motion.npz")
    draw = [sys.executable, str(ROOT / "scripts" / "make_toy_faces.py")]
    gan, portrait4d = ([sys.executable, "-m", module] for module in ("genhead.cli", "portrait4d.cli.main"))
    recipe = ["train", "--config", "portrait4d/toy64"]
    count = sizes.people(SUBJECTS)
    stages = [
        Stage("faces", [
            *draw, place["faces"], "--identities", str(sizes.people(PEOPLE)), "--workers", str(workers)
        ]),
        Stage("motion", [
            *portrait4d, "track", motion, "-o", str(folder / "motion.npz"), "--duration", str(TRAINED_SECONDS)
        ]),
        Stage("clips", [
            *draw, place["clips"], "--identities", str(sizes.people(CLIP_PEOPLE)), "--pictures", str(CLIP_FRAMES),
            "--seed", "1", "--motion", str(folder / "motion.npz"),
            "--workers", str(workers),
        ]),
        Stage("genhead", [
            *gan, "train", "--config", "genhead/toy64", f"data.paths=[{place['faces']}]",
            f"train.total_images={images['genhead']}", "-o", place["genhead"],
        ]),
        Stage("subjects", [
            *gan, "synthesize", genhead or last["genhead"], "-o", place["subjects"], "--motions", place["faces"],
            "--dynamic", str(count), "--static", str(count), "--points", "1000", "--no-correspondence",
            "--workers", str(workers),
        ]),
        Stage("static", [
            *portrait4d, *recipe, "is_static=true", "data.static_share=1", f"data.subjects=[{place['subjects']}]",
            f"train.total_images={images['static']}", "-o", place["static"],
        ]),
        Stage("dynamic", [
            *portrait4d, *recipe, f"resume_from={last['static']}", f"data.subjects=[{place['subjects']}]",
            f"train.total_images={images['dynamic']}", "-o", place["dynamic"],
        ]),
        Stage("v2", [
            *portrait4d, *recipe, f"resume_from={last['dynamic']}", f"data.clips=[{place['clips']},{place['faces']}]",
            f"teacher.weights={last['static']}", "loss.region_weight=24", "loss.surface_weight=5",
            f"train.total_images={images['v2']}",
            "-o", place["v2"],
        ]),
        Stage("held out", [
            *draw, str(folder / "held"), "--identities", "4", "--pictures", "1", "--seed", str(HELD_OUT_SEED),
            "--size", "512", "--png", str(folder / "held"),
        ]),
        Stage("reenact", [
            *portrait4d, "reenact", str(folder / "held" / "0000.png"), motion, "--start", str(TRAINED_SECONDS),
            "-o", str(folder / "reenact.mp4"), "--engine", last["v2"],
        ]),
        Stage("measure", [
            sys.executable, str(ROOT / "benchmarks" / "reconstructor_toy.py"), last["static"], last["dynamic"],
            last["v2"],
        ]),
    ]  # fmt: skip
    return [stage for stage in stages if genhead is None or stage.name != "genhead"]


if __name__ == "__main__":
    main()
