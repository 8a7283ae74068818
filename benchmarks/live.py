"""How fast and how late a head follows a camera: without a browser, and in the studio's page in Chromium.

    python benchmarks/live.py [--seconds 20] [--memory-minutes 10] [--publish]

The camera is a clip of the reference material at 30 pictures a second. In the page, latency is from the moment the page
takes a picture from the camera to the moment the drawn one is on the canvas, as its own panel says. Needs the extra
`test` and Debian's Chromium. CPU seconds a frame say what two free cores could do where the machine is shared.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import torch

from lift import environment, processor
from material import conclude, find, table
from preprocess.media.video import read_frames

GOALS = """Goals at 512 x 512 on 2 cores: at least 15 frames per second, p95 of the latency at most 250 ms, memory flat
over 10 minutes."""

CAMERA_RATE, CAMERA_PICTURES = 30, 150
WARM_UP_FRAMES = 20

FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"),
    "--use-file-for-fake-video-capture=",
)


def camera_pictures(clip: Path) -> list[np.ndarray]:
    """Pictures uint8 `[480, 640, 3]`, as of a webcam: the clip in the middle, its edges continued."""
    pictures = []
    for frame in read_frames(clip, frame_rate=CAMERA_RATE):
        height, width = frame.image.shape[:2]
        scale = 480 / height
        image = cv2.resize(frame.image, (min(640, round(width * scale)), 480), interpolation=cv2.INTER_AREA)
        side = 640 - image.shape[1]
        pictures.append(cv2.copyMakeBorder(image, 0, 0, side // 2, side - side // 2, cv2.BORDER_REPLICATE))
        if len(pictures) == CAMERA_PICTURES:
            break
    return pictures


def measure_worker(photo: Path, pictures: list[np.ndarray], seconds: float) -> dict[str, Any]:
    """The live core alone in this process: pictures come at the camera's rate, newest only."""
    from portrait4d.live.puppet import Puppet
    from portrait4d.live.worker import Answer, LiveWorker, Request
    from portrait4d.options import ReenactOptions
    from portrait4d.pipeline import build_source
    from portrait4d.reenactment.models import load_models
    from portrait4d.runtime.streams import one_torch_thread

    options = ReenactOptions(engine="lift")
    models = load_models(options)
    with one_torch_thread():
        puppet = Puppet(build_source(photo, models=models).avatar, models, options)
        drawn: list[Answer] = []
        failed = lambda request, error: print(error)  # noqa: E731
        with LiveWorker(puppet, answer=drawn.append, failed=failed) as worker:
            warm_up = min(3.0, seconds / 2)
            begin = time.monotonic()
            cpu, first = 0.0, 0
            for index in range(round((seconds + warm_up) * CAMERA_RATE)):
                if index == round(warm_up * CAMERA_RATE):
                    cpu, first = time.process_time(), len(drawn)
                time.sleep(max(0.0, begin + index / CAMERA_RATE - time.monotonic()))
                picture = pictures[index % len(pictures)]
                seconds_in = index / CAMERA_RATE
                worker.submit(Request(seconds_in, picture=lambda picture=picture: picture, seconds=seconds_in))
            rates = worker.meter.rates()
            frames, cpu = len(drawn) - first, time.process_time() - cpu
    return {
        "fps": rates.frames_per_second,
        "p50": rates.p50_ms,
        "p95": rates.p95_ms,
        "cpu_server": 1e3 * cpu / max(frames, 1),
        "load": os.getloadavg()[0],
    }


def measure_parts(photo: Path, pictures: list[np.ndarray], num_frames: int = 120) -> dict[str, float]:
    """CPU milliseconds of each part of a frame, one after the other on one thread."""
    from portrait4d.live.by_hand import ByHand
    from portrait4d.live.puppet import Puppet
    from portrait4d.live.worker import Answer, Request
    from portrait4d.options import ReenactOptions
    from portrait4d.pipeline import build_source
    from portrait4d.reenactment.models import load_models
    from portrait4d.runtime.streams import one_torch_thread
    from portrait4d.studio.camera import decode_camera
    from portrait4d.studio.frames import frame_message

    options = ReenactOptions(engine="lift")
    models = load_models(options)
    puppet = Puppet(build_source(photo, models=models).avatar, models, options)
    spent: dict[str, float] = {}

    def timed(part: str, function: Callable[..., Any], *arguments: Any) -> Any:
        begin = time.thread_time()
        result = function(*arguments)
        spent[part] = spent.get(part, 0.0) + 1e3 * (time.thread_time() - begin) / num_frames
        return result

    with one_torch_thread(), torch.inference_mode():
        for index in range(-WARM_UP_FRAMES, num_frames):
            if index == 0:
                spent.clear()
            jpeg = jpeg_of(pictures[index % len(pictures)])
            picture = timed("decode", decode_camera, jpeg)
            motion = timed("track", puppet.track, picture, index / CAMERA_RATE)
            drive = timed("retarget", puppet.drive, motion, ByHand())
            image = timed("draw", puppet.draw, drive)
            timed("encode", frame_message, Answer(Request(0.0), image, motion, False))
    return spent


def jpeg_of(picture: np.ndarray) -> bytes:
    """A picture uint8 `[H, W, 3]` RGB as JPEG."""
    return cv2.imencode(".jpg", np.ascontiguousarray(picture[..., ::-1]))[1].tobytes()


@contextmanager
def running_studio(folder: Path) -> Iterator[tuple[subprocess.Popen, str]]:
    """A studio of its own and its address."""
    command = [sys.executable, "-m", "portrait4d.cli.main", "studio", "--port", "0", "--no-browser"]
    environ = {**environment(), "TMPDIR": str(folder)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ)
    assert process.stdout is not None
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


