"""The report of a reenactment: files, frame counts, timings, gaps, warnings."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from portrait4d.runtime.memory import peak_memory_mb
from preprocess.tracking.motion import Motion


@dataclass(frozen=True)
class ReenactReport:
    """Facts about one finished reenactment.

    Attributes:
        source: Path of the source.
        driver: Path of the driver.
        output: Path of the written file.
        engine: Name of the engine that rendered.
        num_frames: Number of frames written.
        num_kept_frames: Number of these that were rendered by an earlier run that was stopped.
        frame_rate: Frames per second, as a fraction "25/1".
        duration_seconds: Length of the result.
        has_audio: Whether the result has the driver's sound.
        seconds: Wall-clock seconds per stage; `total` spans the call.
        frames_per_second: Frames written per second of `total`.
        peak_memory_mb: Largest resident size of the process so far, MiB.
        gaps: First and last second, in the result, of each stretch of the driver without a face.
        warnings: One line each.
    """

    source: str
    driver: str
    output: str
    engine: str
    num_frames: int
    num_kept_frames: int
    frame_rate: str
    duration_seconds: float
    has_audio: bool
    seconds: dict[str, float]
    frames_per_second: float
    peak_memory_mb: float
    gaps: tuple[tuple[float, float], ...] = ()
    warnings: tuple[str, ...] = ()

    @classmethod
    def of_run(
        cls,
        files: tuple[Path, Path, Path],
        motion: Motion,
        *,
        engine: str,
        num_kept_frames: int,
        has_audio: bool,
        watch: "Stopwatch",
        warnings: tuple[str, ...],
    ) -> "ReenactReport":
        """The report of a run that has just ended; `files` are source, driver and output."""
        source, driver, output = map(str, files)
        seconds = watch.rounded()
        return cls(
            source=source,
            driver=driver,
            output=output,
            engine=engine,
            num_frames=len(motion),
            num_kept_frames=num_kept_frames,
            frame_rate=str(motion.frame_rate),
            duration_seconds=round(len(motion) / float(motion.frame_rate), 3),
            has_audio=has_audio,
            seconds=seconds,
            frames_per_second=round(len(motion) / watch.total(), 2),
            peak_memory_mb=peak_memory_mb(),
            gaps=find_gaps(motion),
            warnings=warnings,
        )

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-ready values."""
        return asdict(self)


@dataclass
class Stopwatch:
    """Measures seconds per named stage. Stages on several threads may overlap, so their sum may exceed the total."""

    seconds: dict[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.perf_counter)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Adds the time spent inside to `name`."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begin

    def total(self) -> float:
        """Seconds since construction."""
        return time.perf_counter() - self.started

    def rounded(self) -> dict[str, float]:
        """All stages and the total, to the millisecond."""
        return {name: round(value, 3) for name, value in {**self.seconds, "total": self.total()}.items()}


def find_gaps(motion: Motion) -> tuple[tuple[float, float], ...]:
    """Stretches without a face, as (first second, last second) from the start of the motion."""
    frame_seconds = float(1 / motion.frame_rate)
    gaps: list[tuple[float, float]] = []
    begin: int | None = None
    for index in range(len(motion) + 1):
        is_held = index < len(motion) and not bool(motion.valid[index])
        if is_held and begin is None:
            begin = index
        elif not is_held and begin is not None:
            gaps.append((round(begin * frame_seconds, 3), round(index * frame_seconds, 3)))
            begin = None
    return tuple(gaps)


def describe_gaps(gaps: tuple[tuple[float, float], ...]) -> tuple[str, ...]:
    """One line about the gaps; empty if there are none."""
    if not gaps:
        return ()
    total = sum(end - begin for begin, end in gaps)
    spans = ", ".join(f"{begin:.2f}-{end:.2f} s" for begin, end in gaps[:5])
    more = f" and {len(gaps) - 5} more" if len(gaps) > 5 else ""
    return (f"no face in {total:.2f} s of the driver ({spans}{more}): pose bridged or held there",)
