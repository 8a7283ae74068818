"""Small records with content that depends on the key, for tests of datasets."""

import zlib

import numpy as np

from flame.heads.head_model import HeadParams
from preprocess.dataset.records.record import DatasetInfo, Record

FIELDS = [*HeadParams.__dataclass_fields__, *(name for name in Record.__dataclass_fields__ if name != "head")]
"""All that a record holds, its head's arrays one by one."""

INFO = DatasetInfo("open", "CC0", image_size=32, landmarks="68", code_size=4)


def make_record(key: str, *, side: int = 32, landmarks: int = 68, code_size: int = 4, shape: int = 5) -> Record:
    """A record of random numbers seeded by its key."""
    random = np.random.default_rng(zlib.crc32(key.encode()))

    def values(*size: int) -> np.ndarray:
        return random.normal(size=size).astype(np.float32)

    return Record(
        key=key,
        source=f"folder/{key}.jpg",
        image=random.integers(0, 256, (side, side, 3), dtype=np.uint8),
        mask=random.integers(0, 256, (side, side), dtype=np.uint8),
        crop_matrix=random.normal(size=(3, 3)),
        source_size=(480, 640),
        landmarks=values(landmarks, 3),
        camera=values(25),
        head=HeadParams(values(shape), values(7), values(3), values(3), values(2, 3)),
        code=values(code_size),
        quality={"sharpness": float(random.uniform()), "yaw_degrees": float(random.normal(0, 20))},
    )


def assert_same(first: Record, second: Record) -> None:
    """All fields are equal, bit by bit."""
    for name in FIELDS:
        mine, other = getattr(first, name), getattr(second, name)
        if isinstance(mine, np.ndarray):
            assert mine.dtype == other.dtype, name
            np.testing.assert_array_equal(mine, other, err_msg=name)
        else:
            assert mine == other, name
