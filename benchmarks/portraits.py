"""How near crops, landmarks and fits come to those of Portrait4D's own preprocessing, on its 16 aligned portraits.

    python benchmarks/portraits.py [--quick] [--publish] [--sheet overlay.png]

`crop` is the mean distance of the crop's corners from the reference crop, which is the portrait itself: `ours`
aligned by our tracker's points, `98` by the reference's points, `both` between these two. `points` is the mean distance
of our tracker's points from the reference's, `inner` of 53 (iBUG without contour, and pupils), `corners` of the 12
corners of eyes, nose and mouth, whose place is beyond dispute. `turn` is the angle between the rotation of the fitted
head and the reference's, as it is and without the `constant` turn between what both head models call straight ahead
(for each portrait that of the other 15). `far` is by how much the fitted camera is farther away. All in px of 512, in
percent of the reference's outer-eye distance, in degrees, in percent.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fitting import corner_errors
from flame.geometry.rotation import matrix_to_euler_degrees
from flame.heads.frame_parameters import FrameParameters
from flame.heads.head_model import HeadModel
from flame.heads.open_head import load_open_head
from flame.landmarks.ibug import to_70
from flame.landmarks.sets import NUM_CONTOUR, WFLW_OUTER_EYE_CORNERS
from material import conclude, shared_folder, table
from portrait_sheet import FITTED, REFERENCE, TRACKED, Projected, draw_mesh, draw_points, project_fit
from pose_difference import pose_offset, rotation_difference
from preprocess.faces.aligned_crop import portrait_crop
from preprocess.faces.crop import Crop
from preprocess.faces.detector import FaceDetector
from preprocess.faces.landmarker import FaceLandmarker, find_faces
from preprocess.fitting.batched.fit import BatchFit, BatchFitter
from preprocess.fitting.batched.start import landmarks_of_set
from preprocess.media.contact_sheet import contact_sheet
from preprocess.media.image import read_image
from synthetic_flame import load_synthetic_flame, with_placed_landmarks

GOALS = "Goals: turn without the constant at most 4 degrees (median)."
SIDE = 512
OPEN, FLAME = "open head, our points", "synthetic FLAME, our points"


@dataclass(frozen=True)
class Portraits:
    """N portraits in which our tracker finds a face.

    Attributes:
        names: N.
        images: N, uint8 `[512, 512, 3]`.
        tracked: `[N, 478, 3]` px.
        reference: `[N, 98, 2]` px.
        parameters: of the reference.
        missed: names of the portraits without a face.
    """

    names: list[str]
    images: list[NDArray[np.uint8]]
    tracked: Tensor
    reference: Tensor
    parameters: FrameParameters
    missed: list[str]


def read_portraits(*, limit: int | None) -> Portraits:
    """Tracks the portraits.

    Raises:
        SystemExit: the reference material is absent.
    """
    folder = shared_folder() / "data" / "p4d"
    if not (folder / "params.npz").is_file():
        raise SystemExit(f"expected params.npz and images/ in {folder}: the reference portraits are not there")
    with np.load(folder / "params.npz", allow_pickle=False) as values:
        files, points, vectors = values["files"][:limit], values["lmk98"], values["flame_optim"]
    detector, landmarker = FaceDetector(), FaceLandmarker()
    kept, names, images, tracked, missed = [], [], [], [], []
    for index, file in enumerate(files):
        image = read_image(folder / "images" / Path(str(file)).name)
        faces = find_faces(image, detector, landmarker)
        if not faces:
            missed.append(str(file))
            continue
        kept.append(index)
        names.append(Path(str(file)).stem)
        images.append(image)
        tracked.append(faces[0].points)
    return Portraits(
        names,
        images,
        torch.from_numpy(np.stack(tracked)),
        torch.from_numpy(points[kept]).float(),
        FrameParameters.from_vector437(torch.from_numpy(vectors[kept])),
        missed,
    )


def corner_distance(first: Crop, second: Crop) -> float:
    """Mean distance of the corners of two crops of one image, in its px."""
    corners = np.array([[0, 0], [SIDE, 0], [0, SIDE], [SIDE, SIDE]], np.float64)
    return float(np.linalg.norm(first.to_image(corners) - second.to_image(corners), axis=-1).mean())


def measure_points(portraits: Portraits) -> list[dict[str, Any]]:
    """Crops and landmarks of each portrait."""
    rows = []
    whole = Crop.whole((SIDE, SIDE), size=SIDE)
    for name, tracked, reference in zip(
        portraits.names, portraits.tracked.numpy(), portraits.reference.numpy(), strict=True
    ):
        ours, theirs = (portrait_crop(points, image_size=(SIDE, SIDE)) for points in (tracked, reference))
        unit = np.linalg.norm(reference[WFLW_OUTER_EYE_CORNERS[0]] - reference[WFLW_OUTER_EYE_CORNERS[1]]) / 100
        gaps = np.linalg.norm(to_70(tracked[:, :2]) - to_70(reference), axis=-1)[NUM_CONTOUR:]
        corners = corner_errors(tracked, reference)["corners"]
        rows.append(
            {
                "portrait": name,
                "crop: ours": corner_distance(ours, whole),
                "98": corner_distance(theirs, whole),
                "both": corner_distance(ours, theirs),
                "points: inner px": float(gaps.mean()),
                "inner %": float(gaps.mean() / unit),
                "corners px": float(corners * unit),
                "corners %": corners,
            }
        )
    return rows


@dataclass(frozen=True)
class Measured:
    """A fit against the reference: columns of the table, `[N]` each, and the constant turn (yaw, pitch, roll)."""

    columns: dict[str, NDArray[np.float64]]
    offset_degrees: list[float]


def measure_fit(fit: BatchFit, reference: FrameParameters) -> Measured:
    """Turns, distances and errors of a fit."""
    plain, rest = rotation_difference(fit.pose.rotation, reference.head.neck)
    distance, theirs = (
        frames.camera.cam2world[:, :3, 3].norm(dim=-1) for frames in (fit.frame_parameters(), reference)
    )
    columns = {
        "turn": plain,
        "turn - constant": rest,
        "far %": 100 * (distance / theirs - 1),
        "fit %": 100 * fit.error,
    }
    offset = torch.stack(matrix_to_euler_degrees(pose_offset(fit.pose.rotation, reference.head.neck)))
    return Measured({name: column.double().numpy() for name, column in columns.items()}, offset.tolist())


def seen_by_reference(model: HeadModel, reference: FrameParameters, *, is_mean: bool, noise_px: float = 1.0) -> Tensor:
    """Landmarks `[N, 478, 3]` of a FLAME-shaped model with the reference's parameters through its cameras.

    Depth as the tracker has it, in px; NaN where the model has no landmark. The reference's eyeballs are also rolled
    about the line of sight, by up to 76 degrees: nothing held that number, so it is left out.

    Args:
        model: in metres.
        reference: as released.
        is_mean: the mean head without expression turns as the reference's.
        noise_px: standard deviation.
    """
    view = reference.resting_head()
    eyes = view.head.eyes * view.head.eyes.new_tensor([1.0, 1.0, 0.0])
    head = view.head.replace(eyes=eyes)
    if is_mean:
        head = head.replace(shape=torch.zeros_like(head.shape), expression=torch.zeros_like(head.expression))
    points = model.landmarks(model(head))
    pixels, distance = view.camera.project(3 * points, height=SIDE, width=SIDE)
    focal_px = SIDE * view.camera.intrinsics[:, :1, 0]
    middle = distance.mean(1, keepdim=True)
    seen = torch.cat([pixels, ((distance - middle) * focal_px / middle)[..., None]], -1)
    seen = seen + noise_px * torch.randn(seen.shape, generator=torch.Generator().manual_seed(0))
    seen[:, ~model.landmark_embedding(478).valid] = torch.nan
    return seen


def run_fits(portraits: Portraits, head: HeadModel, flame: HeadModel, scattered: HeadModel) -> dict[str, BatchFit]:
    """Fits of both head models to our points and to the reference's, and of what the reference's parameters draw.

    `scattered` is `flame` with the landmarks of the fixtures' rule.
    """
    reference, few = portraits.parameters, landmarks_of_set(portraits.reference)
    of_head, of_flame, of_scattered = (BatchFitter(model) for model in (head, flame, scattered))
    return {
        OPEN: of_head.fit(portraits.tracked),
        "open head, reference's 98 points": of_head.fit(few),
        FLAME: of_flame.fit(portraits.tracked),
        "synthetic FLAME, reference's 98 points": of_flame.fit(few),
        "synthetic FLAME, landmarks scattered by the rule": of_scattered.fit(portraits.tracked),
        "drawn by the reference's parameters": of_flame.fit(seen_by_reference(flame, reference, is_mean=False)),
        "drawn by its poses, mean head": of_flame.fit(seen_by_reference(flame, reference, is_mean=True)),
    }


def write_sheet(path: Path, portraits: Portraits, shown: dict[str, Projected]) -> None:
    """Per portrait: points, open head, synthetic FLAME."""
    rows, labels = [], []
    for index, image in enumerate(portraits.images):
        points = draw_points(
            image,
            [
                (portraits.tracked[index, :, :2].numpy(), TRACKED, 2),
                (shown["open head"].landmarks[index].numpy(), FITTED, 2),
                (portraits.reference[index].numpy(), REFERENCE, 4),
            ],
        )
        meshes = [draw_mesh(image, one.vertices[index], one.faces) for one in shown.values()]
        rows.append([points, *meshes])
        name = portraits.names[index]
        labels.append([f"{name}: blue reference, green ours, red fit", *shown])
    both = [rows[start] + rows[start + 1] if start + 1 < len(rows) else rows[start] for start in range(0, len(rows), 2)]
    texts = [labels[start] + (labels[start + 1] if start + 1 < len(rows) else []) for start in range(0, len(rows), 2)]
    contact_sheet(both, path, texts, cell_height=640)


def report_text(rows: list[dict[str, Any]], fits: dict[str, Measured], missed: list[str], *, agreement: float) -> str:
    """Medians over the portraits, then each portrait."""
    names = [name for name in rows[0] if name != "portrait"]
    medians = ["median", *(float(np.median([row[name] for row in rows])) for name in names)]
    each = [[row["portrait"], *(row[name] for name in names)] for row in rows]
    points = table(["portrait", *names], [medians, *each], digits=2)
    columns = list(fits[OPEN].columns)
    header = ["median over portraits", *columns, "worst turn - constant", "constant: yaw", "pitch", "roll"]
    summary = [
        [name, *(float(np.median(fit.columns[column])) for column in columns),
         float(fit.columns["turn - constant"].max()), *fit.offset_degrees]
        for name, fit in fits.items()
    ]  # fmt: skip
    chosen = {"open": fits[OPEN].columns, "FLAME": fits[FLAME].columns}
    each = [
        [row["portrait"], *(float(values[column][index]) for values in chosen.values() for column in columns)]
        for index, row in enumerate(rows)
    ]
    heads = ["portrait", *(f"{name}: {column}" for name in chosen for column in columns)]
    notes = "\n".join((__doc__ or "").splitlines()[4:]).strip()
    found = f"Faces found: {len(rows)} of {len(rows) + len(missed)}. {', '.join(missed)}".strip()
    between = f"The two fits to our points turn alike to {agreement:.2f} degrees (median, without the constant)."
    parts = ["## Crops, landmarks and fits against Portrait4D's", GOALS, notes, found, points]
    return "\n\n".join([*parts, table(header, summary, digits=2), between, table(heads, each, digits=2)])


def main() -> None:
    """Measures all portraits and writes tables, and the sheet if asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three portraits only")
    parser.add_argument("--publish", action="store_true", help="rewrite its page in docs/results")
    parser.add_argument("--sheet", type=Path, help="PNG of the portraits with points and meshes; not for publication")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    portraits = read_portraits(limit=3 if arguments.quick else None)
    head = load_open_head()
    scattered = load_synthetic_flame()
    flame = with_placed_landmarks(scattered, head)
    fits = run_fits(portraits, head, flame, scattered)
    measured = {name: measure_fit(fit, portraits.parameters) for name, fit in fits.items()}
    rows = measure_points(portraits)
    agreement = float(rotation_difference(fits[OPEN].pose.rotation, fits[FLAME].pose.rotation)[1].median())
    text = report_text(rows, measured, portraits.missed, agreement=agreement)
    for index, row in enumerate(rows):
        for name, fit in measured.items():
            row |= {f"{name}: {column}": float(values[index]) for column, values in fit.columns.items()}
    conclude("portraits", text, rows, is_published=arguments.publish)
    if arguments.sheet is not None:
        shown = {
            "open head": project_fit(fits[OPEN], head, size=SIDE),
            "synthetic FLAME": project_fit(fits[FLAME], flame, size=SIDE),
        }
        write_sheet(arguments.sheet, portraits, shown)
        print(f"\nwrote {arguments.sheet}")


if __name__ == "__main__":
    main()
