"""Converts a folder of the released preprocessing to a motion, from its parameters, landmarks and pictures.

Nothing is tracked again. The 68 landmarks of the files are placed among the 478; the others are those of FLAME with the
folder's parameters.
"""

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flame.errors import InputError
from flame.geometry.camera import DEFAULT_FOV_DEGREES, Camera, fov_to_intrinsics
from flame.geometry.rotation import axis_angle_to_matrix
from flame.heads.flame import PORTRAIT4D_UNITS_PER_METRE
from flame.heads.frame_parameters import FrameParameters
from flame.heads.head_model import HeadModel, HeadParams
from flame.heads.head_pose import HeadPose
from flame.landmarks.sets import IBUG_LEFT_EYE, IBUG_OF_478, IBUG_OUTER_EYE_CORNERS, IBUG_RIGHT_EYE
from preprocess.media.image import read_image, to_tensor
from preprocess.tracking.motion import Motion
from preprocess.tracking.motion_code.encoder import MotionEncoder
from preprocess.tracking.motion_fields import head_fields
from preprocess.tracking.released_files import LANDMARKS, PARAMETERS, PICTURES, DriverFolder, read_driver_folder

_TURN_TOLERANCE, _LENS_TOLERANCE = 1e-3, 1e-3
_FRAMES_AT_ONCE = 16


def is_driver_folder(path: Path) -> bool:
    """Returns whether a path is a folder that the released preprocessing has written, complete or not."""
    return path.is_dir() and any((path / name).is_dir() for name in (PICTURES, LANDMARKS, *PARAMETERS))


def motion_of_folder(
    folder: Path,
    model: HeadModel,
    *,
    motion_encoder: MotionEncoder | None,
    frame_rate: Fraction = Fraction(25),
    progress: Callable[[int], None] = lambda done: None,
) -> Motion:
    """Reads the motion in a folder of aligned pictures, landmarks and parameters.

    The shape of the clip is the mean of the frames' shapes. The rotation of the head is that of the cameras, which the
    necks repeat.

    Args:
        folder: as for `read_driver_folder`.
        model: FLAME in metres.
        motion_encoder: computes motion codes from the pictures and the landmarks of the files; None: no codes.
        frame_rate: of the pictures, whose files do not state it.
        progress: called with the number of frames done.

    Raises:
        InputError: the head model is not FLAME, a part is missing or damaged, or pictures are not square and of one
            size.
    """
    _check_model(model, folder)
    driver = read_driver_folder(folder)
    pose = _head_pose(driver.frames)
    size, codes = _read_pictures(driver, motion_encoder, progress)
    head = driver.frames.head
    head = head.replace(neck=torch.zeros_like(head.neck), shape=head.shape.mean(0, keepdim=True).expand_as(head.shape))
    landmarks = _all_landmarks(model, head, Camera.from_head_pose(pose.rotation, pose.translation), size=size)
    given = driver.landmarks.astype(np.float32)
    error = _place_landmarks(landmarks, given, folder / LANDMARKS)
    frames = len(driver.pictures)
    return Motion(
        **head_fields(pose.map(Tensor.numpy), head.map(Tensor.numpy)),
        head_model=model.name,
        frame_rate=frame_rate,
        seconds=np.arange(frames) / float(frame_rate),
        landmarks=landmarks,
        valid=np.ones(frames, bool),
        crop_matrix=np.eye(3),
        crop_size=size,
        frame_height=size,
        frame_width=size,
        source=folder.name,
        eye_open=np.stack([_opening(given[:, eye]) for eye in (IBUG_LEFT_EYE, IBUG_RIGHT_EYE)], 1),
        fit_error=error,
        codes=codes,
    )


def _check_model(model: HeadModel, folder: Path) -> None:
    """Raises InputError unless the head model can use the parameters of a folder."""
    if (model.name, model.num_shape, model.num_expression) != ("flame", 300, 100):
        raise InputError(
            f"{folder} holds parameters of FLAME (300 shape, 100 expression numbers), which this engine's head model "
            f"'{model.name}' cannot use: give {folder / PICTURES}, whose pictures are then tracked, or use an "
            "engine portrait4d..."
        )


