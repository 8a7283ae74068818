"""Measures one part of `gpu.py` in a process of its own and prints a line of JSON for each row of its tables.

    python benchmarks/gpu_parts.py machine|lift|reconstructor|training [--device cuda] [--precision fp32] [--tiny]

Nothing here needs PyAV, PyYAML, a network, or files beside the checkout.
"""

import argparse
import gc
import json
import platform
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from costs import time_stages
from lift import processor
from portrait4d.runtime.memory import peak_memory_mb

if TYPE_CHECKING:
    from gpu_reconstructor import MadeReconstruction
    from gpu_training import MadeTraining
    from portrait4d.train.config import Precision

MODELS = ("genhead", "eg3d", "reconstructor", "reconstructor-recompute")
"""Trainings; the last is the one before with `train.recompute`."""

_FIRST_BATCH, _LARGEST_BATCH = 4, 256
_FIRST_RECONSTRUCTED = 2
"""Of the reconstructor, whose samples take 6 GB each unless they are computed again."""
_TINY_BATCH = 2
_STEPS = 2
"""Measured, after one to warm up."""
_SAFE_SHARE = 0.92
"""Of a GPU's memory: what torch can hand out, with the context and fragments left out."""


def tell(**row: Any) -> None:
    """Prints a row at once: the process may be ended while it measures the next."""
    print(json.dumps(row), flush=True)


