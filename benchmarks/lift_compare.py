"""Compares two runs of `lift_clips.py`: a table, sheets of every clip, and a blind page for whoever judges.

    python benchmarks/lift_compare.py BEFORE AFTER FOLDER
    python benchmarks/lift_compare.py --count FOLDER PICKS

FOLDER gets `compare.md`, `sheet_<clip>.png`, `blind_<number>.png`, `blind.html` and `answers.json`. The page shows
shuffled pairs beside the truth and makes a text of picks, one a line (`7 A`, `8 =`); `--count` reads that text from
PICKS and says how often the later run was picked. Look at the answers afterwards.
"""

import argparse
import base64
import json
import random
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from flame.errors import InputError
from lift_clips import COLUMNS
from local_measures import DEFINITIONS, SMALL_MOTION
from material import table
from preprocess.media.contact_sheet import draw_contact_sheet
from preprocess.media.image import png_bytes, read_image, write_png

CELL_PX = 300
SHEET_FRAMES = {"shut": 2, "open": 2, "turn": 1, "spread": 1}
"""Frames of each kind on a sheet."""
SEED = 16
PAIRS_ON_A_PICTURE = 6

PAGE = """<!doctype html><meta charset="utf-8"><title>Which is nearer to the truth?</title>
<style>body{{font:16px sans-serif;max-width:1000px;margin:auto}}img{{width:100%}}label{{margin-right:2em}}</style>
<h1>Which is nearer to the truth?</h1><p>The truth is in the middle. Pick the picture that you would sooner take for it.
</p>{pairs}<h2>Your picks</h2><textarea id="picks" rows="12" cols="20"></textarea><script>
addEventListener("change", () => {{ picks.value = [...document.querySelectorAll("input:checked")]
.map(box => box.name.slice(1) + " " + box.value).join("\\n") + "\\n" }})</script>"""


def read_run(folder: Path) -> dict[str, Any]:
    """The clips of a run by name.

    Raises:
        InputError: it has no results.
    """
    path = folder / "results.json"
    if not path.is_file():
        raise InputError(f"expected a folder of lift_clips.py with results.json, got {folder}: run lift_clips.py first")
    return {item["clip"]: item for item in json.loads(path.read_text(encoding="utf-8"))}


def compare_table(before: dict[str, Any], after: dict[str, Any]) -> str:
    """Numbers of the unmoved photo, before and after; a loss to the photo where the head moves little is marked."""
    rows = []
    for name in sorted(before.keys() & after.keys()):
        variants = {"photo": before[name]["photo"], "before": before[name]["lift"], "after": after[name]["lift"]}
        for variant, values in variants.items():
            loses = before[name]["motion"] < SMALL_MOTION and values["frame_psnr"] < variants["photo"]["frame_psnr"]
            numbers = [values[key] for key in COLUMNS]
            rows.append([name, variant, before[name]["motion"], *numbers, "below the photo" if loses else ""])
    for variant in ("photo", "before", "after"):
        columns = zip(*[row[3 : 3 + len(COLUMNS)] for row in rows if row[1] == variant], strict=True)
        means = [_mean([value for value in column if value is not None]) for column in columns]
        rows.append(["mean", variant, None, *means, ""])
    return table(["clip", "variant", "motion, %", *COLUMNS.values(), ""], rows)


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None


def draw_sheet(name: str, clip: dict[str, Any], before: Path, after: Path) -> NDArray[np.uint8]:
    """Truth, before and after of one clip, one column a frame."""
    picked: dict[int, str] = {}
    for kind, count in SHEET_FRAMES.items():
        frames = clip["chosen"][kind]
        for place in np.linspace(0, len(frames) - 1, count + 2)[1:-1] if len(frames) > 1 else range(len(frames)):
            picked.setdefault(frames[round(place)], kind)
    rows = [
        [read_image(folder / name / f"{part}_{index:04d}.png") for index in picked]
        for folder, part in ((before, "truth"), (before, "lift"), (after, "lift"))
    ]
    labels = [
        [f"{name} {index}: {kind}, {row}" for index, kind in picked.items()] for row in ("truth", "before", "after")
    ]
    return draw_contact_sheet(rows, labels, cell_height=320)


def crops_of(clip: dict[str, Any]) -> list[tuple[int, list[int] | None]]:
    """What is judged of a clip: frame numbers with boxes, None for the whole frame."""
    chosen, boxes = clip["chosen"], clip["boxes"]
    crops: list[tuple[int, list[int] | None]] = []
    for index in _middle(chosen["shut"]):
        eyes = np.array(boxes[str(index)]["eyes"])
        crops.append((index, _grown([*eyes[:, :2].min(0), *eyes[:, 2:].max(0)], 0.8)))
    crops += [(index, _grown(boxes[str(index)]["mouth"], 0.3)) for index in _middle(chosen["open"])]
    return crops + [(index, None) for index in (*chosen["turn"], *_middle(chosen["spread"])[:1])]


