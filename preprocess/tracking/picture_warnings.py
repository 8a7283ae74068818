"""What makes a picture or clip hard to use, one sentence each: small, cut off, dark, lying or several faces, strangers.

The limits are measured on the evaluation material named in `docs/cli.md`.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from flame.errors import InputError
from preprocess.faces.landmarker import FaceLandmarks
from preprocess.tracking.follow import RIVAL_SHARE, bounding_box, face_level
from preprocess.tracking.followed_clip import MIN_FACE_PX, FollowedClip

SMALL_FACE_PX = 100
"""Width of a face in the picture, px, below which a warning is given."""

DARK_LEVEL = 40.0
"""Median brightness of a face, 0 to 255, below which it is dark; usual photos lie above 65."""

LYING_DEGREES = 60.0
"""Roll of a head that somebody forgot to turn upright."""

STRANGER_ERROR = 1.15
"""Error of the fit of one head to all photos over that of a head for each, above which they may show two people."""


def face_warnings(points: NDArray, size: tuple[int, int]) -> list[str]:
    """Returns warnings about faces `[N, 478, 3]` (image px) in pictures of `size` (height, width).

    Raises:
        InputError: the faces are too small.
    """
    boxes = np.stack([bounding_box(face) for face in points])
    width_px = float(np.median(boxes[:, 2] - boxes[:, 0]))
    if width_px < MIN_FACE_PX:
        raise InputError(
            f"expected a face at least {MIN_FACE_PX} px wide, found {width_px:.0f} px: use a larger picture of it"
        )
    warnings = []
    if width_px < SMALL_FACE_PX:
        warnings.append(f"the face is only {width_px:.0f} px wide: expect a soft result")
    height, width = size
    flat = points[..., :2]
    outside = ((flat < 0) | (flat > np.array([width, height]))).any(-1).mean(-1)
    if np.median(outside) > 0.05:
        percent = 100 * float(np.median(outside))
        warnings.append(f"{percent:.0f} % of the face lies outside the picture: that part is guessed")
    return warnings


def photo_warnings(
    image: NDArray[np.uint8], faces: Sequence[FaceLandmarks], chosen: FaceLandmarks, *, roll_degrees: float, face: int
) -> list[str]:
    """Returns warnings about one photo.

    Args:
        image: uint8 `[H, W, 3]` RGB.
        faces: all that were found in it.
        chosen: the one among them that is used.
        roll_degrees: roll of its head.
        face: the number that was asked for; 0 is also what is taken when nobody asked.
    """
    warnings = face_warnings(chosen.points[None], (image.shape[0], image.shape[1]))
    rivals = [other for other in faces if other is not chosen and other.size >= RIVAL_SHARE * chosen.size]
    if rivals and face == 0:
        warnings.append(f"{len(rivals) + 1} faces in the picture: the largest is used; --face 1 takes the next")
    level = face_level(image, chosen.points)
    if level < DARK_LEVEL:
        warnings.append(f"the face is dark (median {level:.0f} of 255): expect a rough result; brighten the photo")
    if abs(roll_degrees) > LYING_DEGREES:
        warnings.append(f"the head lies on its side ({abs(roll_degrees):.0f} degrees): turn the photo upright")
    return warnings


def clip_warnings(followed: FollowedClip, frame_rate: float, *, face: int) -> list[str]:
    """Returns warnings about a clip whose landmarks are still in image px.

    Args:
        followed: what was seen in it.
        frame_rate: frames per second.
        face: the number that was asked for.
    """
    warnings = face_warnings(followed.landmarks, followed.image_size)
    seconds = float(followed.has_rival.sum()) / frame_rate
    if seconds and face == 0:
        warnings.append(
            f"several faces in {seconds:.1f} s of the driver: the one that is largest in the first frame is followed"
            " (--face of `track`, --driver-face of `reenact` chooses)"
        )
    level = float(np.median(followed.levels)) if len(followed.levels) else 255.0
    if level < DARK_LEVEL:
        warnings.append(f"the driver's face is dark (median {level:.0f} of 255): expect an unsteady track")
    return warnings


def stranger_warnings(together: Sequence[float], alone: Sequence[float], names: Sequence[str]) -> list[str]:
    """Returns a warning for photos that may show another person than the others.

    Args:
        together: error of the fit of one head to all photos, for each.
        alone: error of the fit of a head of its own.
        names: of the photos.
    """
    if len(together) < 2:
        return []
    ratio = float(np.mean(together) / max(np.mean(alone), 1e-9))
    if ratio < STRANGER_ERROR:
        return []
    each = np.asarray(together) / np.maximum(alone, 1e-9)
    worst = names[int(each.argmax())]
    return [
        f"the photos may show different people: one head fits them {100 * (ratio - 1):.0f} % worse than one for each, "
        f"{worst} the worst; give photos of one person"
    ]
