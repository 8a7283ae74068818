"""Where a live head is shown: a window of OpenCV, a virtual camera, or nowhere."""

from __future__ import annotations

import os
import sys
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from flame.errors import InputError
from portrait4d.jobs.live_options import Screen

NO_WINDOW = (
    "this OpenCV has no window (opencv-python-headless): pip uninstall opencv-python-headless, then pip install "
    "opencv-python; or use --show virtual-camera, or --show nothing with --record, or portrait4d studio"
)
TITLE = "portrait4d live: n holds neutral, q ends"
TRIED_SIDE = 512


class LiveScreen(Protocol):
    """Shows frames."""

    def show(self, image: NDArray[np.uint8] | None) -> str:
        """Shows a frame uint8 `[H, W, 3]` RGB (None: no new one) and returns the key that was pressed, "" for none."""
        ...

    def close(self) -> None:
        """Takes it down."""
        ...


def open_screen(kind: Screen, *, frames_per_second: float) -> LiveScreen:
    """Opens a screen, which takes the size of the first frame.

    Raises:
        InputError: this machine has no such screen; the message says what to do.
    """
    match kind:
        case "window":
            return _Window()
        case "virtual-camera":
            return _VirtualCamera(frames_per_second)
        case "nothing":
            return _Nothing()


class _Window:
    def __init__(self) -> None:
        if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise InputError(
                "this machine has no display for a window: use --show nothing with --record, or portrait4d studio"
            )
        try:
            cv2.namedWindow(TITLE, cv2.WINDOW_AUTOSIZE)
        except cv2.error as error:
            raise InputError(NO_WINDOW) from error

    def show(self, image: NDArray[np.uint8] | None) -> str:
        if image is not None:
            cv2.imshow(TITLE, np.ascontiguousarray(image[..., ::-1]))
        key = cv2.waitKey(1) & 0xFF
        if cv2.getWindowProperty(TITLE, cv2.WND_PROP_VISIBLE) < 1 or key == 27:  # closed, or Escape
            return "q"
        return "" if key == 0xFF else chr(key)

    def close(self) -> None:
        cv2.destroyAllWindows()


class _VirtualCamera:
    def __init__(self, frames_per_second: float) -> None:
        """Tries it at once, so that one that is absent is told before any model is loaded."""
        self._rate, self._camera = frames_per_second, None
        self._open(TRIED_SIDE, TRIED_SIDE).close()

    def _open(self, height: int, width: int) -> Any:
        try:
            import pyvirtualcam  # pyright: ignore[reportMissingImports]  # an extra
        except ModuleNotFoundError as error:
            raise InputError("a virtual camera needs pyvirtualcam: pip install 'portrait4d[live]'") from error
        try:
            return pyvirtualcam.Camera(width, height, self._rate)
        except RuntimeError as error:
            raise InputError(
                f"no virtual camera can be opened here ({' '.join(str(error).split())}): install OBS, or on Linux "
                "load v4l2loopback"
            ) from error

    def show(self, image: NDArray[np.uint8] | None) -> str:
        if image is not None:
            if self._camera is None:
                self._camera = self._open(*image.shape[:2])
            self._camera.send(image)
        return ""

    def close(self) -> None:
        if self._camera is not None:
            self._camera.close()


class _Nothing:
    def show(self, image: NDArray[np.uint8] | None) -> str:
        del image
        return ""

    def close(self) -> None:
        pass