def _middle(frames: list[int]) -> list[int]:
    return [frames[len(frames) // 3], frames[2 * len(frames) // 3]] if len(frames) > 2 else frames[:1]


def _grown(box: list[int], share: float) -> list[int]:
    top, left, bottom, right = box
    more = share * max(bottom - top, right - left)
    return [int(max(0, top - more)), int(max(0, left - more)), int(bottom + more), int(right + more)]


def make_pairs(clips: dict[str, Any], before: Path, after: Path) -> tuple[list[list[NDArray]], list[dict[str, Any]]]:
    """The rows A, truth, B, shuffled by a fixed seed, and what each row is: `after` says which letter is the later."""
    chance = random.Random(SEED)
    wanted = [(name, index, box) for name, clip in clips.items() for index, box in crops_of(clip)]
    chance.shuffle(wanted)
    rows, answers = [], []
    for name, index, box in wanted:
        pictures = [
            read_image(folder / name / f"{part}_{index:04d}.png")
            for folder, part in ((before, "lift"), (before, "truth"), (after, "lift"))
        ]
        if box is not None:
            pictures = [image[box[0] : box[2], box[1] : box[3]] for image in pictures]
        is_after_first = chance.random() < 0.5
        rows.append(pictures[::-1] if is_after_first else pictures)
        answers.append({"clip": name, "frame": index, "box": box, "after": "A" if is_after_first else "B"})
    return rows, answers


def write_blind(rows: list[list[NDArray]], answers: list[dict[str, Any]], folder: Path) -> None:
    """Writes the page, the same as pictures of a few pairs each, and the answers."""
    pairs = []
    for start in range(0, len(rows), PAIRS_ON_A_PICTURE):
        part = rows[start : start + PAIRS_ON_A_PICTURE]
        labels = [[f"{start + place + 1} A", "truth", f"{start + place + 1} B"] for place in range(len(part))]
        write_png(folder / f"blind_{start // PAIRS_ON_A_PICTURE:02d}.png", draw_contact_sheet(part, labels))
    for number, row in enumerate(rows, 1):
        cells = [cv2.resize(image, (CELL_PX, round(CELL_PX * image.shape[0] / image.shape[1]))) for image in row]
        strip = draw_contact_sheet([[cell.astype(np.uint8) for cell in cells]], cell_height=cells[0].shape[0])
        picture = base64.b64encode(png_bytes(strip)).decode()
        buttons = "".join(
            f'<label><input type="radio" name="p{number}" value="{value}"> {value}</label>' for value in ("A", "=", "B")
        )
        pairs.append(f'<p>{number}<br><img src="data:image/png;base64,{picture}"><br>{buttons}</p>')
    (folder / "blind.html").write_text(PAGE.format(pairs="".join(pairs)), encoding="utf-8")
    (folder / "answers.json").write_text(json.dumps(answers, indent=1), encoding="utf-8")


def count_picks(answers: list[dict[str, Any]], picks: str) -> dict[str, Any]:
    """How often the later run was picked: `after`, `before`, `equal`, and `chance`.

    `chance` is the two-sided probability of a difference as large if both were alike.

    Args:
        answers: of `make_pairs`.
        picks: lines of a number and A, B or =.

    Raises:
        InputError: a line is something else, or names a pair twice or one that is not there.
    """
    counts = {"after": 0, "before": 0, "equal": 0}
    seen: set[int] = set()
    for line in filter(None, (line.strip() for line in picks.splitlines())):
        words = line.split()
        is_pick = len(words) == 2 and words[0].isdigit() and words[1].upper() in ("A", "B", "=")
        number = int(words[0]) if is_pick else 0
        if not 1 <= number <= len(answers) or number in seen:
            raise InputError(
                f"expected lines like '7 A', one for each of 1 to {len(answers)}, got {line!r}: correct it"
            )
        seen.add(number)
        if words[1] == "=":
            counts["equal"] += 1
        else:
            counts["after" if words[1].upper() == answers[number - 1]["after"] else "before"] += 1
    decided = counts["after"] + counts["before"]
    return {**counts, "chance": float(binomtest(counts["after"], decided).pvalue) if decided else 1.0}


def main() -> None:
    """Compares, or counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", action="store_true", help="FOLDER PICKS: count the picks")
    parser.add_argument("paths", nargs="+", type=Path)
    arguments = parser.parse_args()
    if len(arguments.paths) != (2 if arguments.count else 3):
        parser.error("expected BEFORE AFTER FOLDER, or --count FOLDER PICKS")
    if arguments.count:
        folder, picks = arguments.paths
        answers = json.loads((folder / "answers.json").read_text(encoding="utf-8"))
        print(count_picks(answers, picks.read_text(encoding="utf-8")))
        return
    before, after, folder = arguments.paths
    folder.mkdir(parents=True, exist_ok=True)
    runs = read_run(before), read_run(after)
    text = f"{DEFINITIONS}\n\n{compare_table(*runs)}"
    (folder / "compare.md").write_text(text + "\n", encoding="utf-8")
    clips = {name: runs[0][name] for name in sorted(runs[0].keys() & runs[1].keys())}
    for name, clip in clips.items():
        write_png(folder / f"sheet_{name}.png", draw_sheet(name, clip, before, after))
    write_blind(*make_pairs(clips, before, after), folder)
    print(text)


if __name__ == "__main__":
    main()
