"""Makes the records of one file: reads it, finds the face, aligns, fits, labels, masks, scores and filters."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flame.errors import InputError
from flame.heads.flame import load_flame
from flame.heads.frame_parameters import FrameParameters
from flame.heads.head_model import HeadModel
from flame.heads.open_head import load_open_head
from flame.landmarks.ibug import to_68
from preprocess.dataset.building.find import FaceFinder, FoundFace
from preprocess.dataset.building.plan import Item
from preprocess.dataset.building.quality import measure
from preprocess.dataset.building.stage_options import Outcome, StageOptions
from preprocess.dataset.records.record import Record
from preprocess.faces.aligned_crop import portrait_crop
from preprocess.faces.backends import Detector, Mask, load_detector, load_mask
from preprocess.faces.crop import DEFAULT_CROP_SIZE, Crop
from preprocess.fitting.clip import ClipFit, fit_clip
from preprocess.fitting.frames import HeadFitter
from preprocess.media.image import read_image, to_tensor
from preprocess.media.video import Frame, read_frames
from preprocess.tracking.motion_code.encoder import MotionEncoder
from preprocess.tracking.smooth import smooth_values

_CROP_TOLERANCE = 0.02
"""As a fraction of the square's side: a smaller change counts as jitter of the crop, a larger one as motion."""
_CROP_SECONDS = 0.2


