"""The motion of the head in a tracked clip (or photo), and its file (docs/motion_file.md)."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flame.errors import InputError, printable
from flame.heads.head_model import HeadModel
from preprocess.files.atomic import atomic_path
from preprocess.files.npz import read_npz
from preprocess.tracking.blendshape_csv import Layout, read_blendshapes, write_blendshapes
from preprocess.tracking.edit import Values, arkit_of, edited, values_of
from preprocess.tracking.keyframes import Keyframes, edits_of_keyframes
from preprocess.tracking.motion_arrays import MOST_INFLATION, check_headers, numbers_of, text_of, whole_of
from preprocess.tracking.motion_fields import PER_FRAME, MotionFields, NeutralFrame
from preprocess.tracking.rest import Weights, rest_fields, weights_by_name

FORMAT = "portrait4d-motion"
VERSION = 1


@dataclass(frozen=True, repr=False)
class Motion(MotionFields):
    """T frames of one head, with its file. A photo has T = 1."""

    def edit(
        self, changes: Mapping[str, Values] | None = None, /, *, model: HeadModel | None = None, **named: Values
    ) -> "Motion":
        """Returns a motion in which what is named has the given values, and everything else is as it was.

        `motion.edit(smile=0.5, jaw_open=0.3, gaze=(0.2, 0), yaw_degrees=10)`; docs/expressions.md lists the names. A
        value is one number for all frames, or one for each: `motion.edit(smile=motion.values("smile") + 0.2)`. Names
        are set in their order, so that a later one wins.

        - Expressions: a short name (`smile`, `blink_left`) or one of the 52 ARKit names (`mouthSmileLeft`,
          `mouth_smile_left`), from 0 to 1. Those of a look turn the eyeball, too.
        - `gaze`: two numbers from -1 to 1 relative to the head: > 0 to the viewer's right, > 0 up; 1 is 0.55 radians.
        - `yaw_degrees` (> 0 nose to the viewer's right), `pitch_degrees` (> 0 looks up), `roll_degrees` (> 0 clockwise
          as the viewer sees it): of the head before the camera, from -90 to 90.

        An edited clip is still relative to the neutral frame that it had before: it drives as if the person had done
        what was edited.

        Args:
            changes: values by name, where names are not known beforehand.
            model: head model of the motion; needed if that is not the open head.
            named: the same by keyword.

        Raises:
            InputError: a name is unknown, a value is out of range or of another shape, or the motion cannot follow: of
                motions with motion codes, and of FLAME, only the head pose can be edited.
        """
        return edited(self, {**(changes or {}), **named}, model=model)

    def values(self, name: str, *, model: HeadModel | None = None) -> NDArray[np.float32]:
        """The values `[T]` of a name as in `edit`, of several expressions their mean; of `gaze` `[T, 2]`.

        Raises:
            InputError: the name is unknown, or the motion's head model has no such expressions.
        """
        return values_of(self, name, model=model)

    @classmethod
    def from_arkit(
        cls, weights: Weights, *, frame_rate: float | Fraction = 30, source: str = "", **named: Values
    ) -> "Motion":
        """Makes a motion of the open head from ARKit blendshapes, such as those of Live Link Face or MediaPipe.

        Relative motion counts from the face at rest. The head is frontal unless `yaw_degrees`, ... say otherwise.

        Args:
            weights: numbers by name, each one for all frames or `[T]`; or `[T, 52]` in the order of
                `flame.heads.expression_names.ARKIT_NAMES`. From 0 to 1. `_neutral` of MediaPipe is left out.
            frame_rate: frames per second.
            source: name of what the weights came from.
            named: edits on top, as in `edit`.

        Raises:
            InputError: as `edit`, or the numbers of frames differ.
        """
        changes, num_frames = weights_by_name(weights)
        return cls(**rest_fields(num_frames, frame_rate, source)).edit({**changes, **named})

    @classmethod
    def from_keyframes(
        cls,
        keyframes: Keyframes,
        *,
        frame_rate: float | Fraction = 30,
        duration_seconds: float | None = None,
        source: str = "",
    ) -> "Motion":
        """Makes a motion of the open head that passes through poses at given seconds, smoothly and without overshoot.

        `Motion.from_keyframes({0: {}, 0.5: {"smile": 0.8, "yaw_degrees": 10}, 1: {}})`. Each pose is a whole one: what
        it does not name is at rest. Relative motion counts from the face at rest.

        Args:
            keyframes: poses by seconds from 0 on, each with names and single values as `edit` takes them.
            frame_rate: frames per second.
            duration_seconds: length, in which the last pose is held; None ends with the last keyframe.
            source: name of what the keyframes came from.

        Raises:
            InputError: there is no keyframe, or a time, name or value is wrong.
        """
        edits, num_frames = edits_of_keyframes(keyframes, frame_rate=frame_rate, duration_seconds=duration_seconds)
        return cls(**rest_fields(num_frames, frame_rate, source)).edit(edits)

    def to_arkit(self) -> dict[str, NDArray[np.float32]]:
        """The 52 expressions by their ARKit names, `[T]` each, in their order.

        Those of a look are the turn of the eyeball, as ARKit has them: the lids of a tracked face, which
        `values("eyeLookOutLeft")` gives, follow it only in part.

        Raises:
            InputError: the motion's head model has no such expressions.
        """
        return arkit_of(self)

    def save(self, path: str | Path, *, layout: Layout = "plain") -> None:
        """Writes an `.npz`, or the 52 expressions as a `.csv`; the file appears whole or not at all.

        Args:
            path: ends in .npz or .csv.
            layout: of a .csv: "plain" has `seconds`, the 52 names and the head's angles in degrees; "live-link-face" is
                that of the Live Link Face app, with a head at rest.

        Raises:
            InputError: the name has another suffix, or the motion's head model has no such expressions.
        """
        path = Path(path)
        if path.suffix.lower() == ".csv":
            return write_blendshapes(path, self, layout=layout)
        if path.suffix.lower() != ".npz":
            raise InputError(f"expected a motion file name ending in .npz or .csv, got '{path.name}': rename it")
        arrays = {name: np.asarray(getattr(self, name)) for name in (*PER_FRAME, *_PER_CLIP)}
        arrays["frame_rate"] = np.array([self.frame_rate.numerator, self.frame_rate.denominator], np.int64)
        arrays["warnings"] = np.array(self.warnings, dtype=np.str_)
        arrays["origin"] = np.array(self.origin)
        if self.neutral is not None:
            arrays |= {f"{_NEUTRAL}{item.name}": getattr(self.neutral, item.name) for item in fields(NeutralFrame)}
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, format=np.array(FORMAT), version=np.array(VERSION), allow_pickle=False, **arrays)

    @classmethod
    def load(cls, path: str | Path) -> "Motion":
        """Reads a motion file, or a `.csv` of blendshapes (docs/expressions.md).

        Raises:
            InputError: the file is missing, damaged, of another kind or version, or lacks a field.
        """
        path = Path(path)
        if not path.is_file():
            raise InputError(f"no motion file at '{path}': check the name, or make one with `portrait4d track`")
        if path.suffix.lower() == ".csv":
            found = read_blendshapes(path)
            motion = cls.from_arkit(found.weights, frame_rate=found.frame_rate, source=path.name, **found.pose)
            return replace(motion, warnings=found.warnings)
        known = {*PER_FRAME, *_PER_CLIP, "frame_rate", "warnings", "origin", "format", "version", *_NEUTRAL_NAMES}
        check = partial(check_headers, per_frame=PER_FRAME)
        try:
            arrays = read_npz(path, names=known, check=check, most_inflation=MOST_INFLATION)
        except ValueError as error:
            raise InputError(
                f"'{path}' is damaged or not a motion file ({printable(str(error)[:200])}): make one with "
                "`portrait4d track`"
            ) from error
        if str(arrays.get("format")) != FORMAT:
            raise InputError(f"'{path}' is not a motion file: make one with `portrait4d track`")
        version = str(arrays.get("version"))
        if version != str(VERSION):
            raise InputError(
                f"'{path}' is a motion file of version {version}, this program reads {VERSION}: "
                "track the clip again, or update portrait4d"
            )
        arrays.setdefault("codes", np.zeros((0, 0), np.float32))  # older files have no codes
        names = (*PER_FRAME, *_PER_CLIP, "frame_rate", "warnings")
        missing = [name for name in names if name not in arrays]
        if missing:
            raise InputError(f"motion file '{path}' lacks {', '.join(missing)}: track the clip again")
        try:
            return motion_from_arrays(arrays)
        except ValueError as error:
            raise InputError(
                f"motion file '{path}' is damaged ({printable(str(error))}): track the clip again"
            ) from error


_PER_CLIP = ("head_model", "shape", "crop_matrix", "crop_size", "frame_height", "frame_width", "source")

_NEUTRAL = "neutral_"
_NEUTRAL_NAMES = tuple(f"{_NEUTRAL}{item.name}" for item in fields(NeutralFrame))


def motion_from_arrays(arrays: Mapping[str, NDArray]) -> Motion:
    """Builds a motion from the arrays of a file.

    Args:
        arrays: the fields of a motion by name, `frame_rate` as numerator and denominator.

    Raises:
        ValueError: a field has another dtype or shape, is not finite, or a size is not above 0.
        KeyError: a field is missing.
    """
    numbers = {name: numbers_of(arrays, name) for name in (*PER_FRAME, "shape", "crop_matrix")}
    numerator, denominator = (whole_of(value, "frame_rate") for value in np.atleast_1d(arrays["frame_rate"]))
    if not (numerator > 0 and denominator > 0 and len(np.atleast_1d(numbers["seconds"])) > 0):
        raise ValueError("it holds no frames or no frame rate")
    sizes = {name: whole_of(arrays[name], name) for name in ("crop_size", "frame_height", "frame_width")}
    kinds = {"seconds": np.float64, "valid": np.bool_, "crop_matrix": np.float64}
    with np.errstate(over="ignore"):
        values: dict = {name: value.astype(kinds.get(name, np.float32)) for name, value in numbers.items()}
    if not all(np.isfinite(value).all() for value in values.values()):
        raise ValueError("it holds numbers that are not finite")
    if min(sizes.values()) <= 0:
        raise ValueError("it holds a size that is not above 0")
    texts = np.atleast_1d(arrays["warnings"])
    if texts.size and texts.dtype.kind != "U":
        raise ValueError("its warnings are not text")
    return Motion(
        head_model=text_of(arrays, "head_model"),
        frame_rate=Fraction(numerator, denominator),
        source=text_of(arrays, "source"),
        origin=text_of(arrays, "origin") if "origin" in arrays else "",
        warnings=tuple(str(line) for line in texts.reshape(-1)),
        neutral=_neutral(arrays),
        **sizes,
        **values,
    )


def _neutral(arrays: Mapping[str, NDArray]) -> NeutralFrame | None:
    if arrays.keys().isdisjoint(_NEUTRAL_NAMES):
        return None
    if missing := [name for name in _NEUTRAL_NAMES if name not in arrays]:
        raise ValueError(f"it lacks {', '.join(missing)} of its neutral frame")
    values = {name.removeprefix(_NEUTRAL): numbers_of(arrays, name).astype(np.float32) for name in _NEUTRAL_NAMES}
    if not all(np.isfinite(value).all() for value in values.values()):
        raise ValueError("its neutral frame holds numbers that are not finite")
    return NeutralFrame(**values)
