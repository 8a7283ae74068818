"""Clips together: the mean, the worst clip and the count of every measure, with clips that failed in the count."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from portrait4d.evaluation.definitions import STEADINESS, Kind, Measure, measures_of
from portrait4d.evaluation.scores import ClipScore

State = Literal["done", "kept", "failed"]


@dataclass(frozen=True)
class ClipResult:
    """The outcome of a clip: measured now, kept from an earlier run, or failed with a reason in one line."""

    name: str
    kind: Kind
    state: State
    score: ClipScore | None = None
    reason: str = ""


@dataclass(frozen=True)
class MeasureSummary:
    """One measure over clips.

    Attributes:
        mean: over the clips with a value, all weighing the same; of `lag` the mean size.
        worst: of the value that is farthest from the best.
        worst_clip: its name.
        num_clips: with a value.
        num_without: clips of the kind without one, those that failed included.
        truth_mean: the mean of the true or driving clips themselves; None for measures that compare.
        reason: why there is no value, if there is none.
    """

    mean: float | None
    worst: float | None
    worst_clip: str
    num_clips: int
    num_without: int
    truth_mean: float | None = None
    reason: str = ""


def summarise(results: Sequence[ClipResult], kind: Kind) -> dict[str, MeasureSummary]:
    """Every measure of one kind of reenactment, by key."""
    own = [result for result in results if result.kind == kind]
    return {measure.key: _summarise(measure, own) for measure in measures_of(kind)}


def badness(measure: Measure, value: float) -> float:
    """How far a value is from the best; comparable within one measure only."""
    match measure.best:
        case "higher":
            return -value
        case "lower":
            return value
        case "one":
            return abs(value - 1)
        case "zero":
            return abs(value)
        case _:
            raise ValueError(f"expected higher, lower, one or zero, got {measure.best!r}")


def _summarise(measure: Measure, results: list[ClipResult]) -> MeasureSummary:
    key = measure.key
    scores = [(result.name, result.score) for result in results if result.score is not None]
    present = [(name, value) for name, score in scores if (value := score.values[key]) is not None]
    own = [score.truth_values[key] for _, score in scores if key in STEADINESS]
    truth = [value for value in own if value is not None]
    if not present:
        reasons = {score.reasons.get(key, "") for _, score in scores}
        reason = reasons.pop() if len(reasons) == 1 else "no clip has a value"
        return MeasureSummary(None, None, "", 0, len(results), _mean(truth), reason)
    worst_clip, worst = max(present, key=lambda pair: badness(measure, pair[1]))
    values = [abs(value) if measure.best == "zero" else value for _, value in present]
    return MeasureSummary(
        mean=_mean(values),
        worst=worst,
        worst_clip=worst_clip,
        num_clips=len(present),
        num_without=len(results) - len(present),
        truth_mean=_mean(truth),
    )


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
