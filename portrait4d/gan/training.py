"""What all trainings with a discriminator share: settings, schedules, and the running mean of styles.

The parts that differ, samples, losses and pictures, are those of `portrait4d.eg3d.training` and of GenHead.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import get_args

import torch
from torch import Tensor, nn

from flame.errors import InputError
from portrait4d.gan.blur import blur_sigma
from portrait4d.gan.density import PointRange
from portrait4d.gan.discriminator import DualDiscriminator, DualDiscriminatorConfig
from portrait4d.gan.swap import swap_probability
from portrait4d.runtime.checks import check_choice, check_range
from portrait4d.runtime.recompute import Recomputing
from portrait4d.stylegan.mapping import MappingNetwork
from portrait4d.train.alarms import gamma_warning, grid_distance
from portrait4d.train.config import OptimiserConfig, RunConfig
from portrait4d.train.distributed import Workers
from portrait4d.train.task import Task

_NUM_CODES = 8
"""Codes whose pictures are compared, to see whether the generator draws one picture for all."""


@dataclass(frozen=True)
class Fades:
    """What fades during training.

    Attributes:
        blur_sigma: of the discriminator's pictures, px.
        swap_probability: that a head is made for its predecessor's condition.
    """

    blur_sigma: float
    swap_probability: float


@dataclass(frozen=True, kw_only=True)
class PenaltyConfig:
    """What is asked of density, and the discriminator's gradient penalty, of every training with a discriminator."""

    density_weight: float = 0.25
    """Weight of the change of density over a small step; 0 leaves density free."""

    density_distance: float = 0.004
    """Standard deviation of the step, in sides of the cube."""

    density_range: PointRange = "official"
    """Where density is compared: official, [-1, 1] on each axis as in the released training, or cube, where planes
    are."""

    density_interval: int = 4
    """Steps from one look at density to the next."""

    r1_gamma: float = 1.0
    """Weight of the discriminator's squared gradient at real pictures (FFHQ 1, cats 5, cars 0.3)."""

    r1_interval: int = 16
    """Steps from one penalty to the next."""

    def __post_init__(self) -> None:
        check_choice("loss.density_range", self.density_range, get_args(PointRange))
        for name in ("density_weight", "density_distance", "r1_gamma"):
            check_range(f"loss.{name}", getattr(self, name), 0.0, 1e6)
        for name in ("density_interval", "r1_interval"):
            check_range(f"loss.{name}", getattr(self, name), 1, None)


