"""How often a discriminator's pictures are augmented: so often that it does not learn the real ones by heart.

Karras et al. 2020, "Training Generative Adversarial Networks with Limited Data", section 3: the strength p follows
`r_t = E[sign D(real)]`, which rises when the discriminator overfits.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from portrait4d.runtime.checks import check_range
from portrait4d.train.distributed import Workers


@dataclass(frozen=True, kw_only=True)
class AdaptiveStrengthConfig:
    """What the strength aims at, and how fast it moves."""

    target: float = 0.6
    """Mean sign of the logits of real pictures: above it the strength rises, below it falls."""

    adaptation_images: int = 500_000
    """Images in which the strength goes from 0 to 1."""

    interval: int = 4
    """Steps whose logits are averaged for one move."""

    initial: float = 0.0
    """Strength at the start."""

    maximum: float = 1.0
    """Largest strength."""

    def __post_init__(self) -> None:
        check_range("augment.target", self.target, -1.0, 1.0)
        check_range("augment.adaptation_images", self.adaptation_images, 1, None)
        check_range("augment.interval", self.interval, 1, None)
        check_range("augment.maximum", self.maximum, 0.0, 1.0)
        check_range("augment.initial", self.initial, 0.0, self.maximum)


class AdaptiveStrength:
    """A strength in [0, maximum] that follows the discriminator.

    `note` takes the logits of each part of a batch, `finish` ends a step. Signs are counted, not averaged by part, so a
    batch that is split between rounds or processes moves the strength as the whole one does, and every process has the
    same strength.

    Attributes:
        value: the strength, in [0, maximum].
        mean_sign: of the real logits of the last interval; not a number before the first.
    """

    def __init__(self, config: AdaptiveStrengthConfig | None = None) -> None:
        self.config = config or AdaptiveStrengthConfig()
        self.value = self.config.initial
        self.mean_sign = math.nan
        self._sums = torch.zeros(2)  # of signs, and how many, since the last move, over all processes
        self._noted: Tensor | None = None  # the same in this step and process
        self._num_images = 0
        self._num_steps = 0

    def note(self, real_logits: Tensor) -> None:
        """Counts the signs of a part's logits `[B, 1]`; they stay on their device."""
        signs = real_logits.detach().float().sign()
        counted = torch.stack([signs.sum(), signs.new_tensor(float(signs.numel()))])
        self._noted = counted if self._noted is None else self._noted + counted

    def finish(self, *, batch_size: int, workers: Workers | None = None) -> dict[str, float]:
        """Ends a step and, at the end of an interval, moves the strength.

        Args:
            batch_size: images of the step, over all processes.
            workers: the processes; each must have noted its logits.

        Returns:
            Statistics after a move, else nothing.
        """
        if self._noted is not None:
            total = (workers or Workers()).sum_(self._noted)
            self._sums = self._sums.to(total.device) + total
            self._noted = None
        self._num_images += batch_size
        self._num_steps += 1
        if self._num_steps < self.config.interval:
            return {}
        sum_of_signs, count = self._sums.tolist()
        if count:
            self.mean_sign = sum_of_signs / count
            excess = self.mean_sign - self.config.target
            direction = float((excess > 0) - (excess < 0))
            moved = self.value + direction * self._num_images / self.config.adaptation_images
            self.value = min(max(moved, 0.0), self.config.maximum)
        self._sums, self._num_images, self._num_steps = torch.zeros(2), 0, 0
        return {"augment/strength": self.value, "augment/real_sign": self.mean_sign} if count else {}

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint keeps, between two steps."""
        numbers = [self.value, self.mean_sign, *self._sums.tolist(), self._num_images, self._num_steps]
        return {"strength": torch.tensor(numbers, dtype=torch.float64)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restores what `state` gave."""
        numbers = state["strength"].tolist()
        if len(numbers) != 6:
            raise ValueError(f"expected the 6 numbers of a strength, got {len(numbers)}")
        self.value, self.mean_sign = numbers[:2]
        self._sums, self._noted = torch.tensor(numbers[2:4]), None
        self._num_images, self._num_steps = int(numbers[4]), int(numbers[5])
