"""Writes H.264 video that plays in a browser, with the sound of another clip.

PyAV is imported where it is used: what needs a name of this file only runs without it.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import queue
import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from flame.errors import InputError
from preprocess.files.atomic import abort_atomic, begin_atomic, commit_atomic

if TYPE_CHECKING:
    import av

    from preprocess.media.audio import AudioFeed

logger = logging.getLogger(__name__)

SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv")
"""Suffixes of the containers that can be written."""

# At 512 x 512 a frame of a speaker costs 9 ms of CPU with `veryfast`, 6.5 ms with `superfast` (file 20 % larger at the
# same quality), 4 ms with `ultrafast` (2.2 times larger); the renderer needs the same cores.
_PRESET = "superfast"
_THREADS = min(4, os.cpu_count() or 1)
_QUEUE_LENGTH = 4  # frames waiting for the encoder; more would only cost memory
_BT709, _LIMITED_RANGE = 1, 1  # ITU-T H.273 numbers for the matrix, primaries and transfer; FFmpeg's for the range
_SECONDS_PER_KEY_FRAME = 2


class VideoWriter:
    """Context manager that encodes frames as they come; the file appears when the block ends without an exception.

    The video is H.264, yuv420p, BT.709 limited range, with the index at the front. When the block raises (also on
    Ctrl-C) no file is left behind. Odd sizes are padded by one repeated row or column, because 4:2:0 needs even ones.

    Attributes:
        num_frames: frames written so far.
        has_audio: whether the finished file holds sound; known after the block.
        warnings: what was wrong with the sound, one sentence each; known after the block.
    """

    # nine parameters: a class for the three of the sound would make every call with sound longer
    def __init__(
        self,
        path: str | Path,
        *,
        height: int,
        width: int,
        frame_rate: Fraction | float | int,
        audio_from: str | Path | None = None,
        audio_start: float = 0.0,
        audio_duration: float | None = None,
        crf: int = 18,
        threaded: bool = True,
    ) -> None:
        """Prepares the writer; `with` opens the file.

        Args:
            path: the result; ends in .mp4, .m4v, .mov or .mkv.
            height: of the frames that will be written.
            width: likewise.
            frame_rate: frames per second.
            audio_from: a clip whose sound is added, if it has any. AAC, MP3 and AC-3 are copied untouched, any other
                sound becomes AAC.
            audio_start: the second of that clip that falls on the first frame written.
            audio_duration: seconds of sound; None takes it to its end.
            crf: quality of x264, 0 (lossless) to 51; 18 is hard to tell from the original.
            threaded: whether to encode in a background thread, beside the caller's own work.
        """
        self.path = Path(path)
        if self.path.suffix.lower() not in SUFFIXES:
            raise InputError(
                f"{path}: cannot write this kind of video; expected a name ending in {', '.join(SUFFIXES)}"
            )
        self.height, self.width = height, width
        self.frame_rate = Fraction(frame_rate).limit_denominator(100_000)
        if height < 1 or width < 1 or self.frame_rate <= 0:
            raise ValueError(f"expected a size and a frame rate above 0, got {height} x {width}, {frame_rate}")
        self.num_frames = 0
        self.has_audio = False
        self.warnings: tuple[str, ...] = ()
        self._crf = crf
        self._audio_from = None if audio_from is None else Path(audio_from)
        self._audio_start, self._audio_duration = audio_start, audio_duration
        self._audio: AudioFeed | None = None
        self._encoder = _EncoderThread(self._encode) if threaded else None

    def __enter__(self) -> VideoWriter:
        import av

        self._temporary = begin_atomic(self.path)
        try:
            options = {} if self.path.suffix.lower() == ".mkv" else {"movflags": "+faststart"}
            self._container = av.open(str(self._temporary), "w", options=options)
            try:
                self._open_streams()
            except BaseException:
                self._close()
                raise
        except BaseException:
            abort_atomic(self._temporary)
            raise
        return self

    def write(self, image: np.ndarray) -> None:
        """Appends one frame, `uint8 [H, W, 3]` RGB, which the caller may change afterwards."""
        import av

        if image.shape != (self.height, self.width, 3) or image.dtype != np.uint8:
            raise ValueError(
                f"expected uint8 [{self.height}, {self.width}, 3], got {image.dtype} {list(image.shape)} "
                f"as frame {self.num_frames}"
            )
        if self.height % 2 or self.width % 2:
            image = np.pad(image, ((0, self.height % 2), (0, self.width % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame.pts = self.num_frames
        self.num_frames += 1
        if self._encoder is None:
            self._encode(frame)
        else:
            self._encoder.put(frame)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if self._encoder is not None:
                self._encoder.stop(discard=kind is not None)
            if kind is None:
                self._finish()
                commit_atomic(self._temporary, self.path)
        except BaseException:  # e.g. a second Ctrl-C: the thread must not write to a file that is being closed
            if self._encoder is not None:
                self._encoder.stop(discard=True)
            raise
        finally:
            self._close()
            abort_atomic(self._temporary)

    def _open_streams(self) -> None:
        stream = self._container.add_stream("libx264", rate=self.frame_rate)
        stream.width = self.width + self.width % 2
        stream.height = self.height + self.height % 2
        stream.pix_fmt = "yuv420p"
        stream.time_base = 1 / self.frame_rate
        context = stream.codec_context
        context.time_base = 1 / self.frame_rate
        context.thread_count = _THREADS
        context.gop_size = max(1, round(self.frame_rate * _SECONDS_PER_KEY_FRAME))
        context.color_range = _LIMITED_RANGE
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.options = {"preset": _PRESET, "crf": str(self._crf)}
        self._stream = stream
        if self._audio_from is not None:
            self._open_audio(self._audio_from)

    def _open_audio(self, path: Path) -> None:
        if path.is_dir():
            return  # a folder of pictures is silent
        if not path.exists():
            raise InputError(f"{path}: no such file; expected a clip whose sound is to be used")
        from preprocess.media.audio import AudioFeed

        try:
            self._audio = AudioFeed(self._container, path, start=self._audio_start, duration=self._audio_duration)
        except LookupError as error:
            logger.info("%s", error)

    def _encode(self, frame: av.VideoFrame) -> None:
        from av.video.reformatter import ColorRange, Colorspace, Interpolation

        index = frame.pts or 0
        converted = frame.reformat(
            format="yuv420p",
            src_colorspace=Colorspace.ITU709,
            dst_colorspace=Colorspace.ITU709,
            src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.MPEG,
            interpolation=Interpolation.BICUBIC,  # faster than the default, and a tenth of a level nearer
        )
        converted.pts = index
        converted.time_base = 1 / self.frame_rate
        with self._explain_full_disk():
            self._container.mux(self._stream.encode(converted))
            if self._audio is not None:
                self._audio.feed(float((index + 1) / self.frame_rate))

    def _finish(self) -> None:
        if self.num_frames == 0:
            raise InputError(f"{self.path}: there is no frame to write")
        with self._explain_full_disk():
            # The last packets come out of the flush; one with `dts` None among them must be written too.
            self._container.mux(self._stream.encode(None))
            if self._audio is not None:
                self._audio.finish()
                self.has_audio = self._audio.num_packets > 0
                self.warnings = tuple(self._audio.warnings)
            self._container.close()

    def _close(self) -> None:
        """Closes without raising: the file is either complete already or about to be removed."""
        import av

        self._encoder = None  # it refers to this object, and the cycle would delay freeing the encoder's memory
        with contextlib.suppress(av.FFmpegError, ValueError):
            self._container.close()
        if self._audio is not None:
            self._audio.close()

    @contextlib.contextmanager
    def _explain_full_disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise InputError(f"{self.path}: the disk is full; make room or choose another output") from error
            raise


class _EncoderThread:
    """Runs `encode` on frames in order in one background thread, behind a short queue."""

    def __init__(self, encode: Callable[[av.VideoFrame], None]) -> None:
        self._encode = encode
        self._frames: queue.Queue[av.VideoFrame | None] = queue.Queue(_QUEUE_LENGTH)
        self._error: BaseException | None = None
        self._discard = threading.Event()
        self._thread: threading.Thread | None = None

    def put(self, frame: av.VideoFrame) -> None:
        """Hands over a frame; raises what the encoder raised on an earlier one."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="video-encoder", daemon=True)
            self._thread.start()
        if self._error is not None:
            raise self._error
        self._frames.put(frame)

    def stop(self, *, discard: bool) -> None:
        """Waits until all frames are encoded, or drops those that wait."""
        if discard:
            self._discard.set()
        if self._thread is not None:
            self._frames.put(None)
            if self._thread.is_alive():  # false if Ctrl-C came while it was being started
                self._thread.join()
        if self._error is not None and not discard:
            raise self._error

    def _run(self) -> None:
        while (frame := self._frames.get()) is not None:
            if self._error is not None or self._discard.is_set():
                continue  # keep emptying the queue, so that the caller never blocks on it
            try:
                self._encode(frame)
            except BaseException as error:  # raised again in the caller's thread
                self._error = error
