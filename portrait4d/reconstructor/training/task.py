"""The reconstructor's training in the terms of the project's one training loop.

Portrait4D (Deng et al. 2024), section 3.3, its static form and Portrait4D-v2: see `ReconstructorSettings`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from numpy.typing import NDArray
from torch import nn

from flame.errors import InputError
from portrait4d.gan.discriminator import DualDiscriminator
from portrait4d.losses.embedders import load_embedder
from portrait4d.losses.identity import Embedder
from portrait4d.losses.perceptual import load_perceptual
from portrait4d.losses.pictures import Perceptual
from portrait4d.reconstructor.network import Reconstructor
from portrait4d.reconstructor.training.batches import Batches
from portrait4d.reconstructor.training.config import ReconstructorSettings
from portrait4d.reconstructor.training.grid import draw_grid
from portrait4d.reconstructor.training.head_world import HeadWorld
from portrait4d.reconstructor.training.initial import initialise
from portrait4d.reconstructor.training.live import MakeSubjects
from portrait4d.reconstructor.training.losses import (
    TrueHeads,
    WantedHeads,
    density_terms,
    discriminator_terms,
    generator_terms,
    r1_terms,
)
from portrait4d.reconstructor.training.motion_reader import ReadMotion, load_motion_reader
from portrait4d.reconstructor.training.other_views import OtherViews
from portrait4d.reconstructor.training.samples import HeadSample
from portrait4d.reconstructor.training.stream import SampleStream, open_samples
from portrait4d.reconstructor.training.weights import load_start, load_teacher, save_networks
from portrait4d.runtime.random import derive_seed
from portrait4d.stylegan.half import set_half_dtype
from portrait4d.train.task import Part, Phase, Task, Terms

_GRID_SAMPLES = 8
_MOTION_OFF = 0.5
"""Share of static subjects whose motion is left out, where this is random."""


@dataclass(frozen=True, kw_only=True)
class ReconstructorTraining(ReconstructorSettings):
    """The settings, as a training that can be run."""

    def make_task(self, device: torch.device) -> "ReconstructorTask":
        """Networks at their start, and the data.

        Raises:
            InputError: see `ReconstructorTask`.
        """
        return ReconstructorTask(self, device)


class ReconstructorTask(Task):
    """Reconstructor and discriminator, the phases of a step, and the samples they learn from.

    Args:
        config: of the training.
        device: of the networks.
        read: the motion encoder, in place of the released one.
        make: makes the subjects of data.network, in place of the installed program.
        samples: in place of those that the configuration names.
        perceptual: the distance, in place of the configured one.
        embed: the face recogniser, in place of the configured one.

    Raises:
        InputError: the data or the weights do not fit, or weights of a loss are missing.
    """

    averaged = ("reconstructor",)

    def __init__(
        self,
        config: ReconstructorSettings,
        device: torch.device,
        *,
        read: ReadMotion | None = None,
        make: MakeSubjects | None = None,
        samples: SampleStream | None = None,
        perceptual: Perceptual | None = None,
        embed: Embedder | None = None,
    ) -> None:
        self.config, self.group_size = config, config.group_size
        loss = config.loss
        self._perceptual = perceptual or load_perceptual(loss.perceptual, device=device)
        self._embed = None
        if loss.identity_weight:
            self._embed = embed or load_embedder(loss.identity, device=device)
        if config.network.motion != "pd-fgc" or config.is_static:
            read = None
        elif read is None:
            read = load_motion_reader(device)
        world = HeadWorld(config.network, config.flame).to(device) if config.data.clips else None
        self.batches = Batches(
            read,
            world,
            has_maps=loss.has_adversary,
            surface_side=config.network.neural_resolution if loss.surface_weight else 0,
            device=device,
            is_static=config.is_static,
        )
        self.samples = samples or open_samples(config, make, device)
        self.batches.wanted([self.samples.at(0)], [0.0])  # refuses data that lack something
        self.data_digest = self.samples.digest
        self.network, self.discriminator = self._make_networks()
        self.networks: dict[str, nn.Module] = {"reconstructor": self.network}
        self.other_views = self._make_other_views(read, device)
        self.phases = [Phase("reconstructor", "reconstructor", self._main_loss)]
        if self.other_views is not None and config.teacher.cross_view_weight:
            interval = config.teacher.cross_view_interval
            self.phases.append(Phase("cross_view", "reconstructor", self._cross_view_loss, interval=interval))
        if loss.density_weight:
            self.phases.append(Phase("density", "reconstructor", self._density_loss, interval=loss.density_interval))
        if self.discriminator is not None:
            self.networks["discriminator"] = self.discriminator
            self.phases += [
                Phase("discriminator", "discriminator", self._discriminator_loss),
                Phase("r1", "discriminator", self._r1_loss, interval=loss.r1_interval),
            ]
        self._batches: dict[tuple[int, ...], tuple[WantedHeads, TrueHeads]] = {}

    def prefetch(self, positions: Sequence[int]) -> None:
        """See `Task`."""
        self.samples.prefetch(positions)

    def save_weights(self, folder: Path, averages: Mapping[str, nn.Module]) -> None:
        """The averaged reconstructor, and the discriminator in a folder of its own."""
        network = cast(Reconstructor, averages["reconstructor"])
        save_networks(folder, network, self.discriminator, is_static=self.config.is_static)

    def draw_grid(self, averages: Mapping[str, nn.Module]) -> NDArray:
        """Fixed samples: source, truth, result, the same from the front and both sides, and at rest."""
        network = cast(Reconstructor, averages["reconstructor"])
        samples = [self.samples.at(position) for position in range(_GRID_SAMPLES)]
        scales = [float(sample.is_moved and not self.config.is_static) for sample in samples]
        return draw_grid(network, self.batches.wanted(samples, scales), self.batches.true(samples))

    def describe(self) -> dict[str, Any]:
        """See `Task`."""
        facts: dict[str, Any] = {
            "samples": "without end" if self.samples.num_samples is None else self.samples.num_samples,
            "samples_digest": self.data_digest,
            "perceptual": self.config.loss.perceptual,
            "identity": self.config.loss.identity if self._embed is not None else "none",
        }
        return facts | ({"started_from": self.config.resume_from} if self.config.resume_from else {})

    def _main_loss(self, part: Part) -> Terms:
        wanted, true = self._batch(part)
        return generator_terms(
            self.network,
            self.discriminator,
            wanted,
            true,
            self.config.loss,
            images_seen=part.step.images_seen,
            perceptual=self._perceptual,
            embed=self._embed,
            random=part.random("reconstructor noise"),
        )

    def _cross_view_loss(self, part: Part) -> Terms:
        assert self.other_views is not None
        wanted, true = self._batch(part)
        return self.other_views.terms(
            self.network,
            part,
            self._samples(part),
            wanted,
            true.image,
            perceptual=self._perceptual,
            size=self._size(part),
        )

    def _density_loss(self, part: Part) -> Terms:
        wanted, _ = self._batch(part)
        return density_terms(self.network, wanted, self.config.loss, random=part.random("density noise"))

    def _discriminator_loss(self, part: Part) -> Terms:
        assert self.discriminator is not None
        wanted, true = self._batch(part)
        return discriminator_terms(
            self.network,
            self.discriminator,
            wanted,
            true,
            self.config.loss,
            images_seen=part.step.images_seen,
            random=part.random("discriminator noise"),
        )

    def _r1_loss(self, part: Part) -> Terms:
        loss = self.config.loss
        if self.discriminator is None or not loss.is_adversarial(part.step.images_seen):
            return {}
        return r1_terms(self.discriminator, *self._batch(part), loss, size=self._size(part))

    def _batch(self, part: Part) -> tuple[WantedHeads, TrueHeads]:
        """What a part asks for and its truth; the phases of a step share it."""
        if part.positions not in self._batches:
            if next(iter(self._batches), part.positions)[0] < part.step.images_seen:
                self._batches.clear()  # of earlier steps
            samples = self._samples(part)
            wanted, true = self.batches.wanted(samples, self.motion_scale(part)), self.batches.true(samples)
            if self.other_views is not None:
                wanted = self.other_views.with_motion(part, samples, wanted, true.image, size=self._size(part))
            self._batches[part.positions] = wanted, true
        return self._batches[part.positions]

    def _samples(self, part: Part) -> list[HeadSample]:
        return [self.samples.at(position) for position in part.positions]

    def _size(self, part: Part) -> int:
        """Side of the rendered pictures."""
        return self.config.loss.resolution_at(part.step.images_seen, self.network.config.neural_resolution)

    def motion_scale(self, part: Part) -> list[float]:
        """1 where motion is changed, else 0; of each sample by itself, however a batch is split."""
        samples = self._samples(part)
        if self.config.is_static:
            return [0.0] * len(samples)
        match self.config.data.disentangling:
            case "none":
                return [1.0] * len(samples)
            case "split":
                return [float(sample.is_moved) for sample in samples]
            case "random":
                drawn = part.random("motion off").uniform((len(samples),), torch.zeros((), dtype=torch.float64))
                stays = (drawn < _MOTION_OFF).tolist()
                return [float(sample.is_moved or not off) for sample, off in zip(samples, stays, strict=True)]

    def _make_other_views(self, read: ReadMotion | None, device: torch.device) -> OtherViews | None:
        config = self.config.teacher
        if config.weights is None:
            return None
        if self.batches.world is None:
            raise InputError("expected data.clips beside teacher.weights: a teacher shows the frames of clips")
        return OtherViews(config, load_teacher(config.weights, device), self.batches, read=read)

    def _make_networks(self) -> tuple[Reconstructor, DualDiscriminator | None]:
        """Networks at their start, the same in every process."""
        config = self.config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(config.train.seed, "networks"))
            network = Reconstructor(config.network)
            initialise(network)
            discriminator = DualDiscriminator(config.discriminator) if config.loss.has_adversary else None
        if config.resume_from is not None:
            load_start(config.resume_from, network, discriminator)
        for module in (network, discriminator):
            if module is not None:
                set_half_dtype(module, config.train.half_dtype)
        network.recomputes = config.train.recompute
        return network, discriminator
