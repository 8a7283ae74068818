"""One tab: its head, what drives it, its files and its work. Everything goes when the tab goes."""

from __future__ import annotations

import dataclasses
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from flame.errors import InputError
from portrait4d.live.by_hand import ByHand, check_names
from portrait4d.live.key_line import KeyLine
from portrait4d.live.puppet import Puppet
from portrait4d.live.worker import Answer, LiveWorker, Request
from portrait4d.options import ReenactOptions
from portrait4d.pipeline import Source, build_source, track_driver
from portrait4d.reenactment.driver import Driver
from portrait4d.reenactment.models import Models
from portrait4d.runtime.paths import is_avatar_file
from portrait4d.runtime.progress import Progress
from portrait4d.studio.camera import decode_camera
from portrait4d.studio.content import Kind, check_size
from portrait4d.studio.exports import MOVING, Shown, check_export, name_of_export, suffix_of_export, write_export
from portrait4d.studio.files import Clip
from portrait4d.studio.frames import frame_message
from portrait4d.studio.lanes import Duration, Lanes
from portrait4d.studio.limits import CLIP_SECONDS
from portrait4d.studio.messages import ChooseFace, Do, Draw, Said, SetHand, SetKeys, Settings, WantFile, hand_as_said
from portrait4d.studio.outbox import Outbox
from portrait4d.studio.sample import write_sample
from portrait4d.studio.take import Take
from portrait4d.studio.work import Job, Work
from preprocess.tracking.motion import Motion

NUM_RESULTS = 6
"""Files of a tab that can be downloaded; older ones are removed."""


@dataclass(frozen=True)
class Head:
    """What was made of a photo."""

    ready: Source
    worker: LiveWorker


