"""The source of a reenactment: a photo or several, read, tracked and built, or an avatar, in memory or a file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from portrait4d.engines.avatar_photo import add_photo, read_photo
from portrait4d.engines.base import Avatar, check_avatar, is_avatar
from portrait4d.reenactment.models import Models
from portrait4d.runtime.paths import is_avatar_file, require_file
from portrait4d.runtime.streams import one_torch_thread
from preprocess.files.atomic import atomic_path
from preprocess.media.image import read_image


@dataclass(frozen=True)
class Source:
    """A source that is ready to be driven.

    Attributes:
        avatar: What the engine built.
        picture: uint8 `[H, W, 3]` that `avatar.crop` belongs to; None if the source was an avatar file without it.
        path: The file of the source, of several photos the one that is shown; None for an avatar in memory.
    """

    avatar: Avatar
    picture: np.ndarray | None
    path: Path | None


@one_torch_thread()
def build_source(path: str | Path | Avatar | Sequence[str | Path], *, models: Models, face: int = 0) -> Source:
    """Reads, tracks and builds a photo (or several of one person), or loads an avatar file, or takes an avatar.

    `face` counts the faces of every photo, 0 is the largest; `models` are from `load_models`.

    Raises:
        InputError: A file cannot be read, a photo shows no such face, or an avatar file is of another engine.
    """
    if is_avatar(path):
        return Source(check_avatar(path, engine=models.engine), None, None)
    paths = [Path(path)] if isinstance(path, str | Path) else [Path(item) for item in path]
    if len(paths) == 1 and is_avatar_file(paths[0]):
        avatar = models.engine.load(require_file(paths[0], "avatar file"))
        return Source(avatar, read_photo(paths[0], image_size=avatar.crop.image_size), paths[0])
    pictures = [read_image(require_file(item, "source picture")) for item in paths]
    frames = models.tracker.track_images(pictures, face=face)
    avatar = models.engine.build(frames)
    chosen = next(index for index, frame in enumerate(frames) if frame.motion is avatar.motion)
    return Source(avatar, frames[chosen].image, paths[chosen])


def save_source(source: Source, path: Path, *, has_photo: bool = True) -> None:
    """Writes the avatar of a source to a `.safetensors` file, atomically.

    Args:
        source: from `build_source`.
        path: the file.
        has_photo: whether it keeps the photo, for pasting back and for panels; it grows by a JPEG of the photo.

    Raises:
        InputError: the name has another suffix, or its folder cannot be written to.
    """
    with atomic_path(path) as temporary:
        source.avatar.save(temporary)
        if has_photo and source.picture is not None:
            add_photo(temporary, source.picture)
