"""Pools of motions, shapes and cameras that synthesised heads are given: of our own files, or the released lists."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flame.errors import InputError
from flame.heads.head_model import HeadModel
from genhead.config import GenHeadConfig
from portrait4d.headparts.head import UNITS_PER_METRE
from preprocess.dataset.reading.dataset import Dataset
from preprocess.dataset.reading.head_table import read_heads
from preprocess.files.file_check import check_file
from preprocess.tracking.motion import Motion

_MOTIONS, _SHAPES = "*_all_motion_params.npy", "*_all_shape_n_c_params.npy"
_NECK = slice(100, 103)
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Moves:
    """Expression, jaw and eyes of N frames, float32.

    Attributes:
        expression: `[N, E]`.
        jaw: `[N, 3]`.
        eyes: `[N, 2, 3]`.
    """

    expression: Floats
    jaw: Floats
    eyes: Floats

    def __len__(self) -> int:
        return len(self.expression)

    @classmethod
    def join(cls, parts: "Sequence[Moves]", num_expression: int) -> "Moves":
        """One after another; may be none."""
        empty = cls(*(np.zeros(shape, np.float32) for shape in ((0, num_expression), (0, 3), (0, 2, 3))))
        return cls(*(np.concatenate([getattr(part, name) for part in (empty, *parts)]) for name in _MOVES))


_MOVES = ("expression", "jaw", "eyes")


@dataclass(frozen=True)
class Pools:
    """What is drawn from. Rows are independent of each other: any shape goes with any camera and any motion.

    Attributes:
        shape: `[N, S]` persons' shapes.
        label: `[M, 25]` cameras, OpenGL axes, in the network's world.
        clips: frames of all clips, one clip after another.
        clip_starts: `[C + 1]` where clips begin and end.
        stills: motions that stand alone; may be none.
        jaw_column: the expression that opens the jaw, if the jaw's joint never moves; else None.
    """

    shape: Floats
    label: Floats
    clips: Moves
    clip_starts: NDArray[np.int64]
    stills: Moves
    jaw_column: int | None = None

    @property
    def num_clips(self) -> int:
        """C."""
        return len(self.clip_starts) - 1

    @property
    def digest(self) -> str:
        """Of everything in them."""
        digest = hashlib.sha256()
        moves = [getattr(moves, name) for moves in (self.clips, self.stills) for name in _MOVES]
        for array in (self.shape, self.label, self.clip_starts, *moves):
            digest.update(f"{array.dtype} {array.shape}".encode() + np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def check(self, num_dynamic: int) -> None:
        """Raises InputError where something is missing that subjects need."""
        if not len(self.shape) or not len(self.label):
            raise InputError(
                f"expected shapes and cameras beside the motions, got none: the released lists have them in {_SHAPES}"
            )
        if not len(self.clips) and not len(self.stills):
            raise InputError(f"expected motions, got none: the released lists have them in {_MOTIONS}")
        if num_dynamic and not self.num_clips:
            raise InputError(
                "expected clips for the dynamic subjects, got single pictures only: give motion files or shards of "
                "clips as motions, or ask for static subjects only"
            )


@dataclass
class _Found:
    """Parts of pools as they are read."""

    shape: list[Floats]
    label: list[Floats]
    clips: list[Moves]
    stills: list[Moves]


def read_pools(paths: Sequence[str | Path], model: HeadModel, config: GenHeadConfig) -> Pools:
    """Reads the pools of a network.

    Args:
        paths: motion files, shards, folders of shards, or folders of the released lists.
        model: that all numbers must be of.
        config: of the network; cameras are moved into its world.

    Raises:
        InputError: there is none, or one cannot be read or is of another head model.
    """
    if not paths:
        raise InputError(
            "expected --motions with motion files (from `portrait4d track`), shards (from `portrait4d data`) or a "
            "folder of the released lists, got none"
        )
    found = _Found([], [], [], [])
    for path in map(Path, paths):
        if path.suffix == ".npz":
            _read_motion(path, model, config, found)
        elif lists := _released_lists(path):
            for file in lists:
                _read_list(file, model, found)
        else:
            _read_shards(path, model, config, found)
    clips = Moves.join(found.clips, model.num_expression)
    stills = Moves.join(found.stills, model.num_expression)
    starts = np.cumsum([0, *map(len, found.clips)])
    column = None
    if "jawOpen" in model.expression_names and not clips.jaw.any() and not stills.jaw.any():
        column = model.expression_names.index("jawOpen")
    empty = np.zeros((0, model.num_shape), np.float32), np.zeros((0, 25), np.float32)
    shape, label = np.concatenate([empty[0], *found.shape]), np.concatenate([empty[1], *found.label])
    return Pools(shape, label, clips, starts, stills, column)


def _read_motion(path: Path, model: HeadModel, config: GenHeadConfig, found: _Found) -> None:
    motion = Motion.load(path)
    motion.check_model(model)
    seen = motion.valid
    if not seen.any():
        raise InputError(f"{path}: expected frames with a face, the motion has none: leave it out")
    label = motion.camera().to_label25(axes="opengl").numpy().astype(np.float64)[seen]
    label[:, [3, 7, 11]] = UNITS_PER_METRE * (label[:, [3, 7, 11]] - np.asarray(config.head_origin))
    found.label.append(label.astype(np.float32))
    found.shape.append(motion.shape[None])
    found.clips.append(Moves(motion.expression[seen], motion.jaw[seen], motion.eyes[seen]))


def _read_shards(path: Path, model: HeadModel, config: GenHeadConfig, found: _Found) -> None:
    dataset = Dataset([path])
    if dataset.info.head_model != config.head:
        raise InputError(
            f"{path}: expected parameters of head model {config.head}, got {dataset.info.head_model}: give motions of "
            "the network's head model"
        )
    table, keys = read_heads(dataset, config.head_origin)
    sizes = table.shape.shape[1], table.expression.shape[1]
    if sizes != (model.num_shape, model.num_expression):
        raise InputError(
            f"{path}: expected {model.num_shape} numbers of shape and {model.num_expression} of expression, got "
            f"{sizes[0]} and {sizes[1]}: the data are of another version of the head model"
        )
    found.shape.append(table.shape)
    found.label.append(table.label)
    rows = range(len(keys))
    for is_clip, group in groupby(rows, lambda row: keys[row].partition("-")[0] if "-" in keys[row] else ""):
        chosen = list(group)
        moves = Moves(table.expression[chosen], table.jaw[chosen], table.eyes[chosen])
        (found.clips if is_clip else found.stills).append(moves)


def _released_lists(path: Path) -> list[Path]:
    if path.suffix == ".npy":
        return [path]
    return sorted([*path.glob(_MOTIONS), *path.glob(_SHAPES)]) if path.is_dir() else []


def _read_list(path: Path, model: HeadModel, found: _Found) -> None:
    """One of the released lists: `[..., 325]` camera 25 and shape 300, or `[..., 112]` expression, neck, jaw, eyes."""
    check_file(path, "a released list (.npy)")
    try:
        array = np.load(path, allow_pickle=False).astype(np.float32)
    except ValueError as error:
        raise InputError(f"{path} is damaged or no array: fetch it again") from error
    if model.name != "flame":
        raise InputError(f"{path}: the released lists are of FLAME, the network's head model is {model.name}")
    width = array.shape[-1] if array.ndim in (2, 3) else 0
    if width not in (112, 325) or not len(array) or not np.isfinite(array).all():
        raise InputError(
            f"{path}: expected finite numbers [N, 325], [N, 112] or [clips, frames, 112], got {list(array.shape)}"
        )
    if width == 325:
        rows = array.reshape(-1, 325)
        found.label.append(rows[:, :25])
        found.shape.append(rows[:, 25:])
    elif array.ndim == 3 and array.shape[1] > 1:
        found.clips += [_official_moves(clip) for clip in array]
    else:
        found.stills.append(_official_moves(array.reshape(-1, 112)))


def _official_moves(rows: Floats) -> Moves:
    return Moves(rows[:, : _NECK.start], rows[:, _NECK.stop : 106], rows[:, 106:].reshape(-1, 2, 3))
