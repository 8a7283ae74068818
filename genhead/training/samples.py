"""The samples of GenHead's training by their place in the run: heads to make, and pictures with their heads."""

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from flame.geometry.camera import Camera
from flame.heads.head_model import HeadParams
from genhead.generator import GenHeadGenerator
from genhead.training.codes import person_codes
from genhead.training.heads import HeadPicture, TrainingHeads
from genhead.training.losses import RealHeads, SeenHeads, WantedHeads
from portrait4d.headparts.head import PosedHead
from portrait4d.headparts.masks import distance_map
from portrait4d.runtime.random import derive_seed
from portrait4d.train.stream import RecordStream
from portrait4d.train.task import Part, Step
from preprocess.media.image import to_tensor

_KEPT_PARTS = 2
"""Parts whose deformed heads are kept; more rounds make theirs anew."""


class HeadSamples:
    """Draws what the losses ask for.

    Attributes:
        stream: the pictures in the order of the run.

    Args:
        heads: the data.
        generator: deforms and rasterises heads; its weights do not matter.
        seed: of the run.
        num_threads: that read pictures.
        capacity: pictures held at most.
        are_from_batch: heads to make are those of the batch's pictures, in other codes, not drawn anew.
    """

    def __init__(
        self,
        heads: TrainingHeads,
        generator: GenHeadGenerator,
        *,
        seed: int,
        num_threads: int,
        capacity: int,
        are_from_batch: bool,
    ) -> None:
        self.heads, self.generator, self.are_from_batch = heads, generator, are_from_batch
        self.stream: RecordStream[HeadPicture] = RecordStream(
            heads, seed=derive_seed(seed, "pictures"), num_threads=num_threads, capacity=capacity
        )
        self._seen_heads: dict[tuple[tuple[int, ...], str], SeenHeads] = {}

    def wanted(self, part: Part, purpose: str, *, known: Sequence[bool] | None = None) -> WantedHeads:
        """Heads to make: cameras and parameters are those of pictures, codes are drawn anew for each purpose.

        Args:
            part: of a batch.
            purpose: of the numbers that are drawn.
            known: for each sample, whether it is the head of the part's own picture with the code of its person.
        """
        before = [(sample - 1) % part.step.batch_size for sample in part.samples]
        rows, previous = (self._drawn_rows(part.step, samples, purpose) for samples in (part.samples, before))
        like = torch.zeros((), device=part.device)
        latent = part.random(f"{purpose} latent").normal((len(part), self.generator.config.latent_dim), like)
        if known is not None and any(known):
            own = self._drawn_rows(part.step, part.samples, None)
            rows, previous = (_choose(known, own, others) for others in (rows, previous))
            latents = self.latents(own).to(part.device)
            latent = torch.where(torch.tensor(known, device=part.device)[:, None], latents, latent)
        return self._heads(rows, previous, latent, part.device)

    def latents(self, rows: Sequence[int]) -> Tensor:
        """Codes `[B, Z]` of the persons in pictures, see `person_codes`."""
        return self._codes[[self.heads.persons[row] for row in rows]]

    @cached_property
    def _codes(self) -> Tensor:
        return person_codes(self.heads, self.generator.config.latent_dim)

    def real(self, part: Part) -> RealHeads:
        """The pictures of the part's places in the stream."""
        found = [self.stream.at(position) for position in part.positions]
        rows = [picture.row for picture in found]
        if self.are_from_batch:
            correspondence = self._seen(rows, part.device).correspondence
        else:
            posed = self._posed(rows, part.device)
            correspondence = self.generator.correspondences(posed, self._camera(rows, part.device))
        mask = torch.stack([torch.from_numpy(picture.mask) for picture in found])[:, None].float() / 127.5 - 1
        return RealHeads(
            image=torch.cat([to_tensor(picture.image) for picture in found]).to(part.device),
            mask=mask.to(part.device),
            label=torch.from_numpy(self.heads.table.label[rows]).to(part.device),
            correspondence=correspondence,
        )

    def surface(self, part: Part) -> Tensor:
        """How far the fitted heads of the part's pictures are, see `distance_map`, at the rendered size."""
        rows = self._drawn_rows(part.step, part.samples, None)
        posed = self._posed(rows, part.device)
        camera, size = self._camera(rows, part.device), self.generator.config.neural_resolution
        return distance_map(self.generator.head, posed, camera, size=size)

    def _drawn_rows(self, step: Step, samples: Sequence[int], purpose: str | None) -> list[int]:
        """Rows of the heads for any samples of a batch; those of its pictures without a purpose."""
        positions = [step.images_seen + sample for sample in samples]
        if purpose is None or self.are_from_batch:
            return [self.stream.index_of(position) for position in positions]
        return [derive_seed(step.seed, position, f"{purpose} label") % len(self.heads) for position in positions]

    def _heads(self, rows: list[int], previous: list[int], latent: Tensor, device: torch.device) -> WantedHeads:
        return WantedHeads(
            latent=latent.to(device),
            camera=self._camera(rows, device),
            params=self._params(rows, device),
            predecessor=self.heads.table.condition(previous).to(device),
            seen=self._seen(rows, device),
        )

    def _seen(self, rows: list[int], device: torch.device) -> SeenHeads:
        """Of pictures by their rows; those of the last parts are kept, for the phases of a step share them."""
        key = (tuple(rows), str(device))
        if key not in self._seen_heads:
            self._seen_heads[key] = SeenHeads.of(self.generator, self._params(rows, device), self._camera(rows, device))
            if len(self._seen_heads) > _KEPT_PARTS:
                self._seen_heads.pop(next(iter(self._seen_heads)))
        return self._seen_heads[key]

    def _posed(self, rows: list[int], device: torch.device) -> PosedHead:
        if self.are_from_batch:
            return self._seen(rows, device).posed
        return self.generator.head.pose(self._params(rows, device))

    def _camera(self, rows: list[int], device: torch.device) -> Camera:
        return self.heads.table.camera(rows).to(device)

    def _params(self, rows: list[int], device: torch.device) -> HeadParams:
        return self.heads.table.params(rows).map(lambda value: value.to(device))


def _choose(is_own: Sequence[bool], own: Sequence[int], others: Sequence[int]) -> list[int]:
    return [mine if is_mine else other for is_mine, mine, other in zip(is_own, own, others, strict=True)]
