"""Regularisation in every n-th step only, with the strength of every step.

StyleGAN2, Karras et al. 2020, section 3.1 and appendix B, "lazy regularization".
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class AdamSettings:
    """Learning rate and both decay rates of Adam."""

    learning_rate: float
    betas: tuple[float, float]


@dataclass(frozen=True)
class LazyRegularisation:
    """A regulariser that takes a step of its own every `interval` steps of the main loss."""

    interval: int

    def __post_init__(self) -> None:
        if self.interval < 1:
            raise ValueError(f"interval must be at least 1 step, got {self.interval}")

    @property
    def gain(self) -> float:
        """Factor on the regulariser's loss that makes up for the steps without it."""
        return float(self.interval)

    def is_due(self, step: int) -> bool:
        """Whether the regulariser follows the main loss in this step, counted from 0."""
        return step % self.interval == 0

    def correct(self, settings: AdamSettings) -> AdamSettings:
        """Settings for an optimiser that takes k + 1 steps instead of k: lr * c and beta^c with c = k / (k + 1)."""
        share = self.interval / (self.interval + 1)
        first, second = settings.betas
        return AdamSettings(settings.learning_rate * share, (first**share, second**share))
