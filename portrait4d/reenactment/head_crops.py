"""The head crops of an avatar in motion, drawn in chunks on threads ahead of whoever reads them."""

from collections.abc import Generator, Iterable, Iterator
from itertools import chain

import numpy as np
import torch

from portrait4d.engines.base import Avatar, Drive, check_avatar
from portrait4d.engines.retarget import batches, retarget_parts
from portrait4d.options import ReenactOptions
from portrait4d.reenactment.kept_frames import KeptFrames
from portrait4d.reenactment.models import Models
from portrait4d.runtime.streams import num_render_workers, ordered_map
from preprocess.media.image import to_uint8
from preprocess.tracking.motion import Motion

FRAMES_PER_CHUNK = 2

HeadCrops = Generator[np.ndarray, None, None]
"""uint8 `[S, S, 3]` each; closing it waits for the threads."""


def render_frames(
    avatar: Avatar, motion: Motion, *, options: ReenactOptions, models: Models, kept: KeptFrames | None = None
) -> HeadCrops:
    """The head crops, one per frame of the motion.

    Raises:
        InputError: at once, if the avatar is of another engine.
    """
    check_avatar(avatar, engine=models.engine)
    drives = retarget_parts(motion, avatar, options, models.head_model)
    return render_drives(avatar, drives, models=models, device=options.device, kept=kept)


def render_drives(
    avatar: Avatar, drives: Iterable[Drive], *, models: Models, device: str, kept: KeptFrames | None = None
) -> HeadCrops:
    """The head crops of successive drives.

    Those that `kept` holds are not drawn again, a chunk wholly or not at all: on a GPU the last bits of a frame depend
    on those it is drawn with.
    """

    def render(part: Drive) -> np.ndarray:
        with torch.inference_mode():
            return to_uint8(models.engine.render(avatar, part.to(device)).image)

    def find_or_render(chunk: tuple[range, Drive]) -> np.ndarray:
        numbers, part = chunk
        return render(part) if kept is None else kept.frames(numbers, lambda: render(part))

    for images in ordered_map(find_or_render, _chunks(drives), num_workers=num_render_workers(device)):
        yield from images


def _chunks(drives: Iterable[Drive]) -> Iterator[tuple[range, Drive]]:
    """What is drawn together, with the numbers of its frames."""
    first = 0
    for part in chain.from_iterable(batches(drive, FRAMES_PER_CHUNK) for drive in drives):
        yield range(first, first + len(part)), part
        first += len(part)
