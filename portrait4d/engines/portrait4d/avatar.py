"""The avatar of the Portrait4D engines: the source's features, computed once, and the file that holds them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from flame.errors import InputError
from portrait4d.engines.avatar_file import (
    check_tensor,
    incomplete,
    is_count,
    motion_and_crop,
    read_avatar,
    read_warnings,
    write_avatar,
)
from portrait4d.reconstructor.network import SourceFeatures
from preprocess.faces.crop import Crop
from preprocess.tracking.motion import Motion

VERSION = 1
_TENSORS = ("tokens", "detail", "background")


@dataclass(frozen=True)
class Portrait4DAvatar:
    """One source, ready to be driven.

    Attributes:
        features: the encoded source, B = 1, float32.
        weights: mark of the weights that made the features (see `identity.weights_mark`); only they can use them.
        motion: the tracked source, T = 1.
        crop: the aligned crop that was encoded and that results show.
        engine: name of the engine.
        warnings: what makes the source hard, one sentence each.
    """

    features: SourceFeatures
    weights: str
    motion: Motion
    crop: Crop
    engine: str
    warnings: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(engine {self.engine!r}, {len(self.warnings)} warnings)"

    def to(self, device: torch.device | str) -> Portrait4DAvatar:
        """The same avatar on another device."""
        return replace(self, features=self.features.to(device))

    def save(self, path: Path | str) -> None:
        """Writes to a `.safetensors` file (about 75 MB), atomically.

        Raises:
            InputError: the name has another suffix.
        """
        features = self.features
        write_avatar(
            path,
            {name: getattr(features, name) for name in _TENSORS},
            file_format=_format(self.engine),
            version=VERSION,
            motion=self.motion,
            crop=self.crop,
            grid=[features.height, features.width],
            weights=self.weights,
            warnings=list(self.warnings),
        )

    @classmethod
    def load(cls, path: Path | str, *, engine: str, weights: str, engine_option: str | None = None) -> Portrait4DAvatar:
        """Reads what `save` wrote.

        Args:
            path: the avatar file.
            engine: name of the engine that is to draw it.
            weights: sha256 of the weights that the engine runs with.
            engine_option: what the user named the engine by, for messages; by default its name.

        Raises:
            InputError: not an avatar file of this engine, damaged, or made with other weights.
        """
        header, tensors = read_avatar(path, file_format=_format(engine), version=VERSION)
        try:
            if header["weights"] != weights:
                name = Path(path).name
                raise InputError(
                    f"{name} was built with other weights of {engine}, or another FLAME: build it again with engine "
                    f"{engine_option or engine}"
                )
            motion, crop = motion_and_crop(header, tensors)
            height, width = header["grid"]
            if not (is_count(height) and is_count(width)):
                raise ValueError("the size of its grid is not a positive whole number")
            tokens = check_tensor(tensors, "tokens", (1, height * width, None))
            detail, background = (check_tensor(tensors, name, (1, None, None, None)) for name in _TENSORS[1:])
            features = SourceFeatures(tokens, height, width, detail, background)
            return cls(features, weights, motion, crop, engine, read_warnings(header))
        except InputError:
            raise
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise incomplete(path, error) from error


def _format(engine: str) -> str:
    return f"portrait4d-{engine}-avatar"
