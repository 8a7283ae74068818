"""Carries the sound of a clip into another file; packets are copied untouched where the container allows it.

Sound stays in step with the pictures: time 0 is the start of the cut, counted from the first frame of the clip (from
the start of the sound in a file without pictures).
"""

import logging
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from preprocess.media.decode import is_cover, open_container
from preprocess.media.encodings import Encoding
from preprocess.media.time_stamps import clip_origin, exact

logger = logging.getLogger(__name__)

_RATES = {
    "aac": (48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000),
    "libopus": (48000, 24000, 16000, 12000, 8000),
}
"""Samples per second that each encoder takes."""
_LONGEST_STEP_SECONDS = 0.05  # a longer jump of the time stamps is a gap in the recording, filled with silence
_PREROLL_SECONDS = 0.05  # a decoder needs the packet before the cut; the player does not show it


class AudioFeed:
    """Moves the sound of one file into an open output, one stretch of time after another.

    Attributes:
        is_copied: whether packets are copied untouched.
        num_packets: packets of sound written so far.
        warnings: what was wrong with the sound so far, one sentence each.
    """

    def __init__(
        self,
        output: av.container.OutputContainer,
        path: Path,
        *,
        start: float,
        duration: float | None,
        encoding: Encoding,
    ) -> None:
        """Opens the sound of `path`.

        Args:
            output: the container to write to.
            path: the file with the sound.
            start: where the cut begins, in seconds.
            duration: of the cut in seconds; None takes the sound to its end.
            encoding: of the output, which says which sound it copies and what any other sound becomes.

        Raises:
            LookupError: the file has no sound that can be used.
        """
        self._path = path
        self.warnings: list[str] = []
        self._output = output
        self._end = duration
        self._input = _open_with_sound(path)
        try:
            self._stream = self._input.streams.audio[0]
            self._zero = self._find_zero() + Fraction(start)
            self.is_copied = _codec_name(self._stream) in encoding.copied_sound
            self._packets: Iterator[av.Packet]
            if self.is_copied:
                self._packets = self._copy(output.add_stream_from_template(self._stream))
            else:
                self._packets = self._transcode(_sound_stream(output, encoding, self._stream))
            self._seek(start)
        except BaseException:
            self._input.close()
            raise
        self._waiting: av.Packet | None = None
        self.num_packets = 0

    def feed(self, until: float) -> None:
        """Writes the sound that begins before `until` seconds of the output."""
        while True:
            packet = self._waiting or next(self._packets, None)
            self._waiting = None
            if packet is None:
                return
            if packet.pts is not None and packet.pts * packet.time_base >= until:
                self._waiting = packet
                return
            self._output.mux(packet)
            self.num_packets += 1

    def finish(self) -> None:
        """Writes all that is left."""
        self.feed(float("inf"))

    def close(self) -> None:
        """Closes the file the sound comes from."""
        self._packets = iter(())  # the generator refers to this object, and the cycle would delay freeing its memory
        self._input.close()

    def _find_zero(self) -> Fraction:
        videos = [stream for stream in self._input.streams.video if not is_cover(stream)]
        if videos:
            return clip_origin(videos[0])
        return (self._stream.start_time or 0) * (exact(self._stream.time_base) or Fraction(1))

    def _seek(self, start: float) -> None:
        if start > 1:
            self._input.seek(int((self._zero - Fraction(1, 2)) * av.time_base))

    def _demux(self) -> Iterator[av.Packet]:
        packets = self._input.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError as error:
                logger.info("%s: %s", self._path, error)
                self._warn(f"the sound of {self._path.name} is damaged or cut off: the rest is silent")
                return
            if packet is None:
                return
            yield packet

    def _warn(self, line: str) -> None:
        if line not in self.warnings:
            self.warnings.append(line)

    def _copy(self, stream: av.AudioStream) -> Iterator[av.Packet]:
        tick = exact(self._stream.time_base) or Fraction(1, 1000)
        shift = round(self._zero / tick)
        for packet in self._demux():
            if packet.dts is None or packet.pts is None:  # the flush packet of the reader holds no sound
                continue
            begin = float((packet.pts - shift) * tick)
            if begin + float((packet.duration or 0) * tick) < -_PREROLL_SECONDS:
                continue
            if self._end is not None and begin >= self._end:
                return
            packet.pts -= shift
            packet.dts -= shift
            packet.stream = stream
            yield packet

    def _transcode(self, stream: av.AudioStream) -> Iterator[av.Packet]:
        encoder = stream.codec_context
        written = -1
        for position, samples in self._decode(encoder.sample_rate, encoder.layout.name):
            if written < 0:
                written = position
            if position - written > _LONGEST_STEP_SECONDS * encoder.sample_rate:
                for silence in _silence(position - written, samples, encoder.sample_rate):
                    yield from stream.encode(_to_frame(silence, written, encoder))
                    written += silence.shape[1]
            if samples.shape[1]:
                yield from stream.encode(_to_frame(samples, written, encoder))
                written += samples.shape[1]
        yield from stream.encode(None)

    def _decode(self, sample_rate: int, layout: str) -> Iterator[tuple[int, np.ndarray]]:
        """Yields the position in the output of the first sample, and samples `float32 [channels, N]` of the cut."""
        resampler = av.AudioResampler(format="fltp", layout=layout, rate=sample_rate)
        last = None if self._end is None else round(self._end * sample_rate)
        first: int | None = None
        count = 0
        for packet in self._demux():
            try:
                frames = packet.decode()
            except av.FFmpegError as error:
                logger.info("%s: %s", self._path, error)
                self._warn(f"the sound of {self._path.name} has damaged places: they are skipped")
                continue
            for frame in frames:
                seconds = None if frame.pts is None else frame.pts * frame.time_base - self._zero
                for converted in resampler.resample(frame):
                    samples = converted.to_ndarray()
                    if first is None or (
                        seconds is not None
                        and seconds * sample_rate - (first + count) > _LONGEST_STEP_SECONDS * sample_rate
                    ):
                        first, count = round((seconds or 0) * sample_rate), 0
                    position = first + count
                    count += samples.shape[1]
                    if last is not None and position >= last:
                        return
                    skipped = max(0, -position)
                    yield position + skipped, samples[:, skipped : None if last is None else last - position]