@contextmanager
def open_page(address: str, camera: Path, photo: Path) -> Iterator[Any]:
    """A page with a head that the camera drives."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        raise SystemExit("Chromium is not installed: apt install chromium")
    with sync_playwright() as playwright:
        flags = [*FLAGS[:-1], f"{FLAGS[-1]}{camera}"]
        browser = playwright.chromium.launch(executable_path=program, args=flags)
        page = browser.new_page(viewport={"width": 1280, "height": 860})
        page.goto(address)
        page.wait_for_timeout(1000)
        page.set_input_files("#photo", str(photo))
        page.wait_for_selector("#drop", state="hidden", timeout=120_000)
        page.click("#by-camera")
        page.wait_for_timeout(3000)
        yield page
        browser.close()


def cpu_seconds(process: psutil.Process) -> float:
    """CPU seconds of a process."""
    times = process.cpu_times()
    return times.user + times.system


def browser_processes() -> list[psutil.Process]:
    """The processes of the browser that this one started."""
    return [child for child in psutil.Process().children(recursive=True) if "chrom" in child.name().lower()]


def measure_page(page: Any, server: psutil.Process, seconds: float) -> dict[str, Any]:
    """What the page's panel says after a while, and CPU milliseconds a frame."""
    browsers = browser_processes()
    before = [cpu_seconds(server), sum(map(cpu_seconds, browsers)), page.evaluate("studio.shown")]
    page.wait_for_timeout(1000 * seconds)
    after = [cpu_seconds(server), sum(map(cpu_seconds, browsers)), page.evaluate("studio.shown")]
    own, theirs, frames = (late - early for late, early in zip(after, before, strict=True))
    rates = page.evaluate("studio.meter.rates()")
    return {
        **{name: rates[name] for name in ("fps", "p50", "p95")},
        "cpu_server": 1e3 * own / max(frames, 1),
        "cpu_browser": 1e3 * theirs / max(frames, 1),
        "load": os.getloadavg()[0],
    }


def watch_memory(page: Any, server: psutil.Process, minutes: float) -> list[tuple[float, float]]:
    """Minute and resident megabytes of the server, every half minute."""
    seen = []
    begin = time.monotonic()
    while (passed := time.monotonic() - begin) < 60 * minutes + 1:
        seen.append((passed / 60, server.memory_info().rss / 2**20))
        page.wait_for_timeout(30_000)
    return seen


def report_text(rows: dict[str, dict[str, Any]], parts_ms: dict[str, float], memory: list[tuple[float, float]]) -> str:
    """The tables."""
    lines = [
        [name, *(f"{row[key]:.{digits}f}{unit}" if key in row else "" for key, digits, unit in _COLUMNS)]
        for name, row in rows.items()
    ]
    parts = [
        "## A head that follows a camera",
        GOALS,
        f"Measured on {processor()}, {os.cpu_count()} cores, with other work running (a load of 2 is two busy cores): "
        "frame rates and latencies are what was left, CPU times hardly change. The camera gives "
        f"{CAMERA_RATE} pictures of 640 x 480 a second; the browser is headless and draws without a GPU.",
        table(["", *(title for title in _TITLES)], lines),
        "CPU milliseconds of each part of a frame, alone on one thread. Decoding, tracking and retargeting of one "
        "frame run beside the drawing of another; the JPEG of a third is encoded where it is sent:",
        table([*parts_ms, "all"], [[f"{value:.1f}" for value in (*parts_ms.values(), sum(parts_ms.values()))]]),
    ]
    if memory:
        chosen = memory[:: max(1, len(memory) // 10)]
        parts += [
            "Resident memory of the server while the webcam drives:",
            table(["minute", *(f"{minute:.0f}" for minute, _ in chosen)], [["MB", *(f"{mb:.0f}" for _, mb in chosen)]]),
        ]
    return "\n\n".join(parts)


_COLUMNS = (
    *(("fps", 1, ""), ("p50", 0, " ms"), ("p95", 0, " ms")),
    *(("cpu_server", 0, " ms"), ("cpu_browser", 0, " ms"), ("load", 1, "")),
)
_TITLES = ("frames/s", "latency p50", "latency p95", "CPU per frame, ours", "CPU per frame, browser", "load average")


def main() -> None:
    """Measures both ways, and the memory if it is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--memory-minutes", type=float, default=0.0)
    parser.add_argument("--source", default="s02")
    parser.add_argument("--driver", default="d02")
    parser.add_argument("--publish", action="store_true", help="rewrite its page in docs/results")
    arguments = parser.parse_args()
    photo, pictures = find(arguments.source), camera_pictures(find(arguments.driver))
    parts_ms = measure_parts(photo, pictures)
    rows = {"without a browser": measure_worker(photo, pictures, arguments.seconds)}
    memory: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as place:
        camera = Path(place) / "camera.mjpeg"
        camera.write_bytes(b"".join(map(jpeg_of, pictures)))
        with running_studio(Path(place)) as (process, address), open_page(address, camera, photo) as page:
            server = psutil.Process(process.pid)
            rows["in the page"] = measure_page(page, server, arguments.seconds)
            if arguments.memory_minutes:
                memory = watch_memory(page, server, arguments.memory_minutes)
    values = {"rows": rows, "parts_ms": parts_ms, "memory": memory}
    conclude("live", report_text(rows, parts_ms, memory), values, is_published=arguments.publish)


if __name__ == "__main__":
    main()
