"""A training from the first step or the last checkpoint to its end: reports, pictures, checkpoints, orderly stops."""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from portrait4d.train.board import Board
from portrait4d.train.checkpoint import SavedRun, list_states, prune_states, restore_state, save_state
from portrait4d.train.run_folder import BOARD, RunFolder
from portrait4d.train.statistics import Meter
from portrait4d.train.trainer import Trainer
from portrait4d.train.watch import Watch

Told = Callable[[Mapping[str, Any]], None]
"""Called with each row of statistics."""


@dataclass(frozen=True)
class RunReport:
    """How a training ended.

    Attributes:
        images_seen: samples so far.
        is_finished: all samples of the configuration were seen; otherwise it was stopped and can resume.
        resumed_at: images of the checkpoint that it began with, 0 for none.
        seconds: of all runs in the folder.
        cpu_seconds: of all threads of the first process, over the same.
    """

    images_seen: int
    is_finished: bool
    resumed_at: int
    seconds: float
    cpu_seconds: float


def run_training(
    trainer: Trainer, folder: RunFolder, *, told: Told | None = None, stepped: Callable[[int], None] | None = None
) -> RunReport:
    """Trains until the configuration's number of images, or until SIGTERM or Ctrl-C; resumes from the last checkpoint.

    Args:
        trainer: at its start.
        folder: of the run.
        told: called with each row of statistics.
        stepped: called with the images seen after each step, and after the checkpoint that is due then.

    Raises:
        InputError: a checkpoint is damaged, the disk is full, gradients were not finite too often, a process was lost.
    """
    run, config, is_first = _Clock(), trainer.config, trainer.workers.is_first
    saved = list_states(folder.checkpoints) if folder.checkpoints.is_dir() else []
    if saved:
        restore_state(saved[-1], trainer)
        run.before = saved[-1].seconds, saved[-1].cpu_seconds
    resumed_at = trainer.images_seen
    trainer.workers.wait(trainer.device)  # all have looked into the folder
    watch = Watch(_begin(folder, trainer) if is_first else [])
    meter, marks = Meter(trainer), _Marks(trainer, folder)
    if saved:
        marks.resume(saved[-1], is_good=not watch.is_troubled)
    if is_first and not saved:
        marks.draw_grid()
    board = Board(folder.path / BOARD, is_wanted=config.is_tensorboard and is_first)
    with board, _stop_requests() as is_stop_requested:
        is_stopped = False
        while trainer.images_seen < config.total_images and not is_stopped:
            meter.add(trainer.step())
            is_stopped = trainer.workers.any(is_stop_requested(), trainer.device)
            is_last = is_stopped or trainer.images_seen >= config.total_images
            is_grid_due = marks.is_due(config.grid_images)
            if marks.is_due(config.report_images) or is_grid_due or is_last:
                row = meter.row(run.seconds, run.cpu_seconds)
                if is_grid_due and is_first:
                    row |= marks.draw_grid()
                if alarms := watch.look(row):
                    row["alarms"] = alarms
                    marks.keep_last_good()
                if is_first:
                    folder.add_row(row)
                    board.add_row(row)
                    (told or _ignore)(row)
            if is_last or marks.is_checkpoint_due():
                marks.save(run, is_good=not watch.is_troubled)
            marks.advance()
            (stepped or _ignore)(trainer.images_seen)
    is_finished = trainer.images_seen >= config.total_images
    return RunReport(trainer.images_seen, is_finished, resumed_at, run.seconds, run.cpu_seconds)


class _Clock:
    """Seconds of a run over all its processes' lives.

    Attributes:
        before: wall and CPU seconds before this process.
    """

    def __init__(self) -> None:
        self.before = 0.0, 0.0
        self._began = time.monotonic(), time.process_time()

    @property
    def seconds(self) -> float:
        return self.before[0] + time.monotonic() - self._began[0]

    @property
    def cpu_seconds(self) -> float:
        return self.before[1] + time.process_time() - self._began[1]


class _Marks:
    """What falls due as images pass.

    Attributes:
        good_images: images of the newest checkpoint that was made while nothing was wrong; None without one.
        kept_images: the same at the newest alarm; that checkpoint is never removed.
    """

    def __init__(self, trainer: Trainer, folder: RunFolder) -> None:
        self.trainer, self.folder = trainer, folder
        self.last_images, self.last_save = trainer.images_seen, time.monotonic()
        self.last_saved_images = trainer.images_seen
        self.good_images: int | None = None
        self.kept_images: int | None = None

    def resume(self, saved: SavedRun, *, is_good: bool) -> None:
        """Continues from a checkpoint, made while nothing was wrong or not."""
        self.kept_images = saved.last_good
        self.good_images = saved.images_seen if is_good else saved.last_good

    def keep_last_good(self) -> None:
        """Keeps the newest good checkpoint for good; called at an alarm."""
        self.kept_images = self.good_images

    def is_due(self, interval: int) -> bool:
        """Whether a multiple of the interval was passed in the last step."""
        return interval > 0 and self.trainer.images_seen // interval > self.last_images // interval

    def is_checkpoint_due(self) -> bool:
        """By images or by the clock; all processes agree."""
        config = self.trainer.config
        is_late = time.monotonic() - self.last_save >= config.checkpoint_seconds
        return self.is_due(config.checkpoint_images) or self.trainer.workers.any(is_late, self.trainer.device)

    def advance(self) -> None:
        self.last_images = self.trainer.images_seen

    def draw_grid(self) -> dict[str, float]:
        """Writes the picture of fixed samples; returns what a row of statistics tells of it."""
        averages = {name: average.network for name, average in self.trainer.averages.items()}
        picture = self.trainer.task.draw_grid(averages)
        if picture is not None:
            self.folder.write_grid(self.trainer.images_seen, picture)
        distance = self.trainer.task.grid_distance(averages)
        return {} if distance is None else {"grid_distance": float(f"{distance:.6g}")}

    def save(self, clock: _Clock, *, is_good: bool) -> None:
        """Writes a checkpoint in the first process, while the others wait."""
        config = self.trainer.config
        if self.trainer.workers.is_first and self.trainer.images_seen > self.last_saved_images:
            if is_good:
                self.good_images = self.trainer.images_seen
            save_state(
                self.folder.checkpoints,
                self.trainer,
                seconds=clock.seconds,
                cpu_seconds=clock.cpu_seconds,
                last_good=self.kept_images,
            )
            prune_states(
                self.folder.checkpoints,
                keep_last=config.keep_last,
                keep_every_images=config.keep_every_images,
                last_good=self.kept_images,
            )
        self.trainer.workers.wait(self.trainer.device)
        self.last_save, self.last_saved_images = time.monotonic(), self.trainer.images_seen


@contextmanager
def _stop_requests() -> Iterator[Callable[[], bool]]:
    """Whether SIGTERM or Ctrl-C came: the step in progress is finished and saved. A second one ends at once.

    Only a program's main thread is told of them.
    """
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return

    def note(number: int, frame: FrameType | None) -> None:
        del frame
        if came:
            raise KeyboardInterrupt
        came.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _begin(folder: RunFolder, trainer: Trainer) -> list[dict[str, Any]]:
    """Writes what the run is; returns its statistics so far."""
    folder.begin(trainer.task.describe())
    return folder.keep_rows_until(trainer.images_seen)


def _ignore(told: object) -> None:
    del told
