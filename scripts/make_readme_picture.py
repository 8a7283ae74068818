"""Makes docs/demo.png, the picture of the README: the demo's contact sheet. The photo is public domain (NASA)."""

import tempfile
from pathlib import Path

from portrait4d.jobs.demo import run_demo

PICTURE = Path(__file__).parent.parent / "docs" / "demo.png"


def main() -> None:
    """Runs the demo in a temporary folder and keeps its contact sheet."""
    with tempfile.TemporaryDirectory() as folder:
        report = run_demo(folder)
        PICTURE.write_bytes(Path(report.sheet).read_bytes())
    print(f"{PICTURE}: {PICTURE.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
