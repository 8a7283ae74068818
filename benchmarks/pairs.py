"""The command line on 6 sources x 4 drivers: every result is checked as a file and shown on a contact sheet.

python benchmarks/pairs.py [--quick] [--sources s01 s05] [--drivers d02] [--publish] [-- OPTIONS OF REENACT]
"""

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np

from material import conclude, find, output_folder, table
from preprocess.media.contact_sheet import contact_sheet
from preprocess.media.image import read_image
from preprocess.media.video import read_frames
from preprocess.tracking.motion import Motion

SOURCES = ["s01", "p4d_open_03", "s05", "s04", "s09", "s12"]
"""Astronaut, a portrait, a painting, an old man in full figure, curly hair, dark skin."""
DRIVERS = ["d02", "d03", "d06", "d08"]
"""Sound; glasses at 30 frames per second; 24 frames per second without sound; upright format."""

NUM_SHOWN = 6


@dataclass(frozen=True)
class Stream:
    """What a decoder finds in a file: frames, frames per second, seconds of picture and sound, codec, pixel format."""

    num_frames: int
    frame_rate: float
    seconds: float
    audio_seconds: float
    codec: str
    pixel_format: str


def inspect(path: Path) -> Stream:
    """Decodes all of a file."""
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        times = [float(frame.pts * frame.time_base) for frame in container.decode(video) if frame.pts is not None]
        codec = video.codec_context
        rate = float(video.average_rate or 0)
        name, pixel_format = codec.name, str(codec.pix_fmt)
    audio = 0.0
    with av.open(str(path)) as container:
        if container.streams.audio:
            samples = 0
            for frame in container.decode(container.streams.audio[0]):
                samples += frame.samples
                audio = samples / frame.sample_rate
    seconds = times[-1] - times[0] + (1 / rate if rate else 0.0)
    return Stream(len(times), rate, seconds, audio, name, pixel_format)


def check(driver: Stream, result: Stream, limit: float) -> list[str]:
    """What is wrong with a result of at most `limit` seconds, in words."""
    problems = []
    wanted = min(driver.seconds, limit)
    sound = min(driver.audio_seconds, wanted)
    if (result.codec, result.pixel_format) != ("h264", "yuv420p"):
        problems.append(f"codec {result.codec} {result.pixel_format}")
    if abs(result.frame_rate - driver.frame_rate) > 0.01 * driver.frame_rate:
        problems.append(f"frame rate {result.frame_rate:.3f} for {driver.frame_rate:.3f}")
    if abs(result.seconds - wanted) > 1.01 / driver.frame_rate:
        problems.append(f"{result.seconds:.3f} s for {wanted:.3f} s")
    if bool(result.audio_seconds) != bool(driver.audio_seconds) or abs(result.audio_seconds - sound) > 0.15:
        problems.append(f"sound {result.audio_seconds:.2f} s for {sound:.2f} s")
    return problems


def reenact(source: Path, driver: Path, output: Path, options: list[str]) -> dict[str, Any]:
    """Runs the command line; `error` holds its last line if it failed."""
    command = [sys.executable, "-m", "portrait4d.cli.main", "reenact", str(source), str(driver), "-o", str(output)]
    begin = time.perf_counter()
    done = subprocess.run([*command, "--json", "--quiet", *options], capture_output=True, text=True)
    answer: dict[str, Any] = {"seconds": time.perf_counter() - begin}
    if done.returncode:
        return answer | {"error": (done.stderr.strip().splitlines() or ["no message"])[-1]}
    return answer | {"report": json.loads(done.stdout), "warnings": done.stderr.strip().splitlines()}


