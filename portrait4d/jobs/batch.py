"""Many sources by many drivers: each driver is tracked once, each source built once, finished items are kept.

An item is finished when its result and its record exist and the record's key is that of the present inputs and options.
The record, `records/NAME.json`, is written after the result; NAME may contain folders. Everything is written
atomically, so a run can be killed at any moment and repeated.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from flame.errors import InputError
from portrait4d.engines.abilities import check_choices
from portrait4d.engines.choose import choose_engine, ensure_engine, named_files
from portrait4d.engines.identity import loaded_weights, recorded_weights
from portrait4d.jobs.batch_items import BatchItem
from portrait4d.options import ReenactOptions, option_facts
from portrait4d.pipeline import Source, build_source, default_options, reenact_tracked, track_driver
from portrait4d.reenactment.driver import Driver
from portrait4d.reenactment.kept_track import driver_key
from portrait4d.reenactment.models import Models, check_models, load_models
from portrait4d.reenactment.request import check_request
from portrait4d.runtime.device import check_device
from portrait4d.runtime.progress import Progress, ignore_progress
from portrait4d.runtime.records import digest, file_facts, read_record, write_record
from preprocess.files.file_check import check_no_input_among
from preprocess.tracking.motion import Motion

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

_FORMAT = 1
"""Increased whenever results of an older program must not count as finished."""


@dataclass(frozen=True)
class BatchResult:
    """The outcome of an item: `done` now, `kept` from an earlier run, or `failed` with a reason in one line."""

    item: BatchItem
    state: Literal["done", "kept", "failed"]
    reason: str = ""
    num_frames: int = 0
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class BatchReport:
    """All results, in the order of the items."""

    results: tuple[BatchResult, ...]

    @property
    def num_failed(self) -> int:
        """Number of items without a result."""
        return sum(result.state == "failed" for result in self.results)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-ready values."""
        rows = []
        for result in self.results:
            row = {name: str(path) for name, path in asdict(result.item).items()}
            rows.append({**row, **{key: value for key, value in asdict(result).items() if key != "item"}})
        return {"num_items": len(rows), "num_failed": self.num_failed, "results": rows}


class BatchRun:
    """One pass over the items; what was loaded, built or tracked is used again for the next items."""

    def __init__(self, folder: Path, options: ReenactOptions, models: Models | None, progress: Progress) -> None:
        self._folder = folder
        self._options = options
        # Keys hold the engine that "auto" means now, which changes with the weights on this machine.
        if models is None:
            chosen = choose_engine(options.engine)
            engine = chosen.name
            self._weights = recorded_weights(engine, weights=chosen.weights, flame=options.flame)
        else:
            engine, self._weights = models.engine.name, loaded_weights(models.engine)
        self._keyed = replace(options, engine=engine)
        self._models = models
        self._progress = progress
        self._source: tuple[Path, Source | InputError] | None = None
        self._motions: dict[Path, InputError] = {}
        self._drivers: dict[tuple[Path, str], Driver] = {}

    def run(self, item: BatchItem) -> BatchResult:
        """Does one item unless it is finished; an item that fails is a result, not an exception.

        Raises:
            InputError: The models cannot be loaded, so that no item can be done.
        """
        found = self._explained(item, lambda: self._earlier(item))
        if isinstance(found, BatchResult):
            return found
        if self._models is None:
            self._models = load_models(self._options)
        models, (key, driver) = self._models, found
        return self._explained(item, lambda: self._reenact(item, key, driver, models))

    def _explained(self, item: BatchItem, work: Callable[[], Result]) -> Result | BatchResult:
        """Returns what `work` returns, or a failed item if it raises."""
        try:
            return work()
        except InputError as error:
            return BatchResult(item, "failed", str(error))
        except Exception as error:  # one item must not stop the others; report and exit code tell of it
            logger.exception("unexpected failure in %s", item.output.name)
            return BatchResult(item, "failed", f"unexpected {type(error).__name__}: {_first_line(error)}")

    def _earlier(self, item: BatchItem) -> BatchResult | tuple[str, Driver]:
        """The result of an item that is finished, otherwise its key and its driver."""
        key = item_key(item, self._keyed, weights=self._weights)
        earlier = read_record(record_path(item, self._folder))
        if earlier.get("key") == key and item.output.exists():
            return BatchResult(item, "kept", num_frames=int(earlier.get("num_frames", 0)))
        opened = check_request(item.source, item.driver, item.output, self._options)
        return key, self._known(opened)

    def _known(self, driver: Driver) -> Driver:
        """The driver as an earlier item opened it, unless its files have changed since then."""
        return self._drivers.setdefault((driver.path, digest(file_facts(driver.path))), driver)

    def _reenact(self, item: BatchItem, key: str, driver: Driver, models: Models) -> BatchResult:
        motion = self._motion(driver, models)
        source = self._built(item.source, models)
        report = reenact_tracked(
            source,
            motion,
            item.output,
            options=self._options,
            driver=driver,
            models=models,
            progress=self._progress,
        )
        write_record(record_path(item, self._folder), key, report.to_dict())
        return BatchResult(
            item, "done", num_frames=report.num_frames, seconds=report.seconds["total"], warnings=report.warnings
        )

    def _built(self, path: Path, models: Models) -> Source:
        """The source, built once for consecutive items; a failure is remembered as well."""
        if self._source is None or self._source[0] != path:
            try:
                self._source = (path, build_source(path, models=models, face=self._options.face))
            except InputError as error:
                self._source = (path, error)
        source = self._source[1]
        if isinstance(source, InputError):
            raise source
        return source

    def _motion(self, driver: Driver, models: Models) -> Motion:
        """The driver's motion, tracked once and kept in `motions/`."""
        path = driver.path
        if path in self._motions:
            raise self._motions[path]
        if driver.kind == "motion":
            return track_driver(driver, options=self._options, models=models)
        key = driver_key(path, self._options, models.engine)
        cached = self._folder / "motions" / f"{path.stem[:50]}-{key[:12]}.npz"  # the key makes the name unique
        if cached.is_file():
            try:
                return Motion.load(cached)
            except InputError as error:  # written by another version of this program
                logger.info("tracking %s again: %s", path.name, error)
        try:
            return track_driver(driver, cached, options=self._options, models=models, progress=self._progress)
        except InputError as error:
            self._motions[path] = error
            raise


