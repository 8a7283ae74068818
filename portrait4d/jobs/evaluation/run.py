"""Measures clips one after the other: each is recorded when it is done, and one that fails does not stop the others.

A clip is finished when its record, `records/NAME.json`, and its strip of pictures, `strips/NAME.png`, exist and the
record's key is that of the present files, options, networks and definitions. Both are written atomically, the record
last, so a run can be killed at any moment and repeated.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from flame.errors import InputError
from portrait4d.engines.abilities import check_choices
from portrait4d.engines.choose import choose_engine, ensure_engine, named_files
from portrait4d.engines.identity import loaded_weights, recorded_weights
from portrait4d.evaluation.definitions import DEFINITIONS_VERSION
from portrait4d.evaluation.identity import load_face_vectors
from portrait4d.evaluation.perceptual import PerceptualDistance
from portrait4d.evaluation.protocols import load_protocol
from portrait4d.evaluation.scores import ClipScore, Material, Networks, score_clip
from portrait4d.evaluation.summary import ClipResult
from portrait4d.jobs.evaluation.items import EvaluationItem, find_result
from portrait4d.jobs.evaluation.material import Workshop, drawn_material, read_material
from portrait4d.jobs.evaluation.options import EvaluateOptions
from portrait4d.jobs.evaluation.report import Report, write_report
from portrait4d.options import ReenactOptions, option_facts
from portrait4d.reenactment.models import Models, check_models, load_models
from portrait4d.runtime.device import check_device
from portrait4d.runtime.progress import Progress, ignore_progress
from portrait4d.runtime.records import digest, file_facts, read_record, write_record
from portrait4d.runtime.streams import one_torch_thread
from preprocess.faces.landmarker import FaceLandmarker
from preprocess.files.file_check import check_no_input_among
from preprocess.media.contact_sheet import contact_sheet
from preprocess.tracking.tracker import Tracker

logger = logging.getLogger(__name__)

_FORMAT = 1
"""Increased whenever records of an older program must not count as finished."""

_STRIP_FRAMES = 6


@dataclass(frozen=True)
class Subject:
    """Who made the results.

    Attributes:
        name: of the engine, or of the folder of another program's results.
        folder: of these; None if an engine draws.
        weights: of the engine, by name of the network.
    """

    name: str
    folder: Path | None
    weights: dict[str, str]


class EvaluationRun:
    """One pass over the items; models are loaded when the first item needs them."""

    def __init__(
        self,
        folder: Path,
        options: EvaluateOptions,
        subject: Subject,
        networks: Networks,
        *,
        models: Models | None,
        progress: Progress,
    ) -> None:
        self._folder, self._options, self._subject, self._networks = folder, options, subject, networks
        self._models, self._progress = models, progress

    def run(self, item: EvaluationItem) -> ClipResult:
        """Measures one clip unless it is finished; one that fails is a result, not an exception."""
        try:
            key = self._key(item)
            kept = self._kept(item, key)
            if kept is not None:
                return ClipResult(item.name, item.kind, "kept", kept)
            score = self._measure(item)
            write_record(self._record(item), key, {"name": item.name, "kind": item.kind, "score": asdict(score)})
            return ClipResult(item.name, item.kind, "done", score)
        except InputError as error:
            return ClipResult(item.name, item.kind, "failed", reason=str(error))
        except Exception as error:  # one clip must not stop the others; report and exit code tell of it
            logger.exception("unexpected failure in %s", item.name)
            lines = str(error).strip().splitlines() or [""]
            reason = f"unexpected {type(error).__name__}: {lines[0]}"
            return ClipResult(item.name, item.kind, "failed", reason=reason)

    def strips(self, results: Sequence[ClipResult]) -> list[Path]:
        """The strips of the clips that were measured."""
        return [
            self._folder / "strips" / f"{result.name}.png" for result in results if result.score is not None
        ]  # fmt: skip

    def _kept(self, item: EvaluationItem, key: str) -> ClipScore | None:
        """The score of a clip that is finished; None for one that is not, or whose record was changed by hand."""
        earlier = read_record(self._record(item))
        if earlier.get("key") != key or not self._strip(item).is_file():
            return None
        try:
            return ClipScore.from_dict(earlier["score"])
        except (KeyError, TypeError):
            return None

    def _measure(self, item: EvaluationItem) -> ClipScore:
        with TemporaryDirectory(prefix="portrait4d-evaluate-", ignore_cleanup_errors=True) as temporary:
            workshop = Workshop(self._options.reenact, Path(temporary), self._progress)
            if self._subject.folder is not None:
                material = read_material(item, find_result(item.name, self._subject.folder), workshop)
            else:
                if self._models is None:
                    self._models = load_models(self._options.reenact)
                material = drawn_material(item, self._models, workshop)
            self._progress("measure", 0, None)
            score = score_clip(material, self._networks, load_protocol(self._options.protocol))
            _write_strip(material, item, self._strip(item))
        return score

    def _key(self, item: EvaluationItem) -> str:
        """Changes with the files, the options, the networks and the definitions."""
        networks, subject = self._networks, self._subject
        facts: dict[str, Any] = {
            "format": _FORMAT,
            "definitions": DEFINITIONS_VERSION,
            "protocol": self._options.protocol,
            "clip": file_facts(item.clip),
            "source": None if item.source is None else file_facts(item.source),
            "identity": None if networks.identity is None else networks.identity.digest,
            "perceptual": None if networks.perceptual is None else networks.perceptual.name,
        }
        if subject.folder is not None:
            chosen = {name: getattr(self._options.reenact, name) for name in ("start", "duration", "fps")}
            return digest({**facts, "result": file_facts(find_result(item.name, subject.folder)), **chosen})
        # without the path of the FLAME file: `weights` holds a digest of its content
        options = replace(self._options.reenact, engine=subject.name, device="any", flame=None)
        return digest({**facts, "options": option_facts(options), "weights": subject.weights})

    def _record(self, item: EvaluationItem) -> Path:
        return self._folder / "records" / f"{item.name}.json"

    def _strip(self, item: EvaluationItem) -> Path:
        return self._folder / "strips" / f"{item.name}.png"


@one_torch_thread()
def evaluate(
    items: Sequence[EvaluationItem],
    folder: str | Path,
    *,
    options: EvaluateOptions | None = None,
    results: str | Path | None = None,
    models: Models | None = None,
    networks: Networks | None = None,
    progress: Progress = ignore_progress,
    on_result: Callable[[ClipResult], None] | None = None,
) -> Report:
    """Measures every clip and writes `report.json`, `report.md` and `sheet.png` into the folder.

    Args:
        items: from `portrait4d.jobs.evaluation.items`.
        folder: for the reports, `records/` and `strips/`; made if needed.
        options: of reenactment and measuring.
        results: folder of another program's results, see `find_result`; None lets the engine draw.
        models: the engine, from `load_models`; loaded at the first unfinished clip if not given.
        networks: that measure; by default the embedded tracker and what the options name.
        progress: called with a stage, the steps done and the number of all.
        on_result: called with the outcome of each clip.

    Raises:
        InputError: an option, the engine or a network cannot be used, so that every clip would fail, or an output would
            overwrite an input.
    """
    options, folder = options or EvaluateOptions(), Path(folder)
    options = replace(options, reenact=replace(options.reenact, device=check_device(options.reenact.device)))
    load_protocol(options.protocol).check_clips(len(items))
    subject = _subject(options.reenact, None if results is None else Path(results), models)
    _check_outputs(items, folder, options)
    networks = networks or load_networks(options)
    run = EvaluationRun(folder, options, subject, networks, models=models, progress=progress)
    outcomes: list[ClipResult] = []
    for item in items:
        outcomes.append(run.run(item))
        if on_result is not None:
            on_result(outcomes[-1])
    report = Report.of_run(outcomes, options, subject.name, subject.weights, networks, is_drawn=subject.folder is None)
    write_report(report, folder, run.strips(outcomes))
    return report


def load_networks(options: EvaluateOptions) -> Networks:
    """The embedded tracker, with the open head whatever the engine, and the networks that the options name.

    Raises:
        InputError: one of them is not here.
    """
    device = options.reenact.device
    return Networks(
        tracker=Tracker(device),
        landmarker=FaceLandmarker(device),
        identity=None if options.identity is None else load_face_vectors(options.identity, device=device),
        perceptual=None if options.perceptual is None else PerceptualDistance(options.perceptual, device=device),
    )


def _subject(options: ReenactOptions, results: Path | None, models: Models | None) -> Subject:
    if results is not None:
        if not results.is_dir():
            raise InputError(f"expected a folder of results at {results}, there is none: check the path")
        return Subject(results.name, results, {})
    if models is not None:
        check_models(models, options)
        return Subject(models.engine.name, None, loaded_weights(models.engine))
    ensure_engine(options.engine)
    chosen = choose_engine(options.engine)
    check_choices(chosen, vars(options))
    return Subject(chosen.name, None, recorded_weights(chosen.name, weights=chosen.weights, flame=options.flame))


def _check_outputs(items: Sequence[EvaluationItem], folder: Path, options: EvaluateOptions) -> None:
    """Refuses outputs that would overwrite an input."""
    inputs = [path for item in items for path in (item.clip, item.source) if path is not None]
    inputs += [Path(name) for name in (options.reenact.flame, options.identity) if name is not None]
    outputs = [folder / name for name in ("report.json", "report.md", "sheet.png")]
    outputs += [folder / "strips" / f"{item.name}.png" for item in items]
    outputs += [folder / "records" / f"{item.name}.json" for item in items]
    check_no_input_among(outputs, [*inputs, *named_files(options.reenact.engine)])


def _write_strip(material: Material, item: EvaluationItem, path: Path) -> None:
    """The source and a few moments of truth (or driver) and result, over each other."""
    chosen = np.unique(np.linspace(0, len(material.truth) - 1, _STRIP_FRAMES).round().astype(int))
    rows = [[np.asarray(part[index]) for index in chosen] for part in (material.truth, material.results)]
    shown = "truth" if item.kind == "self" else "driver"
    labels = [f"{item.name}: source, {shown}", "result"]
    contact_sheet([[material.source, *rows[0]], [np.full_like(material.source, 255), *rows[1]]], path, labels)