def tell_machine(device: str) -> None:
    """What the numbers are measured on."""
    facts = {"python": platform.python_version(), "torch": torch.__version__, "processor": processor()}
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        facts |= {"gpu": properties.name, "gpu_gb": round(properties.total_memory / 2**30, 1)}
        facts |= {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    tell(kind="machine", **facts)


def measure_lift(device: str, *, is_tiny: bool) -> None:
    """A photo, and frames of it in batches."""
    import numpy as np
    import skimage.data

    from portrait4d.engines.lift.engine import LiftEngine
    from portrait4d.engines.own_drive import orbit_drive
    from preprocess.tracking.tracker import Tracker

    engine = LiftEngine(device=device)
    tracker = Tracker(device, head_model=engine.head_model)
    photo = skimage.data.astronaut()
    avatar = engine.build([tracker.track_image(photo)])
    batches = (1, 2) if is_tiny else (1, 8, 32)
    drives = {
        count: orbit_drive(avatar, engine.head_model, np.linspace(-15, 15, count), np.linspace(0, 5, count))
        for count in batches
    }
    stages: dict[str, Callable[[], Any]] = {"a photo, tracked": lambda: tracker.track_image(photo)}
    frames = {"a photo, tracked": 0}
    for count, drive in drives.items():
        stages[f"frames, {count} at once"] = lambda drive=drive: engine.render(avatar, drive)
        frames[f"frames, {count} at once"] = count
    _tell_engine("lift", "default", time_stages(stages, repeats=0 if is_tiny else 5, device=device), frames, device)


def measure_reconstructor(device: str, precision: str, *, is_tiny: bool) -> None:
    """Portrait4D's source and driving frame with random weights."""
    from generated_weights import SMALL
    from reconstructor import child

    frames = {"driving frame": 1}
    if not is_tiny:
        frames |= {"source, once": 0, "motion code of a frame": 0, "another view": 1}
    found = child(
        threads=torch.get_num_threads(),
        repeats=0 if is_tiny else 5,
        is_whole=False,
        device=device,
        precision=precision,
        config=SMALL if is_tiny else None,
        only=tuple(frames),
    )
    _tell_engine("portrait4d", precision, found, frames, device)


def _tell_engine(
    engine: str, precision: str, found: dict[str, dict[str, float]], frames: dict[str, int], device: str
) -> None:
    memory = peak_memory_mb(torch.device(device))
    for stage, cost in found.items():
        rate = frames[stage] / cost["wall"] if frames[stage] else None
        tell(
            kind="engine",
            engine=engine,
            precision=precision,
            stage=stage,
            milliseconds=1000 * cost["wall"],
            frames_per_second=rate,
            memory_mb=round(memory),
        )


def measure_training(model: str, precision: "Precision", device: str, *, seconds: float, is_tiny: bool) -> None:
    """Steps of growing batches, until one does not fit, or the next would take longer than is left."""
    begin = time.monotonic()
    capacity = torch.cuda.mem_get_info()[1] / 2**20 if device == "cuda" else None
    first = _FIRST_RECONSTRUCTED if model.startswith("reconstructor") else _FIRST_BATCH
    batch, largest = (_TINY_BATCH, _TINY_BATCH) if is_tiny else (first, _LARGEST_BATCH)
    memory: dict[int, float] = {}
    while batch <= largest:
        began = time.monotonic()
        try:
            memory[batch], step_seconds = _measure_batch(model, precision, batch, device, is_tiny=is_tiny)
        except torch.cuda.OutOfMemoryError:
            return _tell_end(model, precision, batch, "does not fit")
        gc.collect()
        if device == "cuda":
            torch.cuda.empty_cache()
        now, before = time.monotonic(), batch
        batch = next_batch(memory, capacity)
        if capacity and expected_memory(memory, batch) > 1.1 * capacity:
            return _tell_end(model, precision, batch, "would not fit")
        stepping = (1 + _STEPS) * step_seconds
        start, left = now - began - stepping, seconds - (now - begin)
        while batch > 2 * before and start + stepping * batch / before > left:
            batch //= 2
        if batch <= largest and start + stepping * batch / before > left:
            return _tell_end(model, precision, batch, "not tried: no time")
    return None


def _tell_end(model: str, precision: str, batch: int, reason: str) -> None:
    tell(kind="training", model=model, precision=precision, batch=batch, note=reason)


def _measure_batch(
    model: str, precision: "Precision", batch: int, device: str, *, is_tiny: bool
) -> tuple[float, float]:
    """Tells a row; returns its memory in MB and the seconds of a step that has all phases."""
    from portrait4d.jobs.train import forecast

    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    training = _made(model, precision, batch, is_tiny=is_tiny)
    found = forecast(training, device=device, steps=1 if is_tiny else _STEPS)
    tell(
        kind="training",
        model=model,
        precision=precision,
        batch=batch,
        seconds_per_kimg=found.seconds_per_kimg,
        memory_mb=found.memory_mb,
        phases=found.phases,
    )
    loss = training.config.loss
    intervals = {"density": loss.density_interval, "r1": loss.r1_interval}
    milliseconds = sum(share * intervals.get(name, 1) for name, share in found.phases.items())
    return found.memory_mb, milliseconds * batch / 1000


def _made(model: str, precision: "Precision", batch: int, *, is_tiny: bool) -> "MadeTraining | MadeReconstruction":
    """A training whose data are made in memory."""
    if model == "genhead" or model == "eg3d":
        from gpu_training import made_training

        return made_training(model, precision=precision, batch_size=batch, is_tiny=is_tiny)
    from gpu_reconstructor import made_reconstruction

    recomputes = model == "reconstructor-recompute"
    return made_reconstruction(recomputes=recomputes, precision=precision, batch_size=batch, is_tiny=is_tiny)


def next_batch(memory: dict[int, float], capacity: float | None) -> int:
    """Twice the last one, or at once the largest that surely fits: memory grows at most as the batch does."""
    last = max(memory)
    batch = 2 * last
    while capacity and memory[last] * (2 * batch) / last < _SAFE_SHARE * capacity:
        batch *= 2
    return batch


def expected_memory(memory: dict[int, float], batch: int) -> float:
    """By the line through the last two batches; 0 while there is only one."""
    if len(memory) < 2:
        return 0.0
    low, high = sorted(memory)[-2:]
    slope = (memory[high] - memory[low]) / (high - low)
    return memory[high] + slope * (batch - high)


def main() -> None:
    """Measures the part that is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["machine", "lift", "reconstructor", "training"])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--precision", choices=["fp32", "tf32", "fp16", "bf16"], default="fp32")
    parser.add_argument("--model", choices=MODELS, default="genhead")
    parser.add_argument("--seconds", type=float, default=60.0, help="that a training's batches may take together")
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    match options.part:
        case "machine":
            tell_machine(options.device)
        case "lift":
            measure_lift(options.device, is_tiny=options.tiny)
        case "reconstructor":
            measure_reconstructor(options.device, options.precision, is_tiny=options.tiny)
        case _:
            measure_training(
                options.model, options.precision, options.device, seconds=options.seconds, is_tiny=options.tiny
            )


if __name__ == "__main__":
    main()
