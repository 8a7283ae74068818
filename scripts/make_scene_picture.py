"""Makes docs/scene.png from the last run of benchmarks/fit_scene.py: truth, fit and error of held-out views.

The head in it is the open head with procedural colours: no photograph, no licensed model.
"""

import json
from pathlib import Path

from PIL import Image

from preprocess.files.atomic import atomic_path

ROOT = Path(__file__).parent.parent
RUN = ROOT / "out" / "benchmarks" / "fit-scene"
PICTURE = ROOT / "docs" / "scene.png"


def main() -> None:
    """Keeps the last three of the sheet's four rows, without loss; the worst view of the run is among them."""
    if not (RUN / "test_views.png").is_file():
        raise SystemExit(f"expected a finished run in {RUN}: run python benchmarks/fit_scene.py first")
    with Image.open(RUN / "test_views.png") as sheet, atomic_path(PICTURE) as temporary:
        last = sheet.crop((0, sheet.height - sheet.height * 3 // 4, sheet.width, sheet.height))
        last.save(temporary, format="PNG", optimize=True)
    mean = json.loads((RUN / "metrics.json").read_text())["mean_psnr"]
    print(f"{PICTURE}: {mean:.2f} dB on average, {PICTURE.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
