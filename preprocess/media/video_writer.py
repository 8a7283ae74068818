"""Writes videos that play in a browser, with the sound of another clip, and GIF.

PyAV is imported where it is used: what needs a name of this file only runs without it.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, cast

import numpy as np

from flame.errors import InputError
from preprocess.files.atomic import abort_atomic, begin_atomic, commit_atomic
from preprocess.files.disk import explain_full_disk
from preprocess.media.encoder_thread import EncoderThread, check_frame
from preprocess.media.encodings import DEFAULT_QUALITY, encoding_of
from preprocess.media.mark import mark, mark_gif
from preprocess.media.palette import PaletteFilter

if TYPE_CHECKING:
    import av

    from preprocess.media.audio import AudioFeed

logger = logging.getLogger(__name__)

_THREADS = min(4, os.cpu_count() or 1)
_BT709, _LIMITED_RANGE = 1, 1  # ITU-T H.273 numbers for the matrix, primaries and transfer; FFmpeg's for the range
_SECONDS_PER_KEY_FRAME = 2


class VideoWriter:
    """Context manager that encodes frames as they come; the file appears when the block ends without an exception.

    Videos are yuv420p, BT.709 limited range: H.264 with the index at the front, or VP9 (.webm). Odd sizes are padded by
    one repeated row or column, because 4:2:0 needs even ones. A GIF repeats for ever and counts time in hundredths of a
    second. Every file is marked as made by this program, see `preprocess.media.mark`. When the block raises (also on
    Ctrl-C) no file is left behind.

    Attributes:
        num_frames: frames written so far.
        has_audio: whether the finished file holds sound; known after the block.
        warnings: what was wrong with the sound, one sentence each; known after the block.
    """

    # ten parameters: a class for the three of the sound would make every call with sound longer
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
        quality: int = DEFAULT_QUALITY,
        has_alpha: bool = False,
        threaded: bool = True,
    ) -> None:
        """Prepares the writer; `with` opens the file.

        Args:
            path: the result; ends in one of `VIDEO_SUFFIXES`.
            height: of the frames that will be written.
            width: likewise.
            frame_rate: frames per second.
            audio_from: a clip whose sound is added, if it has any and the file can hold sound. AAC, MP3 and AC-3 are
                copied untouched, any other sound becomes AAC; in .webm, Opus and Vorbis are copied, others become Opus.
            audio_start: the second of that clip that falls on the first frame written.
            audio_duration: seconds of sound; None takes it to its end.
            quality: 1 to 100; GIF has none.
            has_alpha: whether frames hold opacity (.webm alone).
            threaded: whether to encode in a background thread, beside the caller's own work.
        """
        self.path = Path(path)
        self._encoding = encoding_of(self.path, quality=quality, has_alpha=has_alpha)
        self.height, self.width = height, width
        self.frame_rate = Fraction(frame_rate).limit_denominator(100_000)
        if height < 1 or width < 1 or self.frame_rate <= 0:
            raise ValueError(f"expected a size and a frame rate above 0, got {height} x {width}, {frame_rate}")
        self.num_frames = 0
        self.has_audio = False
        self.warnings: tuple[str, ...] = ()
        self._channels = 4 if has_alpha else 3
        self._audio_from = None if audio_from is None else Path(audio_from)
        self._audio_start, self._audio_duration = audio_start, audio_duration
        self._audio: AudioFeed | None = None
        self._palette: PaletteFilter | None = None
        self._encoder = EncoderThread(self._encode) if threaded else None

    def __enter__(self) -> VideoWriter:
        import av

        self._temporary = begin_atomic(self.path)
        try:
            self._container = av.open(str(self._temporary), "w", options=self._encoding.container_options)
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
        """Appends one frame, `uint8 [H, W, 3]` RGB (with opacity `[H, W, 4]`), which may change afterwards."""
        import av

        check_frame(image, (self.height, self.width, self._channels), index=self.num_frames)
        if self._encoding.is_yuv and (self.height % 2 or self.width % 2):
            image = np.pad(image, ((0, self.height % 2), (0, self.width % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(
            np.ascontiguousarray(image), format="rgba" if self._channels == 4 else "rgb24"
        )
        frame.pts, frame.time_base = self.num_frames, 1 / self.frame_rate
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
        encoding = self._encoding
        self._container.metadata["comment"] = mark()
        stream = cast("av.VideoStream", self._container.add_stream(encoding.codec, rate=self.frame_rate))
        stream.width, stream.height = self.width, self.height
        stream.pix_fmt = encoding.pixel_format
        stream.time_base = 1 / self.frame_rate
        context = stream.codec_context
        context.time_base = 1 / self.frame_rate
        context.thread_count = _THREADS
        context.options = encoding.options
        if encoding.is_yuv:
            stream.width, stream.height = self.width + self.width % 2, self.height + self.height % 2
            context.gop_size = max(1, round(self.frame_rate * _SECONDS_PER_KEY_FRAME))
            context.color_range = _LIMITED_RANGE
            context.colorspace = context.color_primaries = context.color_trc = _BT709
        if encoding.has_palette:
            self._palette = PaletteFilter(height=self.height, width=self.width, frame_rate=self.frame_rate)
        if self._channels == 4 and encoding.is_yuv:
            stream.metadata["alpha_mode"] = "1"  # how Matroska says that a track holds opacity
        self._stream = stream
        if self._audio_from is not None and encoding.sound_codec is not None:
            self._open_audio(self._audio_from)

    def _open_audio(self, path: Path) -> None:
        if path.is_dir():
            return  # a folder of pictures is silent
        if not path.exists():
            raise InputError(f"{path}: no such file; expected a clip whose sound is to be used")
        from preprocess.media.audio import AudioFeed

        try:
            self._audio = AudioFeed(
                self._container,
                path,
                start=self._audio_start,
                duration=self._audio_duration,
                encoding=self._encoding,
            )
        except LookupError as error:
            logger.info("%s", error)

    def _encode(self, frame: av.VideoFrame) -> None:
        index = frame.pts or 0
        with explain_full_disk(self.path):
            for converted in self._converted(frame):
                self._container.mux(self._stream.encode(converted))
            if self._audio is not None:
                self._audio.feed(float((index + 1) / self.frame_rate))

    def _converted(self, frame: av.VideoFrame) -> Iterable[av.VideoFrame]:
        """The frames in the encoder's pixel format that are ready after `frame`."""
        from av.video.reformatter import ColorRange, Colorspace, Interpolation

        if self._palette is not None:
            return self._palette(frame)
        if not self._encoding.is_yuv:
            converted = frame.reformat(format=self._encoding.pixel_format)
        else:
            converted = frame.reformat(
                format=self._encoding.pixel_format,
                src_colorspace=Colorspace.ITU709,
                dst_colorspace=Colorspace.ITU709,
                src_color_range=ColorRange.JPEG,
                dst_color_range=ColorRange.MPEG,
                interpolation=Interpolation.BICUBIC,  # faster than the default, and a tenth of a level nearer
            )
        converted.pts, converted.time_base = frame.pts, frame.time_base
        return (converted,)

    def _finish(self) -> None:
        if self.num_frames == 0:
            raise InputError(f"{self.path}: there is no frame to write")
        with explain_full_disk(self.path):
            for last in () if self._palette is None else self._palette(None):
                self._container.mux(self._stream.encode(last))
            # The last packets come out of the flush; one with `dts` None among them must be written too.
            self._container.mux(self._stream.encode(None))
            if self._audio is not None:
                self._audio.finish()
                self.has_audio = self._audio.num_packets > 0
                self.warnings = tuple(self._audio.warnings)
            self._container.close()
            if self._encoding.has_palette:  # the writer of GIF drops comments
                mark_gif(self._temporary)

    def _close(self) -> None:
        """Closes without raising: the file is either complete already or about to be removed."""
        import av

        self._encoder = None  # it refers to this object, and the cycle would delay freeing the encoder's memory
        with contextlib.suppress(av.FFmpegError, ValueError):
            self._container.close()
        if self._audio is not None:
            self._audio.close()
