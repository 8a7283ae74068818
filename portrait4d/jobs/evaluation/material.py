"""Frames of results and truth of one item: drawn by an engine, or read from the videos of another program.

Frames are kept in files of a temporary folder while a clip is measured, so that memory does not grow with its length.
"""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flame.errors import InputError
from flame.heads.head_model import HeadModel
from portrait4d.engines.base import Avatar
from portrait4d.engines.own_drive import orbit_drive
from portrait4d.evaluation.pictures import fit_size
from portrait4d.evaluation.scores import Material
from portrait4d.evaluation.sweep import SWEEP_YAW_DEGREES
from portrait4d.jobs.evaluation.items import EvaluationItem
from portrait4d.options import ReenactOptions
from portrait4d.pipeline import build_source, track_driver
from portrait4d.reenactment.driver import Driver
from portrait4d.reenactment.head_crops import render_drives, render_frames
from portrait4d.reenactment.models import Models
from portrait4d.runtime.progress import Progress
from preprocess.faces.crop import Crop
from preprocess.fitting.clip import fit_clip
from preprocess.fitting.frames import HeadFitter
from preprocess.media.image import read_image
from preprocess.media.video import probe, read_frames
from preprocess.tracking.motion import Motion
from preprocess.tracking.motion_fields import head_fields
from preprocess.tracking.tracker import TrackedFrame


@dataclass(frozen=True)
class Workshop:
    """Where and how frames are made: options, a temporary folder, and who is told of progress."""

    options: ReenactOptions
    folder: Path
    progress: Progress


def drawn_material(item: EvaluationItem, models: Models, workshop: Workshop) -> Material:
    """Reenacts the item; results and truth are the head crop of the driver.

    Of self-reenactment the source is the first frame, tracked as a single photo in the clip's crop; it is not compared.

    Raises:
        InputError: the clip or the source cannot be used.
    """
    options = workshop.options
    driver = _open_clip(item.clip, options)
    motion = track_driver(driver, options=options, models=models, progress=workshop.progress)
    crop = Crop(motion.crop_matrix, motion.crop_size, (motion.frame_height, motion.frame_width))
    whole = (frame.image for frame in driver.frames(motion.frame_rate, warn=_told_by_tracking))
    truth = spool((crop.apply(image) for image in whole), workshop.folder / "truth")
    if item.source is None:
        first = next(driver.frames(motion.frame_rate, warn=_told_by_tracking)).image
        tracked = models.tracker.track_image(first)
        avatar, picture, skipped = models.engine.build([in_crop(tracked, crop, models.head_model)]), truth[0], 1
    else:
        source = build_source(item.source, models=models, face=options.face)
        if source.picture is None:
            raise InputError(f"expected a photo as source, got the avatar file {item.source.name}: give the photo")
        avatar, picture, skipped = source.avatar, source.picture, 0
    drawn = spool(_drawn(avatar, motion, models, workshop), workshop.folder / "results")
    material = _material(item, drawn, truth, picture, motion.frame_rate, skipped)
    return dataclasses.replace(material, views=_drawn_views(avatar, models, options))


def read_material(item: EvaluationItem, result: Path, workshop: Workshop) -> Material:
    """Reads the result of another program, a video or a folder of pictures, beside the clip's whole frames.

    Raises:
        InputError: a file cannot be read, or the result has more or fewer frames than the clip, or another shape.
    """
    options = workshop.options
    driver = _open_clip(item.clip, options)
    rate = driver.frame_rate
    truth = spool(
        (frame.image for frame in driver.frames(rate, warn=_told_by_tracking)), workshop.folder / "truth"
    )  # fmt: skip
    # A folder has no rate of its own; that of a video may be written a little differently, so frames are not resampled.
    results: Iterable[NDArray[np.uint8]] = (frame.image for frame in read_frames(probe(result)))
    if item.source is None:
        height, width = truth.shape[1:3]
        results = (fit_size(image, height=height, width=width) for image in results)
    found = spool(results, workshop.folder / "results")
    if len(found) != len(truth):
        raise InputError(
            f"expected {len(truth)} frames in {result.name}, as in {item.clip.name} under --start, --duration and "
            f"--fps, got {len(found)}: cut both alike"
        )
    picture = truth[0] if item.source is None else read_image(item.source)
    return _material(item, found, truth, picture, rate, 0 if item.source else 1)


def spool(frames: Iterable[NDArray[np.uint8]], path: Path) -> NDArray[np.uint8]:
    """Writes frames `[H, W, 3]` of one shape to a file and returns them as an array `[T, H, W, 3]` that reads it.

    Raises:
        InputError: there are none, or their shapes differ.
    """
    shapes: list[tuple[int, ...]] = []
    with open(path, "wb") as file:
        for frame in frames:
            shapes.append(frame.shape)
            if frame.shape != shapes[0]:
                raise InputError(f"expected frames of one size, got {shapes[0][:2]} and {frame.shape[:2]}: scale them")
            file.write(np.ascontiguousarray(frame).tobytes())
    if not shapes:
        raise InputError(f"expected at least one frame for {path.name}, got none: give a longer clip")
    return np.memmap(path, np.uint8, "r", shape=(len(shapes), *shapes[0]))


def in_crop(tracked: TrackedFrame, crop: Crop, head_model: HeadModel) -> TrackedFrame:
    """The same picture with another crop; the head is fitted anew, to the same landmarks."""
    fitter = HeadFitter(head_model, crop_size=crop.size)
    points = crop.to_crop(tracked.landmarks.points)[None]
    fitted = fit_clip(fitter, points, seen=np.ones(1, bool), cuts=np.zeros(1, bool))
    motion = dataclasses.replace(
        tracked.motion,
        **head_fields(fitted.pose, fitted.head),
        crop_matrix=crop.matrix,
        crop_size=crop.size,
        landmarks=fitted.landmarks,
        valid=fitted.valid,
        eye_open=fitted.eye_open,
        fit_error=fitted.fit_error,
    )
    return TrackedFrame(tracked.image, motion, crop, tracked.landmarks)


def _drawn(avatar: Avatar, motion: Motion, models: Models, workshop: Workshop) -> Iterable[NDArray[np.uint8]]:
    frames = render_frames(avatar, motion, options=workshop.options, models=models)
    for index, image in enumerate(frames):
        workshop.progress("render", index + 1, len(motion))
        yield image


def _drawn_views(avatar: Avatar, models: Models, options: ReenactOptions) -> NDArray[np.uint8]:
    """The views `[V, S, S, 3]` of the yaw sweep."""
    yaw = np.array(SWEEP_YAW_DEGREES)
    drive = orbit_drive(avatar, models.head_model, yaw, np.zeros_like(yaw))
    return np.stack(list(render_drives(avatar, [drive], models=models, device=options.device)))


def _material(
    item: EvaluationItem, results: NDArray, truth: NDArray, picture: NDArray, rate: Fraction, skipped: int
) -> Material:
    if len(results) != len(truth) or len(truth) <= skipped:
        raise InputError(f"expected more than {skipped} frames in {item.clip.name}, got {len(truth)}: give more")
    return Material(item.kind, results[skipped:], truth[skipped:], np.array(picture), rate)


def _open_clip(path: Path, options: ReenactOptions) -> Driver:
    driver = Driver.open(path, options)
    if driver.kind not in ("clip", "folder"):
        raise InputError(f"expected a video or a folder of frames, got {path.name}: its frames are the truth")
    return driver


def _told_by_tracking(line: str) -> None:
    """Damage of the clip is told once, when it is tracked."""
