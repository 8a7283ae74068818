"""Subjects that are made while a training runs, by a program above this package that its distribution declares.

Nothing here knows who makes them. A distribution declares a function under the entry points `portrait4d.subjects`,
which takes a `LiveRequest` and returns `LiveSubjects`; this project's own declares GenHead's.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Protocol, cast

from flame.errors import InputError
from portrait4d.reconstructor.config import ReconstructorConfig
from portrait4d.reconstructor.training.samples import HeadSample, check_subjects, sample_of
from preprocess.dataset.synthetic.record import SyntheticInfo, SyntheticSubject
from preprocess.dataset.synthetic.views import SubjectKind

GROUP, MAKER = "portrait4d.subjects", "genhead"
"""Entry points that make subjects, and the name of the one that `data.network` means."""


@dataclass(frozen=True, kw_only=True)
class LiveRequest:
    """What subjects a training wants.

    Attributes:
        network: that makes them: a name of released weights, a checkpoint folder, or an official file.
        motions: what it draws motions, shapes and cameras from.
        seed: of all that is drawn.
        kinds: which will be asked for.
        num_points: of the volume, of each subject.
        has_correspondence: whether an adversary sees the maps.
        device: name of the torch device that they are made on.
    """

    network: str
    motions: tuple[str, ...]
    seed: int
    kinds: tuple[SubjectKind, ...]
    num_points: int
    has_correspondence: bool
    device: str


class LiveSubjects(Protocol):
    """Makes subjects by number; the same number and kind give the same subject, whichever thread asks.

    Several threads ask at once.

    Attributes:
        info: what all have in common.
        num_features: channels of the rendered features.
        digest: of all that decides what the subjects are.
    """

    @property
    def info(self) -> SyntheticInfo: ...  # noqa: D102

    @property
    def num_features(self) -> int: ...  # noqa: D102

    @property
    def digest(self) -> str: ...  # noqa: D102

    def subject(self, index: int, kind: SubjectKind) -> SyntheticSubject:
        """The subject of a number from 0 on."""
        ...


MakeSubjects = Callable[[LiveRequest], LiveSubjects]
"""What an entry point names."""


def load_maker() -> MakeSubjects:
    """The function that makes subjects for `data.network`.

    Raises:
        InputError: no installed distribution declares it, several do, or it cannot be imported.
    """
    found = list(entry_points(group=GROUP, name=MAKER))
    cure = "install this version of portrait4d again (in a checkout: pip install -e .), or set data.subjects"
    if len(found) != 1:
        raise InputError(
            f"expected one installed program that makes subjects for data.network (entry point {GROUP}: {MAKER}), "
            f"got {len(found)}: {cure}"
        )
    try:
        return cast(MakeSubjects, found[0].load())
    except (ImportError, AttributeError) as error:
        raise InputError(f"{found[0].value}, which makes subjects, cannot be imported ({error}): {cure}") from error


class LiveSamples:
    """New subjects of one kind, without end; an `EndlessSource` of a `RecordStream`, whose threads share the network.

    Args:
        subjects: makes them.
        kind: which; numbers of the two kinds are never the same.
        network: learns from them.
        num_points: points of the volume that each sample has.
        where: they come from, for messages.

    Raises:
        InputError: they do not fit the network.
    """

    def __init__(
        self, subjects: LiveSubjects, kind: SubjectKind, network: ReconstructorConfig, *, num_points: int, where: str
    ) -> None:
        info = subjects.info
        head = info.head_model, tuple(info.head_origin)
        check_subjects(head, info.image_size, subjects.num_features, where, network)
        self._subjects, self._num_points = subjects, num_points
        self._kind: SubjectKind = kind
        self.digest = hashlib.sha256(f"{subjects.digest} {kind}".encode()).hexdigest()

    def __getitem__(self, index: int) -> HeadSample:
        number = 2 * index + (self._kind == "static")
        return sample_of(self._subjects.subject(number, self._kind), self._num_points)
