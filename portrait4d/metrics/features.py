"""Features of many pictures, in batches, and kept in a file so that those of a dataset are computed once."""

import hashlib
import logging
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flame.errors import InputError
from portrait4d.metrics.extractor import FeatureExtractor
from portrait4d.metrics.pictures import Pictures
from preprocess.files.atomic import atomic_path

logger = logging.getLogger(__name__)

BATCH_SIZE = 8
"""Pictures at once: more take longer for each on a processor, whose caches they leave."""

_FORMAT = "portrait4d-features-1"
_DAMAGE = (OSError, EOFError, ValueError, KeyError, TypeError, SyntaxError, zipfile.BadZipFile, zlib.error)


def extract_features(
    images: Iterable[NDArray[np.uint8]],
    extractor: FeatureExtractor,
    *,
    batch_size: int = BATCH_SIZE,
    progress: Callable[[int], None] | None = None,
) -> NDArray[np.float32]:
    """Features `[N, D]` of pictures uint8 `[H, W, 3]`, in their order.

    Args:
        images: of any sizes; neighbours of one size go through the network together.
        extractor: see `load_extractor`.
        batch_size: most pictures at once.
        progress: called with the number of pictures done.

    Raises:
        InputError: there is no picture.
    """
    parts: list[NDArray[np.float32]] = []
    done = 0
    for batch in _batches(images, batch_size):
        parts.append(extractor.features(np.stack(batch)))
        done += len(batch)
        if progress is not None:
            progress(done)
    if not parts:
        raise InputError("expected pictures to take features of, got none")
    return np.concatenate(parts)


def cached_features(
    pictures: Pictures,
    extractor: FeatureExtractor,
    folder: Path | None,
    *,
    progress: Callable[[int], None] | None = None,
) -> NDArray[np.float32]:
    """Features `[N, D]` of a set of pictures, out of the cache in `folder`, where they are left the first time.

    The file is found by the content of the pictures, the weights and the filter: it never goes stale. A damaged one is
    made again.

    Args:
        pictures: see `open_pictures`.
        extractor: see `load_extractor`.
        folder: beside the dataset, for example; None keeps nothing.
        progress: called with the number of pictures done.
    """
    if folder is None:
        return extract_features(pictures.images(), extractor, progress=progress)
    key = cache_key(pictures, extractor)
    path = folder / f"features-{extractor.name}-{key[:16]}.npz"
    kept = _read_cache(path, key, len(pictures))
    if kept is not None:
        return kept
    features = extract_features(pictures.images(), extractor, progress=progress)
    with atomic_path(path) as temporary:
        np.savez(temporary, format=np.array(_FORMAT), key=np.array(key), features=features)
    return features


def cache_key(pictures: Pictures, extractor: FeatureExtractor) -> str:
    """A digest of everything that features depend on."""
    parts = (_FORMAT, pictures.digest, extractor.name, extractor.digest, extractor.resize_filter)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _batches(images: Iterable[NDArray[np.uint8]], batch_size: int) -> Iterator[list[NDArray[np.uint8]]]:
    batch: list[NDArray[np.uint8]] = []
    for image in images:
        if batch and (len(batch) == batch_size or image.shape != batch[0].shape):
            yield batch
            batch = []
        batch.append(image)
    if batch:
        yield batch


def _read_cache(path: Path, key: str, count: int) -> NDArray[np.float32] | None:
    """Features of a file, or None where there is none of use."""
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            features = arrays["features"]
            if str(arrays["format"]) == _FORMAT and str(arrays["key"]) == key and len(features) == count:
                return features.astype(np.float32)
    except _DAMAGE as error:
        logger.warning("%s is damaged (%s): the features are computed again", path, type(error).__name__)
    return None
