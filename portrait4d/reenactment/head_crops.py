"""Rendering of head crops: in chunks, on threads that run ahead of the reader."""

from collections.abc import Generator, Iterable, Iterator
from itertools import chain

import numpy as np
import torch
from torch import Tensor

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
"""Yields head crops uint8 `[S, S, 3]`, or `[S, S, 4]` with opacity; closing it waits for the threads."""


def render_frames(
    avatar: Avatar, motion: Motion, *, options: ReenactOptions, models: Models, kept: KeptFrames | None = None
) -> HeadCrops:
    """Renders the head crops of an avatar under a motion, one per frame.

    Args:
        avatar: an avatar of the engine in `models`.
        motion: the driver, T frames.
        options: how the motion is retargeted, and the device.
        models: engine and head model.
        kept: frames of an earlier run, which are not rendered again.

    Raises:
        InputError: at once, if the avatar is of another engine, or either was tracked with another head model.
    """
    check_avatar(avatar, engine=models.engine)
    drives = retarget_parts(motion, avatar, options, models.head_model)
    return render_drives(avatar, drives, models=models, device=models.device, kept=kept, has_alpha=options.transparent)


def render_drive(avatar: Avatar, drive: Drive, *, models: Models, has_alpha: bool = False) -> np.ndarray:
    """Renders the head crops of one drive at once; `models` hold the avatar's engine.

    Returns:
        uint8 `[B, S, S, 3]`, or `[B, S, S, 4]` with the person's opacity if `has_alpha`.
    """
    return _rendered(avatar, drive, models, device=models.device, has_alpha=has_alpha)


def render_drives(
    avatar: Avatar,
    drives: Iterable[Drive],
    *,
    models: Models,
    device: str,
    kept: KeptFrames | None = None,
    has_alpha: bool = False,
) -> HeadCrops:
    """Renders the head crops of successive drives, with the person's opacity as the last channel if `has_alpha`.

    Frames that `kept` holds are not rendered again. A chunk is either kept as a whole or rendered as a whole, because
    on a GPU the last bits of a frame depend on the others in its batch.
    """

    def render(part: Drive) -> np.ndarray:
        return _rendered(avatar, part, models, device=device, has_alpha=has_alpha)

    def find_or_render(chunk: tuple[range, Drive]) -> np.ndarray:
        numbers, part = chunk
        return render(part) if kept is None else kept.frames(numbers, lambda: render(part))

    for images in ordered_map(find_or_render, _chunks(drives), num_workers=num_render_workers(device)):
        yield from images


def _rendered(avatar: Avatar, drive: Drive, models: Models, *, device: str, has_alpha: bool) -> np.ndarray:
    with torch.inference_mode():
        rendering = models.engine.render(avatar, drive.to(device))
        image = to_uint8(rendering.image)
        return np.concatenate([image, _opacity(rendering.alpha)], -1) if has_alpha else image


def _opacity(alpha: Tensor) -> np.ndarray:
    """From `[B, 1, S, S]` in [0, 1] to uint8 `[B, S, S, 1]`."""
    return alpha.detach().float().mul(255).round_().clamp_(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()


def _chunks(drives: Iterable[Drive]) -> Iterator[tuple[range, Drive]]:
    """The drives that are rendered as one batch, with the numbers of their frames."""
    first = 0
    for part in chain.from_iterable(batches(drive, FRAMES_PER_CHUNK) for drive in drives):
        yield range(first, first + len(part)), part
        first += len(part)
