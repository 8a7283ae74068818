"""What only a GPU can tell: its tests, the pace and memory of both trainings, the frame rates of both engines.

    benchmarks/gpu.sh [FOLDER] [--cpu] [--seconds 450]   measures; FOLDER is $OUT, else out/benchmarks/gpu
    python benchmarks/gpu.py FOLDER --publish            makes docs/results/gpu.md of what a machine measured

Each part is a process of its own with a limit: one that fails or hangs becomes a row with its error. `gpu.md` and
`gpu.json` are written anew after every part, so that they hold what is known whenever the machine goes away. --cpu runs
the same with tiny networks, to try the script. This process stays free of torch.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lift import environment
from material import ROOT, output_folder, publish, table

PARTS = Path(__file__).with_name("gpu_parts.py")
LEAST_SECONDS = 15.0
"""A part that gets less is left out."""

TRAININGS = {
    "genhead": "genhead/ffhq512, open head",
    "eg3d": "eg3d/ffhq512-64",
    "reconstructor": "portrait4d/portrait4d",
    "reconstructor-recompute": "portrait4d/portrait4d, `train.recompute`",
}
GANS, RECONSTRUCTORS = ("genhead", "eg3d"), ("reconstructor", "reconstructor-recompute")
PHASES = ("generator", "density", "discriminator", "r1")
"""The reconstructor is the generator of its training."""

METHOD = """Trainings take pictures made in memory, all of a batch at once; a step's lazy phases count by their share.
Batches grow until one does not fit. fp16 and bf16 are the types of the finest blocks; the rest then takes TF32, in fp32
it does not; the reconstructor's finest blocks are fp16 in TF32, too, as released. What its batches should take is in
`reconstructor-memory.md`, computed. Networks have random weights of the released size, pictures have 512 px. `lift`
runs as torch's settings are; bf16 of `portrait4d` is autocast, otherwise its super-resolution is fp16 on a GPU."""
TRIAL = """The numbers mean nothing: the networks are tiny ones of the same parts."""


@dataclass(frozen=True)
class Part:
    """A process to run.

    Attributes:
        name: in tables and of its log.
        command: after the interpreter.
        limit_seconds: after which it is ended.
    """

    name: str
    command: tuple[str, ...]
    limit_seconds: float