def _place_landmarks(landmarks: NDArray, given: NDArray[np.float32], folder: Path) -> NDArray[np.float32]:
    """Replaces iBUG's points among landmarks `[T, 478, 3]` by the given ones `[T, 68, 2]` in place, both in crop px.

    Args:
        landmarks: changed in place.
        given: those of the files.
        folder: their folder, for the message.

    Returns:
        The mean distance between old and new points, as a fraction of the outer-eye distance, `[T]`.

    Raises:
        InputError: the eyes coincide.
    """
    width = np.linalg.norm(given[:, IBUG_OUTER_EYE_CORNERS[0]] - given[:, IBUG_OUTER_EYE_CORNERS[1]], axis=-1)
    if not (width > 1).all():
        raise InputError(f"landmarks in {folder}: both eyes coincide: make them again")
    places = np.array(IBUG_OF_478)
    error = np.linalg.norm(landmarks[:, places, :2] - given, axis=-1).mean(1) / width
    landmarks[:, places, :2] = given
    return error.astype(np.float32)


def _head_pose(frames: FrameParameters) -> HeadPose:
    """Returns the head's pose in T frames, in metres.

    Raises:
        InputError: camera and neck disagree, or the field of view is not that of aligned pictures.
    """
    world2cam = frames.camera.world2cam
    turn = axis_angle_to_matrix(frames.head.neck)
    apart = (world2cam[:, :3, :3] - turn).abs().amax((1, 2))
    if float(apart.max()) > _TURN_TOLERANCE:
        raise InputError(
            f"frame {int(apart.argmax())} of the driver's parameters: camera and neck have different rotations, "
            "expected the neck to repeat the camera's: make the parameters again with the released tools"
        )
    lens = fov_to_intrinsics(DEFAULT_FOV_DEGREES, like=world2cam)
    if float((frames.camera.intrinsics - lens).abs().max()) > _LENS_TOLERANCE:
        raise InputError(
            f"the driver's cameras have another field of view than the {DEFAULT_FOV_DEGREES:g} degrees of aligned "
            "pictures: make the parameters again with the released tools"
        )
    return frames.head_pose(units_per_metre=PORTRAIT4D_UNITS_PER_METRE)


def _read_pictures(
    driver: DriverFolder, motion_encoder: MotionEncoder | None, progress: Callable[[int], None]
) -> tuple[int, NDArray[np.float32]]:
    """Returns the side of the pictures in px, and their motion codes `[T, C]`.

    Raises:
        InputError: a picture is not square or has another size than the first.
    """
    size, rows = 0, []
    for index, path in enumerate(driver.pictures):
        image = read_image(path)
        size = size or image.shape[0]
        if image.shape[:2] != (size, size):
            raise InputError(
                f"{path.name} is {image.shape[1]} x {image.shape[0]}: expected aligned pictures, all square and of "
                "one size"
            )
        if motion_encoder is not None:
            # the files' coordinates without an offset of half a pixel, as the released code passes them to the encoder
            points = torch.from_numpy(driver.landmarks[index].astype(np.float32))[None]
            rows.append(motion_encoder(to_tensor(image), points).cpu().numpy())
        progress(index + 1)
    return size, np.concatenate(rows) if rows else np.zeros((len(driver.pictures), 0), np.float32)


def _all_landmarks(model: HeadModel, head: HeadParams, camera: Camera, *, size: int) -> NDArray[np.float32]:
    """Returns the model's landmarks `[T, 478, 3]` in crop px; z counts from the head's origin, smaller is nearer."""
    return np.concatenate(list(_landmark_parts(model, head, camera, size)))


def _landmark_parts(model: HeadModel, head: HeadParams, camera: Camera, size: int) -> Iterator[NDArray[np.float32]]:
    for start in range(0, len(head), _FRAMES_AT_ONCE):
        some = slice(start, start + _FRAMES_AT_ONCE)
        points = model.landmarks(model(head[some].to(model.template.device)))
        seen, depth = camera[some].to(points.device).project(points, height=size, width=size)
        distance = camera[some].world2cam[:, 2, 3].abs().to(points.device)
        px_per_metre = camera[some].intrinsics[:, 0, 0].to(points.device) * size / distance
        behind = (depth - distance[:, None]) * px_per_metre[:, None]
        yield torch.cat([seen, behind[..., None]], -1).cpu().numpy().astype(np.float32)


def _opening(eye: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns the opening of the lids `[T]` as a fraction of the eye's width, of an eye `[T, 6, 2]` of iBUG."""
    gaps = np.linalg.norm(eye[:, [1, 2]] - eye[:, [5, 4]], axis=-1).mean(1)
    return gaps / np.maximum(np.linalg.norm(eye[:, 0] - eye[:, 3], axis=-1), 1e-3)
