"""One file in, its records out: read, find the face, align, fit, label, mask, score, filter."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from flame.errors import InputError
from flame.flame_model import load_flame
from flame.frame_parameters import FrameParameters
from flame.head_model import HeadModel, HeadParams
from flame.open_head import load_open_head
from preprocess.clip import ClipFit, fit_clip
from preprocess.crop import DEFAULT_CROP_SIZE, Crop
from preprocess.dataset.plan import Item
from preprocess.dataset.quality import Limits, measure
from preprocess.dataset.record import DatasetInfo, Record
from preprocess.faces import FaceDetector, FaceLandmarker, PortraitMatte, find_faces
from preprocess.fit import HeadFitter
from preprocess.follow import FaceFollower
from preprocess.ibug import to_68
from preprocess.image import read_image, to_tensor
from preprocess.motion_encoder import MotionEncoder
from preprocess.networks.motion_encoder import CODE_SIZE
from preprocess.portrait_crop import Alignment, portrait_crop
from preprocess.smooth import smooth_values
from preprocess.video import Frame, read_frames

_CROP_TOLERANCE = 0.02
"""Of the square's side: less is taken for trembling of the crop, more for motion."""
_CROP_SECONDS = 0.2


@dataclass(frozen=True)
class StageOptions:
    """What shapes the records; can be pickled.

    Attributes:
        kind: what the files are.
        crop: the alignment.
        head_model: a FLAME file; the open head if None.
        motion_codes: weights of the motion encoder; no codes if None.
        num_frames: at most, of a clip.
        every: one of so many frames of a clip.
        min_frames: that must pass, or the clip is rejected.
        limits: of the quality.
    """

    kind: Literal["photo", "clip"] = "photo"
    crop: Alignment = "portrait4d"
    head_model: str | None = None
    motion_codes: str | None = None
    num_frames: int = 50
    every: int = 1
    min_frames: int = 10
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not 1 <= self.min_frames <= self.num_frames or self.every < 1:
            raise InputError(
                f"expected 1 <= min frames <= frames and every >= 1, got {self.min_frames}, {self.num_frames}, "
                f"{self.every}"
            )
        if self.crop not in ("portrait4d", "eg3d"):
            raise InputError(f"expected crop portrait4d or eg3d, got {self.crop!r}")

    @property
    def info(self) -> DatasetInfo:
        """The description of the dataset."""
        code_size = 0 if self.motion_codes is None else CODE_SIZE
        if self.head_model is None:
            return DatasetInfo("open", "CC0-1.0", crop=self.crop, code_size=code_size)
        licence = "that of the FLAME file the parameters were fitted with"
        return DatasetInfo("flame", licence, crop=self.crop, code_size=code_size)


@dataclass(frozen=True)
class Outcome:
    """What became of a file: its records, and remarks on what of it was left out."""

    records: tuple[Record, ...]
    remarks: tuple[str, ...] = ()


FindMask = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


