"""Times the stages of a reenactment in this one fresh process and prints JSON; `lift.py` runs it.

python benchmarks/stages.py SOURCE DRIVER [--device cpu] [--seconds 4]
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any


def timed(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """The result, and seconds: `wall`, and `cpu` over all threads of the process."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def per_frame(seconds: dict[str, float], count: int) -> dict[str, float]:
    """Milliseconds per frame."""
    return {name: 1000 * value / count for name, value in seconds.items()}


def drain(items: Iterable[Any]) -> int:
    """Counts, keeping nothing."""
    return sum(1 for _ in items)


def main() -> None:
    """Start-up, source, tracking, rendering, encoding, one after the other."""
    parser = argparse.ArgumentParser()
    parser.add_argument("source", type=Path)
    parser.add_argument("driver", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seconds", type=float, default=4.0)
    arguments = parser.parse_args()
    times: dict[str, dict[str, float]] = {}

    def load_modules() -> Any:
        from portrait4d import pipeline
        from portrait4d.reenactment import output

        return pipeline, output

    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the command line does
    (pipeline, output), times["import"] = timed(load_modules)
    from portrait4d.options import ReenactOptions
    from portrait4d.reenactment.head_crops import render_frames
    from preprocess.media.video import probe, read_frames

    options = ReenactOptions(device=arguments.device, duration=arguments.seconds)
    models, times["models"] = timed(lambda: pipeline.load_models(options))
    _, times["source, first"] = timed(lambda: pipeline.build_source(arguments.source, models=models))
    ready, times["source"] = timed(lambda: pipeline.build_source(arguments.source, models=models))

    rate = probe(arguments.driver).frame_rate
    decode = lambda: read_frames(arguments.driver, duration=arguments.seconds, frame_rate=rate)  # noqa: E731
    count, seconds = timed(lambda: drain(decode()))
    times["decode, per frame"] = per_frame(seconds, count)
    motion, seconds = timed(lambda: pipeline.track_driver(arguments.driver, options=options, models=models))
    times["decode and track, per frame"] = per_frame(seconds, count)

    render = lambda part: list(render_frames(ready.avatar, part, options=options, models=models))  # noqa: E731
    _, times["render, first frame"] = timed(lambda: render(motion[:1]))
    images, seconds = timed(lambda: render(motion))
    times["render, per frame"] = per_frame(seconds, count)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "result.mp4"
        _, seconds = timed(lambda: output.write_video(target, iter(images), num_frames=count, frame_rate=rate))
    times["encode, per frame"] = per_frame(seconds, count)
    print(json.dumps({"times": times, "num_frames": count, "load_average": os.getloadavg()[0]}))


if __name__ == "__main__":
    main()
