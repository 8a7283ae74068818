"""Runs networks of insightface's pack buffalo_l: its face detector with one other, and the encoder of identity."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from flame.errors import InputError
from preprocess.faces.backends.extras import explained_weights, import_extra

PACK = "buffalo_l"
PAGE = f"https://github.com/deepinsight/insightface/releases/download/model-zoo/{PACK}.zip"

Task = Literal["landmark_3d_68", "recognition"]
FILES: dict[Task, str] = {"landmark_3d_68": "1k3d68.onnx", "recognition": "w600k_r50.onnx"}


class InsightFace:
    """Finds faces with SCRFD and runs the task's network on each of them."""

    def __init__(self, task: Task, device: torch.device | str = "cpu") -> None:
        """Loads the networks.

        Raises:
            InputError: the package is not installed, the pack is neither here nor can be fetched, or it cannot use the
                device.
        """
        application = import_extra("insightface.app", "insightface")
        device = torch.device(device)
        providers = _onnx_providers(device)
        with explained_weights(f"the pack {PACK} of insightface", lambda: _advice(task), are_here=_folder().is_dir):
            self._network = application.FaceAnalysis(
                name=PACK, allowed_modules=["detection", task], providers=providers
            )
            if task not in self._network.models:
                raise FileNotFoundError(f"it holds no network {FILES[task]}")
        self._network.prepare(ctx_id=-1 if device.type == "cpu" else device.index or 0, det_size=(640, 640))

    def __call__(self, image: NDArray[np.uint8]) -> list[Any]:
        """Returns the library's results for the faces of a picture uint8 `[H, W, 3]` RGB, in its order."""
        return self._network.get(np.ascontiguousarray(image[..., ::-1]))  # it reads BGR


class IdentityEncoder:
    """Makes unit vectors whose cosine says how alike two people are, with ArcFace (Deng et al. 2019)."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._analysis = InsightFace("recognition", device)

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.float32] | None:
        """Returns the vector `[512]` of the largest face in a picture uint8 `[H, W, 3]` RGB; None without a face."""
        faces = self._analysis(image)
        if not faces:
            return None
        face = max(faces, key=lambda face: float(np.ptp(np.reshape(face["bbox"], (2, 2)), axis=0).prod()))
        embedding = np.asarray(face["embedding"], np.float64)
        return (embedding / np.linalg.norm(embedding)).astype(np.float32)


def _onnx_providers(device: torch.device) -> list[Any]:
    if device.type == "cpu":
        return ["CPUExecutionProvider"]
    runtime = import_extra("onnxruntime", "insightface")
    if device.type != "cuda" or "CUDAExecutionProvider" not in runtime.get_available_providers():
        raise InputError(
            f"onnxruntime cannot use device {str(device)!r} here: install onnxruntime-gpu, or use device cpu"
        )
    return [("CUDAExecutionProvider", {"device_id": device.index or 0})]


def _folder() -> Path:
    """Returns the folder where the library looks for the pack; it fetches nothing if the folder exists."""
    return Path("~/.insightface/models").expanduser() / PACK


def recognition_file() -> Path:
    """Where the pack's network of identity lies, if the pack is on this machine."""
    return _folder() / FILES["recognition"]


def _advice(task: Task) -> str:
    folder = _folder()
    by_hand = f"unpack {PAGE} into {folder}, so that {FILES[task]} lies in it, or run once with a network"
    return f"delete {folder}, then {by_hand}" if folder.exists() else by_hand
