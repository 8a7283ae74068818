"""The samples of a training by their place in the run."""

import hashlib
import math
from collections.abc import Sequence

import torch

from flame.errors import InputError
from portrait4d.reconstructor.config import ReconstructorConfig
from portrait4d.reconstructor.training.config import ReconstructionDataConfig, ReconstructorSettings
from portrait4d.reconstructor.training.live import LiveRequest, LiveSamples, LiveSubjects, MakeSubjects, load_maker
from portrait4d.reconstructor.training.samples import ClipSamples, HeadSample, SubjectSamples
from portrait4d.runtime.random import derive_seed
from portrait4d.train.stream import RecordStream
from preprocess.dataset.synthetic.views import SubjectKind

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


def open_samples(config: ReconstructorSettings, make: MakeSubjects | None, device: torch.device) -> SampleStream:
    """The samples of a training.

    Args:
        config: of the training.
        make: makes the subjects of data.network; None takes the installed program's.
        device: where they are made.

    Raises:
        InputError: no data are named, they do not fit, or there are fewer than a batch.
    """
    _check_data(config)
    batch, live = config.train.batch_size, None
    if config.data.network:
        live = (make or load_maker())(_live_request(config, device))
    samples = SampleStream(
        config.data,
        config.network,
        seed=config.train.seed,
        capacity=3 * batch,  # this batch, the next, and what is just being read
        live=live,
    )
    if samples.num_samples is not None and samples.num_samples < batch:
        raise InputError(f"expected at least {batch} samples, one batch, got {samples.num_samples}")
    return samples


def _check_data(config: ReconstructorSettings) -> None:
    if not (config.data.subjects or config.data.network or config.data.clips):
        raise InputError(
            "expected training data: set data.subjects to folders that `genhead synthesize` made, data.network and "
            "data.motions to a GenHead that makes them and what it draws from, or data.clips to shards that "
            "`portrait4d data video` made"
        )


def _live_request(config: ReconstructorSettings, device: torch.device) -> LiveRequest:
    data = config.data
    assert data.network
    shares: dict[SubjectKind, float] = {"dynamic": 1 - data.static_share, "static": data.static_share}
    return LiveRequest(
        network=data.network,
        motions=data.motions,
        seed=data.live_seed,
        kinds=tuple(kind for kind, share in shares.items() if share > 0),
        num_points=data.plane_points,
        has_correspondence=config.loss.has_adversary,
        device=str(device),
    )
