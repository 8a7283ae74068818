"""The samples of a training by their place in the run."""

import hashlib
import math
from collections.abc import Sequence

from portrait4d.reconstructor.config import ReconstructorConfig
from portrait4d.reconstructor.training.config import ReconstructionDataConfig
from portrait4d.reconstructor.training.live import LiveSamples, LiveSubjects
from portrait4d.reconstructor.training.samples import ClipSamples, HeadSample, SubjectSamples
from portrait4d.runtime.random import derive_seed
from portrait4d.train.stream import RecordStream

_Samples = SubjectSamples | LiveSamples | ClipSamples


class SampleStream:
    """Static and dynamic subjects in turn, so that every part of a batch has its share of both; or pairs of clips.

    Attributes:
        digest: identifies the data.

    Args:
        config: what is learned from.
        network: learns.
        seed: of the run.
        capacity: samples held at most.
        live: makes the subjects, in place of folders and clips.

    Raises:
        InputError: there are no such data, or they do not fit the network.
    """

    def __init__(
        self,
        config: ReconstructionDataConfig,
        network: ReconstructorConfig,
        *,
        seed: int,
        capacity: int,
        live: LiveSubjects | None = None,
    ) -> None:
        self._share = 0.0 if config.clips else config.static_share
        sources: dict[bool, _Samples] = {}
        for is_static in (False, True):
            if (self._share == 0 and is_static) or (self._share == 1 and not is_static):
                continue
            sources[is_static] = _open(config, network, live, is_static=is_static, seed=seed)
        self._streams = {
            is_static: RecordStream(
                source,
                seed=derive_seed(seed, "static" if is_static else "dynamic"),
                num_threads=config.threads,
                capacity=capacity,
            )
            for is_static, source in sources.items()
        }
        self.digest = hashlib.sha256("\n".join(source.digest for source in sources.values()).encode()).hexdigest()

    @property
    def num_samples(self) -> int | None:
        """How many differ; None where each is made anew."""
        counts = [stream.num_records for stream in self._streams.values()]
        known = [count for count in counts if count is not None]
        return sum(known) if len(known) == len(counts) else None

    def at(self, position: int) -> HeadSample:
        """The sample at a position; waits for it."""
        is_static, place = self._place(position)
        return self._streams[is_static].at(place)

    def prefetch(self, positions: Sequence[int]) -> None:
        """Starts to read samples."""
        places = [self._place(position) for position in positions]
        for is_static, stream in self._streams.items():
            stream.prefetch([place for kind, place in places if kind == is_static])

    def _place(self, position: int) -> tuple[bool, int]:
        """Whether the sample is a static one, and its number among those of its kind."""
        before, after = (math.floor(count * self._share) for count in (position, position + 1))
        return (True, before) if after > before else (False, position - before)


def _open(
    config: ReconstructionDataConfig,
    network: ReconstructorConfig,
    live: LiveSubjects | None,
    *,
    is_static: bool,
    seed: int,
) -> _Samples:
    if config.clips:
        return ClipSamples(config.clips, network, seed=seed, is_rectified=config.neck == "rectified")
    kind = "static" if is_static else "dynamic"
    if live is not None:
        return LiveSamples(live, kind, network, num_points=config.plane_points, where=str(config.network))
    return SubjectSamples(config.subjects, kind, network, num_points=config.plane_points)
