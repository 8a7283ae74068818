"""Heads by name: settings such as `jawOpen=0.6` and frames of motion files become parameters of a head model."""

from collections.abc import Sequence
from difflib import get_close_matches

import torch

from flame.errors import InputError, printable
from flame.heads.head_model import HeadModel, HeadParams
from genhead.jobs.options import FaceOptions
from preprocess.tracking.motion import Motion

_AXES = "xyz"
_JOINTS = {
    "neck": (("neck", ()),),
    "jaw": (("jaw", ()),),
    "eyes": (("eyes", (0,)), ("eyes", (1,))),
    "eye_left": (("eyes", (0,)),),
    "eye_right": (("eyes", (1,)),),
}
"""Joints by their public name: the parameter, and the row of its vector."""


def face_params(model: HeadModel, face: FaceOptions, *, motion: Motion | None = None) -> HeadParams:
    """The parameters `[1]` of a face, the neck at rest unless a setting turns it.

    Args:
        model: that the numbers are of.
        face: what the face does.
        motion: the file of `face.motion`, if it is open already.

    Raises:
        InputError: a name is unknown, a value is no number, the frame is not in the motion, or the motion is of
            another head model.
    """
    params = HeadParams.zeros(model)
    if motion is None and face.motion is not None:
        motion = Motion.load(face.motion)
    if motion is not None:
        if face.frame >= len(motion):
            raise InputError(f"expected a frame of 0 to {len(motion) - 1}, the motion's, got {face.frame}")
        params = moved_params(model, motion, face.frame)
    return with_settings(model, params, face.settings)


def moved_params(model: HeadModel, motion: Motion, frame: int) -> HeadParams:
    """Expression, jaw and eyes `[1]` of a frame; shape and neck are zero."""
    params = motion.params(model, frame)
    return params.replace(shape=torch.zeros_like(params.shape), neck=torch.zeros_like(params.neck))


def with_settings(
    model: HeadModel, params: HeadParams, settings: Sequence[str], *, strength: float = 1.0
) -> HeadParams:
    """A copy of parameters `[1]` with some numbers set.

    Args:
        model: of the numbers.
        params: of one head.
        settings: `NAME=VALUE` each; see `setting_names`.
        strength: multiplies all values.

    Raises:
        InputError: a name is unknown, and the message has the nearest; or a value is no number.
    """
    changed = params.map(torch.clone)
    for setting in settings:
        name, value = _parsed(setting)
        _set(model, changed, name, value * strength)
    return changed


def setting_names(model: HeadModel) -> list[str]:
    """All names that a setting may have; a joint without an axis turns about x, which opens the jaw."""
    joints = [joint + axis for joint in _JOINTS for axis in ("", *(f"_{axis}" for axis in _AXES))]
    return [*model.expression_names, *joints, *(f"shape_{index}" for index in range(model.num_shape))]


def _set(model: HeadModel, params: HeadParams, name: str, value: float) -> None:
    joint, _, axis = name.rpartition("_")
    if name in _JOINTS:
        joint, axis = name, "x"
    if name in model.expression_names:
        params.expression[0, model.expression_names.index(name)] = value
    elif joint in _JOINTS and len(axis) == 1 and axis in _AXES:
        for field, rows in _JOINTS[joint]:
            getattr(params, field)[(0, *rows, _AXES.index(axis))] = value
    elif joint == "shape" and axis.isascii() and axis.isdecimal() and int(axis) < model.num_shape:
        params.shape[0, int(axis)] = value
    else:
        raise InputError(_unknown(model, name))


def _unknown(model: HeadModel, name: str) -> str:
    known = setting_names(model)
    folded = {entry.lower(): entry for entry in reversed(known)}
    near = get_close_matches(name.lower(), list(folded), n=3, cutoff=0.4) or list(folded)[:3]
    return (
        f"head model {model.name} has no {printable(name[:60])!r}: did you mean "
        f"{', '.join(folded[entry] for entry in near)}? It has {model.num_expression} expressions, "
        f"the joints {', '.join(_JOINTS)} with _x, _y or _z, and shape_0 to shape_{model.num_shape - 1}"
    )


def _parsed(setting: str) -> tuple[str, float]:
    name, sign, text = setting.partition("=")
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not sign or not torch.tensor(value).isfinite():
        raise InputError(f"expected a setting NAME=VALUE like jawOpen=0.6, got {printable(setting[:60])!r}")
    return name.strip(), value