class Stages:
    """All models, loaded once in a process."""

    def __init__(
        self, options: StageOptions, *, detector: FaceDetector | None = None, landmarker: FaceLandmarker | None = None,
        find_mask: FindMask | None = None,
    ) -> None:  # fmt: skip
        """Args:
        detector, landmarker: the embedded networks by default.
        find_mask: matte `[H, W]` in [0, 1] of a picture; the embedded one by default.
        """
        self._options = options
        self._detector, self._landmarker = detector or FaceDetector(), landmarker or FaceLandmarker()
        self._find_mask = find_mask or PortraitMatte()
        self._head: HeadModel = load_flame(options.head_model) if options.head_model else load_open_head()
        self._fitter = HeadFitter(self._head, crop_size=DEFAULT_CROP_SIZE)
        self._encoder = MotionEncoder.load(options.motion_codes) if options.motion_codes else None

    def __call__(self, path: Path, item: Item) -> Outcome:
        """The records of a file.

        Raises:
            InputError: it is rejected.
        """
        if self._options.kind == "photo":
            return self._photo(path, item)
        if self._options.kind == "clip":
            return self._clip(path, item)
        raise ValueError(f"kind must be photo or clip, got {self._options.kind!r}")

    def _photo(self, path: Path, item: Item) -> Outcome:
        image = read_image(path)
        faces = find_faces(image, self._detector, self._landmarker)
        if not faces:
            raise InputError("no face found")
        points = faces[0].points
        crop = portrait_crop(points, image_size=_size(image), alignment=self._options.crop)
        placed = crop.to_crop(points).astype(np.float32)
        fit = self._fit(placed[None], np.zeros(1, bool))
        record = self._record(item.key, item, image, crop=crop, fit=fit, index=0)
        fault = self._options.limits.fault(record.quality)
        if fault is not None:
            raise InputError(fault)
        remarks = (f"the largest of {len(faces)} faces was taken",) if len(faces) > 1 else ()
        return Outcome((record,), remarks)

    def _clip(self, path: Path, item: Item) -> Outcome:
        indices, points, seconds, size, remarks = self._follow(path)
        crops = self._crops(points, seconds, size)
        placed = np.stack([crop.to_crop(face) for crop, face in zip(crops, points, strict=True)]).astype(np.float32)
        fit = self._fit(placed, np.diff(indices, prepend=indices[0]) > self._options.every)
        records, faults = [], []
        rows = {frame: row for row, frame in enumerate(indices)}
        for frame, shown in self._sampled(path):  # again: keeping the frames would take gigabytes of large clips
            if frame in rows:
                row = rows[frame]
                key = f"{item.key}-{frame:06d}"
                record = self._record(key, item, shown.image, crop=crops[row], fit=fit, index=row)
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

    def _sampled(self, path: Path) -> Iterator[tuple[int, Frame]]:
        """Index in the clip, frame."""
        frames = enumerate(read_frames(path))
        return islice(frames, 0, self._options.num_frames * self._options.every, self._options.every)

    def _follow(self, path: Path) -> tuple[list[int], list[NDArray], list[float], tuple[int, int], list[str]]:
        """Sampled frames up to the first cut (after it may come another person) that show the face."""
        follower = FaceFollower(self._detector, self._landmarker)
        indices, points, seconds, remarks = [], [], [], []
        size, num_lost = (0, 0), 0
        for frame, shown in self._sampled(path):
            found = follower(shown.image)
            if follower.is_cut and indices:
                remarks.append(f"ends at the cut before frame {frame}")
                break
            if found is None:
                num_lost += 1
                continue
            size = _size(shown.image)
            indices.append(frame)
            points.append(found.points)
            seconds.append(shown.seconds)
        if not indices:
            raise InputError("no face found in any frame")
        if num_lost:
            remarks.append(f"{num_lost} frames show no face")
        return indices, points, seconds, size, remarks

    def _crops(self, points: list[NDArray], seconds: list[float], size: tuple[int, int]) -> list[Crop]:
        """One square a frame, as for photos, steadied over time."""
        crops = [portrait_crop(face, image_size=size, alignment=self._options.crop) for face in points]
        half = np.full((1, 2), DEFAULT_CROP_SIZE / 2)
        squares = np.array([[*crop.to_image(half)[0], crop.size / crop.scale] for crop in crops])
        side = float(np.median(squares[:, 2]))
        steady = smooth_values(
            squares, np.array(seconds), tolerance=_CROP_TOLERANCE * side, width_seconds=_CROP_SECONDS
        )
        return [Crop.from_square((float(x), float(y)), float(side), image_size=size) for x, y, side in steady]

    def _fit(self, landmarks: NDArray[np.float32], cuts: NDArray[np.bool_]) -> ClipFit:
        """The head in `[N, 478, 3]` crop px of one person; `cuts` `[N]`: where time jumps.

        Not by `BatchFitter`: workers have a core each and one file at a time, and for these it takes 1.5 times (a
        photo) to 2 times (a clip) as long, its landmarks 1 to 3 % farther off.
        """
        return fit_clip(self._fitter, landmarks, seen=np.ones(len(landmarks), bool), cuts=cuts)

    def _record(
        self, key: str, item: Item, image: NDArray[np.uint8], *, crop: Crop, fit: ClipFit, index: int
    ) -> Record:
        picture = crop.apply(image)
        mask = np.rint(np.clip(self._find_mask(picture), 0, 1) * 255).astype(np.uint8)
        landmarks = fit.landmarks[index]
        quality = measure(picture, mask, landmarks, crop=crop, rotation=fit.rotation[index])
        quality["fit_error"] = float(fit.fit_error[index])
        head = HeadParams(
            *(
                torch.from_numpy(part[None])
                for part in (fit.shape, fit.expression[index], fit.rotation[index], fit.jaw[index], fit.eyes[index])
            )
        )
        frame = FrameParameters.from_head_pose(head.neck, torch.from_numpy(fit.translation[index][None]), head)
        return Record(
            key=key,
            source=item.name,
            image=picture,
            mask=mask,
            crop_matrix=crop.matrix,
            source_size=crop.image_size,
            landmarks=landmarks,
            camera=frame.camera.to_label25(axes="opengl")[0].numpy().astype(np.float32),
            shape=fit.shape,
            expression=fit.expression[index],
            neck=fit.rotation[index],
            jaw=fit.jaw[index],
            eyes=fit.eyes[index],
            code=self._code(picture, landmarks),
            quality={name: round(value, 5) for name, value in quality.items()},
        )

    def _code(self, picture: NDArray[np.uint8], landmarks: NDArray) -> NDArray[np.float32]:
        if self._encoder is None:
            return np.zeros(0, np.float32)
        points = to_68(landmarks[:, :2]) - 0.5  # the encoder counts from pixel centres
        return self._encoder(to_tensor(picture), torch.from_numpy(points.astype(np.float32))[None])[0].numpy()


def _size(image: NDArray) -> tuple[int, int]:
    return image.shape[0], image.shape[1]