class Session:
    """Called from the event loop, except where it says otherwise; `close` from anywhere.

    Attributes:
        name: what the page calls itself by when it sends files.
        results: files to download, by name.
    """

    def __init__(self, models: Models, outbox: Outbox, *, folder: Path, lanes: Lanes) -> None:
        self.name = secrets.token_urlsafe(12)
        self.folder = folder / self.name
        self.folder.mkdir(mode=0o700)
        self.results: dict[str, Path] = {}
        self._models, self._outbox = models, outbox
        self._work = Work(lanes, outbox)
        self._options = ReenactOptions(engine=models.engine.engine_option, device=models.device)
        self._by_hand = ByHand()
        self._line: KeyLine | None = None
        self._head: Head | None = None
        self._clip: Clip | None = None
        self._photo: Path | None = None
        self._take: Take | None = None
        self._last: tuple[Motion | None, Motion | None] = (None, None)  # what drove the last frame, and its neutral
        self._num_files = 0
        self._is_closed = False

    def next_number(self) -> int:
        """A number for a new file."""
        self._num_files += 1
        return self._num_files

    def hear(self, said: Said) -> None:
        """Does what the page says.

        Raises:
            InputError: it cannot be done; in one line.
        """
        match said:
            case SetHand(by_hand):
                check_names(by_hand, self._models.head_model)
                self._by_hand = by_hand
            case SetKeys(line):
                for pose in () if line is None else line.poses:
                    check_names(pose, self._models.head_model)
                self._line = line
            case Draw(stamp, index, seconds):
                self._draw(stamp, index, seconds)
            case Settings(values):
                self._options = dataclasses.replace(self._options, **values)
                if self._head is not None:
                    self._head.worker.puppet.options = self._options
            case ChooseFace(index):
                if self._photo is None:
                    raise InputError("expected a photo first, got none: send one")
                self._start_photo(self._photo, index)
            case WantFile():
                self._export(said)
            case Do(order):
                self._do(order)

    def _do(self, order: str) -> None:
        match order:
            case "hold_neutral":
                self._ready_head().worker.hold_neutral()
            case "new_driver":
                self._last = (None, None)
                self._ready_head().worker.forget_driver()
            case "cancel":
                self._work.cancel()
            case "sample":
                self._start_sample()
            case "record":
                self._ready_head()
                if self._work.is_waiting:
                    raise InputError("expected one recording at a time, and the last one is not finished: wait for it")
                if self._take is None:
                    self._take = Take(self.folder / f"take-{self.next_number()}.mp4")
            case "stop":
                take, self._take = self._take, None
                if take is not None:
                    take.stop()
                    job = Job("record", lambda progress: self._finish(take), take.drop, "seconds")
                    self._work.start(job, may_wait=True)  # else it would be lost

    def see(self, stamp: float, jpeg: bytes) -> None:
        """Takes a picture of the camera; its stamp is in milliseconds."""
        head = self._ready_head()
        decode = lambda: decode_camera(jpeg)  # noqa: E731
        head.worker.submit(Request(stamp, picture=decode, seconds=stamp / 1000, by_hand=self._by_hand))

    def _draw(self, stamp: float, index: int | None, seconds: float | None) -> None:
        head, clip = self._ready_head(), self._clip
        if seconds is not None and self._line is not None:
            (pose,) = self._line.at([seconds])
            self._outbox.say("pose", stamp=stamp, seconds=seconds, **hand_as_said(pose))
            return head.worker.submit(Request(stamp, by_hand=pose))
        if index is None or clip is None:
            return head.worker.submit(Request(stamp, by_hand=self._by_hand))
        row = min(index, len(clip.motion) - 1)
        motion = clip.motion[row : row + 1]
        head.worker.submit(Request(stamp, motion=motion, neutral=clip.motion, by_hand=self._by_hand))

    def _ready_head(self) -> Head:
        if self._head is None:
            raise InputError("expected a photo first, got none: send one")
        return self._head

    def load(self, kind: Kind, path: Path) -> None:
        """Has a received file loaded.

        Raises:
            InputError: the last work is not finished; the file is removed.
        """
        try:
            if kind == "photo":
                self._start_photo(path, 0)
            else:
                run = lambda progress: self._load_clip(path, progress)  # noqa: E731
                self._work.start(Job(kind, run, lambda: path.unlink(missing_ok=True), "minutes"))
        except InputError:
            path.unlink(missing_ok=True)
            raise

    def _start_photo(self, path: Path, face: int) -> None:
        def undo() -> None:
            if path != self._photo:
                path.unlink(missing_ok=True)

        self._work.start(Job("photo", lambda progress: self._load_photo(path, face, progress), undo, "seconds"))

    def _load_photo(self, path: Path, face: int, progress: Progress) -> None:
        """Runs on a thread of a lane."""
        with _naming_no(path):
            check_size(path, "photo")
            ready = build_source(path, models=self._models, face=face)
            picture = None if is_avatar_file(path) else ready.picture  # an avatar is of one face
            faces = [] if picture is None else self._models.tracker.face_boxes(picture)
        progress("photo", 1, 1)
        puppet = Puppet(ready.avatar, self._models, self._options)
        before = self._head
        self._head = Head(ready, LiveWorker(puppet, answer=self._show, taken=self._ask, failed=self._fail))
        if before is not None:
            before.worker.close()
        if self._photo not in (None, path):
            self._photo.unlink(missing_ok=True)
        self._photo = path
        if is_avatar_file(path):  # it has no other face to choose
            self._photo = None
            path.unlink(missing_ok=True)
        self._outbox.say("head", warnings=list(ready.avatar.warnings), faces=faces, face=face)

    def _start_sample(self) -> None:
        photo, motion = (self.folder / f"{self.next_number()}{suffix}" for suffix in (".png", ".npz"))

        def run(progress: Progress) -> None:
            is_moved = write_sample(photo, motion, self._models.engine)
            self._load_photo(photo, 0, progress)
            if is_moved:
                self._load_clip(motion, progress)

        def undo() -> None:
            motion.unlink(missing_ok=True)
            if photo != self._photo:
                photo.unlink(missing_ok=True)

        self._work.start(Job("photo", run, undo, "seconds"))

    def _load_clip(self, path: Path, progress: Progress) -> None:
        """Runs on a thread of a lane."""
        with _naming_no(path):
            check_size(path, "motion" if path.suffix == ".npz" else "clip")
            options = dataclasses.replace(self._options, duration=CLIP_SECONDS)
            driver = Driver.open(path, options)
            motion = track_driver(driver, options=options, models=self._models, progress=progress)
            motion.check_model(self._models.head_model)
        before, self._clip = self._clip, Clip(driver, motion)
        if before is not None:
            before.driver.path.unlink(missing_ok=True)
        cut = [f"only the first {CLIP_SECONDS:g} s are used"] if len(motion) / motion.frame_rate >= CLIP_SECONDS else []
        self._outbox.say(
            "clip", num_frames=len(motion), frame_rate=float(motion.frame_rate), warnings=[*motion.warnings, *cut],
            is_motion=driver.kind == "motion",
        )  # fmt: skip

    def _export(self, wanted: WantFile) -> None:
        head = self._ready_head()
        shown = Shown(head.ready, head.worker.puppet, self._by_hand, self._line, self._clip, self._last, self._options)
        check_export(wanted, shown)
        path = self.folder / f"{self.next_number()}.{suffix_of_export(wanted)}"

        def write(progress: Progress) -> None:
            for line in write_export(path, wanted, shown, models=self._models, progress=progress):
                self._outbox.say("warning", text=line)
            self._offer(path, name_of_export(wanted, self.results))

        duration: Duration = "minutes" if wanted.what in MOVING else "seconds"
        self._work.start(Job("export", write, lambda: path.unlink(missing_ok=True), duration))

    def _finish(self, take: Take) -> None:
        """Runs on a thread of a lane."""
        with _naming_no(take.path):
            num_frames = take.finish()
        if num_frames == 0:
            raise InputError("nothing was drawn while recording: move something, then stop")
        if take.num_left_out:
            self._outbox.say("warning", text=f"{take.num_left_out} drawn frames are not in it: writing was too slow")
        self._offer(take.path, f"portrait4d-{take.path.name}")
        motion = take.motion()
        if motion is not None:
            path = take.path.with_suffix(".npz")
            motion.save(path)
            self._offer(path, f"portrait4d-{path.name}")

    def _offer(self, path: Path, name: str) -> None:
        """Lets the page download a file."""
        self.results[name] = path
        while len(self.results) > NUM_RESULTS:
            self.results.pop(next(iter(self.results))).unlink(missing_ok=True)
        self._outbox.say("file", name=name, num_bytes=path.stat().st_size)

    def _show(self, answer: Answer) -> None:
        """Sends a drawn frame; runs on the drawing thread."""
        self._last = (answer.motion, answer.request.neutral)
        take = self._take
        if take is not None:
            take.add(answer)
            if take.is_over:
                self._outbox.say("full")
        self._outbox.show(lambda: frame_message(answer))

    def _ask(self, request: Request) -> None:
        """Tells the page that the next request can come; runs on the tracking thread."""
        self._outbox.say("next", stamp=request.stamp)

    def _fail(self, request: Request, error: Exception) -> None:
        self._outbox.say("error", text=str(error), stamp=request.stamp)

    def close(self) -> None:
        """Ends threads and work, and removes all files."""
        if self._is_closed:
            return
        self._is_closed = True
        self._work.end()
        if self._head is not None:
            self._head.worker.close()
        if self._take is not None:
            self._take.drop()
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def _naming_no(path: Path) -> Iterator[None]:
    """Takes out of an error where the file lies here, which means nothing to the page."""
    try:
        yield
    except InputError as error:
        raise InputError(str(error).replace(str(path), "the file").replace(path.name, "the file")) from error
