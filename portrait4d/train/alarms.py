"""Warnings, in plain words, when the training of a GAN goes wrong or its gradient penalty looks misset.

A pure function of the reports so far, so that a resumed run warns as one that never stopped.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from portrait4d.runtime.checks import check_range


@dataclass(frozen=True, kw_only=True)
class Vitals:
    """What one report says about a GAN; None and missing names where it was not measured.

    Attributes:
        images_seen: when it was made.
        real_sign: mean sign of the discriminator's logits of real pictures, in [-1, 1].
        gradient_norms: by network, before they are clipped or made finite.
        grid_distance: see `grid_distance`.
    """

    images_seen: int
    real_sign: float | None = None
    gradient_norms: Mapping[str, float] = field(default_factory=dict)
    grid_distance: float | None = None


@dataclass(frozen=True, kw_only=True)
class CollapseAlarm:
    """When to warn."""

    real_sign: float = 0.95
    """A discriminator whose mean sign on real pictures stays above it has learned them by heart."""

    num_reports: int = 5
    """Reports in a row for which it must stay there."""

    norm_rise: float = 100.0
    """A gradient norm above so many times its running median is an explosion."""

    norm_fall: float = 1000.0
    """A gradient norm below its running median by this factor has vanished."""

    median_reports: int = 50
    """Earlier reports that the running median is of, at most; it needs `num_reports` of them."""

    grid_share: float = 0.25
    """Generated pictures whose distance falls below this share of the largest so far have become alike."""

    def __post_init__(self) -> None:
        check_range("alarm.real_sign", self.real_sign, -1.0, 1.0)
        check_range("alarm.num_reports", self.num_reports, 1, None)
        check_range("alarm.norm_rise", self.norm_rise, 1.0, None)
        check_range("alarm.norm_fall", self.norm_fall, 1.0, None)
        check_range("alarm.median_reports", self.median_reports, self.num_reports, None)
        check_range("alarm.grid_share", self.grid_share, 0.0, 1.0)

    def warnings(self, history: Sequence[Vitals]) -> list[str]:
        """What the newest report shows that the one before did not: each trouble is told once while it lasts.

        Args:
            history: all reports, in their order.
        """
        if not history:
            return []
        known = self.troubles(history[:-1])
        start = f"after {history[-1].images_seen:,} images"
        return [f"{start} {text}" for name, text in self.troubles(history).items() if name not in known]

    def troubles(self, history: Sequence[Vitals]) -> dict[str, str]:
        """Everything that is wrong at the end of a history, told before or not, by a name that stays while it lasts."""
        troubles = self._of_signs([row.real_sign for row in history if row.real_sign is not None])
        for network in dict.fromkeys(name for row in history for name in row.gradient_norms):
            norms = [row.gradient_norms[network] for row in history if network in row.gradient_norms]
            troubles |= self._of_norms(network, norms)
        return troubles | self._of_distances([row.grid_distance for row in history if row.grid_distance is not None])

    def _of_signs(self, signs: list[float]) -> dict[str, str]:
        recent = signs[-self.num_reports :]
        if len(recent) < self.num_reports or min(recent) <= self.real_sign:
            return {}
        share = (1 + recent[-1]) / 2
        text = (
            f"the discriminator knows {share:.1%} of the real pictures, for {self.num_reports} reports in a row: it "
            "learns them by heart and the generator can follow it no more. Augment more, raise gamma, or take more "
            "pictures"
        )
        return {"signs": text}

    def _of_norms(self, network: str, norms: list[float]) -> dict[str, str]:
        newest, earlier = norms[-1], [norm for norm in norms[:-1] if math.isfinite(norm)]
        advice = "If it happens again, lower the learning rate or raise gamma, and resume from an earlier checkpoint"
        if not math.isfinite(newest):
            return {f"{network} not finite": f"the gradient of the {network} is not finite. {advice}"}
        if len(earlier) < self.num_reports:
            return {}
        usual = statistics.median(earlier[-self.median_reports :])
        compared = f"has norm {newest:.3g}, where {usual:.3g} is usual"
        if newest > usual * self.norm_rise:
            return {f"{network} rises": f"the gradient of the {network} {compared}: it explodes. {advice}"}
        if newest < usual / self.norm_fall:
            text = f"the gradient of the {network} {compared}: it has vanished, and the {network} learns nothing more"
            return {f"{network} falls": text}
        return {}

    def _of_distances(self, distances: list[float]) -> dict[str, str]:
        # not a share of the first: a network that has learned nothing draws pictures that are alike
        if not distances or distances[-1] >= self.grid_share * max(distances):
            return {}
        text = (
            f"generated pictures are on average {distances[-1]:.3g} apart, where it was {max(distances):.3g}: the "
            "generator draws one picture for all. Look at the grid; resume from a checkpoint before that, with a "
            "higher gamma or more augmentation"
        )
        return {"distance": text}


def grid_distance(pictures: Tensor) -> float:
    """Mean absolute difference of values between any two pictures `[N, C, H, W]` of different samples."""
    if pictures.ndim != 4 or len(pictures) < 2:
        raise ValueError(f"expected two pictures [N, C, H, W] at least, got {list(pictures.shape)}")
    values = pictures.detach().flatten(1).float()
    return float(torch.pdist(values, p=1).mean()) / values.shape[1]


def gamma_heuristic(resolution: int, batch_size: int) -> float:
    """Weight of R1 that suits most data sets: `0.0002 resolution^2 / batch`.

    Karras et al. 2020, "Training Generative Adversarial Networks with Limited Data", appendix C.
    """
    return 0.0002 * resolution**2 / batch_size


def gamma_warning(gamma: float, *, resolution: int, batch_size: int, factor: float = 10.0) -> str | None:
    """What to say of a weight of R1 that is more than `factor` away from the usual one, None of others."""
    usual = gamma_heuristic(resolution, batch_size)
    if usual / factor <= gamma <= usual * factor:
        return None
    side, risk = ("above", "learn slowly") if gamma > usual else ("below", "collapse")
    return (
        f"gamma {gamma:g} is more than {factor:g} times {side} {usual:.3g}, which is usual for {resolution} pixels and "
        f"a batch of {batch_size}: training may {risk}"
    )
