"""Where the checkout is, and where its reference material lies."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def shared_folder() -> Path:
    """The folder of reference material: `$PORTRAIT4D_SHARED`, or `shared` beside the checkout."""
    return Path(os.environ.get("PORTRAIT4D_SHARED", ROOT.parent / "shared"))
