"""Writes portrait4d/assets/checkpoint_structures.json: names, types and shapes of the tensors of the released networks.

    python scripts/make_checkpoint_structures.py FOLDER_OF_MANIFESTS

A manifest is `{name: {"shape": [...], "dtype": "...", "kind": "param" | "buffer"}}`; a dimension of null depends on a
licensed asset. FIR constants and the label statistics are left out, because our checkpoints do not hold them as
tensors.
"""

import json
import sys
from pathlib import Path

from portrait4d.weights.official.state import LABEL_STD, is_resample_filter
from portrait4d.weights.official.structure import STRUCTURES_FILE
from preprocess.files.atomic import atomic_path

MANIFESTS = {
    "eg3d-512.generator": "eg3d_ffhq512.G.json",
    "eg3d-512.discriminator": "eg3d_ffhq512.D.json",
    "genhead.generator": "genhead_ffhq512.G.json",
    "genhead.discriminator": "genhead_ffhq512.D.json",
    "portrait4d.generator": "portrait4d.G.json",
    "motion-encoder.encoder": "pdfgc_fanencoder.json",
}


def main(folder: Path) -> None:
    """Writes the asset from the manifests in `folder`."""
    lines = []
    for structure, name in MANIFESTS.items():
        manifest = json.loads((folder / name).read_text(encoding="utf-8"))
        tensors = [
            f"  {json.dumps(key)}: {json.dumps([entry['dtype'], entry['shape']])}"
            for key, entry in manifest.items()
            if not is_resample_filter(key) and key != LABEL_STD
        ]
        lines.append(f"{json.dumps(structure)}: {{\n" + ",\n".join(tensors) + "\n}")
    with atomic_path(STRUCTURES_FILE) as temporary:
        temporary.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
