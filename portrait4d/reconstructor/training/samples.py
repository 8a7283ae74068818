"""What the reconstructor learns from: synthesised subjects, of whom all is known, and pairs of frames of clips."""

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from flame.errors import InputError
from flame.landmarks.ibug import to_70
from portrait4d.reconstructor.config import ReconstructorConfig
from portrait4d.runtime.random import derive_seed
from preprocess.dataset.reading.dataset import Dataset
from preprocess.dataset.reading.head_table import read_heads, read_necks
from preprocess.dataset.reading.rectify import rectified_necks
from preprocess.dataset.synthetic.record import SyntheticFolder, SyntheticSubject
from preprocess.dataset.synthetic.views import SubjectKind
from preprocess.media.shrink import shrink_square

SOURCES_PER_FRAME = 16
"""Sources with which a frame of a clip is asked for, one after the other."""

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Moves:
    """Expression `[E]`, jaw `[3]` and eyes `[2, 3]` of one head, from which codes of parameters are made."""

    expression: Floats
    jaw: Floats
    eyes: Floats


@dataclass(frozen=True)
class VolumeSample:
    """What is known of a synthesised head; see `TrueVolume`, without a batch axis."""

    depth: Floats
    features: NDArray[np.float16]
    background: NDArray[np.float16]
    points: Floats
    plane_features: NDArray[np.float16]


@dataclass(frozen=True)
class HeadSample:
    """A source, a motion, and what should be made of both.

    Attributes:
        source: uint8 `[S, S, 3]` RGB.
        source_moves: the source's motion.
        driver: uint8 `[S, S, 3]` whose motion is taken; of clips it is the target.
        driver_moves: its motion.
        is_moved: whether motion is changed at all, or everything stays as in the source.
        image: uint8 `[S, S, 3]` the target.
        mask: `[h, h]` in [0, 1], how much of a pixel the person covers.
        label: `[25]` the target's camera, which sees the head at rest.
        shape: `[S]` of the head.
        neck: `[3]` radians, the part of the head's rotation that the camera is to leave to the neck.
        landmarks: `[70, 2]` of the target, px from the picture's corner.
        source_landmarks: `[70, 2]` of the source.
        driver_landmarks: `[70, 2]` of the driver.
        correspondence: `[3, S, S]`; None where the data have none.
        volume: None where nothing is known of it.
    """

    source: NDArray[np.uint8]
    source_moves: Moves
    driver: NDArray[np.uint8]
    driver_moves: Moves
    is_moved: bool
    image: NDArray[np.uint8]
    mask: Floats
    label: Floats
    shape: Floats
    neck: Floats
    landmarks: Floats
    source_landmarks: Floats
    driver_landmarks: Floats
    correspondence: NDArray[np.float16] | None = None
    volume: VolumeSample | None = None


