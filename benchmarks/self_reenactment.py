"""A clip driven by itself: its first frame is the source, its other frames are the truth, in the clip's own crop.

The source is tracked as a single photo, as a user's would be; only its crop is replaced by the clip's, so that result
and truth cover the same pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from flame.geometry.rotation import axis_angle_to_matrix
from flame.landmarks.groups import (
    EYE_CORNERS,
    INNER_LIP_MIDDLES,
    IRIS_CENTRES,
    LID_MIDDLES,
    NUM_MESH,
    outer_eye_distance,
)
from portrait4d.engines.base import Avatar, Drive
from portrait4d.engines.lift.avatar import LiftAvatar
from portrait4d.engines.lift.canvas import MARGIN, cut_canvas
from portrait4d.engines.lift.draw import draw_surface
from portrait4d.engines.lift.view import project_points
from portrait4d.engines.retarget import RetargetOptions, retarget
from portrait4d.evaluation.pictures import psnr
from portrait4d.jobs.evaluation.material import in_crop
from portrait4d.options import ReenactOptions
from portrait4d.pipeline import Models
from preprocess.faces.crop import Crop
from preprocess.faces.landmarker import FaceLandmarker, FaceLandmarks
from preprocess.media.image import to_uint8
from preprocess.media.video import probe, read_frames
from preprocess.tracking.motion import Motion
from preprocess.tracking.tracker import TrackedFrame

LIDS = tuple((*LID_MIDDLES[side], *EYE_CORNERS[side]) for side in ("right", "left"))
"""Upper lid, lower lid, and the eye's corners; the subject's right eye first."""
IRISES = tuple((IRIS_CENTRES[side], *EYE_CORNERS[side]) for side in ("right", "left"))


@dataclass(frozen=True)
class Clip:
    """One driver, tracked, with its frames cut out: `truth` maps frame numbers to uint8 [S, S, 3]."""

    path: Path
    motion: Motion
    crop: Crop
    source: TrackedFrame
    spread: list[int]
    run: list[int]
    truth: dict[int, np.ndarray]


def load_clip(path: Path, models: Models, *, max_seconds: float, num_spread: int, num_run: int) -> Clip:
    """Tracks a clip and its first frame.

    Args:
        path: the driver.
        models: loaded once.
        max_seconds: the rest of the clip is left out.
        num_spread: frames compared one by one, evenly over the clip without its first.
        num_run: successive frames from its middle, for jitter.
    """
    rate = probe(path).frame_rate
    motion = models.tracker.track_video(
        read_frames(path, duration=max_seconds, frame_rate=rate), rate, source=path.name
    )
    crop = Crop(motion.crop_matrix, motion.crop_size, (motion.frame_height, motion.frame_width))
    spread = np.unique(np.linspace(1, len(motion) - 1, num_spread).round().astype(int)).tolist()
    spread = [index for index in spread if motion.valid[index]]
    start = max(0, (len(motion) - num_run) // 2)
    run = list(range(start, min(start + num_run, len(motion))))
    wanted, truth, first = {0, *spread, *run}, {}, None
    for index, frame in enumerate(read_frames(path, duration=max_seconds, frame_rate=rate)):
        first = frame.image if first is None else first
        if index in wanted:
            truth[index] = crop.apply(frame.image)
    assert first is not None
    return Clip(
        path, motion, crop, in_crop(models.tracker.track_image(first), crop, models.head_model), spread, run, truth
    )


def render(avatar: Avatar, drive: Drive, indices: Sequence[int], models: Models) -> Iterator[np.ndarray]:
    """Frames of a drive, uint8 [S, S, 3]."""
    for index in indices:
        with torch.inference_mode():
            yield to_uint8(models.engine.render(avatar, drive[index : index + 1]).image)[0]


def drive_of(motion: Motion, avatar: Avatar, models: Models, *, options: ReenactOptions) -> Drive:
    """What the motion asks of the avatar."""
    retargeting = RetargetOptions(mode=options.mode, yaw_limit=options.yaw_limit, gaze=options.gaze)
    return retarget(motion, avatar, retargeting, models.head_model)


def render_plain_mesh(
    avatar: Avatar, source: TrackedFrame, drive: Drive, indices: Sequence[int]
) -> Iterator[np.ndarray]:
    """The baseline: the head model's face, textured with the photo, over the photo.

    No landmark transfer, no sheet for hair and neck, no eyes, no mouth, no light, no background.
    """
    assert isinstance(avatar, LiftAvatar)
    rig = avatar.rig
    count = len(rig.patch_vertices)
    faces = rig.faces[(rig.faces < count).all(1)]
    crop = source.crop
    canvas = cut_canvas(source.image, crop)
    texture = torch.from_numpy(np.concatenate([canvas, np.ones_like(canvas[..., :1])], -1).astype(np.float32))
    inside = slice(MARGIN, MARGIN + crop.size)
    photo = texture[inside, inside, :3].contiguous()
    for index in indices:
        part = drive[index : index + 1]
        points = rig.deform(part.head.expression, rig.source_residual[None])[:, :count]
        turned = points @ axis_angle_to_matrix(part.pose.rotation).mT + part.pose.translation[:, None]
        screen = project_points(turned, rig.focal_px, crop.size)[0].contiguous()
        box = (0, 0, crop.size, crop.size)
        layer, _ = draw_surface(screen, faces, rig.uv[:count].contiguous(), torch.ones(count), texture, box=box)
        shown = layer[..., :3] + (1 - layer[..., 3:]) * photo
        yield (shown.clamp(0, 1) * 255).round().byte().numpy()


def measure_landmarks(landmarker: FaceLandmarker, images: Sequence[np.ndarray], regions: np.ndarray) -> np.ndarray:
    """Landmarks [N, 478, 3] of crops, each looked for where `regions` [N, 478, 3] were."""
    found = [landmarker(image, FaceLandmarks(points, 1.0)) for image, points in zip(images, regions, strict=True)]
    return np.stack([item.points for item in found])


def landmark_errors(truth: np.ndarray, result: np.ndarray) -> dict[str, float]:
    """Means over frames of landmarks [N, 478, 3].

    `landmark`, `mouth` (opening) in units of the truth's outer-eye distance; `eye` (opening) and `gaze` in eye widths.
    """
    unit = outer_eye_distance(truth)
    distance = np.linalg.norm(result[:, :NUM_MESH, :2] - truth[:, :NUM_MESH, :2], axis=-1).mean(-1) / unit
    opening = [
        np.linalg.norm(item[:, INNER_LIP_MIDDLES[0], :2] - item[:, INNER_LIP_MIDDLES[1], :2], axis=-1) / unit
        for item in (truth, result)
    ]
    return {
        "landmark": float(distance.mean()),
        "landmark_worst": float(distance.max()),
        "eye": float(np.abs(eye_opening(result) - eye_opening(truth)).mean()),
        "mouth": float(np.abs(opening[1] - opening[0]).mean()),
        "gaze": float(np.linalg.norm(gaze(result) - gaze(truth), axis=-1).mean()),
    }


def eye_opening(points: np.ndarray) -> np.ndarray:
    """Lid gap over the eye's width [N, 2] of landmarks [N, 478, 3]."""
    flat = points[..., :2]
    gaps = [
        np.linalg.norm(flat[:, upper] - flat[:, lower], axis=-1) / np.linalg.norm(flat[:, a] - flat[:, b], axis=-1)
        for upper, lower, a, b in LIDS
    ]
    return np.stack(gaps, -1)


