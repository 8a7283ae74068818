"""Measures of the places where a lifted photo fails: shut lids, the open mouth, the outline.

Definitions are in `DEFINITIONS` and printed with the numbers. All take the true frame and its landmarks, so that
before, after and the unmoved photo are compared at the same places.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from flame.landmarks.groups import (
    EYE_CORNERS,
    INNER_LIP_MIDDLES,
    LEFT_EYE,
    NUM_MESH,
    OUTER_LIPS,
    RIGHT_EYE,
    eye_opening,
    outer_eye_distance,
)

SHUT_BELOW = 0.3
"""Share of an eye's own wide opening under which it counts as shut."""
WIDE_PERCENTILE = 90
OPEN_MOUTH = 0.05
"""Gap of the inner lips, in outer-eye distances, from which a mouth counts as open."""
RING_PX = 24
"""Width of the ring around the matte in which halos are looked for."""
FINE_PX, COARSE_PX = 1.0, 8.0
"""Blurs between which the structures of a halo lie."""
PATCH_PX = 128
SMALL_MOTION = 5.0
"""Per cent of the crop's side; clips whose head moves less must not lose to the unmoved photo."""

DEFINITIONS = f"""`lid`: perceptual distance (the network named above) of result and truth within a box around one eye,
over all eyes of chosen true frames that are open less than {SHUT_BELOW:.0%} of the {WIDE_PERCENTILE}th percentile of
their opening (mean lid gap over eye width) in the clip; the box is 1.7 eye widths wide and 1.2 high, around the middle
of the true lids, scaled to {PATCH_PX} px. `mouth box`: the same within the true lips' bounding box grown by a quarter
of its width on every side, over true frames whose inner lips are {OPEN_MOUTH} outer-eye distances apart or more.
`halo`: root mean square, in levels of luma (0 to 255), of what the difference of two blurs (sigma {FINE_PX:g} and
{COARSE_PX:g} px) leaves of result minus truth, in the ring of {RING_PX} px outside the matte of the true frame
joined with that of the source, less the true frame's matte itself. `frame dB`: PSNR of the whole crop against the true
frame. `motion`: median over the clip's frames of the mean way of the 468 landmarks from the source's, in per cent of
the crop's side; under {SMALL_MOTION:g} the result's frame dB must not be below that of the unmoved photo."""

Distance = Callable[[NDArray[np.uint8], NDArray[np.uint8]], float]
Box = tuple[int, int, int, int]
"""(top, left, bottom, right) in pixels, ends exclusive."""


def shut_eyes(landmarks: NDArray) -> NDArray[np.bool_]:
    """Which eyes of a clip's landmarks `[T, 478, 2 or 3]` are shut, `[T, 2]`, the subject's left eye first."""
    opening = eye_opening(landmarks)
    return opening < SHUT_BELOW * np.percentile(opening, WIDE_PERCENTILE, axis=0)


def mouth_gap(landmarks: NDArray) -> NDArray[np.float64]:
    """Gap `[T]` of the inner lips in outer-eye distances."""
    upper, lower = INNER_LIP_MIDDLES
    gap = np.linalg.norm(landmarks[:, upper, :2] - landmarks[:, lower, :2], axis=-1)
    return gap / np.maximum(outer_eye_distance(landmarks), 1e-6)


def head_motion(landmarks: NDArray, source: NDArray, size: int) -> NDArray[np.float64]:
    """Mean way `[T]` of the face's landmarks from those of the source `[478, 2 or 3]`, per cent of the crop's side."""
    way = np.linalg.norm(landmarks[:, :NUM_MESH, :2] - source[:NUM_MESH, :2], axis=-1)
    return 100 * way.mean(1) / size


def eye_box(landmarks: NDArray, side: int, size: int) -> Box:
    """The box around one eye of landmarks `[478, 2 or 3]`; `side` 0 is the subject's left eye, 1 the right."""
    name, points = (("left", LEFT_EYE), ("right", RIGHT_EYE))[side]
    outer, inner = landmarks[list(EYE_CORNERS[name]), :2]
    width = float(np.linalg.norm(outer - inner))
    return _box(landmarks[list(points), :2].mean(0), 0.85 * width, 0.6 * width, size)


def mouth_box(landmarks: NDArray, size: int) -> Box:
    """The box around the mouth of landmarks `[478, 2 or 3]`."""
    lips = landmarks[list(OUTER_LIPS), :2]
    low, high = lips.min(0), lips.max(0)
    half = (high - low) / 2 + 0.25 * (high - low)[0]
    return _box((low + high) / 2, float(half[0]), float(half[1]), size)


def box_distance(result: NDArray[np.uint8], truth: NDArray[np.uint8], box: Box, distance: Distance) -> float:
    """Distance of two pictures `[H, W, 3]` within a box, both scaled to `PATCH_PX`."""
    top, left, bottom, right = box
    patches = [
        np.ascontiguousarray(
            cv2.resize(image[top:bottom, left:right], (PATCH_PX, PATCH_PX), interpolation=cv2.INTER_CUBIC)
        ).astype(np.uint8)
        for image in (result, truth)
    ]
    return distance(patches[0], patches[1])


def halo_ring(true_matte: NDArray, source_matte: NDArray) -> NDArray[np.bool_]:
    """The ring of `halo_energy` of two mattes `[H, W]` in [0, 1]."""
    person = true_matte > 0.1
    near = (person | (source_matte > 0.1)).astype(np.uint8)
    reach = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * RING_PX + 1,) * 2)
    return (cv2.dilate(near, reach) > 0) & ~person


def halo_energy(result: NDArray[np.uint8], truth: NDArray[np.uint8], ring: NDArray[np.bool_]) -> float:
    """Root mean square of the band-passed difference of luma in a ring, in levels; 0 for equal pictures."""
    if not ring.any():
        return 0.0
    luma = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32) for image in (result, truth)]
    apart = luma[0] - luma[1]
    band = cv2.GaussianBlur(apart, (0, 0), FINE_PX) - cv2.GaussianBlur(apart, (0, 0), COARSE_PX)
    return float(np.sqrt(np.square(band[ring]).mean()))


def _box(middle: NDArray, half_width: float, half_height: float, size: int) -> Box:
    low = np.clip(np.floor(middle - [half_width, half_height]), 0, size - 2).astype(int)
    high = np.clip(np.ceil(middle + [half_width, half_height]), low + 2, size).astype(int)
    return int(low[1]), int(low[0]), int(high[1]), int(high[0])
