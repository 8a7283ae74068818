"""The report of an evaluation: what was measured, under which definitions and conditions; the same every time.

It holds no time and no trace of what an earlier run had finished, so that two runs can be compared byte by byte.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

from portrait4d.evaluation.definitions import DEFINITIONS_VERSION, Kind, measures_of
from portrait4d.evaluation.protocols import load_protocol
from portrait4d.evaluation.published import published_tables
from portrait4d.evaluation.scores import Networks
from portrait4d.evaluation.summary import ClipResult, summarise
from portrait4d.jobs.evaluation.options import EvaluateOptions
from portrait4d.jobs.evaluation.tables import conditions_text, definitions_text, published_text, results_table
from portrait4d.runtime.version import version
from preprocess.files.atomic import atomic_path
from preprocess.media.contact_sheet import stack_pictures
from preprocess.media.image import read_image, write_png

MOST_STRIPS = 24
"""Clips on the contact sheet; the strips of all are in `strips/`."""


@dataclass(frozen=True)
class Report:
    """All results, in the order of the items, and their conditions by name."""

    results: tuple[ClipResult, ...]
    conditions: dict[str, Any]

    @classmethod
    def of_run(
        cls,
        results: Sequence[ClipResult],
        options: EvaluateOptions,
        subject: str,
        weights: Mapping[str, str],
        networks: Networks,
        *,
        is_drawn: bool,
    ) -> "Report":
        """The report of a run that has just ended.

        Args:
            results: of all clips.
            options: of the run.
            subject: the engine, or the name of the folder of another program's results.
            weights: of the engine.
            networks: that measured.
            is_drawn: whether the engine drew the results.
        """
        chosen = options.reenact
        cut = {name: getattr(chosen, name) for name in ("start", "duration", "fps")}
        drawn = asdict(replace(chosen, engine=subject, flame=None)) if is_drawn else cut
        identity, perceptual = networks.identity, networks.perceptual
        return cls(
            tuple(results),
            {
                "program": version(),
                "definitions": DEFINITIONS_VERSION,
                "protocol": f"{options.protocol}: {load_protocol(options.protocol).description}",
                "subject": subject,
                "is_drawn_here": is_drawn,
                "weights": dict(weights),
                "options": drawn,
                "tracker": f"embedded, head model {networks.tracker.head_model.name}, unsmoothed",
                "identity": None if identity is None else {"name": identity.name, "digest": identity.digest},
                "perceptual": None if perceptual is None else perceptual.name,
            },
        )

    @property
    def num_failed(self) -> int:
        """Clips without a score."""
        return sum(result.score is None for result in self.results)

    @property
    def has_sheet(self) -> bool:
        """Whether there is a contact sheet: not where no clip could be measured."""
        return self.num_failed < len(self.results)

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of reenactment among the clips."""
        return tuple(kind for kind in get_args(Kind) if any(result.kind == kind for result in self.results))

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-ready values."""
        clips = [
            {
                "name": result.name,
                "kind": result.kind,
                "reason": result.reason,
                "score": None if result.score is None else asdict(result.score),
            }
            for result in self.results
        ]
        summaries = {
            kind: {key: asdict(value) for key, value in summarise(self.results, kind).items()} for kind in self.kinds
        }
        definitions = {
            measure.key: {"unit": measure.unit, "best": measure.best, "definition": measure.definition}
            for kind in self.kinds
            for measure in measures_of(kind)
        }
        return {
            "num_clips": len(clips),
            "num_failed": self.num_failed,
            "conditions": self.conditions,
            "summary": summaries,
            "clips": clips,
            "definitions": definitions,
            "published": [asdict(table) for kind in self.kinds for table in published_tables(kind)],
        }

    def to_markdown(self) -> str:
        """The report as a page: tables, then what the numbers mean."""
        parts = [f"## Evaluation of {self.conditions['subject']}"]
        parts += [results_table(self.results, kind) for kind in self.kinds]
        parts += [conditions_text(self.conditions), definitions_text(self.kinds), published_text(self.kinds)]
        return "\n\n".join(parts) + "\n"


def write_report(report: Report, folder: Path, strips: Sequence[Path]) -> None:
    """Writes `report.json`, `report.md` and, of the strips of clips that were measured, `sheet.png`."""
    text = json.dumps(report.to_dict(), indent=1, ensure_ascii=False, allow_nan=False)
    for name, content in (("report.json", text + "\n"), ("report.md", report.to_markdown())):
        with atomic_path(folder / name) as temporary:
            temporary.write_text(content, encoding="utf-8")
    if strips:
        write_png(folder / "sheet.png", stack_pictures([read_image(path) for path in strips[:MOST_STRIPS]]))
