"""Face recognisers for the identity loss, by a file of the user, and a stand-in without weights.

A recogniser is a network of an ONNX file (ArcFace, Deng et al. 2019, as insightface's packs hold it), which the
package onnx2torch makes differentiable, or of a TorchScript file. `thumbnail` compares small grey pictures of the
aligned faces: it needs nothing, and tells faces apart only by where they are dark.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flame.errors import InputError
from portrait4d.losses.identity import Embedder
from preprocess.faces.alignment import ARCFACE_SIDE
from preprocess.faces.backends.extras import explained_weights, import_extra
from preprocess.faces.backends.insightface_pack import recognition_file

THUMBNAIL, INSIGHTFACE = "thumbnail", "insightface"

_THUMBNAIL_PX = 14
_SUFFIXES = (".onnx", ".pt", ".ts")


def load_embedder(named: str, *, device: torch.device | str = "cpu") -> Embedder:
    """Loads `thumbnail`, `insightface` (the network of its pack), or the network of a file.

    Raises:
        InputError: the file is missing or of another kind, or a package is not installed.
    """
    if named == THUMBNAIL:
        return thumbnail
    path = recognition_file() if named == INSIGHTFACE else Path(named)
    if path.suffix not in _SUFFIXES or not path.is_file():
        raise InputError(
            f"expected a face recogniser in a file ending in {', '.join(_SUFFIXES)}, got {path}: give one, "
            f"{INSIGHTFACE}, or {THUMBNAIL}, which needs no weights"
        )
    network = _read_onnx(path) if path.suffix == ".onnx" else _read_script(path)
    network = network.to(device).eval()
    for parameter in network.parameters():  # a TorchScript module cannot freeze itself
        parameter.requires_grad_(False)
    _check(network, path, device)
    return network


def thumbnail(faces: Tensor) -> Tensor:
    """Vectors `[B, 196]` of aligned faces `[B, 3, 112, 112]`: small, grey, without their mean."""
    small = F.adaptive_avg_pool2d(faces.mean(1, keepdim=True), _THUMBNAIL_PX).flatten(1)
    return small - small.mean(1, keepdim=True)


def _read_onnx(path: Path) -> nn.Module:
    module = import_extra("onnx2torch", "arcface", otherwise="use another recogniser")
    with explained_weights(f"the face recogniser {path}", lambda: "give another file"):
        return module.convert(str(path))


def _read_script(path: Path) -> nn.Module:
    with explained_weights(f"the face recogniser {path}", lambda: "give a file that torch.jit.save wrote"):
        return torch.jit.load(str(path), map_location="cpu")


def _check(network: nn.Module, path: Path, device: torch.device | str) -> None:
    with explained_weights(f"the face recogniser {path}", lambda: "give one for RGB of 112 px"), torch.no_grad():
        found = network(torch.zeros(2, 3, ARCFACE_SIDE, ARCFACE_SIDE, device=device))
        if not isinstance(found, Tensor) or found.ndim != 2 or len(found) != 2:
            raise InputError(f"expected a face recogniser that gives vectors [B, D], {path} gives something else")
