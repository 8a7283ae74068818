"""Reports a build: a JSON file, a page with histograms and rejected files, and a contact sheet of overlays."""

import html
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from preprocess.dataset.building.build import BuildResult
from preprocess.dataset.records.record import Record
from preprocess.dataset.records.shards import read_shard
from preprocess.files.atomic import atomic_path
from preprocess.media.contact_sheet import contact_sheet

_SHEET_COLUMNS, _SHEET_ROWS = 8, 6
_LEGEND = (
    "Green: the landmarks that were found. Red: the outline of the mask. Above: begin of the record's key, y yaw in "
    "degrees (> 0 with the nose to the right), e fit error as part of the outer-eye distance."
)
_BINS = {
    "yaw_degrees": (-90.0, 90.0, 18),
    "pitch_degrees": (-60.0, 60.0, 24),
    "fit_error": (0.0, 0.1, 20),
    "sharpness": (0.0, 500.0, 20),
    "occlusion": (0.0, 0.5, 20),
    "outside": (0.0, 0.5, 20),
    "eye_open": (0.0, 0.5, 20),
}


def write_report(result: BuildResult, output: Path, *, name: str, is_new: bool = True) -> dict[str, Any]:
    """Writes NAME.json, NAME.html and NAME.png; returns the content of the JSON file.

    Args:
        result: the build.
        output: folder of the dataset.
        name: of the files, without suffix.
        is_new: whether anything was built; if not, a page and a sheet that exist stay as they are.
    """
    report = _summary(result)
    report |= {"html": str(output / f"{name}.html"), "sheet": str(output / f"{name}.png") if result.shards else None}
    paths = [output / f"{name}.html"] + ([output / f"{name}.png"] if result.shards else [])
    if is_new or not all(path.exists() for path in paths):
        if result.shards:
            _write_sheet(result, output / f"{name}.png")
        with atomic_path(output / f"{name}.html") as temporary:
            temporary.write_text(_page(report, name), encoding="utf-8")
    with atomic_path(output / f"{name}.json") as temporary:
        temporary.write_text(json.dumps(report, indent=1) + "\n")
    return report


def _summary(result: BuildResult) -> dict[str, Any]:
    kept = [outcome for outcome in result.outcomes if outcome["state"] == "kept"]
    rejected = [outcome for outcome in result.outcomes if outcome["state"] == "rejected"]
    scores = [quality for outcome in kept for quality in outcome["quality"].values()]
    seconds = [outcome["seconds"] for outcome in kept]
    histograms = {}
    for key, (low, high, count) in _BINS.items():
        values = np.clip([quality[key] for quality in scores], low, high)  # outer bins hold all values beyond
        counts, edges = np.histogram(values, bins=count, range=(low, high))
        histograms[key] = {"edges": np.round(edges, 4).tolist(), "counts": counts.tolist()}
    duplicates = [{"source": name, "reason": f"same content as {first}"} for name, first in result.duplicates]
    return {
        "num_files": len(result.outcomes) + len(duplicates),
        "num_kept": len(kept),
        "num_records": len(scores),
        "num_rejected": len(rejected) + len(duplicates),
        "core_seconds_per_record": round(sum(seconds) / len(scores), 3) if scores else None,
        "rejected": [{"source": item["source"], "reason": item["reason"]} for item in rejected] + duplicates,
        "remarks": [{"source": item["source"], "remarks": item["remarks"]} for item in kept if item["remarks"]],
        "histograms": histograms,
    }


def _write_sheet(result: BuildResult, path: Path) -> None:
    """Draws records that are spread evenly over all shards."""
    shards = [read_shard(shard) for shard in result.shards]
    places = [(shard, key) for shard in shards for key in shard.keys]
    count = min(len(places), _SHEET_COLUMNS * _SHEET_ROWS)
    cells: list[NDArray[np.uint8]] = []
    labels: list[str] = []
    for index in np.linspace(0, len(places) - 1, count).round().astype(int):
        shard, key = places[index]
        with shard.path.open("rb") as file:
            record = shard.read(key, file)
        cells.append(draw_overlay(record))
        labels.append(f"{record.key[:6]} y{record.quality['yaw_degrees']:.0f} e{record.quality['fit_error']:.3f}")
    rows = range(0, count, _SHEET_COLUMNS)
    contact_sheet(
        [cells[row : row + _SHEET_COLUMNS] for row in rows], path, [labels[row : row + _SHEET_COLUMNS] for row in rows]
    )


def draw_overlay(record: Record) -> NDArray[np.uint8]:
    """Returns the picture with its landmarks (green) and the mask's outline (red)."""
    picture = record.image.copy()
    outlines, _ = cv2.findContours((record.mask >= 128).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, outlines, -1, (255, 40, 40), 3)
    for x, y in record.landmarks[:, :2]:
        cv2.circle(picture, (round(float(x)), round(float(y))), 2, (40, 255, 40), -1)
    return picture


def _page(report: dict[str, Any], name: str) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(item['source'])}</td><td>{html.escape(item['reason'])}</td></tr>"
        for item in report["rejected"]
    )
    remarks = "".join(
        f"<tr><td>{html.escape(item['source'])}</td><td>{html.escape('; '.join(item['remarks']))}</td></tr>"
        for item in report["remarks"]
    )
    plots = "".join(_histogram(title, values) for title, values in report["histograms"].items())
    sheet = f'<h2>Overlays</h2><p>{_LEGEND}</p><img src="{name}.png" style="max-width:100%">' if report["sheet"] else ""
    return (
        f'<!doctype html><meta charset="utf-8"><title>{name}</title><body style="font:14px sans-serif">'
        f"<h1>{report['num_records']} records of {report['num_kept']} files, {report['num_rejected']} rejected</h1>"
        f"<p>Seconds of one core per record: {report['core_seconds_per_record']}</p>{plots}{sheet}"
        f"<h2>Rejected</h2><table>{rows}</table><h2>Kept, with remarks</h2><table>{remarks}</table></body>\n"
    )


def _histogram(title: str, values: dict[str, list[float]]) -> str:
    """Returns a histogram as inline SVG, 300 x 130."""
    counts, edges = values["counts"], values["edges"]
    width, top = 280 / len(counts), max(*counts, 1)
    bars = "".join(
        f'<rect x="{10 + index * width:.1f}" y="{100 - 90 * count / top:.1f}" width="{width - 1:.1f}" '
        f'height="{90 * count / top:.1f}" fill="#47a"><title>{count}</title></rect>'
        for index, count in enumerate(counts)
    )
    return (
        f'<svg width="300" height="130" font-size="11">{bars}<line x1="10" x2="290" y1="100" y2="100" stroke="#333"/>'
        f'<text x="10" y="112">{edges[0]:g}</text><text x="290" y="112" text-anchor="end">{edges[-1]:g}</text>'
        f'<text x="150" y="126" text-anchor="middle">{title} (top {top:g})</text></svg>'
    )
