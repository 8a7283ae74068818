"""What an installed portrait4d does without torch; run by `fresh.py light` in each of its environments."""

import importlib.util
import pickle
import pkgutil
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

import numpy as np
import scipy.sparse

FLOORS = ("flame", "preprocess", "portrait4d", "genhead")
ABSENT = {"torch", "starlette"}
"""What modules may ask for here: torch, and the extra of the studio."""
LEAST_MODULES = 60
"""Modules that import without torch; far fewer mean that something torch-free has become heavy, or a blind check."""
COMMANDS = (
    *("demo", "reenact", "batch", "track", "avatar", "render", "pose", "live", "studio"),
    *("fit-scene", "doctor", "data", "eg3d", "weights"),
)


def check_imports() -> None:
    """Each module imports, or asks for what is absent."""
    assert importlib.util.find_spec("torch") is None, "expected an environment without torch"
    num_imported = 0
    for floor in FLOORS:
        package = importlib.import_module(floor)
        assert "site-packages" in str(package.__file__), f"expected the installed {floor}, got {package.__file__}"
        for module in pkgutil.walk_packages(package.__path__, f"{floor}.", onerror=lambda name: None):
            try:
                importlib.import_module(module.name)
                num_imported += 1
            except ModuleNotFoundError as error:
                if error.name not in ABSENT:
                    raise
    assert num_imported >= LEAST_MODULES, f"expected {LEAST_MODULES} modules without torch, got {num_imported}"


def check_command_line() -> None:
    """Help of every command, from the installed program."""
    program = str(Path(sys.executable).parent / "portrait4d")
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    assert version.split() == ["portrait4d", metadata.version("portrait4d")], version
    for command in COMMANDS:
        shown = subprocess.run([program, command, "--help"], capture_output=True, text=True)
        assert shown.returncode == 0 and f"portrait4d {command}" in shown.stdout, (command, shown.stdout, shown.stderr)


def check_pickles() -> None:
    """Numbers as this numpy and this scipy write them are read without running anything."""
    from flame.pickles.numbers import read_numbers

    dense = np.random.default_rng(0).normal(size=(5, 6)) * (np.arange(30).reshape(5, 6) % 3 == 0)
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "numbers.pkl"
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            path.write_bytes(pickle.dumps({"v": dense, "J": scipy.sparse.csc_matrix(dense)}, protocol=protocol))
            read = read_numbers(path)
            np.testing.assert_array_equal(read["v"], dense)
            np.testing.assert_array_equal(read["J"], dense)


def check_media() -> None:
    """A picture and a clip are written and come back; the long list is in the tests that run after this."""
    from preprocess.media.image import read_image, write_png
    from preprocess.media.video import probe, read_frames
    from preprocess.media.video_writer import VideoWriter

    picture = np.tile(np.arange(0, 256, 4, dtype=np.uint8)[:, None, None], (1, 64, 3))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_png(folder / "picture.png", picture)
        np.testing.assert_array_equal(read_image(folder / "picture.png"), picture)
        with VideoWriter(folder / "clip.mp4", height=64, width=64, frame_rate=25) as writer:
            for _ in range(5):
                writer.write(picture)
        assert probe(folder / "clip.mp4").num_frames_estimate == 5
        for frame in read_frames(folder / "clip.mp4"):
            assert np.abs(frame.image.astype(int) - picture).mean() < 3


def check_doctor() -> None:
    """It misses torch, and finds that clips are written and read."""
    from portrait4d.jobs.doctor import examine

    states = {check.name: check.state for check in examine()}
    assert states["torch"] == "missing" and states["video"] == "ok" and states["numba"] == "ok", states


def check_compiled() -> None:
    """Numba compiles for this Python and numpy."""
    import numba

    @numba.njit
    def total(values: np.ndarray) -> float:
        result = 0.0
        for value in values:
            result += value
        return result

    assert total(np.arange(5.0)) == 10.0


if __name__ == "__main__":
    for check in (check_imports, check_command_line, check_pickles, check_media, check_doctor, check_compiled):
        check()
    print(sys.version.split()[0], *(f"{name} {metadata.version(name)}" for name in ("numpy", "av", "pillow", "numba")))