def gaze(points: np.ndarray) -> np.ndarray:
    """Iris centre from the middle of the eye, along and across its line, in eye widths, mean of both [N, 2]."""
    flat = points[..., :2]
    both = []
    for iris, a, b in IRISES:
        axis = flat[:, b] - flat[:, a]
        width = np.linalg.norm(axis, axis=-1, keepdims=True)
        axis = axis / width
        offset = (flat[:, iris] - (flat[:, a] + flat[:, b]) / 2) / width
        across = np.stack([axis[:, 1], -axis[:, 0]], -1)
        both.append(np.stack([(offset * axis).sum(-1), (offset * across).sum(-1)], -1))
    return np.mean(both, axis=0)


def face_psnr(first: np.ndarray, second: np.ndarray, mask: np.ndarray) -> float:
    """Decibels between two uint8 pictures [H, W, 3] over the pixels of a mask [H, W], as one strip."""
    return psnr(first[mask][None], second[mask][None])


def face_mask(points: np.ndarray, size: int) -> np.ndarray:
    """Convex hull of the landmarks [478, 3], bool [size, size]."""
    hull = cv2.convexHull(points[:NUM_MESH, :2].astype(np.float32)).round().astype(np.int32)
    return cv2.fillConvexPoly(np.zeros((size, size), np.uint8), hull, 1) > 0
