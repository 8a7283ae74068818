"""The motion of the head in a tracked clip (or photo), and the file it is kept in (docs/motion_file.md)."""

import dataclasses
import zipfile
import zlib
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flame.errors import InputError
from flame.geometry.camera import Camera
from flame.heads.head_model import HeadModel, HeadParams
from preprocess.files.atomic import atomic_path

FORMAT = "portrait4d-motion"
VERSION = 1


@dataclass(frozen=True)
class Motion:
    """T frames of one head. A photo has T = 1.

    Attributes:
        head_model: name of the head model that the numbers belong to.
        frame_rate: frames per second.
        seconds: `[T]` float64 from the start of the clip.
        shape: `[S]` one identity for all frames.
        expression: `[T, E]`.
        rotation: `[T, 3]` axis-angle of the head in camera space, radians.
        translation: `[T, 3]` head origin in camera space, metres.
        neck: `[T, 3]`, zero for tracked heads (docs/conventions.md).
        jaw: `[T, 3]` radians, zero for models whose jaw is an expression.
        eyes: `[T, 2, 3]` radians, subject's left eye first.
        landmarks: `[T, 478, 3]` crop px.
        valid: `[T]` False where no face was found and the pose is held or interpolated.
        crop_matrix: `[3, 3]` frame px -> crop px, one for the whole clip.
        crop_size: side of the crop in px.
        frame_height, frame_width: size of the video's frames.
        source: name of the file the motion was tracked in.
        eye_open: `[T, 2]` opening of the lids over the width of the eye, subject's left eye first.
        fit_error: `[T]` mean distance of the fitted model from the landmarks, as a fraction of the outer-eye distance.
        codes: `[T, C]` motion codes (PD-FGC, C = 548); C = 0 where the clip was tracked without a motion encoder.
        warnings: what a user should know about the track, one sentence each.
    """

    head_model: str
    frame_rate: Fraction
    seconds: NDArray[np.float64]
    shape: NDArray[np.float32]
    expression: NDArray[np.float32]
    rotation: NDArray[np.float32]
    translation: NDArray[np.float32]
    neck: NDArray[np.float32]
    jaw: NDArray[np.float32]
    eyes: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    valid: NDArray[np.bool_]
    crop_matrix: NDArray[np.float64]
    crop_size: int
    frame_height: int
    frame_width: int
    source: str
    eye_open: NDArray[np.float32]
    fit_error: NDArray[np.float32]
    codes: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        frames = len(self.seconds)
        if not self.codes.size:
            object.__setattr__(self, "codes", np.zeros((frames, 0), np.float32))
        for name, tail in _PER_FRAME.items():
            shape = getattr(self, name).shape
            if (
                shape[:1] != (frames,)
                or len(shape) != 1 + len(tail)
                or any(want is not None and got != want for got, want in zip(shape[1:], tail, strict=True))
            ):
                expected = ", ".join("E" if size is None else str(size) for size in (frames, *tail))
                raise ValueError(f"motion.{name} must be [{expected}], got {list(shape)}")
        if self.shape.ndim != 1 or self.crop_matrix.shape != (3, 3):
            raise ValueError(
                f"motion.shape must be [S] and crop_matrix [3, 3], got {self.shape.shape}, {self.crop_matrix.shape}"
            )

    def __len__(self) -> int:
        return len(self.seconds)

    def __getitem__(self, index: slice) -> "Motion":
        """The frames of a slice, as a shorter clip."""
        if not isinstance(index, slice):
            raise TypeError(f"a motion is sliced, not indexed: use motion[i:i + 1], got {index!r}")
        return dataclasses.replace(self, **{name: getattr(self, name)[index] for name in _PER_FRAME})

    def check_model(self, model: HeadModel) -> None:
        """Refuses head models other than the one the motion was made for.

        Raises:
            InputError: names both models.
        """
        if (model.name, model.num_shape, model.num_expression) != (
            self.head_model,
            len(self.shape),
            self.expression.shape[1],
        ):
            raise InputError(
                f"this motion belongs to head model '{self.head_model}' ({len(self.shape)} shape, "
                f"{self.expression.shape[1]} expression numbers), not to '{model.name}' ({model.num_shape}, "
                f"{model.num_expression}): track {self.source or 'the clip'} again for the "
                "engine that is to use it, or give the video itself"
            )

    def params(self, model: HeadModel, index: int | slice | None = None) -> HeadParams:
        """Head parameters of one frame (B = 1), a slice, or all frames (B = T), on the device and dtype of the model.

        Raises:
            InputError: when the motion was made for another head model.
        """
        self.check_model(model)
        rows = _rows(index)
        like = model.template
        shape = torch.from_numpy(self.shape)[None].expand(len(self.seconds[rows]), -1)
        return HeadParams(
            shape=shape.to(like),
            expression=_tensor(self.expression[rows], like),
            neck=_tensor(self.neck[rows], like),
            jaw=_tensor(self.jaw[rows], like),
            eyes=_tensor(self.eyes[rows], like),
        )

    def camera(self, index: int | slice | None = None, *, device: torch.device | str = "cpu") -> Camera:
        """The camera that sees the resting head as the crop shows it: one frame (B = 1), a slice, or all frames."""
        rows = _rows(index)
        return Camera.from_head_pose(
            torch.from_numpy(self.rotation[rows]).to(device), torch.from_numpy(self.translation[rows]).to(device)
        )

    def save(self, path: str | Path) -> None:
        """Writes an `.npz`; the file appears whole or not at all."""
        path = Path(path)
        if path.suffix != ".npz":
            raise InputError(f"expected a motion file name ending in .npz, got '{path.name}': rename it")
        arrays = {name: np.asarray(getattr(self, name)) for name in (*_PER_FRAME, *_PER_CLIP)}
        arrays["frame_rate"] = np.array([self.frame_rate.numerator, self.frame_rate.denominator], np.int64)
        arrays["warnings"] = np.array(self.warnings, dtype=np.str_)
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, format=np.array(FORMAT), version=np.array(VERSION), allow_pickle=False, **arrays)

    @classmethod
    def load(cls, path: str | Path) -> "Motion":
        """Reads a motion file.

        Raises:
            InputError: one line that says what is wrong with the file.
        """
        path = Path(path)
        if not path.is_file():
            raise InputError(f"no motion file at '{path}': check the name, or make one with `portrait4d track`")
        arrays = _read_arrays(path)
        if str(arrays.get("format")) != FORMAT:
            raise InputError(f"'{path}' is not a motion file: make one with `portrait4d track`")
        version = str(arrays.get("version"))
        if version != str(VERSION):
            raise InputError(
                f"'{path}' is a motion file of version {version}, this program reads {VERSION}: "
                "track the clip again, or update portrait4d"
            )
        arrays.setdefault("codes", np.zeros((0, 0), np.float32))  # files from before there were codes
        names = (*_PER_FRAME, *_PER_CLIP, "frame_rate", "warnings")
        missing = [name for name in names if name not in arrays]
        if missing:
            raise InputError(f"motion file '{path}' lacks {', '.join(missing)}: track the clip again")
        try:
            return _from_arrays(arrays)
        except (ValueError, TypeError, ZeroDivisionError) as error:
            raise InputError(f"motion file '{path}' is broken ({error}): track the clip again") from error


