"""The content of a dataset: one record per picture, and one description of what all records share."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # a description of a dataset is read without torch
    from flame.heads.head_model import HeadParams

FORMAT_VERSION = 1
CODE_SIZE = 548
"""Length of the released encoder's motion code: eyes 6, emotion 30, mouth 512."""


@dataclass(frozen=True)
class DatasetInfo:
    """What all records of a dataset share; it is the first member of every shard.

    Attributes:
        head_model: "open" or "flame"; says what the parameters mean.
        head_licence: of the head model, in one line.
        units_per_metre: of the cameras' world; 3 as in Portrait4D. The origin is the head's neck joint.
        crop: "portrait4d" or "eg3d": the alignment of the pictures; "toy": all heads at one distance.
        image_size: side of the pictures in px.
        landmarks: "478", "98", "70" or "68": the set that records hold; "0" without landmarks.
        detector: name of the backend that found the landmarks; "none" where there was none.
        mask: name of the backend that found the masks; "none" where there was none.
        code_size: length of the motion code, 0 without one.
        head_digest: SHA-256 of a FLAME model's tables; empty for the open head and where it is not known.
        version: of the format.
    """

    head_model: str
    head_licence: str
    units_per_metre: float = 3.0
    crop: str = "portrait4d"
    image_size: int = 512
    landmarks: str = "478"
    detector: str = "embedded"
    mask: str = "matte"
    code_size: int = 0
    head_digest: str = ""
    version: int = FORMAT_VERSION


@dataclass(frozen=True)
class Record:
    """One aligned picture and everything known about it.

    The parameters of the head are also read under their own names, those of the file.

    The camera sees the head at rest and the neck repeats the turn, as in `flame.heads.frame_parameters`: use one of
    the two.

    Attributes:
        key: `HASH` of a photo's content or `HASH-FRAME` (6 digits) of a clip's; unique, and the same on every machine.
        source: name of its file, relative to the input folder.
        image: uint8 `[S, S, 3]` RGB.
        mask: uint8 `[S, S]`, 255 = person.
        crop_matrix: `[3, 3]` float64, source px -> picture px.
        source_size: (height, width) of the source.
        landmarks: `[L, 3]` float32, px of the picture, y down; z is in the same unit or 0; L is 0 without landmarks.
        camera: `[25]` float32, cam2world 16 (OpenGL axes) and intrinsics 9, world units.
        head: float32, without a batch axis: shape `[S]` and expression `[E]` of the head model, `[0]` where only the
            camera is known; neck and jaw `[3]`, eyes `[2, 3]`.
        code: `[C]` float32 motion code, or `[0]`.
        quality: scores by name, for filters and reports.
    """

    key: str
    source: str
    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    crop_matrix: NDArray[np.float64]
    source_size: tuple[int, int]
    landmarks: NDArray[np.float32]
    camera: NDArray[np.float32]
    head: "HeadParams[NDArray[np.float32]]"
    code: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    quality: dict[str, float] = field(default_factory=dict)

    @property
    def shape(self) -> NDArray[np.float32]:
        """The head's."""
        return self.head.shape

    @property
    def expression(self) -> NDArray[np.float32]:
        """The head's."""
        return self.head.expression

    @property
    def neck(self) -> NDArray[np.float32]:
        """The head's."""
        return self.head.neck

    @property
    def jaw(self) -> NDArray[np.float32]:
        """The head's."""
        return self.head.jaw

    @property
    def eyes(self) -> NDArray[np.float32]:
        """The head's."""
        return self.head.eyes
