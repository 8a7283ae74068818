"""The blind comparison: it counts what was picked, whatever the order, and refuses picks that it cannot read."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flame.errors import InputError
from lift_compare import compare_table, count_picks, draw_sheet, make_pairs, read_run, write_blind
from preprocess.media.image import write_png

BOX = [20, 20, 60, 70]


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    """Two runs of one clip: the earlier is darker than the truth by 60 levels, the later by 20."""
    chosen = {"shut": [3, 5], "open": [5], "turn": [7], "spread": [3, 5, 7]}
    boxes: dict[str, Any] = {str(index): {"eyes": [BOX], "mouth": BOX} for index in (3, 5, 7)}
    for name, level in (("before", 140), ("after", 180)):
        folder = tmp_path / name / "d00"
        folder.mkdir(parents=True)
        for index in (3, 5, 7):
            write_png(folder / f"truth_{index:04d}.png", np.full((96, 96, 3), 200, np.uint8))
            write_png(folder / f"lift_{index:04d}.png", np.full((96, 96, 3), level, np.uint8))
        values = {"lid": 0.3, "mouth_box": None, "halo": 1.0, "frame_psnr": float(level)}
        item = {"clip": "d00", "chosen": chosen, "boxes": boxes, "motion": 2.0, "lift": values}
        item["photo"] = {**values, "frame_psnr": 160.0}
        (tmp_path / name / "results.json").write_text(json.dumps([item]))
    return tmp_path / "before", tmp_path / "after"


def test_the_later_run_is_counted_whichever_side_it_is_on(runs: tuple[Path, Path], tmp_path: Path) -> None:
    rows, answers = make_pairs(read_run(runs[0]), *runs)
    write_blind(rows, answers, tmp_path)
    assert {answer["after"] for answer in answers} == {"A", "B"}
    assert (tmp_path / "blind.html").read_text().count("<img") == len(rows) == len(answers)
    picks = []
    for number, (first, truth, second) in enumerate(rows, 1):
        is_first_nearer = abs(int(first.mean()) - int(truth.mean())) < abs(int(second.mean()) - int(truth.mean()))
        picks.append(f"{number} {'A' if is_first_nearer else 'B'}")
    counted = count_picks(answers, "\n".join(picks))
    assert (counted["after"], counted["before"], counted["equal"]) == (len(rows), 0, 0)
    assert counted["chance"] == pytest.approx(2 * 0.5 ** len(rows))
    assert count_picks(answers, "1 =\n") == {"after": 0, "before": 0, "equal": 1, "chance": 1.0}


@pytest.mark.parametrize("picks", ["1 C", "0 A", "99 B", "1 A\n1 B", "first"])
def test_picks_that_cannot_be_read_are_refused(picks: str) -> None:
    with pytest.raises(InputError, match="expected lines like"):
        count_picks([{"after": "A"}, {"after": "B"}], picks)


def test_table_marks_who_loses_to_the_still_photo(runs: tuple[Path, Path]) -> None:
    lines = compare_table(*map(read_run, runs)).splitlines()
    assert ["below the photo" in line for line in lines[2:5]] == [False, True, False]  # photo, before, after
    sheet = draw_sheet("d00", read_run(runs[0])["d00"], *runs)
    assert sheet.shape[0] > 3 * 320 and sheet.shape[1] >= 3 * 320


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="run lift_clips.py first"):
        read_run(tmp_path)
