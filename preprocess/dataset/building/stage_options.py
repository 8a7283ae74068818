"""What shapes the records of a dataset, and what comes out of a file; loads no networks, so it is quick.

The first paragraph below a field is also the help of its option on the command line, which is made from these classes.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from flame.errors import InputError
from preprocess.dataset.building.limits import Limits
from preprocess.faces.backend_names import Alignment, DetectorName, MaskName

if TYPE_CHECKING:
    from preprocess.dataset.records.record import DatasetInfo, Record


@dataclass(frozen=True)
class PictureOptions:
    """What is found in pictures, and how they are aligned."""

    kind: Literal["photo", "clip"] = "photo"
    """What the files are; on the command line, the command."""

    crop: Alignment = "portrait4d"
    """Whose alignment of the pictures."""

    head_model: str | None = None
    """FLAME file (.pkl, .npz). Default: the open head."""

    motion_codes: str | None = None
    """Weights of the motion encoder (motion_model.pth): store motion codes too."""

    detector: DetectorName = "embedded"
    """Finds faces and the landmarks that are stored.

    They place the crop, too. The head is fitted to the embedded tracker's 478 in any case.
    """

    mask: MaskName = "matte"
    """Finds the person."""


@dataclass(frozen=True)
class ClipOptions:
    """Which frames of a clip."""

    num_frames: int = 50
    """At most so many frames of a clip, the first ones."""

    every: int = 1
    """Take one of so many frames."""

    min_frames: int = 10
    """Reject clips with fewer usable frames."""


@dataclass(frozen=True)
class StageOptions(ClipOptions, PictureOptions):
    """What shapes the records; can be pickled."""

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
    def info(self) -> "DatasetInfo":
        """The description of the dataset.

        Raises:
            InputError: the head model cannot be loaded.
        """
        from preprocess.dataset.records.record import CODE_SIZE, DatasetInfo  # loads numpy
        from preprocess.files.digest import flame_digest

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
        from preprocess.files.digest import weights_digest

        codes = None if self.motion_codes is None else weights_digest(Path(self.motion_codes))
        head = None if self.head_model is None else self.info.head_digest
        return {**asdict(self), "head_model": head, "motion_codes": codes}


@dataclass(frozen=True)
class Outcome:
    """The outcome of a file: its records, and remarks on the parts that were left out."""

    records: "tuple[Record, ...]"
    remarks: tuple[str, ...] = ()
