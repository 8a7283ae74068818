"""Makes a scene of posed pictures from the open head: `python scripts/make_open_head_scene.py FOLDER`.

Nothing in it is licensed or photographed. Units are metres, y up, the face towards +z; the cameras stand 1 m from the
head's middle. FOLDER gets `train/` and `test/` with `dataset.json` (EG3D) each, and `transforms_*.json` (NeRF).
"""

import argparse
from pathlib import Path

from open_head.scene import write_scene


def main() -> None:
    """Makes the scene that the arguments describe."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--train", type=int, default=60, help="views to fit")
    parser.add_argument("--test", type=int, default=12, help="views to hold out")
    parser.add_argument("--size", type=int, default=128, help="side of the pictures in pixels")
    parser.add_argument("--background", choices=("white", "black"), default="white")
    parser.add_argument("--seed", type=int, default=7, help="chooses shape, expression and complexion")
    options = parser.parse_args()
    write_scene(
        options.folder,
        num_train=options.train,
        num_test=options.test,
        size=options.size,
        is_white=options.background == "white",
        seed=options.seed,
    )
    print(f"{options.folder}: {options.train} views to fit, {options.test} held out, {options.size} pixels")


if __name__ == "__main__":
    main()