@dataclass
class Findings:
    """All that was measured so far.

    Attributes:
        device: "cuda" or "cpu".
        rows: that the parts told.
        errors: of parts, by name.
        left_out: parts that were not begun.
        seconds: of each part.
    """

    device: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Rows of one kind."""
        return [row for row in self.rows if row["kind"] == kind]


def make_parts(*, is_cpu: bool) -> list[Part]:
    """In the order of their worth: what comes last is left out first."""
    device = ["--device", "cpu", "--tiny"] if is_cpu else ["--device", "cuda"]

    def part(name: str, limit: float, *words: str) -> Part:
        return Part(name, (str(PARTS), *words, *device), limit)

    tests = ("-m", "pytest", "-m", "gpu", "-p", "no:cacheprovider", "-rfEs", "--tb=short", *gpu_tests())
    parts = [part("machine", 60, "machine"), Part("tests", tests, 120), part("lift", 45, "lift")]
    # bf16 takes minutes for a frame on a CPU
    parts += [
        part(f"portrait4d {precision}", 45, "reconstructor", "--precision", precision)
        for precision in (("fp32",) if is_cpu else ("fp32", "tf32", "bf16"))
    ]
    trained = [(model, precision) for precision in ("fp16", "bf16", "tf32", "fp32") for model in GANS]
    if is_cpu:  # which has no others
        trained = [(model, precision) for model, precision in trained if precision in ("bf16", "fp32")]
    trained[len(GANS) : len(GANS)] = [(model, "fp32" if is_cpu else "tf32") for model in RECONSTRUCTORS]
    parts += [
        part(f"{model} {precision}", 90, "training", "--model", model, "--precision", precision)
        for model, precision in trained
    ]
    return parts


def gpu_tests() -> list[str]:
    """Test files with the mark `gpu`: others may need packages that the machine lacks even to be collected."""
    paths = sorted((ROOT / "tests").rglob("test_*.py"))
    return [str(path.relative_to(ROOT)) for path in paths if "pytest.mark.gpu" in path.read_text(encoding="utf-8")]


def measure(parts: list[Part], findings: Findings, folder: Path, *, seconds: float) -> None:
    """Runs the parts until the time is over; the last ones share what is left."""
    end = time.monotonic() + seconds
    for index, part in enumerate(parts):
        left = end - time.monotonic()
        if left < LEAST_SECONDS:
            findings.left_out.append(part.name)
            continue
        share = max(1.6 * left / (len(parts) - index), 2 * LEAST_SECONDS)
        run_part(part, findings, folder, limit=min(part.limit_seconds, share, left))
        write(findings, folder)
    write(findings, folder)


def run_part(part: Part, findings: Findings, folder: Path, *, limit: float) -> None:
    """Runs a process to its end or its limit and takes the rows that it told."""
    command = [sys.executable, *part.command]
    if "training" in part.command:
        command += ["--seconds", f"{0.7 * limit:.0f}"]
    log = folder / "logs" / f"{part.name.replace(' ', '-')}.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    print(f"{part.name}, at most {limit:.0f} s", flush=True)
    began = time.monotonic()
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, cwd=ROOT, env=environment(), start_new_session=True
        )
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    findings.seconds[part.name] = round(time.monotonic() - began, 1)
    text = log.read_text(encoding="utf-8", errors="replace")
    found = [test_row(text)] if part.name == "tests" else json_rows(text)
    findings.rows += [row for row in found if row]
    if code is None:
        findings.errors[part.name] = f"ended after {limit:.0f} s"
    elif code and not (part.name == "tests" and found[0]):  # failed tests are named in their row
        lines = [line for line in text.splitlines() if line.strip() and not line.startswith("{")]
        findings.errors[part.name] = lines[-1].strip()[:300] if lines else f"exit status {code}"


def json_rows(text: str) -> list[dict[str, Any]]:
    """Lines that are rows; one that was cut off is none."""
    rows = []
    for line in text.splitlines():
        if line.startswith('{"kind"') and line.endswith("}"):
            rows.append(json.loads(line))
    return rows


def test_row(text: str) -> dict[str, Any]:
    """What pytest counted, and which tests failed; empty where it did not get so far."""
    counts = {name: 0 for name in ("passed", "failed", "skipped", "errors")}
    lines = text.strip().splitlines()
    for number, name in re.findall(r"(\d+) (passed|failed|skipped|error)", lines[-1] if lines else ""):
        counts["errors" if name == "error" else name] = int(number)
    if not any(counts.values()):
        return {}
    failed = [line[:200] for line in lines if re.match(r"(FAILED|ERROR) \S", line)]
    return {"kind": "tests", **counts, "names": failed}


def report(findings: Findings) -> str:
    """All tables."""
    facts = [f"{name} {value}" for row in findings.of("machine") for name, value in row.items() if name != "kind"]
    title = "## On one GPU" if findings.device == "cuda" else "## A trial on a CPU, with tiny networks"
    pieces = [title, ", ".join(facts), METHOD if findings.device == "cuda" else TRIAL]
    for row in findings.of("tests"):
        said = f"Tests marked `gpu`: {row['passed']} passed, {row['failed']} failed, {row['errors']} errors, "
        pieces.append("\n".join([f"{said}{row['skipped']} skipped.", *(f"- `{name}`" for name in row["names"])]))
    if trained := findings.of("training"):
        header = ["training", "precision", "batch", "s a 1000 images", "peak MB", *PHASES, ""]
        pieces += ["### Training steps, ms an image by phase", table(header, [training_cells(row) for row in trained])]
    if engines := findings.of("engine"):
        names = ("engine", "precision", "stage", "milliseconds", "frames_per_second", "memory_mb")
        header = ["engine", "precision", "stage", "ms", "frames a second", "peak MB"]
        rows = [[row[name] for name in names] for row in engines]
        pieces += ["### Engines", table(header, rows, digits=1)]
    if findings.errors:
        rows = [[name, f"`{error.replace('|', '/')}`"] for name, error in findings.errors.items()]
        pieces += ["### What failed", table(["part", "error"], rows)]
    if findings.left_out:
        pieces.append(f"Left out, the time was over: {', '.join(findings.left_out)}.")
    pieces.append(f"Seconds by part: {', '.join(f'{name} {value:.0f}' for name, value in findings.seconds.items())}.")
    return "\n\n".join(piece for piece in pieces if piece)


def training_cells(row: dict[str, Any]) -> list[Any]:
    """A row of the table of trainings; one without numbers says why."""
    found = row.get("phases", {})
    phases = {"generator" if name == "reconstructor" else name: value for name, value in found.items()}
    cells = [TRAININGS[row["model"]], row["precision"], row["batch"], row.get("seconds_per_kimg"), row.get("memory_mb")]
    return [*cells, *(phases.get(name) for name in PHASES), row.get("note", "")]


def write(findings: Findings, folder: Path) -> None:
    """Both files of the folder."""
    (folder / "gpu.json").write_text(json.dumps(vars(findings), indent=1), encoding="utf-8")
    (folder / "gpu.md").write_text(report(findings) + "\n", encoding="utf-8")


def publish_measured(folder: Path) -> None:
    """Makes the page of what a GPU measured.

    Raises:
        SystemExit: there is no such measurement.
    """
    path = folder / "gpu.json"
    if not path.is_file():
        raise SystemExit(f"no measurement at {path}: run benchmarks/gpu.sh on a machine with a GPU, bring its folder")
    findings = Findings(**json.loads(path.read_text(encoding="utf-8")))
    if findings.device != "cuda":
        raise SystemExit(f"{path} was measured on a CPU with tiny networks, which says nothing: nothing is published")
    if not findings.of("machine"):
        raise SystemExit(f"{path} tells of no GPU: see its errors in {folder / 'gpu.md'}")
    print(f"wrote {publish('gpu', report(findings)).relative_to(ROOT)}: add its headlines to docs/results.md")


def main() -> None:
    """Measures all parts, or publishes what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="where the table goes; default $OUT")
    parser.add_argument("--cpu", action="store_true", help="try the script with tiny networks on a CPU")
    parser.add_argument("--seconds", type=float, default=450.0, help="after which nothing more is begun or goes on")
    parser.add_argument("--publish", action="store_true", help="measure nothing, publish what FOLDER holds")
    options = parser.parse_args()
    given = options.folder or (Path(os.environ["OUT"]) if os.environ.get("OUT") else output_folder("gpu"))
    folder = given.resolve()
    if options.publish:
        return publish_measured(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if options.cpu:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a part that runs is ended, too
    findings = Findings("cpu" if options.cpu else "cuda")
    measure(make_parts(is_cpu=options.cpu), findings, folder, seconds=options.seconds)
    print(f"\n{report(findings)}")
    return None


if __name__ == "__main__":
    main()
