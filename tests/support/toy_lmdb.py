"""Portrait4D's own datasets as toys in the same layout, their messages encoded by hand."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SIDE, FRAMES = 16, 3
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (FRAMES, SIDE, SIDE, 3), dtype=np.uint8)
MASKS = RANDOM.integers(0, 256, (FRAMES, SIDE, SIDE), dtype=np.uint8)
LABELS = RANDOM.normal(size=(FRAMES, 437)).astype(np.float32)
CODES = RANDOM.normal(size=(FRAMES, 554)).astype(np.float32)


def _varint(value: int) -> bytes:
    parts = []
    while value >= 128:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def encode_message(fields: dict[int, int | bytes]) -> bytes:
    content = b""
    for field, value in fields.items():
        if isinstance(value, int):
            content += _varint(field << 3) + _varint(value)
        else:
            content += _varint(field << 3 | 2) + _varint(len(value)) + value
    return content


def _png(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG")
    return buffer.getvalue()


def genhead_message(frame: int) -> bytes:
    blobs = _png(IMAGES[frame]), _png(MASKS[frame]), LABELS[frame].tobytes(), CODES[frame, :548].tobytes()
    return encode_message({1: 3, 2: SIDE, 3: SIDE, **dict(zip((4, 5, 6, 7), blobs, strict=True))})


def ffhq_message(frame: int) -> bytes:
    blobs = _png(IMAGES[frame]), _png(np.stack([MASKS[frame]] * 3, -1)), LABELS[frame].tobytes(), CODES[frame].tobytes()
    return encode_message({1: 3, 2: SIDE, 3: SIDE, 4: 1, **dict(zip((5, 6, 7, 8), blobs, strict=True))})


def vfhq_message(mask_channels: int = 3, **changes: int | bytes) -> bytes:
    masks = np.stack([MASKS] * mask_channels, -1)
    fields = {1: 3, 2: SIDE, 3: SIDE, 4: FRAMES, 5: IMAGES.tobytes(), 6: masks.tobytes()}
    fields |= {7: LABELS.tobytes(), 8: CODES.tobytes()}
    return encode_message(fields | {int(name[1:]): value for name, value in changes.items()})


def write_lmdb(path: Path, values: list[bytes]) -> Path:
    lmdb = pytest.importorskip("lmdb", reason="the extra `data` is not installed")
    with lmdb.open(str(path), map_size=1 << 24) as environment, environment.begin(write=True) as transaction:
        for index, value in enumerate(values):
            transaction.put(f"{index:08d}".encode(), value)
        transaction.put(b"num_samples", str(len(values)).encode())
    return path
