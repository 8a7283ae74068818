"""Which kinds of moving pictures can be written, and how videos are encoded, by suffix, quality and opacity.

Needs no PyAV: names of outputs are checked before anything is loaded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from flame.errors import InputError

H264_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv")
VIDEO_SUFFIXES = (*H264_SUFFIXES, ".webm", ".gif")
SUFFIXES = (*VIDEO_SUFFIXES, ".webp")
"""Suffixes of the files that can be written."""

FRAME_NAME = re.compile(r"\d{6,}\.png")
"""Names of the pictures in a folder of frames."""

SOUND_SUFFIXES = frozenset({*H264_SUFFIXES, ".webm"})
ALPHA_SUFFIXES = frozenset({".webm", ".webp", ".png"})
QUALITY_SUFFIXES = frozenset(SUFFIXES) - {".gif"}

BEST_QUALITY, DEFAULT_QUALITY = 100, 90
"""At the default an H.264 video is hard to tell from the original."""

# At 512 x 512 a frame of a speaker costs 9 ms of CPU with `veryfast`, 6.5 ms with `superfast` (file 20 % larger at the
# same quality), 4 ms with `ultrafast` (2.2 times larger); the renderer needs the same cores.
_H264_PRESET = "superfast"
# VP9 costs 6 ms a frame in this mode, 25 ms in the mode `good`, whose file is 20 % smaller.
_VP9_OPTIONS = {"deadline": "realtime", "cpu-used": "6", "row-mt": "1", "b": "0"}


@dataclass(frozen=True)
class Encoding:
    """One way to encode a moving picture.

    Attributes:
        codec: FFmpeg's name of the encoder.
        pixel_format: FFmpeg's name of the format that it takes.
        options: of the encoder.
        container_options: of the container.
        is_yuv: whether pixels are BT.709, limited range, in 4:2:0, which needs even sides.
        has_palette: whether every frame has a palette of 256 colours.
        sound_codec: for sound that the container cannot hold as it is; None for a container without sound.
        copied_sound: codecs whose packets the container holds untouched.
    """

    codec: str
    pixel_format: str
    options: dict[str, str]
    container_options: dict[str, str] = field(default_factory=dict)
    is_yuv: bool = True
    has_palette: bool = False
    sound_codec: str | None = None
    copied_sound: frozenset[str] = frozenset()


def encoding_of(path: Path, *, quality: int = DEFAULT_QUALITY, has_alpha: bool = False) -> Encoding:
    """How the file at `path` is encoded.

    Args:
        path: its suffix chooses.
        quality: 1 to 100; GIF has none, because its palette alone decides.
        has_alpha: whether it holds opacity.

    Raises:
        InputError: the suffix is none of `VIDEO_SUFFIXES`, or cannot hold opacity.
    """
    suffix = path.suffix.lower()
    if suffix not in VIDEO_SUFFIXES:
        raise InputError(
            f"{path}: cannot write this kind of video; expected a name ending in {', '.join(VIDEO_SUFFIXES)}"
        )
    if has_alpha and suffix not in ALPHA_SUFFIXES:
        raise InputError(
            f"{path}: {suffix} cannot hold opacity; expected a name ending in {', '.join(sorted(ALPHA_SUFFIXES))}"
        )
    if suffix in H264_SUFFIXES:
        return Encoding(
            "libx264",
            "yuv420p",
            {"preset": _H264_PRESET, "crf": str(_h264_crf(quality))},
            {} if suffix == ".mkv" else {"movflags": "+faststart"},
            sound_codec="aac",
            copied_sound=frozenset({"aac", "mp3", "ac3", "eac3"}),
        )
    if suffix == ".webm":
        return Encoding(
            "libvpx-vp9",
            "yuva420p" if has_alpha else "yuv420p",
            {**_VP9_OPTIONS, "crf": str(_vp9_crf(quality)), **({"auto-alt-ref": "0"} if has_alpha else {})},
            sound_codec="libopus",
            copied_sound=frozenset({"opus", "vorbis"}),
        )
    return Encoding("gif", "pal8", {}, {"loop": "0"}, is_yuv=False, has_palette=True)


def _h264_crf(quality: int) -> int:
    """The quantiser of x264, 0 (lossless) to 51."""
    return round(54 - 0.4 * quality)


def _vp9_crf(quality: int) -> int:
    """The quantiser of VP9, 0 to 63, whose error is nearest to that of x264 at the same quality."""
    return round(60 - 0.4 * quality)
