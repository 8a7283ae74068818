"""The samples of a training by their place in the run."""

import hashlib
import math
from collections.abc import Sequence

from portrait4d.reconstructor.config import ReconstructorConfig
from portrait4d.reconstructor.training.config import ReconstructionDataConfig
from portrait4d.reconstructor.training.samples import ClipSamples, HeadSample, SubjectSamples
from portrait4d.runtime.random import derive_seed
from portrait4d.train.stream import RecordStream, Source


class SampleStream:
    """Static and dynamic subjects in turn, so that every part of a batch has its share of both; or pairs of clips.

    Attributes:
        digest: identifies the data.

    Args:
        config: what is learned from.
        network: learns.
        seed: of the run.
        capacity: samples held at most.

    Raises:
        InputError: there are no such data, or they do not fit the network.
    """

    def __init__(self, config: ReconstructionDataConfig, network: ReconstructorConfig, *, seed: int, capacity: int):
        self._share = config.static_share if config.subjects else 0.0
        sources: dict[bool, Source[HeadSample]] = {}
        digests = []
        for is_static in (False, True):
            if (self._share == 0 and is_static) or (self._share == 1 and not is_static):
                continue
            source = _open(config, network, is_static=is_static, seed=seed)
            sources[is_static] = source
            digests.append(source.digest)
        self._streams = {
            is_static: RecordStream(
                source,
                seed=derive_seed(seed, "static" if is_static else "dynamic"),
                num_threads=config.threads,
                capacity=capacity,
            )
            for is_static, source in sources.items()
        }
        self.digest = hashlib.sha256("\n".join(digests).encode()).hexdigest()

    def __len__(self) -> int:
        return sum(len(stream.source) for stream in self._streams.values())

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
    config: ReconstructionDataConfig, network: ReconstructorConfig, *, is_static: bool, seed: int
) -> SubjectSamples | ClipSamples:
    if config.clips:
        return ClipSamples(config.clips, network, seed=seed, is_rectified=config.neck == "rectified")
    kind = "static" if is_static else "dynamic"
    return SubjectSamples(config.subjects, kind, network, num_points=config.plane_points)
