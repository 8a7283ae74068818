"""Live driving without a browser: a camera or a clip drives the head of a photo on a screen or into a video."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from flame.errors import InputError
from portrait4d.engines.choose import named_files
from portrait4d.jobs.live_options import LiveOptions
from portrait4d.jobs.live_pictures import Pictures, camera_pictures, clip_pictures
from portrait4d.jobs.live_screens import LiveScreen, open_screen
from portrait4d.live.meter import Rates
from portrait4d.live.puppet import Puppet
from portrait4d.live.recorder import Recorder
from portrait4d.live.worker import Answer, LiveWorker, Request
from portrait4d.pipeline import build_source
from portrait4d.reenactment.models import load_models
from portrait4d.runtime.paths import check_output, require_file
from portrait4d.runtime.progress import Progress, ignore_progress
from portrait4d.runtime.streams import one_torch_thread
from preprocess.files.file_check import check_not_input
from preprocess.media.encodings import VIDEO_SUFFIXES

logger = logging.getLogger(__name__)

SCREEN_RATE = 25.0


@dataclass(frozen=True)
class LiveReport:
    """What a live session was.

    Attributes:
        engine: name of the engine.
        num_frames: frames that were drawn.
        num_dropped: pictures of the driver that a newer one replaced.
        num_lost: drawn frames whose picture did not show the driver; the last pose was held.
        frames_per_second: of the last ten seconds.
        p50_ms: median time from a picture to its drawn frame in the last ten seconds; None without frames.
        p95_ms: what 95 of 100 frames stay below.
        seconds: length of the session.
        record: the video that was written, if one was.
        num_left_out: drawn frames that are not in the recording, because writing was too slow; the one before stays.
        warnings: what makes the photo hard for the engine.
    """

    engine: str
    num_frames: int
    num_dropped: int
    num_lost: int
    frames_per_second: float
    p50_ms: float | None
    p95_ms: float | None
    seconds: float
    record: str | None
    num_left_out: int
    warnings: tuple[str, ...]


class LiveStopped(KeyboardInterrupt):
    """Ctrl-C ended a session. Its recording is kept.

    Attributes:
        report: as of a session that ended by itself.
    """

    def __init__(self, report: LiveReport) -> None:
        super().__init__()
        self.report = report


@one_torch_thread()
def run_live(
    source: str | Path,
    clip: str | Path | None = None,
    *,
    camera: int | None = None,
    record: str | Path | None = None,
    options: LiveOptions | None = None,
    progress: Progress = ignore_progress,
) -> LiveReport:
    """Drives the head of a photo or avatar file until the clip ends, the time is over, or the window is closed.

    Args:
        source: photo or avatar file.
        clip: the driver, at its own speed; or
        camera: the number of a camera.
        record: video to write, with the frames that were drawn.
        options: everything else.
        progress: called with "load", then with "live" after each frame.

    Raises:
        InputError: a file, camera or screen cannot be used, or the recording failed; nothing is written.
        LiveStopped: Ctrl-C after the first frame; the recording up to there is written.
    """
    options = options or LiveOptions()
    _check(source, clip, camera, record, options)
    pictures = camera_pictures(camera or 0) if clip is None else clip_pictures(clip)
    with closing(pictures):  # pyright: ignore[reportArgumentType]
        screen = open_screen(options.show, frames_per_second=SCREEN_RATE)
        with closing(screen):
            progress("load", 0, None)
            models = load_models(options)
            avatar = build_source(source, models=models, face=options.face).avatar
            puppet = Puppet(avatar, models, options, face=options.driver_face)
            is_mirrored = clip is None if options.is_mirrored is None else options.is_mirrored
            with Recorder(record) if record is not None else nullcontext() as recorder:
                session = _Session(puppet, screen, recorder, progress, is_seen=options.show != "nothing")
                try:
                    session.run(pictures, seconds=options.seconds, is_mirrored=is_mirrored)
                except KeyboardInterrupt:  # the usual end of a camera: what was recorded counts
                    session.is_stopped = True
    report = session.report(avatar.engine, record, tuple(avatar.warnings))
    if not session.is_stopped:
        return report
    raise LiveStopped(report) if report.num_frames else KeyboardInterrupt


def _check(
    source: str | Path, clip: str | Path | None, camera: int | None, record: str | Path | None, options: LiveOptions
) -> None:
    require_file(Path(source), "source")
    if (clip is None) == (camera is None):
        raise InputError("expected a clip or --camera, got " + ("none of both" if clip is None else "both"))
    if record is None and options.show == "nothing":
        raise InputError("expected --record where nothing is shown, got none: nobody would see the result")
    if record is not None:
        check_output(Path(record), frozenset(VIDEO_SUFFIXES))
        check_not_input(record, source, clip, options.flame, *named_files(options.engine))
    if camera is not None and options.show != "window" and options.seconds is None and record is not None:
        raise InputError("expected --seconds for a recording without a window, got none: a camera never ends")


class _Session:
    """One run: pictures go to the worker, the newest drawn frame to screen and recorder."""

    def __init__(
        self, puppet: Puppet, screen: LiveScreen, recorder: Recorder | None, progress: Progress, *, is_seen: bool
    ) -> None:
        self._puppet, self._screen, self._recorder, self._progress = puppet, screen, recorder, progress
        self._is_seen = is_seen
        self.is_stopped = self._is_recording_lost = False
        self._lock = Lock()
        self._shown: NDArray[np.uint8] | None = None
        self._error: Exception | None = None
        self._num_drawn = self._num_lost = self._num_submitted = 0
        self._seconds, self._rates, self._num_dropped = 0.0, Rates(0.0, None, None, 0), 0

    def run(self, pictures: Pictures, *, seconds: float | None, is_mirrored: bool) -> None:
        with ExitStack() as stack:
            worker = stack.enter_context(
                LiveWorker(self._puppet, answer=self._answer, failed=lambda request, error: self._fail(error))
            )
            stack.callback(self._measure, worker)
            for now, picture in pictures:
                if seconds is not None and now >= seconds:
                    break
                self._seconds = now
                if picture is not None:
                    seen = np.ascontiguousarray(picture[:, ::-1]) if is_mirrored else picture
                    worker.submit(Request(now, picture=lambda seen=seen: seen, seconds=now))
                    self._num_submitted += 1
                if not self._show(worker):
                    break
            self._wait_for_last(worker)

    def _measure(self, worker: LiveWorker) -> None:
        self._rates, self._num_dropped = worker.meter.rates(), worker.num_dropped

    def _wait_for_last(self, worker: LiveWorker) -> None:
        """Waits until every picture is drawn or dropped, so that the end of a clip is in the recording."""
        while self._num_drawn + worker.num_dropped < self._num_submitted:
            if not self._show(worker):
                return
            time.sleep(0.01)

    def _show(self, worker: LiveWorker) -> bool:
        """Shows the newest frame; returns whether to go on."""
        with self._lock:
            image, self._shown, error = self._shown, None, self._error
        if error is not None:
            raise error
        self._tell_failed_recording()
        key = self._screen.show(image)
        if key == "n":
            worker.hold_neutral()
        return key != "q"

    def _tell_failed_recording(self) -> None:
        """Says so once and goes on for who watches; the end of the session raises it."""
        error = None if self._recorder is None else self._recorder.error
        if error is None or self._is_recording_lost:
            return
        if not self._is_seen:
            raise error
        self._is_recording_lost = True
        logger.warning("nothing is recorded any longer: %s", error)

    def _answer(self, answer: Answer) -> None:
        if self._recorder is not None:
            self._recorder.add(answer.image, answer.request.stamp)
        with self._lock:
            self._shown = answer.image
            self._num_drawn += 1
            self._num_lost += answer.is_lost
        self._progress("live", self._num_drawn, None)

    def _fail(self, error: Exception) -> None:
        with self._lock:
            self._error = error

    def report(self, engine: str, record: str | Path | None, warnings: tuple[str, ...]) -> LiveReport:
        rates = self._rates
        return LiveReport(
            engine=engine,
            num_frames=self._num_drawn,
            num_dropped=self._num_dropped,
            num_lost=self._num_lost,
            frames_per_second=rates.frames_per_second,
            p50_ms=rates.p50_ms,
            p95_ms=rates.p95_ms,
            seconds=self._seconds,
            record=None if record is None or not self._num_drawn else str(record),
            num_left_out=0 if self._recorder is None else self._recorder.num_left_out,
            warnings=warnings,
        )
