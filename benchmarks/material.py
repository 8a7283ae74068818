"""What every benchmark needs around it: reference material, measuring Python, output folder, result tables."""

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"
NOTICE = "[All results](../results.md). Written by a benchmark's `--publish`, not by hand."


def shared_folder() -> Path:
    """The reference material: `$PORTRAIT4D_SHARED`, or `../shared` beside the checkout.

    Raises:
        SystemExit: it is not there.
    """
    folder = Path(os.environ.get("PORTRAIT4D_SHARED") or ROOT.parent / "shared")
    if not (folder / "data").is_dir():
        raise SystemExit(f"reference material not found at {folder}: set PORTRAIT4D_SHARED to its folder")
    return folder


def find(name: str) -> Path:
    """The file of `data/` whose name begins so: `d02` a driver, `s01` a source, `p4d_open_03` a portrait."""
    folder = {"d": "drivers", "s": "sources", "p": "p4d/images"}[name[0]]
    found = sorted((shared_folder() / "data" / folder).glob(f"{name}*"))
    if not found:
        raise SystemExit(f"no file {name}* in data/{folder} of the reference material")
    return found[0]


def output_folder(name: str) -> Path:
    """`out/benchmarks/<name>` of the checkout, made if needed; git ignores it."""
    folder = ROOT / "out" / "benchmarks" / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def measure(job: dict[str, Any], folder: Path, *, script: str = "measure.py") -> dict[str, Any] | None:
    """Runs a script on a job in the measuring Python (`$PORTRAIT4D_METRICS_PYTHON`), a separate process.

    Args:
        job: see the script; paths as strings.
        folder: where job and answer are kept.
        script: name of the file beside this one.

    Returns:
        The answer, or None with a line on the screen if there is no measuring Python.
    """
    python = os.environ.get("PORTRAIT4D_METRICS_PYTHON", "")
    if not python or not Path(python).is_file():
        print(
            "skipped: identity, expression, motion agreement and jitter need PORTRAIT4D_METRICS_PYTHON, "
            "a Python with tools/requirements.txt of the reference material"
        )
        return None
    question, answer = folder / "measure.json", folder / "measured.json"
    question.write_text(json.dumps(job))
    environment = {**os.environ, "PORTRAIT4D_SHARED": str(shared_folder())}
    environment.pop("PYTHONPATH", None)
    program = Path(__file__).with_name(script)
    subprocess.run([python, str(program), str(question), str(answer)], check=True, env=environment)
    return json.loads(answer.read_text())


def table(header: Sequence[str], rows: Sequence[Sequence[Any]], *, digits: int = 3) -> str:
    """A markdown table; floats are rounded, None is an empty cell."""

    def cell(value: Any) -> str:
        if value is None or value != value:
            return ""
        return f"{value:.{digits}f}" if isinstance(value, float) else str(value)

    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    lines += ["| " + " | ".join(cell(value) for value in row) + " |" for row in rows]
    return "\n".join(lines)


def publish(name: str, text: str, *, folder: Path = RESULTS) -> Path:
    """Writes the page `<name>.md` of a benchmark's tables; docs/results.md links to it, and is written by hand."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.md"
    path.write_text(f"{NOTICE}\n\n{text.strip()}\n", encoding="utf-8")
    return path


def conclude(name: str, text: str, data: Any, *, is_published: bool) -> None:
    """Prints a benchmark's tables and keeps them in the output folder; `is_published` also rewrites their page."""
    folder = output_folder(name)
    (folder / "results.json").write_text(json.dumps(data, indent=1))
    (folder / "results.md").write_text(text.strip() + "\n")
    print("\n" + text.strip())
    if is_published:
        print(f"\nwrote {publish(name, text).relative_to(ROOT)}: do the headlines of docs/results.md still hold?")