@dataclass(frozen=True, kw_only=True)
class GanLossConfig(PenaltyConfig):
    """Losses and schedules that EG3D and GenHead have in common; the defaults are those of FFHQ, at a batch of 32."""

    blur_sigma: float = 10.0
    """Width in px of the blur over the discriminator's pictures at the start."""

    blur_images: int = 200_000
    """Images after which nothing is blurred. The released code shortens this in proportion to batches below 32."""

    swap_final: float = 0.5
    """Probability that a head is made for another picture's condition, in the end; at the start it is 1."""

    swap_images: int = 1_000_000
    """Images after which the probability stays."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("loss.blur_sigma", self.blur_sigma, 0.0, 1e6)
        for name in ("blur_images", "swap_images"):
            check_range(f"loss.{name}", getattr(self, name), 0, None)
        check_range("loss.swap_final", self.swap_final, 0.0, 1.0)

    def fades_at(self, images_seen: int) -> Fades:
        """Where the fades stand after `images_seen` images."""
        return Fades(
            blur_sigma=blur_sigma(images_seen, initial_sigma=self.blur_sigma, fade_images=self.blur_images),
            swap_probability=swap_probability(images_seen, final=self.swap_final, fade_images=self.swap_images),
        )


@dataclass(frozen=True, kw_only=True)
class GanTraining:
    """Settings that EG3D's and GenHead's trainings have in common."""

    resume_from: str | None = None
    """Weights to start from. Nothing is blurred then, conditions are swapped with their final probability, and the
    average remembers at once."""

    train: RunConfig = field(default_factory=RunConfig)
    """How long, in which steps, and what is kept."""

    discriminator: DualDiscriminatorConfig = field(default_factory=DualDiscriminatorConfig)
    """The network that tells generated pictures from real ones."""

    loss: GanLossConfig = field(default_factory=GanLossConfig)
    """What both networks minimise."""

    generator_optimiser: OptimiserConfig = field(default_factory=lambda: OptimiserConfig(learning_rate=0.0025))
    """Adam of the generator."""

    discriminator_optimiser: OptimiserConfig = field(default_factory=lambda: OptimiserConfig(learning_rate=0.002))
    """Adam of the discriminator."""

    def __post_init__(self) -> None:
        if self.discriminator.group_size is None:
            raise InputError("expected discriminator.group_size as a number: a batch is split between groups")
        self.train.num_rounds(group_size=self.discriminator.num_compared)  # refused here, before data are read
        if self.resume_from is not None:  # as in the released code; written here, so that a run's record shows it
            average = replace(self.train.average, ramp_up=None)
            object.__setattr__(self, "loss", replace(self.loss, blur_images=0, swap_images=0))
            object.__setattr__(self, "train", replace(self.train, average=average))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What looks wrong in these settings, in words."""
        side, batch = self.discriminator.resolution, self.train.batch_size
        found = gamma_warning(self.loss.r1_gamma, resolution=side, batch_size=batch)
        return () if found is None else (found,)

    def optimisers(self) -> dict[str, OptimiserConfig]:
        """Adam's settings by network."""
        return {"generator": self.generator_optimiser, "discriminator": self.discriminator_optimiser}

    def check_side(self, side: int | None) -> None:
        """Refuses a discriminator of pictures of another side than the generator's."""
        if self.discriminator.resolution != side:
            raise InputError(
                f"expected discriminator.resolution {side}, the side of the generator's pictures, got "
                f"{self.discriminator.resolution}"
            )

    def check_enough(self, num_pictures: int) -> None:
        """Refuses fewer pictures than a batch has."""
        if num_pictures < self.train.batch_size:
            raise InputError(
                f"expected at least {self.train.batch_size} pictures, one batch, got {num_pictures}: "
                "give more, or set train.batch_size"
            )


class GanTask(Task, ABC):
    """A generator with a mapping network, and its discriminator.

    Args:
        config: of the training.
        generator: is averaged.
        mapping: of the generator, whose mean style follows the heads that the discriminator sees.
        discriminator: judges groups of pictures.
    """

    averaged = ("generator",)

    def __init__(
        self, config: GanTraining, generator: Recomputing, mapping: MappingNetwork, discriminator: DualDiscriminator
    ) -> None:
        generator.recomputes = config.train.recompute
        self.networks: dict[str, nn.Module] = {"generator": generator, "discriminator": discriminator}
        self.group_size = discriminator.config.num_compared
        self._mapping = mapping
        self._forget_styles()

    @abstractmethod
    def draw_codes(self, generator: nn.Module, latent: Tensor) -> Tensor:
        """Rendered pictures `[N, 3, h, h]` of codes `[N, latent_dim]` that differ in nothing but their codes."""

    @torch.no_grad()
    def grid_distance(self, averages: Mapping[str, nn.Module]) -> float:
        """See `Task`; of fixed codes in one pose, from one camera."""
        generator = averages["generator"]
        latent = torch.randn(_NUM_CODES, self._mapping.latent_dim, generator=torch.Generator().manual_seed(0))
        pictures = self.draw_codes(generator, latent.to(next(generator.parameters()).device))
        return grid_distance(pictures.clamp(-1, 1))

    def note_styles(self, w: Tensor) -> None:
        """Counts the styles `[B, style_dim]` of the generated heads of a part."""
        self._w_sum = self._w_sum.to(w) + w.sum(0)
        self._num_w += len(w)

    def move_mean_style(self, workers: Workers) -> None:
        """Moves the mean of w by that of the step's generated heads, over all parts and processes."""
        total = workers.sum_(torch.cat([self._w_sum, self._w_sum.new_tensor([self._num_w])]))
        if total[-1] > 0:
            self._mapping.update_average((total[:-1] / total[-1])[None])
        self._forget_styles()

    def _forget_styles(self) -> None:
        self._w_sum, self._num_w = torch.zeros_like(self._mapping.w_avg), 0
