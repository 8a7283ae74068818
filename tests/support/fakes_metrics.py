"""Pictures and an extractor of features without a network, for tests of metrics."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from preprocess.media.image import write_png


class FakeExtractor:
    """Mean and deviation of each channel: no network."""

    name = "efficientnet-lite0"
    digest = "5a" * 32
    resize_filter = "none"

    def __init__(self) -> None:
        self.batches: list[tuple[int, ...]] = []

    def features(self, images: np.ndarray) -> np.ndarray:
        self.batches.append(images.shape)
        values = images.reshape(len(images), -1, 3) / np.float32(255)
        return np.concatenate([values.mean(1), values.std(1)], 1).astype(np.float32)


def random_pictures(count: int, *, seed: int = 0, brightness: int = 0) -> Iterator[np.ndarray]:
    """Noise on a flat colour each, of two sizes."""
    random = np.random.default_rng(seed)
    for index in range(count):
        side = 40 if index % 3 else 48
        level = random.integers(0, 128, 3) + brightness
        yield (level + random.integers(0, 64, (side, side, 3))).astype(np.uint8)


def fill(folder: Path, images: Iterator[np.ndarray]) -> Path:
    """A new folder of the pictures."""
    folder.mkdir(parents=True)
    for index, image in enumerate(images):
        write_png(folder / f"{index:03d}.png", image)
    return folder
