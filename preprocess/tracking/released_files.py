"""Drivers for the Portrait4D engines: parameters of tracked motions, and the files that the released tools write.

A released tool writes a folder with aligned pictures in `align_images`, landmarks in `3dldmks_align` and parameters in
`flame_optim_params` or `bfm2flame_params_simplified`, one `.npy` for each picture, with its name.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from flame.errors import InputError, printable
from flame.heads.frame_parameters import FrameParameters
from flame.heads.head_model import HeadModel
from flame.landmarks.ibug import to_68
from flame.pickles.numbers import read_numbers
from preprocess.media.stills import list_pictures
from preprocess.tracking.motion import Motion

PICTURES, LANDMARKS = "align_images", "3dldmks_align"
PARAMETERS = ("flame_optim_params", "bfm2flame_params_simplified")
"""In order of preference: fitted to landmarks, or estimated by a network and without movement of the eyes."""

_VECTOR_SIZE = 437
_ROTATION_TOLERANCE = 1e-3


@dataclass(frozen=True)
class DriverFolder:
    """T frames of a driver that the released preprocessing has written.

    Attributes:
        pictures: T files in natural order.
        frames: parameters of T frames, in metres x 3.
        landmarks: `[T, 68, 2]` iBUG, px of the pictures, y down.
    """

    pictures: tuple[Path, ...]
    frames: FrameParameters
    landmarks: NDArray[np.float64]


def frames_of_motion(motion: Motion, model: HeadModel) -> FrameParameters:
    """Converts a tracked clip to parameters of T frames, in metres x 3.

    Args:
        motion: the tracked clip.
        model: FLAME as the motion was tracked with it, in any unit.

    Raises:
        InputError: the motion belongs to another head model.
    """
    pose = motion.pose.map(lambda part: torch.from_numpy(part).to(model.template))
    return FrameParameters.from_head_pose(pose, motion.params(model))


def read_frame(path: Path | str) -> FrameParameters:
    """Reads one frame from a `.npy` of 437 numbers.

    Raises:
        InputError: the file is missing, or does not hold a camera pose and FLAME parameters.
    """
    path = Path(path)
    vector = _read_array(path)
    if vector.shape != (_VECTOR_SIZE,):
        raise InputError(
            f"{printable(path.name)}: expected {_VECTOR_SIZE} numbers (camera 25, FLAME 412), "
            f"got an array of shape {vector.shape}: give a file of {' or '.join(PARAMETERS)}"
        )
    frame = FrameParameters.from_vector437(torch.from_numpy(vector.astype(np.float32))[None])
    rotation = frame.camera.cam2world[0, :3, :3]
    bottom = frame.camera.cam2world[0, 3] - torch.tensor([0.0, 0.0, 0.0, 1.0])
    skewness = rotation @ rotation.T - torch.eye(3)
    if max(float(skewness.abs().max()), float(bottom.abs().max())) > _ROTATION_TOLERANCE or rotation.det() < 0:
        raise InputError(
            f"{printable(path.name)}: its first 16 numbers are not a camera pose: "
            f"give a file of {' or '.join(PARAMETERS)}"
        )
    return frame


def read_landmarks(path: Path | str) -> NDArray[np.float64]:
    """Reads landmarks `[68, 2]` (px, y down) from a `.npy` of 68 (iBUG), 70 or 98 (WFLW) points.

    Raises:
        InputError: the file is missing, or does not hold landmarks.
    """
    path = Path(path)
    points = _read_array(path)
    if points.ndim != 2 or points.shape[0] not in (68, 70, 98) or points.shape[1] not in (2, 3):
        raise InputError(
            f"{printable(path.name)}: expected landmarks of shape (68, 2) or (98, 2), got {points.shape}: "
            f"give a file of {LANDMARKS}"
        )
    return to_68(points[:, :2].astype(np.float64))


def read_driver_folder(folder: Path | str) -> DriverFolder:
    """Reads all frames of a folder that the released preprocessing has written.

    Raises:
        InputError: a part of the folder is missing or a file is damaged; the message names it.
    """
    folder = Path(folder)
    kinds = [name for name in PARAMETERS if (folder / name).is_dir()]
    missing = [name for name in (PICTURES, LANDMARKS) if not (folder / name).is_dir()]
    if not kinds or missing:
        lacking = missing or [" or ".join(PARAMETERS)]
        raise InputError(
            f"{folder} has no folder {lacking[0]}: expected {PICTURES}, {LANDMARKS} and {' or '.join(PARAMETERS)} "
            "in it, or give a video"
        )
    pictures = list_pictures(folder / PICTURES)
    vectors, landmarks = [], []
    for picture in pictures:
        vectors.append(read_frame(folder / kinds[0] / f"{picture.stem}.npy").to_vector437())
        landmarks.append(read_landmarks(folder / LANDMARKS / f"{picture.stem}.npy"))
    return DriverFolder(tuple(pictures), FrameParameters.from_vector437(torch.cat(vectors)), np.stack(landmarks))


def _read_array(path: Path) -> NDArray:
    content = read_numbers(path)
    if not isinstance(content, np.ndarray) or content.dtype.kind not in "fiu":
        raise InputError(
            f"{printable(path.name)} does not hold an array of numbers: expected a .npy of the released tools"
        )
    if not np.isfinite(content).all():
        raise InputError(
            f"{printable(path.name)} holds numbers that are not finite: make it again with the released tools"
        )
    return content
