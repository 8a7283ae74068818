"""Makes a training set of renders of the open head: `python scripts/make_toy_faces.py FOLDER`.

Nothing in it is licensed or photographed. FOLDER gets shards as `portrait4d data ffhq` writes them, with the parameters
that were drawn instead of fitted ones, for `preprocess.dataset.reading`. The same options make the same bytes; stopped,
the same command makes what is missing. All heads have the same lens (13.5 degrees) and turn about one point, 1.4 m
away. Every person has four pictures in one light and before one background.

With `--motion FILE`, a file that `portrait4d track` wrote, people act out its frames: clips, to train on video.

The default 4,096 pictures took 79 core seconds in all (`time`, one worker): 52 a second of one core of a shared CPU.
"""

import argparse
import sys
from pathlib import Path

from flame.errors import InputError
from preprocess.dataset.reading.dataset import Dataset
from preprocess.dataset.toy.build import build_toy_faces
from preprocess.dataset.toy.options import ToyOptions
from preprocess.media.contact_sheet import contact_sheet
from preprocess.media.image import write_png

SHEET_ROWS, SHEET_COLUMNS, SHEET_CELL = 10, 12, 128


def main() -> None:
    """Makes the dataset that the arguments describe."""
    defaults = ToyOptions()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--identities", type=int, default=defaults.num_identities, help="people")
    parser.add_argument("--pictures", type=int, default=defaults.pictures_per_identity, help="of each person")
    parser.add_argument("--size", type=int, default=defaults.size, help="side of the pictures in pixels")
    parser.add_argument("--oversampling", type=int, default=defaults.oversampling, help="rays along a side of a pixel")
    parser.add_argument("--identities-per-shard", type=int, default=defaults.identities_per_shard)
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--motion", action="append", default=[], help="motion file of the open head to follow; repeat")
    parser.add_argument("--workers", type=int, default=1, help="processes, one core each")
    parser.add_argument("--png", type=Path, help="also write every person's first picture as NUMBER.png into a folder")
    parser.add_argument("--sheet", type=Path, help="also write a PNG of the first pictures")
    arguments = parser.parse_args()
    try:
        options = ToyOptions(
            num_identities=arguments.identities,
            pictures_per_identity=arguments.pictures,
            size=arguments.size,
            oversampling=arguments.oversampling,
            identities_per_shard=arguments.identities_per_shard,
            seed=arguments.seed,
            motions=tuple(arguments.motion),
        )
        build_toy_faces(arguments.folder, options, num_workers=arguments.workers, progress=tell)
        dataset = Dataset(arguments.folder)
        if arguments.png is not None:
            write_pictures(dataset, arguments.png, step=options.pictures_per_identity)
        if arguments.sheet is not None:
            write_sheet(dataset, arguments.sheet)
    except InputError as error:
        sys.exit(str(error))
    print(f"{arguments.folder}: {len(dataset)} pictures of {options.num_identities} people, {options.size} pixels")


def tell(done: int, total: int) -> None:
    """Prints how far it is."""
    print(f"{done} of {total} shards", flush=True)


def write_pictures(dataset: Dataset, folder: Path, *, step: int) -> None:
    """Writes every person's first picture."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, row in enumerate(range(0, len(dataset), step)):
        write_png(folder / f"{number:04d}.png", dataset[row].image)


def write_sheet(dataset: Dataset, path: Path) -> None:
    """Writes the first pictures as one PNG."""
    images = [dataset[index].image for index in range(min(len(dataset), SHEET_ROWS * SHEET_COLUMNS))]
    rows = [images[start : start + SHEET_COLUMNS] for start in range(0, len(images), SHEET_COLUMNS)]
    contact_sheet(rows, path, cell_height=SHEET_CELL)


if __name__ == "__main__":
    main()
