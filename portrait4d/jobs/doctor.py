"""Checks of the installation: what is present, what is missing, how to get it."""

import importlib.metadata
import platform
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from portrait4d.runtime.version import version

_HOUSE = Path(__file__).resolve().parents[2]
"""The folder that holds the four packages."""

REINSTALL = "in the checkout of portrait4d: pip install --force-reinstall --no-deps ."
REINSTALL_AV = "pip install --force-reinstall --only-binary :all: 'av>=15,<20'"
_MOST_CLIP_ERROR = 4.0  # levels of 255; the codec itself costs less than one on plain grey


@dataclass(frozen=True)
class Check:
    """One finding: without what is `missing` the program does not work; what is `optional` only adds a feature."""

    name: str
    state: Literal["ok", "optional", "missing"]
    detail: str
    cure: str = ""


def examine() -> list[Check]:
    """Runs all checks; a broken part becomes a finding, not an exception."""
    checks = [_python(), _package()]
    for part in (_torch, _ffmpeg, _numba, _opencv, _assets, _engines, _disk):
        try:
            checks.extend(part())
        except Exception as error:  # a broken installation can fail in any way, which is then the finding
            name = part.__name__.strip("_")
            reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
            checks.append(Check(name, "missing", reason, REINSTALL))
    return checks


def is_healthy(checks: list[Check]) -> bool:
    """Whether nothing that the program needs is missing."""
    return all(check.state != "missing" for check in checks)


def _python() -> Check:
    return Check("python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}")


def _package() -> Check:
    return Check("portrait4d", "ok", f"{version()} in {_HOUSE / 'portrait4d'}")


def _torch() -> Iterator[Check]:
    import torch

    yield Check("torch", "ok", f"{torch.__version__}, {torch.get_num_threads()} threads")
    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        yield Check("device", "ok", f"cuda: {torch.cuda.get_device_name(0)}, {memory:.0f} GiB (--device cuda), and cpu")
    else:
        yield Check("device", "ok", "cpu")


def _ffmpeg() -> Iterator[Check]:
    import av

    versions = ", ".join(f"{name} {'.'.join(map(str, av.library_versions[name]))}" for name in ("libavcodec",))
    yield Check("ffmpeg", "ok", f"bundled with PyAV {av.__version__} ({versions})")
    if "libx264" in av.codecs_available:
        yield Check("libx264", "ok", "writes H.264 videos")
    else:
        yield Check("libx264", "missing", "this PyAV cannot write H.264", REINSTALL_AV)
        return
    try:
        worst = _clip_error()
    except Exception as error:  # an unsuitable PyAV can fail in any way, which is then the finding
        reason = (str(error).splitlines() or ["no message"])[0]
        detail = f"a test clip cannot be written and read: {type(error).__name__}: {reason}"
        yield Check("video", "missing", detail, REINSTALL_AV)
        return
    if worst > _MOST_CLIP_ERROR:
        detail = f"a test clip came back wrong, off by {worst:.0f} of 255 levels"
        yield Check("video", "missing", detail, REINSTALL_AV)
    else:
        yield Check("video", "ok", "a test clip was written and read")


def _clip_error() -> float:
    """Writes and reads a clip of three grey frames as the program does; returns the largest mean error in levels."""
    import numpy as np

    from preprocess.media.video import read_frames
    from preprocess.media.video_writer import VideoWriter

    pictures = [np.full((64, 64, 3), level, np.uint8) for level in (40, 120, 200)]
    with tempfile.TemporaryDirectory(prefix="portrait4d-doctor-") as folder:
        path = Path(folder) / "clip.mp4"
        with VideoWriter(path, height=64, width=64, frame_rate=25) as writer:
            for picture in pictures:
                writer.write(picture)
        found = [frame.image for frame in read_frames(path)]
    if len(found) != len(pictures):
        raise ValueError(f"expected {len(pictures)} frames, got {len(found)}")
    return max(float(np.abs(a.astype(int) - b).mean()) for a, b in zip(found, pictures, strict=True))


def _numba() -> Iterator[Check]:
    try:
        import numba
    except ImportError as error:
        yield Check(
            "numba", "missing", f"not importable ({error}): frames cannot be drawn without it", "pip install numba"
        )
    else:
        yield Check("numba", "ok", f"{numba.__version__}: compiles the drawing")


def _opencv() -> Iterator[Check]:
    import cv2

    yield Check("opencv", "ok", cv2.__version__)
    names = ("opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless")
    others = [name for name in names if _is_installed(name)]
    if others:
        yield Check(
            "opencv twice",
            "optional",
            f"{', '.join(others)} shares its folder with opencv-python-headless; uninstalling one breaks the other",
            "after uninstalling one: pip install --force-reinstall opencv-python-headless",
        )


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _assets() -> Iterator[Check]:
    wanted = {
        "open head": ("flame", "open_head.safetensors"),
        "face detector": ("preprocess", "face_detector.safetensors"),
        "face mesh": ("preprocess", "face_mesh.safetensors"),
        "portrait matte": ("preprocess", "portrait_matte.safetensors"),
        "demo motion": ("portrait4d", "demo_motion.npz"),
    }
    for name, (package, file) in wanted.items():
        path = _HOUSE / package / "assets" / file
        if path.is_file() and path.stat().st_size > 0:
            yield Check(name, "ok", f"{path.name}, {path.stat().st_size / 1e6:.1f} MB")
        else:
            yield Check(name, "missing", f"{path} is not there", REINSTALL)


def _engines() -> Iterator[Check]:
    from portrait4d.engines.choose import available_engines

    for status in available_engines():
        yield Check(f"engine {status.name}", "ok" if status.available else "optional", status.reason)


def _disk() -> Iterator[Check]:
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    if free < 0.5:
        yield Check("disk", "optional", f"{free:.1f} GB free in {Path.cwd()}", "free some space: videos need it")
    else:
        yield Check("disk", "ok", f"{free:.0f} GB free")
