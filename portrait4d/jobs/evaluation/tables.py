"""An evaluation in Markdown: one row a clip, the means first, and the definitions that belong to the numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

from portrait4d.evaluation.definitions import STEADINESS, Kind, Measure, describe_best, measures_of
from portrait4d.evaluation.published import published_tables
from portrait4d.evaluation.scores import ClipScore
from portrait4d.evaluation.summary import ClipResult, MeasureSummary, summarise

HEADINGS: dict[Kind, str] = {
    "self": "### Self-reenactment: the first frame of a clip driven by the clip, against the clip",
    "cross": "### Cross-reenactment: a picture driven by another clip, which is no truth",
}

_DIGITS = {
    "lost": 1,
    "psnr": 2,
    "pose": 2,
    "gaze": 2,
    "face_shape": 2,
    "lag": 1,
    "jitter": 2,
    "flicker": 2,
    "yaw_lost": 1,
    "yaw_error": 2,
}
"""Behind the point; others have three."""


def results_table(results: Sequence[ClipResult], kind: Kind) -> str:
    """The clips of one kind: mean, worst, every clip, and the clips that failed with their reasons."""
    own = [result for result in results if result.kind == kind]
    measures, summary = measures_of(kind), summarise(results, kind)
    shown = [measure for measure in measures if summary[measure.key].num_clips]
    titles = [f"{measure.title} {describe_best(measure)}" for measure in shown]
    rows = [["**mean**", "", *(_mean(measure, summary[measure.key]) for measure in shown)]]
    rows.append(["worst", "", *(format_value(measure, summary[measure.key].worst) for measure in shown)])
    rows += [_clip_row(result.name, result.score, shown) for result in own if result.score is not None]
    measured = sum(result.score is not None for result in own)
    frames = sum(result.score.num_frames for result in own if result.score is not None)
    parts = [HEADINGS[kind], f"{measured} of {len(own)} clips measured, {frames} frames."]
    if measured:
        parts.append(markdown_table(["clip", "frames", *titles], rows))
        parts.append("In brackets: the true or driving clip's own.")
    absent = [measure for measure in measures if not summary[measure.key].num_clips]
    if measured and absent:
        parts.append("\n".join(f"- {measure.title}: not measured: {summary[measure.key].reason}" for measure in absent))
    failed = [f"- {result.name}: failed: {result.reason}" for result in own if result.score is None]
    return "\n\n".join([*parts, *(["\n".join(failed)] if failed else [])])


def published_text(kinds: Sequence[Kind]) -> str:
    """Published numbers with their protocols, each in its own table: they are other measures than ours."""
    parts = [
        "### Published numbers",
        "Other clips, networks and definitions: columns of one name do not compare with the tables above, nor with "
        "each other, unless protocol and definition are the same.",
    ]
    for table in (table for kind in kinds for table in published_tables(kind)):
        parts.append(f"{table.protocol}; {table.source}.")
        parts.append(markdown_table(["method", *table.measures], table.rows))
    return "\n\n".join(parts)


def definitions_text(kinds: Sequence[Kind]) -> str:
    """What every number means."""
    measures = dict.fromkeys(measure for kind in kinds for measure in measures_of(kind))
    lines = [
        f"- **{measure.title}**{f', {measure.unit}' if measure.unit else ''} ({describe_best(measure)}): "
        f"{measure.definition}"
        for measure in measures
    ]
    return "\n".join(["### Definitions", "", *lines])


def conditions_text(conditions: Mapping[str, Any]) -> str:
    """What the numbers were measured under."""
    lines = [f"- {name}: {_plain(value)}" for name, value in conditions.items()]
    return "\n".join(["### Conditions", "", *lines])


def format_value(measure: Measure, value: float | None) -> str:
    """A number with the digits of its measure; a dash for none."""
    return "–" if value is None else f"{value:.{_DIGITS.get(measure.key, 3)}f}"


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose first column is text and whose others are numbers."""
    lines = ["| " + " | ".join(heads) + " |", "| --- |" + " ---: |" * (len(heads) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def _mean(measure: Measure, summary: MeasureSummary) -> str:
    without = f" ({summary.num_without} without)" if summary.num_without else ""
    return _with_truth(measure, summary.mean, summary.truth_mean) + without


def _clip_row(name: str, score: ClipScore, measures: Sequence[Measure]) -> list[str]:
    values = [
        _with_truth(measure, score.values[measure.key], score.truth_values.get(measure.key)) for measure in measures
    ]
    return [name, str(score.num_frames), *values]


def _with_truth(measure: Measure, value: float | None, truth: float | None) -> str:
    text = format_value(measure, value)
    return f"{text} ({format_value(measure, truth)})" if measure.key in STEADINESS else text


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(item)}" for name, item in value.items()) or "none"
    return "none" if value is None else str(value)
