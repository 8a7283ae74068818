"""How good toy reconstructors are on people and motions that they have not seen; table and sheet.

    python benchmarks/reconstructor_toy.py CHECKPOINT... [--publish]

CHECKPOINT is a folder below a run's `checkpoints` of `portrait4d train --config portrait4d/toy64`. The truth for any
motion from any side is drawn (`scripts/make_toy_faces.py`). `lift` gets the same pairs: the picture to be made drives.
"""

import argparse
import shutil
from pathlib import Path

import numpy as np
import torch

from genhead_measures import CONTROLS
from lift_on_toys import lift_pairs
from material import ROOT, conclude, output_folder, table
from portrait4d.reconstructor.loading import build_network
from portrait4d.reconstructor.network import Reconstructor
from portrait4d.weights.store import resolve_weights
from preprocess.media.contact_sheet import contact_sheet
from reconstructor_measures import (
    SIDE_DEGREES,
    HeldOut,
    Prediction,
    baselines,
    compare,
    depth_error,
    measure,
    psnr,
    true_depth,
)

PEOPLE, SHOWN = 60, 6
COLUMNS = ("foreground dB", "foreground L1", "identity", "sides dB", "depth mm")


def main() -> None:
    """Measures the networks that the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", type=Path, nargs="+")
    parser.add_argument("--publish", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    held = HeldOut(PEOPLE)
    rows: dict[str, dict[str, float]] = {**baselines(held), "lift": measure_lift(held)}
    network = None
    for path in arguments.checkpoints:
        network = build_network(*resolve_weights(str(path))).eval().requires_grad_(False)
        rows[_title(path)] = measure(network, held)
    assert network is not None  # one at least
    sheet = output_folder("reconstructor-toy") / "sheet.png"
    show(network, held, sheet)
    if arguments.publish:
        shutil.copy(sheet, ROOT / "docs" / "reconstructor-toy.png")
    conclude("reconstructor-toy", report_text(rows), rows, is_published=arguments.publish)


def measure_lift(held: HeldOut) -> dict[str, float]:
    """The same pairs by `lift`, as far as it gives them."""
    true, mask = held.draw(held.driver)
    size = 32
    lifted = lift_pairs(held.pictures, true, depth_px=size)
    found = compare(lifted.pictures, true, mask, held)
    sides = []
    for degrees in (-SIDE_DEGREES, SIDE_DEGREES):
        picture, share = held.draw(held.turned(degrees))
        sides.append(psnr(lift_pairs(held.pictures, picture, depth_px=size).pictures, picture, share))
    found["sides dB"] = float(np.mean(sides))
    found["depth mm"] = depth_error(lifted.depth, true_depth(held, size=size))
    found["faces not found"] = float((~lifted.is_found).sum())
    return {name: round(value, 4) for name, value in found.items()}


def report_text(rows: dict[str, dict[str, float]]) -> str:
    """The page."""
    controls = (*CONTROLS, "gaze")
    quality = [[title, *(row.get(name) for name in COLUMNS)] for title, row in rows.items()]
    motion = [
        [title, *(f"{row[f'{name} gain']:.2f} / {row[f'{name} direction']:.2f}" for name in controls)]
        for title, row in rows.items()
        if "jaw gain" in row
    ]
    missed = rows["lift"].get("faces not found", 0)
    return f"""## Toy reconstructors

{PEOPLE} people whom no training saw, one picture each of 64 px, shown with another motion from another side.
*foreground*: where the person is. *identity*: cosine of thumbnails of the aligned faces (no face network: 1 is the same
picture). *sides*: foreground dB at {SIDE_DEGREES:g} degrees to both sides. *depth*: mean distance from the true face
along the rays, the mean offset of a picture left out. `lift` is driven by the true picture, enlarged to 512 px; in
{missed:.0f} pairs it found no face, and the copied source counts.

{table(["", *COLUMNS], quality)}

*gain / direction*: how far a parameter changes the picture compared with the truth, from the front (1 is right, 0
ignores the driver), and the cosine of both changes.

{table(["", *controls], motion)}
"""


def show(network: Reconstructor, held: HeldOut, path: Path) -> None:
    """A sheet: two rows a person, truth above what is made: driven, at rest, with each control, from both sides."""
    predict = Prediction(network, held)
    faces = [held.driver, held.controlled("jaw", 0.0), *(held.controlled(name, 1.0) for name in (*CONTROLS, "gaze"))]
    faces += [held.turned(degrees) for degrees in (-SIDE_DEGREES, SIDE_DEGREES)]
    true, made = [held.draw(each)[0] for each in faces], [predict(each) for each in faces]
    rows = []
    for index in range(SHOWN):
        rows.append([held.pictures[index], *(pictures[index] for pictures in true)])
        rows.append([held.pictures[index], *(pictures[index] for pictures in made)])
    contact_sheet(rows, path, cell_height=96)


def _title(path: Path) -> str:
    return f"{path.parent.parent.name} {path.name.lstrip('0')}" if path.parent.name == "checkpoints" else path.name


if __name__ == "__main__":
    main()
