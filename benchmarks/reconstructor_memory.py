"""The memory that training the reconstructor at 512 px needs: computed, without a GPU, and what fits into which.

    python benchmarks/reconstructor_memory.py [--publish]          the recipes' memory, two minutes on one core
    python benchmarks/reconstructor_memory.py --toy FOLDER         also CPU time of a step of portrait4d/toy64 by part

FOLDER holds clips: `python scripts/make_toy_faces.py FOLDER --identities 16`.
"""

import argparse
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

import torch

from material import ROOT, conclude, table
from part_times import time_step
from portrait4d.reconstructor.training.task import ReconstructorTraining
from portrait4d.train.config_file import read_config_file
from reconstructor_parts import PARTS
from training_memory import Phase, measure_held, measure_phase

RECIPES = ("portrait4d", "portrait4d-24gb")
CONFIGS = ROOT / "configs" / "portrait4d"
SIZES, BATCHES = (64, 128), (1, 2, 4, 8)
CARDS_GB = (24, 80)
SAFE_SHARE = 0.9
"""Of a card's memory: the rest is for CUDA's context, the workspace of its libraries, and fragments."""

GB = 2**30

COLUMNS = (*PARTS, "perceptual", "identity", "discriminator")
"""Parts of the main loss; what is left is another column."""

METHOD = """Computed, not measured on a GPU: there was none. Every phase ran with its networks on torch's device `meta`,
where tensors have sizes but no numbers, and the storages that live were counted, in the backward pass too.
GB are 2^30 bytes. Blocks that are fp16 on CUDA count as such (the super-resolution and the discriminator's finest);
attention is the memory-efficient kernel that CUDA takes in fp32, which keeps no matrix of shares. LPIPS over VGG-16 and
ArcFace's ResNet-50 are networks of their shapes. 64 px is the recipe before 1,000,000 images, without an adversary;
128 px is its end, with all losses.

Not counted: CUDA's context (about half a GB), the workspace of convolutions and products (cuDNN's and cuBLAS's, up to
some hundred MB, more if cuDNN searches for the fastest), copies that they make of another memory format, and fragments
of the allocator. "Fits" therefore asks for no more than 90 % of a card. On several GPUs the flat sum of gradients takes
as much again as gradients do, when activations are gone."""

TOY = """Measured: CPU seconds a thousand images on one thread, of the main phase (the look at density, every sixteenth
step, is not in it). Parts of the network are their forward passes; `losses` is what the main loss computes beside them,
`backward` the whole backward pass, `rest` the check of gradients, their norm, and the average.
Samples are decoded in a thread beside, whose time is with the parts that it runs beside."""


@dataclass(frozen=True)
class Round:
    """What a round of a batch needs beside what is held.

    Attributes:
        recomputes: `train.recompute`.
        size: side of the rendered pictures.
        batch: samples.
        kept: by the main phase's forward pass, bytes by part.
        peak: the most at any time of any phase, bytes.
        phase: the one with that peak.
    """

    recomputes: bool
    size: int
    batch: int
    kept: dict[str, int]
    peak: int
    phase: str


def measure_round(config: ReconstructorTraining, *, recomputes: bool, size: int, batch: int) -> Round:
    """Measures all phases over a round."""
    changed = replace(config, train=replace(config.train, recompute=recomputes))
    phases = {name: measure_phase(changed, name, batch=batch, size=size) for name in get_args(Phase)}
    largest = max(phases, key=lambda name: phases[name].peak)
    return Round(recomputes, size, batch, phases["reconstructor"].kept, phases[largest].peak, largest)


def rounds_of(config: ReconstructorTraining) -> list[int]:
    """The values of `train.micro_batch` that its batch allows."""
    share = config.train.batch_size // config.group_size
    return [config.group_size * groups for groups in range(1, share + 1) if share % groups == 0]


def compute() -> dict[str, Any]:
    """All numbers of the device meta."""
    configs = {name: read_config_file(ReconstructorTraining, CONFIGS / f"{name}.yaml") for name in RECIPES}
    first = configs[RECIPES[0]]
    parts = [
        (config.network, config.discriminator, config.loss, config.data.plane_points) for config in configs.values()
    ]
    if any(part != parts[0] for part in parts):
        raise SystemExit("the recipes differ in more than their rounds: measure the rounds of each")
    batches = sorted({*BATCHES, *(batch for config in configs.values() for batch in rounds_of(config))})
    rounds = [
        measure_round(first, recomputes=recomputes, size=size, batch=batch)
        for recomputes in (False, True)
        for size in SIZES
        for batch in batches
        if batch in BATCHES or size == SIZES[-1]
    ]
    held = {name: measure_held(config, batch_size=config.train.batch_size) for name, config in configs.items()}
    return {
        "torch": torch.__version__,
        "recipes": {
            name: {
                "batch_size": config.train.batch_size,
                "micro_batch": config.train.micro_batch or config.train.batch_size,
                "recomputes": config.train.recompute,
                "rounds": rounds_of(config),
                "held": asdict(held[name]),
            }
            for name, config in configs.items()
        },
        "rounds": [asdict(each) for each in rounds],
    }


