"""The work of `portrait4d metrics`: distances between two sets of pictures, and control measured by the tracker."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from flame.errors import InputError
from portrait4d.jobs.metrics_options import MetricsOptions
from portrait4d.metrics.distances import FeatureDistance, measure_frechet, measure_kernel
from portrait4d.metrics.extractor import load_extractor
from portrait4d.metrics.features import cached_features
from portrait4d.metrics.pictures import Pictures, open_pictures
from portrait4d.metrics.tracked import TrackedErrors, control_errors, track_heads
from portrait4d.runtime.device import check_device
from portrait4d.runtime.streams import one_torch_thread
from preprocess.files.file_check import check_not_input
from preprocess.tracking.tracker import Tracker

Progress = Callable[[str, int, int | None], None]

MIN_PICTURES = 32
"""Fewer pictures say nothing about the set that they come from."""


@one_torch_thread()
def measure_distance(
    kind: Literal["frechet", "kernel"],
    real: str | Path,
    fake: str | Path,
    *,
    options: MetricsOptions | None = None,
    progress: Progress | None = None,
) -> FeatureDistance:
    """Compares two sets of pictures, see `portrait4d.metrics.pictures.open_pictures`.

    Args:
        kind: `frechet` (FID with Inception's features) or `kernel` (KID).
        real: the reference; its features may be kept.
        fake: what is judged.
        options: what a user can choose.
        progress: called with a stage, the pictures done and the number of all.

    Raises:
        InputError: there are too few pictures, one is damaged, or the extractor cannot be loaded.
    """
    options, tell = options or MetricsOptions(), progress or (lambda stage, done, total: None)
    device = check_device(options.device)
    if options.cache is not None:
        check_not_input(options.cache, real, fake)
    sets = [_enough(open_pictures(path), path) for path in (real, fake)]
    extractor = load_extractor(options.features, device=device)
    found, before, total = [], 0, sum(map(len, sets))
    for pictures, cache in zip(sets, (options.cache, None), strict=True):
        start = before
        found.append(
            cached_features(
                pictures, extractor, cache, progress=lambda done, start=start: tell("features", start + done, total)
            )
        )
        before += len(pictures)
    if kind == "frechet":
        return measure_frechet(found[0], found[1], extractor)
    if kind == "kernel":
        return measure_kernel(found[0], found[1], extractor)
    raise ValueError(f"expected 'frechet' or 'kernel', got {kind!r}")


@one_torch_thread()
def measure_control(
    truth: str | Path, results: str | Path, *, device: str = "cpu", progress: Progress | None = None
) -> TrackedErrors:
    """Tracks pictures of two sets, one by one, and compares the heads of each pair, in the order of their names.

    Args:
        truth: what was asked for.
        results: what came, as many pictures.
        device: of the face networks.
        progress: called with a stage, the pictures done and the number of all.

    Raises:
        InputError: the sets differ in number, a picture is damaged, or no pair shows two faces.
    """
    tell = progress or (lambda stage, done, total: None)
    device = check_device(device)
    sets = [open_pictures(path) for path in (truth, results)]
    if len(sets[0]) != len(sets[1]):
        raise InputError(
            f"expected as many pictures in {results} as in {truth}, got {len(sets[1])} and {len(sets[0])}: pairs are "
            "made in the order of the names"
        )
    tracker, total, heads = Tracker(device), 2 * len(sets[0]), []
    for index, pictures in enumerate(sets):
        start = index * len(pictures)
        images = _counted(pictures.images(), lambda done, start=start: tell("heads", start + done, total))
        heads.append(track_heads(images, tracker))
    errors = control_errors(heads[1], heads[0])
    if not errors.num_compared:
        raise InputError(f"no pair of pictures shows a face in both {truth} and {results}: nothing can be compared")
    return errors


def _counted(images: Iterator[NDArray[np.uint8]], tell: Callable[[int], None]) -> Iterator[NDArray[np.uint8]]:
    for index, image in enumerate(images):
        tell(index)
        yield image


def _enough(pictures: Pictures, path: str | Path) -> Pictures:
    if len(pictures) < MIN_PICTURES:
        raise InputError(
            f"expected at least {MIN_PICTURES} pictures in {path}, got {len(pictures)}: distances between sets need "
            "many, thousands if they are to be compared with others'"
        )
    return pictures