class Stages:
    """Makes records with all models, which are loaded once in a process."""

    def __init__(
        self, options: StageOptions, *, detector: Detector | None = None, find_mask: Mask | None = None
    ) -> None:
        """Loads the models.

        Args:
            options: what shapes the records.
            detector: in place of the one that the options name.
            find_mask: in place of the mask that the options name.

        Raises:
            InputError: an extra is not installed, or weights or the head model cannot be loaded.
        """
        self._options = options
        if detector is None and options.detector != "embedded":
            detector = load_detector(options.detector)
        self._finder = FaceFinder(detector)
        self._find_mask = find_mask or load_mask(options.mask)
        self._head: HeadModel = load_flame(options.head_model) if options.head_model else load_open_head()
        self._fitter = HeadFitter(self._head, crop_size=DEFAULT_CROP_SIZE)
        self._encoder = MotionEncoder.load(options.motion_codes) if options.motion_codes else None

    def __call__(self, path: Path, item: Item) -> Outcome:
        """Returns the records of a file.

        Raises:
            InputError: the file is rejected, with the reason.
        """
        if self._options.kind == "photo":
            return self._photo(path, item)
        if self._options.kind == "clip":
            return self._clip(path, item)
        raise ValueError(f"kind must be photo or clip, got {self._options.kind!r}")

    def _photo(self, path: Path, item: Item) -> Outcome:
        image = read_image(path)
        face, num_faces = self._finder.largest(image)
        crop = portrait_crop(face.marks, image_size=_size(image), alignment=self._options.crop)
        placed = crop.to_crop(face.points).astype(np.float32)
        fit = self._fit(placed[None], np.zeros(1, bool))
        view = _View(image, crop, crop.to_crop(face.marks).astype(np.float32))
        record = self._record(item.key, item, view, fit=fit, index=0)
        fault = self._options.limits.fault(record.quality)
        if fault is not None:
            raise InputError(fault)
        remarks = (f"the largest of {num_faces} faces was taken",) if num_faces > 1 else ()
        return Outcome((record,), remarks)

    def _clip(self, path: Path, item: Item) -> Outcome:
        indices, faces, seconds, size, remarks = self._follow(path)
        crops = self._crops([face.marks for face in faces], seconds, size)
        placed = [crop.to_crop(face.points) for crop, face in zip(crops, faces, strict=True)]
        placed = np.stack(placed).astype(np.float32)
        fit = self._fit(placed, np.diff(indices, prepend=indices[0]) > self._options.every)
        records, faults = [], []
        rows = {frame: row for row, frame in enumerate(indices)}
        for frame, shown in self._sampled(path, []):  # read again: keeping all frames could take gigabytes
            if frame in rows:
                row = rows[frame]
                key = f"{item.key}-{frame:06d}"
                view = _View(shown.image, crops[row], crops[row].to_crop(faces[row].marks).astype(np.float32))
                record = self._record(key, item, view, fit=fit, index=row)
                fault = self._options.limits.fault(record.quality)
                if fault is None:
                    records.append(record)
                else:
                    faults.append(f"frame {frame}: {fault}")
            if frame >= indices[-1]:
                break
        if len(records) < self._options.min_frames:
            first = f"; {faults[0]}" if faults else ""
            raise InputError(
                f"{len(records)} usable frames of {len(indices)} with a face, at least {self._options.min_frames} "
                f"wanted{first}"
            )
        return Outcome(tuple(records), (*remarks, *faults))

    def _sampled(self, path: Path, remarks: list[str]) -> Iterator[tuple[int, Frame]]:
        """Returns pairs of index in the clip and frame; appends a remark on damage that was skipped."""
        frames = enumerate(read_frames(path, warn=remarks.append))
        return islice(frames, 0, self._options.num_frames * self._options.every, self._options.every)

    def _follow(self, path: Path) -> tuple[list[int], list[FoundFace], list[float], tuple[int, int], list[str]]:
        """Finds the face in the sampled frames up to the first cut, after which another person may appear."""
        follower = self._finder.follower()
        indices, faces, seconds, remarks = [], [], [], []
        size, num_lost = (0, 0), 0
        for frame, shown in self._sampled(path, remarks):
            found = follower(shown.image)
            if follower.is_cut and indices:
                remarks.append(f"ends at the cut before frame {frame}")
                break
            if found is None:
                num_lost += 1
                continue
            size = _size(shown.image)
            indices.append(frame)
            faces.append(found)
            seconds.append(shown.seconds)
        if not indices:
            raise InputError("no face found in any frame")
        if num_lost:
            remarks.append(f"{num_lost} frames show no face")
        return indices, faces, seconds, size, remarks

    def _crops(self, marks: list[NDArray], seconds: list[float], size: tuple[int, int]) -> list[Crop]:
        """Returns one crop per frame, placed as for photos and smoothed over time."""
        crops = [portrait_crop(face, image_size=size, alignment=self._options.crop) for face in marks]
        half = np.full((1, 2), DEFAULT_CROP_SIZE / 2)
        squares = np.array([[*crop.to_image(half)[0], crop.size / crop.scale] for crop in crops])
        side = float(np.median(squares[:, 2]))
        steady = smooth_values(
            squares, np.array(seconds), tolerance=_CROP_TOLERANCE * side, width_seconds=_CROP_SECONDS
        )
        return [Crop.from_square((float(x), float(y)), float(side), image_size=size) for x, y, side in steady]

    def _fit(self, landmarks: NDArray[np.float32], cuts: NDArray[np.bool_]) -> ClipFit:
        """Fits the head of one person to landmarks `[N, 478, 3]` in crop px; `cuts` `[N]` says where time jumps.

        `BatchFitter` is not used: with one core and one file at a time it takes 1.5 times (a photo) to 2 times (a
        clip) as long, and its landmarks are 1 to 3 % farther off.
        """
        return fit_clip(self._fitter, landmarks, seen=np.ones(len(landmarks), bool), cuts=cuts)

    def _record(self, key: str, item: Item, view: "_View", *, fit: ClipFit, index: int) -> Record:
        crop = view.crop
        picture = crop.apply(view.image)
        mask = np.rint(np.clip(self._find_mask(picture), 0, 1) * 255).astype(np.uint8)
        quality = measure(picture, mask, fit.landmarks[index], crop=crop, rotation=fit.pose.rotation[index])
        quality["fit_error"] = float(fit.fit_error[index])
        pose, head = fit.pose[index].map(torch.from_numpy), fit.head[index].map(torch.from_numpy)
        frame = FrameParameters.from_head_pose(pose, head)
        return Record(
            key=key,
            source=item.name,
            image=picture,
            mask=mask,
            crop_matrix=crop.matrix,
            source_size=crop.image_size,
            landmarks=view.landmarks,
            camera=frame.camera.to_label25(axes="opengl")[0].numpy().astype(np.float32),
            head=frame.head.row(0).map(Tensor.numpy),
            code=self._code(picture, view.landmarks),
            quality={name: round(value, 5) for name, value in quality.items()},
        )

    def _code(self, picture: NDArray[np.uint8], landmarks: NDArray) -> NDArray[np.float32]:
        if self._encoder is None:
            return np.zeros(0, np.float32)
        points = to_68(landmarks[:, :2]) - 0.5  # the encoder counts from the centre of the first pixel
        return self._encoder(to_tensor(picture), torch.from_numpy(points.astype(np.float32))[None])[0].numpy()


@dataclass(frozen=True)
class _View:
    """A picture `[H, W, 3]`, the crop of its face, and the record's landmarks `[L, 3]` in crop px."""

    image: NDArray[np.uint8]
    crop: Crop
    landmarks: NDArray[np.float32]


def _size(image: NDArray) -> tuple[int, int]:
    return image.shape[0], image.shape[1]