def needed_gb(found: dict[str, Any], recipe: str, *, batch: int, recomputes: bool) -> float:
    """What a recipe takes with all losses, in rounds of so many samples."""
    (peak,) = (
        each["peak"]
        for each in found["rounds"]
        if (each["recomputes"], each["size"], each["batch"]) == (recomputes, SIZES[-1], batch)
    )
    return (sum(found["recipes"][recipe]["held"].values()) + peak) / GB


def report(found: dict[str, Any]) -> str:
    """All tables."""
    pieces = ["## Memory of training the reconstructor at 512 px", METHOD, _fits_text(found), _held_text(found)]
    pieces.append(_rounds_text(found))
    if found["toy"]:
        total = sum(found["toy"].values())
        rows = [[name, value, f"{value / total:.0%}"] for name, value in [*found["toy"].items(), ("all", total)]]
        pieces += ["### A step of portrait4d/toy64 on a CPU", TOY, table(["part", "seconds", "share"], rows, digits=1)]
    return "\n\n".join(pieces)


def _fits_text(found: dict[str, Any]) -> str:
    """The largest rounds by recipe and card, and what the recipes need as they are."""
    rows, said = [], []
    for name, recipe in found["recipes"].items():
        for recomputes in (False, True):
            needs = {batch: needed_gb(found, name, batch=batch, recomputes=recomputes) for batch in recipe["rounds"]}
            cells = []
            for card in CARDS_GB:
                fitting = max((batch for batch, need in needs.items() if need <= SAFE_SHARE * card), default=0)
                cells += [fitting or "none", needs.get(fitting)]
            rows.append([f"portrait4d/{name}", recipe["batch_size"], _yes(recomputes), *cells])
        own = needed_gb(found, name, batch=recipe["micro_batch"], recomputes=recipe["recomputes"])
        said.append(f"`portrait4d/{name}` as it is, rounds of {recipe['micro_batch']}, takes {own:.1f} GB")
    cards = [header for card in CARDS_GB for header in (f"largest round in {card} GB", "takes GB")]
    return "\n\n".join(
        [
            "### What fits on one card",
            table(["recipe", "batch", "`train.recompute`", *cards], rows, digits=1),
            f"At 128 px, with all losses. {'; '.join(said)}.",
        ]
    )


def _held_text(found: dict[str, Any]) -> str:
    rows = [
        [f"portrait4d/{name}", recipe["batch_size"], *(value / GB for value in recipe["held"].values())]
        + [sum(recipe["held"].values()) / GB]
        for name, recipe in found["recipes"].items()
    ]
    names = list(found["recipes"][RECIPES[0]]["held"])
    return "\n\n".join(
        [
            "### Held all the time, GB",
            table(["recipe", "batch", *names, "sum"], rows, digits=2),
            "`weights`, `gradients` and `moments` (Adam's two) are of both learning networks, `average` is the "
            "averaged reconstructor, `fixed` are the networks of losses and motion codes, `pictures` those of a whole "
            "batch, which its phases share.",
        ]
    )


def _rounds_text(found: dict[str, Any]) -> str:
    """What rounds keep by part, the peak, and the sum with what is held."""
    held = sum(found["recipes"][RECIPES[0]]["held"].values())
    rows = []
    for each in found["rounds"]:
        kept = each["kept"]
        other = sum(value for name, value in kept.items() if name not in COLUMNS)
        cells = [kept.get(name, 0) / GB for name in COLUMNS] + [other / GB]
        cells += [sum(kept.values()) / GB, each["peak"] / GB, (held + each["peak"]) / GB]
        rows.append([_yes(each["recomputes"]), each["size"], each["batch"], *cells])
    header = ["`train.recompute`", "px", "samples", *COLUMNS, "other", "kept", "peak", "with what is held"]
    others = sorted({each["phase"] for each in found["rounds"]} - {"reconstructor"})
    said = f"any phase (the main one, or {', '.join(others)})" if others else "any phase, which is the main one's"
    return (
        "### Activations by the samples of a round, GB\n\n"
        "Both recipes have the same networks and losses. Parts are what the main loss's forward pass keeps; `peak` is "
        f"the most at any time of {said}; the last column adds what the recipe with a batch of "
        f"{found['recipes'][RECIPES[0]]['batch_size']} holds. With an adversary (128 px) rounds have even numbers of "
        "samples. A round of one keeps less in super-resolution, which then multiplies styles into its weights.\n\n"
        + table(header, rows, digits=2)
    )


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def toy_times(folder: Path, *, steps: int) -> dict[str, float]:
    """CPU seconds a thousand images by part of `portrait4d/toy64` over clips."""
    torch.set_num_threads(1)
    config = read_config_file(ReconstructorTraining, CONFIGS / "toy64.yaml", [f"data.clips=[{folder}]"])
    return time_step(config, steps=steps)


def main() -> None:
    """Computes the memory, and measures the toy training where there are data for it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--toy", type=Path, metavar="FOLDER", help="also measure portrait4d/toy64 on these clips")
    parser.add_argument("--steps", type=int, default=7, help="of the toy training that count")
    parser.add_argument("--publish", action="store_true", help="also write the page of docs/results")
    options = parser.parse_args()
    toy = toy_times(options.toy, steps=options.steps) if options.toy is not None else None
    found = compute() | {"toy": toy}
    conclude("reconstructor-memory", report(found), found, is_published=options.publish)


if __name__ == "__main__":
    main()
