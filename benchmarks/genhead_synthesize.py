"""Makes training data with a GenHead network: rate, the same bytes after a kill and in two processes, and a sheet.

    python benchmarks/genhead_synthesize.py CHECKPOINT --motions FOLDER [--publish]

CHECKPOINT is a folder below a run's `checkpoints`, FOLDER what `scripts/make_toy_faces.py` made. The command runs as a
user runs it, in processes of its own: once unbroken in one process, once in two, once killed after half and resumed.
"""

import argparse
import hashlib
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from material import ROOT, conclude, output_folder, table
from preprocess.dataset.synthetic.record import SyntheticFolder

NUM_SUBJECTS = 200
"""Of each kind."""

_GENHEAD = (sys.executable, "-c", "from genhead.cli import main; main()")


def command(arguments: argparse.Namespace, output: Path, *, num_workers: int) -> list[str]:
    """The command line for a folder."""
    line = [*_GENHEAD, "synthesize", str(arguments.checkpoint), "-o", str(output), "--motions", str(arguments.motions)]
    line += ["--dynamic", str(NUM_SUBJECTS), "--static", str(NUM_SUBJECTS), "--workers", str(num_workers)]
    return [*line, "--subjects-per-shard", "50"]


def digests(folder: Path) -> dict[str, str]:
    """Of the containers of a folder."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("*.tar"))}


def cpu_seconds() -> float:
    """Of all processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def kill_at_half(line: list[str], folder: Path, *, num_containers: int) -> int:
    """Starts a command and kills it without warning once half of its containers are there; how many those are."""
    process = subprocess.Popen(line)
    while len(digests(folder)) < num_containers // 2 and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return len(digests(folder))


def main() -> None:
    """Measures the command with the network that the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--motions", type=Path, required=True)
    parser.add_argument("--publish", action="store_true")
    arguments = parser.parse_args()
    folder = output_folder("genhead-synthesize")
    folders = {name: folder / name for name in ("one", "two", "killed")}
    for path in folders.values():
        shutil.rmtree(path, ignore_errors=True)

    before = cpu_seconds()
    subprocess.run(command(arguments, folders["one"], num_workers=1), check=True)
    seconds = cpu_seconds() - before
    unbroken = digests(folders["one"])
    subprocess.run(command(arguments, folders["two"], num_workers=2), check=True)
    line = command(arguments, folders["killed"], num_workers=1)
    kept = kill_at_half(line, folders["killed"], num_containers=len(unbroken))
    sheet = folder / "sheet.png"
    subprocess.run([*line, "--sheet", str(sheet)], check=True)

    subjects = SyntheticFolder(folders["one"])
    kinds = [subjects[index].kind for index in range(len(subjects))]
    size = sum(path.stat().st_size for path in folders["one"].glob("*.tar"))
    facts = {
        "dynamic subjects": kinds.count("dynamic"),
        "static subjects": kinds.count("static"),
        "views": 3 * len(kinds),
        "CPU seconds, all": round(seconds, 1),
        "subjects a CPU second": round(len(kinds) / seconds, 2),
        "views a CPU second": round(3 * len(kinds) / seconds, 2),
        "kB a subject": round(size / len(kinds) / 1000),
        "two processes: the same bytes": digests(folders["two"]) == unbroken,
        f"killed with {kept} of {len(unbroken)} containers, resumed: the same bytes": digests(folders["killed"])
        == unbroken,
    }
    text = f"""## Synthesised training data

`genhead synthesize` with {arguments.checkpoint.parent.parent.name} at {arguments.checkpoint.name.lstrip("0")} images of
`configs/genhead/toy64.yaml`, pictures of 64 px with every field that [genhead](../genhead.md) lists; start and network
are part of the time.

{table(("", ""), [(name, str(value)) for name, value in facts.items()])}
"""
    if arguments.publish:
        shutil.copy(sheet, ROOT / "docs" / "genhead-synthetic.png")
    conclude("genhead-synthesize", text, facts, is_published=arguments.publish)


if __name__ == "__main__":
    main()
