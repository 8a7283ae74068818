"""Means of what steps report, and how fast and large a run is."""

import time
from collections import defaultdict
from typing import Any

from portrait4d.runtime.memory import peak_memory_mb
from portrait4d.train.trainer import StepReport, Trainer


class Meter:
    """Gathers reports of steps between two rows."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self._restart()

    def add(self, report: StepReport) -> None:
        """Adds a step."""
        self.num_bad += report.num_bad
        for name, value in {**report.terms, **_renamed(report.gradient_norms, "gradient/")}.items():
            self.values[name].append(value)
        for name, value in report.seconds.items():
            self.seconds[name] += value

    def row(self, seconds: float, cpu_seconds: float) -> dict[str, Any]:
        """The means since the last row.

        Args:
            seconds: that the run took so far, over all its processes' lives.
            cpu_seconds: of all threads of this process, over the same.
        """
        images = self.trainer.images_seen - self.images_before
        pace = (time.monotonic() - self.began) / max(images, 1)
        row = {
            "images": self.trainer.images_seen,
            "seconds": round(seconds, 2),
            "cpu_seconds": round(cpu_seconds, 2),
            "seconds_per_kimg": round(1000 * pace, 3),
            "seconds_left": round(pace * max(self.trainer.config.total_images - self.trainer.images_seen, 0)),
            "memory_mb": round(peak_memory_mb(self.trainer.device)),
            "not_finite": self.num_bad,
            **{name: _brief(sum(values) / len(values)) for name, values in sorted(self.values.items())},
            **{f"ms_per_image/{name}": round(1000 * value / max(images, 1), 3) for name, value in self.seconds.items()},
        }
        self._restart()
        return row

    def _restart(self) -> None:
        self.values: defaultdict[str, list[float]] = defaultdict(list)
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.num_bad, self.images_before, self.began = 0, self.trainer.images_seen, time.monotonic()


def _renamed(values: dict[str, float], prefix: str) -> dict[str, float]:
    return {f"{prefix}{name}": value for name, value in values.items()}


def _brief(value: float) -> float:
    return float(f"{value:.6g}")
