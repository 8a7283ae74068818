"""The options that shape the records of a dataset, and the outcome of a file; quick, because it loads no networks."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from flame.errors import InputError
from preprocess.dataset.building.limits import Limits
from preprocess.dataset.records.record import CODE_SIZE, DatasetInfo, Record
from preprocess.faces.aligned_crop import Alignment
from preprocess.faces.backend_names import DetectorName, MaskName
from preprocess.files.digest import flame_digest, weights_digest


@dataclass(frozen=True)
class StageOptions:
    """The options that shape the records; can be pickled.

    Attributes:
        kind: what the files are.
        crop: the alignment.
        head_model: a FLAME file; the open head if None.
        motion_codes: weights of the motion encoder; no codes if None.
        detector: finds faces, and the landmarks that place the crop and are stored. The head is always fitted to the
            embedded tracker's 478 points.
        mask: finds the person.
        num_frames: largest number of frames taken of a clip.
        every: takes every n-th frame of a clip.
        min_frames: number of frames that must pass, or the clip is rejected.
        limits: of the quality.
    """

    kind: Literal["photo", "clip"] = "photo"
    crop: Alignment = "portrait4d"
    head_model: str | None = None
    motion_codes: str | None = None
    detector: DetectorName = "embedded"
    mask: MaskName = "matte"
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
        for name, kind in (("crop", Alignment), ("detector", DetectorName), ("mask", MaskName)):
            if getattr(self, name) not in get_args(kind):
                expected, got = ", ".join(get_args(kind)), getattr(self, name)
                raise InputError(f"expected {name} to be one of {expected}, got {got!r}")

    @property
    def info(self) -> DatasetInfo:
        """The description of the dataset.

        Raises:
            InputError: the head model cannot be loaded.
        """
        model, licence, digest = "open", "CC0-1.0", ""
        if self.head_model is not None:
            model, licence = "flame", "that of the FLAME file the parameters were fitted with"
            digest = flame_digest(Path(self.head_model))
        return DatasetInfo(
            model, licence, crop=self.crop, landmarks="478" if self.detector == "embedded" else "68",
            detector=self.detector, mask=self.mask, code_size=CODE_SIZE if self.motion_codes else 0, head_digest=digest,
        )  # fmt: skip

    @property
    def settings(self) -> dict[str, Any]:
        """The settings with which a dataset that was begun must be resumed; files by content, so that they may move.

        Raises:
            InputError: a file cannot be read.
        """
        codes = None if self.motion_codes is None else weights_digest(Path(self.motion_codes))
        head = None if self.head_model is None else self.info.head_digest
        return {**asdict(self), "head_model": head, "motion_codes": codes}


@dataclass(frozen=True)
class Outcome:
    """The outcome of a file: its records, and remarks on the parts that were left out."""

    records: tuple[Record, ...]
    remarks: tuple[str, ...] = ()
