"""Floor 2: one photo of a face becomes a 4D head that a video drives.

The public names below load on first use, so that `import portrait4d` stays light.
"""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

PORTRAIT4D_FLOOR = "portrait4d"

if TYPE_CHECKING:
    from flame.errors import InputError as InputError
    from flame.geometry.camera import Camera as Camera
    from portrait4d.api.head import Head as Head
    from portrait4d.api.networks import Portrait4D as Portrait4D
    from portrait4d.api.video import Video as Video
    from portrait4d.engines.base import Avatar as Avatar
    from portrait4d.engines.base import Engine as Engine
    from portrait4d.engines.choose import available_engines as available_engines
    from portrait4d.engines.choose import load_engine as load_engine
    from portrait4d.jobs.batch import BatchReport as BatchReport
    from portrait4d.jobs.batch import run_batch as run_batch
    from portrait4d.jobs.pose import pose_avatar as pose_avatar
    from portrait4d.jobs.views import render_avatar as render_avatar
    from portrait4d.options import PoseOptions as PoseOptions
    from portrait4d.options import ReenactOptions as ReenactOptions
    from portrait4d.options import RenderOptions as RenderOptions
    from portrait4d.pipeline import build_avatar as build_avatar
    from portrait4d.pipeline import reenact as reenact
    from portrait4d.pipeline import track_driver as track_driver
    from portrait4d.reenactment.models import load_models as load_models
    from portrait4d.reenactment.report import ReenactReport as ReenactReport
    from preprocess.tracking.motion import Motion as Motion

_HOMES = {
    "Avatar": "portrait4d.engines.base",
    "BatchReport": "portrait4d.jobs.batch",
    "Camera": "flame.geometry.camera",
    "Engine": "portrait4d.engines.base",
    "Head": "portrait4d.api.head",
    "InputError": "flame.errors",
    "Motion": "preprocess.tracking.motion",
    "Portrait4D": "portrait4d.api.networks",
    "PoseOptions": "portrait4d.options",
    "ReenactOptions": "portrait4d.options",
    "ReenactReport": "portrait4d.reenactment.report",
    "RenderOptions": "portrait4d.options",
    "Video": "portrait4d.api.video",
    "available_engines": "portrait4d.engines.choose",
    "build_avatar": "portrait4d.pipeline",
    "load_engine": "portrait4d.engines.choose",
    "load_models": "portrait4d.reenactment.models",
    "pose_avatar": "portrait4d.jobs.pose",
    "reenact": "portrait4d.pipeline",
    "render_avatar": "portrait4d.jobs.views",
    "run_batch": "portrait4d.jobs.batch",
    "track_driver": "portrait4d.pipeline",
}

__all__ = ["PORTRAIT4D_FLOOR", "__version__", *_HOMES]  # pyright: ignore[reportUnsupportedDunderAll]


def _check_floor(name: str) -> None:
    """`flame` and `preprocess` are names that users' own files and strangers' distributions have, too."""
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise ImportError(f"package {name} of portrait4d is missing: reinstall portrait4d") from error
    if getattr(module, "PORTRAIT4D_FLOOR", None) != name:
        found = getattr(module, "__file__", None) or list(getattr(module, "__path__", ["?"]))[0]
        raise ImportError(f"portrait4d needs its own package {name}, found {_cure(name, str(found))}")


def _cure(name: str, found: str) -> str:
    """What a foreign package is and what to do: it lies where distributions are installed, or it is the user's own."""
    path = Path(found)
    if {"site-packages", "dist-packages"} & set(path.parts):
        return (
            f"a foreign one at {found}: "
            f"pip uninstall {name}, then in the checkout of portrait4d: pip install --force-reinstall --no-deps ."
        )
    own = path.parent if path.name == "__init__.py" else path
    kind = "file" if own.suffix else "folder"
    return f"your own {kind} {own}, which hides it: rename that {kind}, or run from another folder"


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from portrait4d.runtime.version import version

        return version()
    if name not in _HOMES:
        raise AttributeError(f"module 'portrait4d' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)


for _floor in ("flame", "preprocess"):
    _check_floor(_floor)
