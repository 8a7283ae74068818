"""Writes a trained network in half precision, as the package holds it.

    python scripts/embed_network.py CHECKPOINT FOLDER --about TEXT

CHECKPOINT is a folder below a run's `checkpoints`, or any other of our own format. Only networks that learned from
pictures of our own making may be embedded: `configs/genhead/toy64.yaml` is one.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from portrait4d.weights.own_format import read_checkpoint, write_checkpoint


def main() -> None:
    """Writes the network that the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--about", required=True, help="what it is, in a line")
    parser.add_argument("--licence", default="Apache License 2.0, as this package")
    arguments = parser.parse_args()
    config, tensors = read_checkpoint(arguments.checkpoint)
    halves = {name: value.half() if value.dtype == torch.float32 else value for name, value in tensors.items()}
    arguments.folder.mkdir(parents=True, exist_ok=True)
    write_checkpoint(arguments.folder, replace(config, source=arguments.about, licence=arguments.licence), halves)
    size = sum(path.stat().st_size for path in arguments.folder.iterdir())
    print(f"{arguments.folder}: {len(halves)} tensors, {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
