"""Writes animated WebP with opacity, frame by frame: the container of RFC 9649 around stills that Pillow encodes.

FFmpeg's encoder of animations drops opacity (PyAV 18), and Pillow's takes all frames at once. Here memory does not grow
with the length. Frames are stored whole, not as changes of the last one; of a moving head that saves little.
"""

from __future__ import annotations

import io
import struct
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np
from PIL import Image

from flame.errors import InputError
from preprocess.files.atomic import abort_atomic, begin_atomic, commit_atomic
from preprocess.files.disk import explain_full_disk
from preprocess.media.encoder_thread import EncoderThread, check_frame
from preprocess.media.encodings import DEFAULT_QUALITY
from preprocess.media.mark import xmp

_HAS_ANIMATION, _HAS_XMP, _HAS_ALPHA = 0x02, 0x04, 0x10  # flags of VP8X
_NO_BLEND = 0x02  # flag of ANMF: a frame replaces the last one, also where it is transparent
_LARGEST_SIDE = 1 << 14
_METHOD = 1  # 0 to 6; each step halves the speed for a few per cent of size
_BITSTREAMS = (b"ALPH", b"VP8 ", b"VP8L")


class WebpWriter:
    """Context manager that encodes frames as they come; the file appears when the block ends without an exception.

    It repeats for ever and counts time in milliseconds. It is marked as made by this program.

    Attributes:
        num_frames: frames written so far.
        has_audio: False: WebP knows no sound.
        warnings: none.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        height: int,
        width: int,
        frame_rate: Fraction | float | int,
        quality: int = DEFAULT_QUALITY,
        has_alpha: bool = False,
    ) -> None:
        """Prepares the writer; `with` opens the file.

        Args:
            path: the result, `.webp`.
            height: of the frames that will be written, at most 16384.
            width: likewise.
            frame_rate: frames per second.
            quality: 1 to 100.
            has_alpha: whether frames hold opacity.

        Raises:
            InputError: the frames are too large for WebP.
        """
        if max(height, width) >= _LARGEST_SIDE:
            raise InputError(f"{path}: WebP holds at most {_LARGEST_SIDE - 1} pixels a side, got {height} x {width}")
        self.path, self.height, self.width = Path(path), height, width
        self.num_frames, self.has_audio, self.warnings = 0, False, ()
        self._frame_rate = Fraction(frame_rate).limit_denominator(100_000)
        self._quality, self._channels = quality, 4 if has_alpha else 3
        self._file: BinaryIO | None = None
        self._encoder = EncoderThread(self._encode)

    def __enter__(self) -> WebpWriter:
        self._temporary = begin_atomic(self.path)
        try:
            self._file = self._temporary.open("wb")
            flags = _HAS_ANIMATION | _HAS_XMP | (_HAS_ALPHA if self._channels == 4 else 0)
            self._file.write(b"RIFF\0\0\0\0WEBP")
            canvas = struct.pack("<I", flags) + _uint24(self.width - 1) + _uint24(self.height - 1)
            self._file.write(_chunk(b"VP8X", canvas) + _chunk(b"ANIM", struct.pack("<IH", 0, 0)))
        except BaseException:
            self._close()
            raise
        return self

    def write(self, image: np.ndarray) -> None:
        """Appends one frame, `uint8 [H, W, 3]` RGB, or `[H, W, 4]` with opacity."""
        check_frame(image, (self.height, self.width, self._channels), index=self.num_frames)
        self._encoder.put((self.num_frames, image.copy()))
        self.num_frames += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._encoder.stop(discard=kind is not None)
            if kind is None:
                self._finish()
                commit_atomic(self._temporary, self.path)
        except BaseException:  # e.g. a second Ctrl-C
            self._encoder.stop(discard=True)
            raise
        finally:
            self._close()

    def _encode(self, numbered: tuple[int, np.ndarray]) -> None:
        index, image = numbered
        still = io.BytesIO()
        Image.fromarray(image).save(still, format="WEBP", quality=self._quality, method=_METHOD)
        begin, end = (round(1000 * place / self._frame_rate) for place in (index, index + 1))
        head = b"\0" * 6 + _uint24(self.width - 1) + _uint24(self.height - 1) + _uint24(end - begin)
        frame = _chunk(b"ANMF", head + bytes([_NO_BLEND]) + _bitstream(still.getvalue()))
        with explain_full_disk(self.path):
            self._open_file().write(frame)

    def _finish(self) -> None:
        if self.num_frames == 0:
            raise InputError(f"{self.path}: there is no frame to write")
        file = self._open_file()
        with explain_full_disk(self.path):
            file.write(_chunk(b"XMP ", xmp().encode()))
            length = file.tell()
            file.seek(4)
            file.write(struct.pack("<I", length - 8))
            file.close()

    def _open_file(self) -> BinaryIO:
        if self._file is None:
            raise ValueError("the writer is not open: use it in a `with` block")
        return self._file

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
        abort_atomic(self._temporary)


def _uint24(value: int) -> bytes:
    return struct.pack("<I", value)[:3]


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def _bitstream(still: bytes) -> bytes:
    """The chunks of a still WebP file that hold its pixels."""
    place, found = 12, b""
    while place < len(still):
        name, (length,) = still[place : place + 4], struct.unpack_from("<I", still, place + 4)
        end = place + 8 + length + length % 2
        if name in _BITSTREAMS:
            found += still[place:end]
        place = end
    return found
