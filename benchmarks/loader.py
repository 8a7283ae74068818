"""How many pictures a second the dataset's readers deliver: synthetic records as large as real ones.

    python benchmarks/loader.py [--publish]

Records are smooth noise of 512 px with all arrays of the open head, read by a `DataLoader` in batches of
8 after one warm pass, so the files are in memory: what is measured is reading, checking and decoding.

What trains on it takes fewer: EG3D's authors report 24 s for a thousand pictures on eight V100 (42 pictures a second),
users 32 s on four GPUs (31 a second). A loader that delivers more than a training takes never makes it wait.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader

from flame.heads.head_model import HeadParams
from material import conclude, output_folder, table
from preprocess.dataset.reading.dataset import Dataset, StreamingDataset, collate
from preprocess.dataset.records.record import DatasetInfo, Record
from preprocess.dataset.records.record_codec import ImageFormat
from preprocess.dataset.records.shards import write_shard

NUM_SHARDS, NUM_RECORDS, SIDE, BATCH = 4, 32, 512, 8
WORKERS = (0, 1, 2)


def synthetic_record(key: str, random: np.random.Generator) -> Record:
    """Smooth colours with a grain, which PNG and JPEG compress about as well as photos."""
    coarse = random.uniform(0, 255, (12, 12, 3)).astype(np.float32)
    smooth = cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC) + random.normal(0, 3, (SIDE, SIDE, 3))
    rows, columns = np.mgrid[:SIDE, :SIDE] - SIDE / 2

    def values(*size: int) -> np.ndarray:
        return random.normal(size=size).astype(np.float32)

    return Record(
        key=key, source=key, image=smooth.clip(0, 255).astype(np.uint8),
        mask=(255 * (np.hypot(rows, columns) < SIDE / 3)).astype(np.uint8), crop_matrix=np.eye(3),
        source_size=(SIDE, SIDE), landmarks=values(478, 3), camera=values(25),
        head=HeadParams(values(300), values(86), values(3), values(3), values(2, 3)), quality={"sharpness": 1.0},
    )  # fmt: skip


def write_synthetic(folder: Path, image_format: ImageFormat) -> float:
    """Shards of synthetic records; mean kB of a record."""
    info = DatasetInfo("open", "CC0", image_size=SIDE)
    random = np.random.default_rng(0)
    paths = [folder / f"{shard}.tar" for shard in range(NUM_SHARDS)]
    for shard, path in enumerate(paths):
        records = (synthetic_record(f"{shard}-{number:06d}", random) for number in range(NUM_RECORDS))
        write_shard(path, info, records, image_format=image_format)
    return sum(path.stat().st_size for path in paths) / (NUM_SHARDS * NUM_RECORDS * 1000)


def pictures_per_second(dataset: Any, num_workers: int, *, passes: int = 3) -> float:
    """Of the fastest pass after a warm one, workers kept and started before the clock."""
    loader = DataLoader(
        dataset, batch_size=BATCH, num_workers=num_workers, collate_fn=collate, persistent_workers=num_workers > 0
    )
    rates = []
    for _ in range(passes + 1):
        start, count = time.perf_counter(), 0
        for batch in loader:
            count += len(batch.keys)
        rates.append(count / (time.perf_counter() - start))
    return max(rates[1:])


def processor_milliseconds(dataset: Any) -> float:
    """Per picture, in one process; unlike the rates it hardly depends on what else the machine does."""
    start = time.process_time()
    count = sum(1 for _ in DataLoader(dataset, batch_size=None, num_workers=0))
    return 1000 * (time.process_time() - start) / count


def main() -> None:
    """Measures all ways of reading and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--publish", action="store_true", help="rewrite its page in docs/results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for image_format in ("png", "jpg"):
        folder = output_folder("loader") / image_format
        size = write_synthetic(folder, image_format)
        for name, dataset in (("Dataset", Dataset(folder)), ("StreamingDataset", StreamingDataset(folder))):
            rates = {f"{count} workers": pictures_per_second(dataset, count) for count in WORKERS}
            cost = {"CPU ms a picture": processor_milliseconds(dataset)}
            rows.append({"reader": name, "pictures": image_format, "kB a record": size, **rates, **cost})
            print(rows[-1])
    lines = table(list(rows[0]), [list(row.values()) for row in rows], digits=1)
    notes = "\n".join(line for line in (__doc__ or "").splitlines()[4:]).strip()
    title = "## Reading datasets: pictures per second"
    conclude("loader", "\n\n".join([title, notes, lines]), rows, is_published=arguments.publish)


if __name__ == "__main__":
    main()