def run_batch(
    items: Sequence[BatchItem],
    folder: str | Path,
    *,
    options: ReenactOptions | None = None,
    models: Models | None = None,
    progress: Progress = ignore_progress,
    on_result: Callable[[BatchResult], None] | None = None,
) -> BatchReport:
    """Does all items that are not finished; a bad item does not stop the others.

    Args:
        items: From `cross_items` or `read_manifest`.
        folder: The folder for `motions/` and `records/`.
        options: The options of all items.
        models: From `load_models`; if not given, loaded at the first unfinished item.
        progress: As in `reenact`.
        on_result: Called with the result of each item.

    Raises:
        InputError: An output is an input of some item, or the device, the engine, its weights or an option cannot be
            used, so that every item would fail.
    """
    folder, options = Path(folder), options or default_options(models)
    _check_outputs(items, options)
    check_device(options.device)
    ensure_engine(options.engine)
    if models is None:
        check_choices(choose_engine(options.engine), vars(options))
    else:
        check_models(models, options)
    run = BatchRun(folder, options, models, progress)
    order = sorted(range(len(items)), key=lambda index: (str(items[index].source), index))
    results: dict[int, BatchResult] = {}
    for index in order:
        results[index] = run.run(items[index])
        if on_result is not None:
            on_result(results[index])
    return BatchReport(tuple(results[index] for index in range(len(items))))


def _check_outputs(items: Sequence[BatchItem], options: ReenactOptions) -> None:
    """Refuses outputs that would overwrite an input of any item."""
    inputs = {path for item in items for path in (item.source, item.driver)}
    flame = [] if options.flame is None else [Path(options.flame)]
    check_no_input_among([item.output for item in items], [*inputs, *flame, *named_files(options.engine)])


def record_path(item: BatchItem, folder: Path) -> Path:
    """The path of an item's record: named like its output in the folder, or with a digest for an output elsewhere."""
    output = item.output.resolve()
    try:
        name = output.relative_to(folder.resolve())
    except ValueError:
        name = Path(f"{digest(str(output))[:12]}-{output.name}")
    return folder / "records" / name.with_name(f"{name.name}.json")


def item_key(item: BatchItem, options: ReenactOptions, *, weights: Mapping[str, str]) -> str:
    """A key of an item that changes with its input files, the options and the engine's weights.

    Args:
        item: Source and driver.
        options: Their `engine` is a name, never "auto" or a path.
        weights: From `recorded_weights` of that engine.
    """
    facts = {"source": file_facts(item.source), "driver": file_facts(item.driver), "format": _FORMAT}
    if options.audio is not None:
        facts["audio"] = file_facts(Path(options.audio))
    facts["weights"] = dict(weights)
    # without the path of the FLAME file: `weights` holds a digest of its content
    return digest({**facts, "options": option_facts(replace(options, device="any", flame=None))})


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0]
