"""Frames reduced to 256 colours each, for GIF: FFmpeg's filters `palettegen` and `paletteuse`."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import av

_GENERATE = "stats_mode=single:reserve_transparent=0"
_USE = "new=1:dither=bayer:bayer_scale=4"  # ordered: still parts of the picture keep still


class PaletteFilter:
    """Gives every frame a palette of its own; memory does not grow with the number of frames."""

    def __init__(self, *, height: int, width: int, frame_rate: Fraction) -> None:
        """Prepares the filters for RGB frames of one size."""
        import av
        from av.filter import Graph

        graph = Graph()
        begin = graph.add_buffer(width=width, height=height, format=av.VideoFormat("rgb24"), time_base=1 / frame_rate)
        split, generate = graph.add("split"), graph.add("palettegen", _GENERATE)
        use, end = graph.add("paletteuse", _USE), graph.add("buffersink")
        begin.link_to(split)
        split.link_to(generate, 0, 0)
        split.link_to(use, 1, 0)
        generate.link_to(use, 0, 1)
        use.link_to(end)
        graph.configure()
        self._graph = graph

    def __call__(self, frame: av.VideoFrame | None) -> Iterator[av.VideoFrame]:
        """Yields the reduced frames that are ready after `frame`; None ends the stream and yields the rest."""
        import av

        self._graph.push(frame)
        while True:
            try:
                yield self._graph.vpull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