def show(source: Path, driver: Path, motion: Motion, result: Path, sheet: Path) -> None:
    """Source, then six moments: driver above, result below."""
    count = len(motion)
    wanted = np.unique(np.linspace(0, count - 1, NUM_SHOWN + 2).round().astype(int))[1:-1].tolist()
    rate = motion.frame_rate
    above, below = [], []
    for frame in read_frames(driver, frame_rate=rate):
        if frame.index in wanted:
            above.append(_crop(frame.image, motion))
    for frame in read_frames(result, frame_rate=rate):
        if frame.index in wanted:
            below.append(frame.image)
    photo = _square(read_image(source))
    labels = [
        [source.stem, *(f"{driver.stem} {index / float(rate):.2f} s" for index in wanted)],
        ["", *[""] * len(below)],
    ]
    contact_sheet([[photo, *above], [np.full_like(photo, 255), *below]], sheet, labels, cell_height=320)


def _crop(image: np.ndarray, motion: Motion) -> np.ndarray:
    from preprocess.faces.crop import Crop

    return Crop(motion.crop_matrix, motion.crop_size, (motion.frame_height, motion.frame_width)).apply(image)


def _square(image: np.ndarray) -> np.ndarray:
    """The middle square of a picture."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2 if width > height else 0, (width - side) // 2
    return np.ascontiguousarray(image[top : top + side, left : left + side])


def track(driver: Path, folder: Path) -> Motion:
    """The driver's motion, kept in the output folder: only for cutting the driver's face out on the sheets."""
    path = folder / f"{driver.stem}.npz"
    if not path.is_file():
        command = [sys.executable, "-m", "portrait4d.cli.main", "track", str(driver), "-o", str(path), "--quiet"]
        subprocess.run(command, check=True)
    return Motion.load(path)


def run_pair(source: Path, driver: Path, folder: Path, options: list[str]) -> dict[str, Any]:
    """One row of the table."""
    name = f"{source.stem.split('_')[0] if source.stem[0] == 's' else source.stem}_{driver.stem.split('_')[0]}"
    output = folder / f"{name}.mp4"
    row: dict[str, Any] = {"pair": name, **reenact(source, driver, output, options)}
    if "error" in row:
        row["problems"] = [row["error"]]
        return row
    limit = float(options[options.index("--duration") + 1]) if "--duration" in options else float("inf")
    wanted, got = inspect(driver), inspect(output)
    row |= {
        "problems": check(wanted, got, limit),
        "frames": got.num_frames,
        "rate": got.frame_rate,
        "audio": got.audio_seconds,
    }
    show(source, driver, track(driver, folder), output, folder / f"{name}.png")
    return row


def main() -> None:
    """Runs all pairs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="2 sources, 1 driver")
    parser.add_argument("--sources", nargs="+", default=SOURCES)
    parser.add_argument("--drivers", nargs="+", default=DRIVERS)
    parser.add_argument("--publish", action="store_true", help="rewrite its page in docs/results")
    parser.add_argument("options", nargs="*", help="after --: passed on to portrait4d reenact")
    arguments = parser.parse_args()
    folder = output_folder("pairs")
    sources, drivers = arguments.sources, arguments.drivers
    if arguments.quick:
        sources, drivers = sources[:2], drivers[:1]
    rows = []
    for driver in map(find, drivers):
        for source in map(find, sources):
            rows.append(run_pair(source, driver, folder, arguments.options))
            print(rows[-1]["pair"], f"{rows[-1]['seconds']:.1f} s", rows[-1]["problems"] or "good")
    good = sum(not row["problems"] for row in rows)
    lines = [
        [r["pair"], r.get("frames"), f"{r.get('rate', 0):.2f}", f"{r.get('audio', 0):.2f} s", f"{r['seconds']:.1f} s",
         "; ".join(r["problems"]) or "good"]
        for r in rows
    ]  # fmt: skip
    header = ["pair", "frames", "frames/s", "sound", "whole command", "playable, length, rate, sound"]
    text = f"## `portrait4d reenact` on pairs\n\n{good} of {len(rows)} good.\n\n{table(header, lines)}"
    conclude("pairs", text, rows, is_published=arguments.publish)


if __name__ == "__main__":
    main()