_PER_FRAME: dict[str, tuple[int | None, ...]] = {
    "seconds": (),
    "expression": (None,),
    "rotation": (3,),
    "translation": (3,),
    "neck": (3,),
    "jaw": (3,),
    "eyes": (2, 3),
    "landmarks": (478, 3),
    "valid": (),
    "eye_open": (2,),
    "fit_error": (),
    "codes": (None,),
}
"""Arrays over time, with the rest of their shape (None: any size)."""

_PER_CLIP = ("head_model", "shape", "crop_matrix", "crop_size", "frame_height", "frame_width", "source")


def _read_arrays(path: Path) -> dict[str, NDArray]:
    damaged = f"'{path}' is damaged or not a motion file: make one with `portrait4d track`"
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise InputError(damaged)
        with archive:
            return {name: archive[name] for name in archive.files}
    except InputError:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, KeyError, NotImplementedError) as error:
        raise InputError(damaged) from error


def _from_arrays(arrays: dict[str, NDArray]) -> Motion:
    numerator, denominator = (int(value) for value in arrays["frame_rate"])
    values: dict = {name: arrays[name].astype(np.float32) for name in _PER_FRAME}
    values["seconds"] = arrays["seconds"].astype(np.float64)
    values["valid"] = arrays["valid"].astype(np.bool_)
    finite = (*values.values(), arrays["shape"], arrays["crop_matrix"])
    if not all(np.isfinite(value).all() for value in finite):
        raise ValueError("it holds numbers that are not finite")
    if not (numerator > 0 and denominator > 0 and len(values["seconds"]) > 0):
        raise ValueError("it holds no frames or no frame rate")
    return Motion(
        head_model=str(arrays["head_model"]),
        frame_rate=Fraction(numerator, denominator),
        shape=arrays["shape"].astype(np.float32),
        crop_matrix=arrays["crop_matrix"].astype(np.float64),
        crop_size=int(arrays["crop_size"]),
        frame_height=int(arrays["frame_height"]),
        frame_width=int(arrays["frame_width"]),
        source=str(arrays["source"]),
        warnings=tuple(str(line) for line in np.atleast_1d(arrays["warnings"])),
        **values,
    )


def _rows(index: int | slice | None) -> slice:
    if index is None:
        return slice(None)
    if isinstance(index, slice):
        return index
    return slice(index, index + 1) if index != -1 else slice(-1, None)


def _tensor(array: NDArray, like: Tensor) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(like)