def has_sound(path: Path) -> bool:
    """Whether a file has sound that can be read."""
    try:
        _open_with_sound(path).close()
    except LookupError:
        return False
    return True


def _open_with_sound(path: Path) -> av.container.InputContainer:
    try:
        container = open_container(path)
    except (av.FFmpegError, ValueError, OSError) as error:
        raise LookupError(f"{path}: no sound in this file") from error
    if not container.streams.audio or container.streams.audio[0].codec_context is None:
        container.close()
        raise LookupError(f"{path}: no sound that can be read in this file")
    return container


def _codec_name(stream: av.AudioStream) -> str:
    codec = stream.codec_context.codec
    return getattr(codec, "canonical_name", codec.name)  # one decoder of `mp3` is named `mp3float`


def _sound_stream(output: av.container.OutputContainer, encoding: Encoding, source: av.AudioStream) -> av.AudioStream:
    codec = encoding.sound_codec
    if codec is None:
        raise ValueError("expected an encoding with sound, got one without")
    wanted = source.codec_context.sample_rate or 48000
    rate = min(_RATES[codec], key=lambda rate: (rate < wanted, abs(rate - wanted)))
    stream = output.add_stream(codec, rate=rate)
    stream.codec_context.layout = "mono" if source.codec_context.channels == 1 else "stereo"
    stream.codec_context.bit_rate = 96_000 if source.codec_context.channels == 1 else 160_000
    return stream


def _silence(count: int, like: np.ndarray, sample_rate: int) -> Iterator[np.ndarray]:
    while count > 0:
        yield np.zeros((like.shape[0], min(count, sample_rate)), np.float32)
        count -= sample_rate


def _to_frame(samples: np.ndarray, position: int, encoder: av.AudioCodecContext) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout=encoder.layout.name)
    frame.sample_rate = encoder.sample_rate
    frame.pts = position
    frame.time_base = Fraction(1, encoder.sample_rate)
    return frame
