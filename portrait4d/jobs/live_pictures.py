"""Pictures of a driver as time passes: of a camera, or of a clip that plays at its own speed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from flame.errors import InputError
from portrait4d.runtime.paths import require_file
from portrait4d.runtime.streams import prefetch
from preprocess.media.video import probe, read_frames

Pictures = Iterator[tuple[float, NDArray[np.uint8] | None]]
"""Seconds from the start, and a picture uint8 `[H, W, 3]` RGB, or None where no new one is due yet."""

PAUSE_SECONDS = 0.005


def camera_pictures(index: int) -> Pictures:
    """Yields the pictures of a camera for ever.

    Raises:
        InputError: at once, if there is no such camera; later, if it ends.
    """
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # the error below says it
    camera = cv2.VideoCapture(index)
    cv2.utils.logging.setLogLevel(level)
    camera.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # what waits in a buffer is late
    if not camera.isOpened():
        camera.release()
        raise InputError(f"camera {index} cannot be opened: is another program using it? --camera 0 is the first one")
    return _camera_pictures(camera, index)


def _camera_pictures(camera: cv2.VideoCapture, index: int) -> Pictures:
    begun = time.monotonic()
    try:
        while True:
            is_read, picture = camera.read()
            if not is_read:
                raise InputError(f"camera {index} gives no more pictures: is it still plugged in?")
            yield time.monotonic() - begun, np.ascontiguousarray(picture[..., ::-1], np.uint8)
    finally:
        camera.release()


def clip_pictures(path: str | Path) -> Pictures:
    """Yields the pictures of a clip when they are due; those that are late are left out.

    Raises:
        InputError: at once, if the clip cannot be read.
    """
    info = probe(require_file(Path(path), "clip"))
    return _paced(prefetch(read_frames(info, frame_rate=info.frame_rate)))


def _paced(frames: Iterator) -> Pictures:
    begun: float | None = None
    with closing(frames):  # pyright: ignore[reportArgumentType]
        for frame in frames:
            begun = time.monotonic() if begun is None else begun
            while (early := frame.seconds - (time.monotonic() - begun)) > 0:
                yield time.monotonic() - begun, None
                time.sleep(min(early, PAUSE_SECONDS))
            if early > -0.5 or frame.seconds == 0:
                yield time.monotonic() - begun, frame.image
