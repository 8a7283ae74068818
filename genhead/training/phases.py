"""The phases of GenHead's training: which losses are taken of which heads, and when.

Portrait4D (Deng et al. 2024), section 3.1, with a supervised start of our own.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from genhead.generator import GenHeadGenerator
from genhead.training.losses import (
    Fakes,
    GenHeadLossConfig,
    MadeHeads,
    density_terms,
    discriminator_terms,
    generate,
    generator_terms,
    part_terms,
    r1_terms,
)
from genhead.training.samples import HeadSamples
from genhead.training.supervised import SupervisedConfig, pixel_terms
from portrait4d.gan.adversarial import Judge
from portrait4d.gan.swap import is_batch_swapped
from portrait4d.gan.training import Fades
from portrait4d.losses.volume import surface_term
from portrait4d.train.task import Part, Phase, Terms


class GenHeadPhases:
    """Losses of both networks over the parts of a batch.

    Args:
        generator: of heads.
        samples: heads to make, and pictures.
        judge: gives the discriminator for a part and a purpose, behind its augmentation.
        note: takes the logits of real pictures and the styles of generated heads of a part.
        loss: weights and schedules.
        supervised: the start without a discriminator, and what is kept of it.
        are_fakes_shared: the discriminator sees what the generator was judged by in the same step, not new pictures.
    """

    def __init__(
        self,
        generator: GenHeadGenerator,
        samples: HeadSamples,
        *,
        judge: Callable[[Part, str], Judge],
        note: Callable[[Tensor, Tensor], None],
        loss: GenHeadLossConfig,
        supervised: SupervisedConfig,
        are_fakes_shared: bool,
    ) -> None:
        self.generator, self.samples, self.judge, self.note = generator, samples, judge, note
        self.loss, self.supervised, self.are_fakes_shared = loss, supervised, are_fakes_shared
        self._shared: dict[tuple[int, ...], Fakes] = {}

    def in_order(self) -> list[Phase]:
        """The phases of a step, in their order."""
        phases = [
            Phase("generator", "generator", self._generator_loss),
            Phase("density", "generator", self._density_loss, interval=self.loss.density_interval),
            Phase("discriminator", "discriminator", self._discriminator_loss),
            Phase("r1", "discriminator", self._r1_loss, interval=self.loss.r1_interval),
        ]
        return [Phase("supervised", "generator", self._supervised_loss), *phases] if self.supervised.images else phases

    def _is_adversarial(self, part: Part) -> bool:
        return part.step.images_seen >= self.supervised.images

    def _supervised_loss(self, part: Part) -> Terms:
        if self._is_adversarial(part):
            return {}
        known = [True] * len(part)
        wanted, random = self.samples.wanted(part, "supervised", known=known), part.random("supervised noise")
        made = generate(self.generator, wanted, Fades(0.0, 0.0), random=random, keeps_samples=True)
        terms = self._pixel_terms(part, made, known) | part_terms(made.images, self.loss)
        return {name: self.supervised.weight * value for name, value in terms.items()}

    def _generator_loss(self, part: Part) -> Terms:
        if not self._is_adversarial(part):
            return {}
        known, fades = self._draw_known(part, "generator"), self._fades(part)
        wanted = self.samples.wanted(part, "generator", known=known)
        judge, random = self.judge(part, "generator"), part.random("generator noise")
        terms, made = generator_terms(self.generator, judge, wanted, self.loss, fades, random=random)
        if self.are_fakes_shared:
            self._shared[part.positions] = Fakes.of(made, wanted.label, fades)
        if known is None:
            return terms
        weight = self.supervised.final_weight
        return terms | {name: weight * value for name, value in self._pixel_terms(part, made, known).items()}

    def _pixel_terms(self, part: Part, made: MadeHeads, known: list[bool]) -> dict[str, Tensor]:
        config, real = self.supervised, self.samples.real(part)
        counted = torch.tensor(known, dtype=torch.float32, device=part.device)
        terms = pixel_terms(self.generator, made.images, real, feature_weight=config.feature_weight, counted=counted)
        if config.depth_weight:
            depth = surface_term(made.images.depth, self.samples.surface(part), counted)
            terms["depth"] = config.depth_weight * depth
        return terms

    def _draw_known(self, part: Part, purpose: str) -> list[bool] | None:
        """Which generated heads are persons of the data; the discriminator sees as many of them as the generator."""
        config = self.supervised
        share = config.final_share if config.final_weight else 0.0
        if not share:
            return None
        like = torch.zeros((), dtype=torch.float64)
        return (part.random(f"{purpose} known").uniform((len(part),), like) < share).tolist()

    def _density_loss(self, part: Part) -> Terms:
        probability = self._fades(part).swap_probability
        shared = part.step.shared_generator("density swap")
        return density_terms(
            self.generator,
            self.samples.wanted(part, "density"),
            self.loss,
            is_swapped=lambda: is_batch_swapped(probability, generator=shared),
            random=part.random("density noise"),
        )

    def _is_discriminating(self, part: Part) -> bool:
        config = self.supervised
        return part.step.images_seen >= config.images - config.discriminator_ahead

    def _discriminator_loss(self, part: Part) -> Terms:
        if not self._is_discriminating(part):
            return {}
        fakes, judge = self._fakes(part), self.judge(part, "discriminator")
        terms, logits = discriminator_terms(judge, fakes, self.samples.real(part), self._fades(part))
        self.note(logits, fakes.w)
        return terms

    def _fakes(self, part: Part) -> Fakes:
        """Pictures of the step's generator phase, once; new ones where it made none."""
        shared = self._shared.pop(part.positions, None)
        if shared is not None:
            return shared
        fades, known = self._fades(part), self._draw_known(part, "discriminator")
        wanted = self.samples.wanted(part, "discriminator", known=known)
        with torch.no_grad():
            made = generate(self.generator, wanted, fades, random=part.random("discriminator noise"))
        return Fakes.of(made, wanted.label, fades)

    def _r1_loss(self, part: Part) -> Terms:
        if not self._is_discriminating(part):
            return {}
        return r1_terms(
            self.judge(part, "r1"),
            self.samples.real(part),
            self.loss,
            self._fades(part),
            size=self.generator.config.neural_resolution,
        )

    def _fades(self, part: Part) -> Fades:
        return self.loss.fades_at(part.step.images_seen)