class SubjectSamples:
    """Synthesised subjects of one kind by index; a `Source` of a `RecordStream`: containers open a file for each read.

    Args:
        folders: that `genhead synthesize` wrote.
        kind: which of their subjects.
        network: learns from them.
        num_points: points of the volume that each sample has.

    Raises:
        InputError: there are none of this kind, or they do not fit the network.
    """

    def __init__(
        self, folders: Sequence[str], kind: SubjectKind, network: ReconstructorConfig, *, num_points: int
    ) -> None:
        self._folders, self._num_points = [SyntheticFolder(folder) for folder in folders], num_points
        for folder, where in zip(self._folders, folders, strict=True):
            _check_folder(folder, where, network)
        kinds = [folder.kinds() for folder in self._folders]
        self._places = [
            (number, index) for number, found in enumerate(kinds) for index, name in enumerate(found) if name == kind
        ]
        if not self._places:
            other = "static" if kind == "dynamic" else "dynamic"
            raise InputError(
                f"expected {kind} subjects in {', '.join(folders)}, all are {other}: synthesise some, or set "
                f"data.static_share {0 if kind == 'static' else 1}"
            )
        names = [f"{folder.digest} {kind}" for folder in self._folders]
        self.digest = hashlib.sha256("\n".join(names).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> HeadSample:
        number, place = self._places[index]
        return sample_of(self._folders[number][place], self._num_points)


class ClipSamples:
    """Pairs of frames of one clip by index: a frame is the target and gives the motion, another one is the source.

    The source may be the same frame, as in the released training. A `Source` of a `RecordStream`.

    Args:
        paths: shards of clips, or folders of them.
        network: learns from them.
        seed: of the choice of sources.
        is_rectified: the clips' cameras stand still and necks turn, see `rectified_necks`; else cameras turn.

    Raises:
        InputError: there are no clips, or they do not fit the network.
    """

    def __init__(self, paths: Sequence[str], network: ReconstructorConfig, *, seed: int, is_rectified: bool) -> None:
        self._dataset, self._seed, self._side = Dataset(list(paths)), seed, network.resolution
        info, where = self._dataset.info, self._dataset.paths[0]
        if info.head_model != network.head:
            raise InputError(f"{where}: expected parameters of head model {network.head}, got {info.head_model}")
        if info.mask == "none" or info.landmarks not in ("478", "98", "70"):
            raise InputError(f"{where}: expected pictures with masks and landmarks: build the dataset with both")
        if info.image_size < network.resolution:
            raise InputError(
                f"{where}: expected pictures of {network.resolution} px or more, got {info.image_size}: give others"
            )
        self.table, keys = read_heads(self._dataset, network.head_origin)
        names = [key.partition("-")[0] for key in keys]
        self._clips: list[range] = []
        self._necks, turns = np.zeros((len(keys), 3), np.float32), read_necks(self._dataset) if is_rectified else None
        for _, group in groupby(names):
            length, start = len(list(group)), len(self._clips)
            frames = range(start, start + length)
            self._clips += [frames] * length
            if turns is not None:
                self._necks[frames] = rectified_necks(turns[frames])
        if all(len(clip) == 1 for clip in self._clips):
            raise InputError(
                f"{where}: expected clips of several frames, got single pictures: use portrait4d data video"
            )
        columns = b"".join(getattr(self.table, name).tobytes() for name in ("label", "shape", "expression"))
        self.digest = hashlib.sha256("\n".join(keys).encode() + columns).hexdigest()

    def __len__(self) -> int:
        return len(self._clips) * SOURCES_PER_FRAME

    def __getitem__(self, index: int) -> HeadSample:
        frame, turn = divmod(index, SOURCES_PER_FRAME)
        clip = self._clips[frame]
        return self.pair(clip[derive_seed(self._seed, "source", frame, turn) % len(clip)], frame)

    def pair(self, source: int, target: int) -> HeadSample:
        """The sample of two frames, by their rows in the table."""
        first, second = self._dataset[source], self._dataset[target]
        scale = self._side / self._dataset.info.image_size
        landmarks, own = (scale * to_70(record.landmarks)[:, :2].astype(np.float32) for record in (second, first))
        image = shrink_square(second.image, self._side)
        return HeadSample(
            source=shrink_square(first.image, self._side),
            source_moves=self._moves(source),
            driver=image,
            driver_moves=self._moves(target),
            is_moved=True,
            image=image,
            mask=(shrink_square(second.mask, self._side) / np.float32(255)).astype(np.float32),
            label=self.table.label[target],
            shape=self.table.shape[target],
            neck=self._necks[target],
            landmarks=landmarks,
            source_landmarks=own,
            driver_landmarks=landmarks,
        )

    def __copy__(self) -> "ClipSamples":
        other = object.__new__(ClipSamples)
        other.__dict__.update(self.__dict__, _dataset=copy.copy(self._dataset))
        return other

    def _moves(self, row: int) -> Moves:
        return Moves(self.table.expression[row], self.table.jaw[row], self.table.eyes[row])


def sample_of(subject: SyntheticSubject, num_points: int) -> HeadSample:
    """A subject as a sample with so many points of its volume, again where there are fewer.

    Raises:
        InputError: it has none.
    """
    app, mot, recon = range(3)
    moves = [Moves(subject.expression[view], subject.jaw[view], subject.eyes[view]) for view in (app, mot)]
    if not len(subject.points):
        raise InputError(f"subject {subject.key} has no points of its volume: synthesise with --points 500 or more")
    chosen = np.arange(num_points) % len(subject.points)
    has_map = subject.correspondence.shape[-1] > 0
    return HeadSample(
        source=subject.image[app],
        source_moves=moves[0],
        driver=subject.image[mot],
        driver_moves=moves[1],
        is_moved=subject.kind == "dynamic",
        image=subject.image[recon],
        mask=subject.alpha[recon, 0].astype(np.float32),
        label=subject.label[recon],
        shape=subject.shape,
        neck=np.zeros(3, np.float32),
        landmarks=subject.landmarks[recon],
        source_landmarks=subject.landmarks[app],
        driver_landmarks=subject.landmarks[mot],
        correspondence=subject.correspondence[recon] if has_map else None,
        volume=VolumeSample(
            depth=subject.depth[recon],
            features=subject.features[recon],
            background=subject.background,
            points=subject.points[chosen],
            plane_features=subject.plane_features[chosen],
        ),
    )


def check_subjects(
    head: tuple[str | None, tuple[float, ...]], side: int, channels: int, where: str, network: ReconstructorConfig
) -> None:
    """Refuses subjects that the network cannot learn from.

    Args:
        head: the head model's name, and the world's origin in its coordinates, metres.
        side: of their pictures, px.
        channels: of their rendered features.
        where: they come from, for messages.
        network: learns.

    Raises:
        InputError: they are of another head model or size.
    """
    if head != (network.head, tuple(network.head_origin)):
        raise InputError(
            f"{where}: expected subjects of head model {network.head} around {network.head_origin}, got {head[0]} "
            f"around {head[1]}: set network.head and network.head_origin alike"
        )
    if (side, channels) != (network.resolution, network.plane_channels):
        raise InputError(
            f"{where}: expected subjects of {network.resolution} px and {network.plane_channels} features, as the "
            f"network makes, got {side} px and {channels}: set network.plane_channels and superresolution alike"
        )


def _check_folder(folder: SyntheticFolder, where: str, network: ReconstructorConfig) -> None:
    first = folder[0]
    head = folder.info.get("head_model"), tuple(folder.info.get("head_origin", ()))
    check_subjects(head, first.image.shape[1], first.features.shape[1], where, network)
