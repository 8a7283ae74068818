"""Encodes pictures with 68 landmarks as the motion codes that drive Portrait4D, and reads the encoder's weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flame.errors import InputError, printable
from preprocess.files.digest import file_digest
from preprocess.tracking.motion_code.crop import crop_faces
from preprocess.tracking.motion_code.network import CODE_SIZE, TRAINING_NAME_PARTS, MotionEncoderNetwork

TENSORS_FILE = "model.safetensors"
_DROPPED_COUNTER = "num_batches_tracked"
_NUM_SHOWN = 5


class MotionEncoder:
    """The network and its crop.

    Attributes:
        weights: SHA-256 of the file of weights; empty if they come from elsewhere.
    """

    def __init__(self, network: MotionEncoderNetwork, *, weights: str = "") -> None:
        """Freezes a network.

        Args:
            network: with its weights; is set to evaluation mode and frozen.
            weights: SHA-256 of the file that the weights come from.
        """
        self.weights = weights
        # channels last: 15 % less processor time on a CPU
        network = network.eval().requires_grad_(False)
        self._network = network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  (stubs)

    @classmethod
    def load(
        cls, path: Path | str, *, device: str | torch.device = "cpu", weights: str | None = None
    ) -> "MotionEncoder":
        """Loads the encoder from a file.

        Args:
            path: as for `read_weights`.
            device: where the network runs.
            weights: SHA-256 of the file if it is known; None computes it.

        Raises:
            InputError: the file is missing, is not a motion encoder, or lacks tensors or has others.
        """
        path = Path(path)
        tensors = read_weights(path)
        weights = file_digest(_tensors_file(path)) if weights is None else weights
        return cls.from_tensors(tensors, name=path.name, device=device, weights=weights)

    @classmethod
    def from_tensors(
        cls, tensors: Mapping[str, Tensor], *, name: str, device: str | torch.device = "cpu", weights: str = ""
    ) -> "MotionEncoder":
        """Makes the encoder of given weights.

        Args:
            tensors: the weights under their official names.
            name: names the weights in messages.
            device: where the network runs.
            weights: SHA-256 of the file that the weights come from.

        Raises:
            InputError: tensors are missing, unknown, or of other shapes.
        """
        network = MotionEncoderNetwork()
        _fill(network, tensors, name)
        return cls(network.to(device), weights=weights)

    @torch.inference_mode()
    def __call__(self, images: Tensor, landmarks: Tensor, *, at_once: int = 8) -> Tensor:
        """Returns the codes `[B, 548]` of pictures: eye 6, emotion 30, mouth 512.

        Args:
            images: `[B, 3, H, W]` RGB in [-1, 1], faces upright, on any device.
            landmarks: `[B, 68, 2]` as for `crop_faces`.
            at_once: number of pictures in a batch of the network.
        """
        place = self._network.model.fc.weight
        codes = [images.new_zeros(0, CODE_SIZE).to(place)]
        for some, points in zip(images.split(at_once), landmarks.split(at_once), strict=True):
            faces = crop_faces(some.to(place), points)
            codes.append(self._network(faces.contiguous(memory_format=torch.channels_last)).motion)
        return torch.cat(codes)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Reads the tensors of a motion encoder, without those that only its training used.

    Args:
        path: the released `motion_model.pth`, a `.safetensors` file, or a converted folder.

    Raises:
        InputError: the file is missing, or holds anything but tensors.
    """
    path = _tensors_file(path)
    if not path.is_file():
        raise InputError(f"expected the motion encoder's weights (motion_model.pth) at {path}: there is no such file")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    if isinstance(content, Mapping) and len(content) == 1:
        (nested,) = content.values()
        content = nested if isinstance(nested, Mapping) else content
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise InputError(f"{path.name} does not hold named tensors only: expected the released motion_model.pth")
    return {
        str(name): value
        for name, value in content.items()
        if not any(part in str(name) for part in TRAINING_NAME_PARTS)
    }


def _tensors_file(path: Path) -> Path:
    """Returns the file itself, or the file of weights in a converted folder."""
    return path / TENSORS_FILE if path.is_dir() else path


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise InputError(f"{path.name} is damaged ({str(error)[:100]}): get the file again") from error


def _read_torch(path: Path) -> Any:
    """Reads tensors and plain containers; torch's own reader rejects anything else and runs no code."""
    import pickle

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, ValueError, EOFError, KeyError, OSError, pickle.UnpicklingError) as error:
        reason = printable(" ".join(str(error).split()))[:100]
        raise InputError(f"{path.name} is not a file of tensors ({reason}): get motion_model.pth again") from error


def _fill(network: nn.Module, tensors: Mapping[str, Tensor], name: str) -> None:
    """Copies the tensors into the network, all of them or none.

    Raises:
        InputError: tensors are missing, unknown, or of other shapes; it lists some.
    """
    own = network.state_dict()
    # counters of training steps have no effect here, and some files lack them
    missing = [key for key in own if key not in tensors and not key.endswith(_DROPPED_COUNTER)]
    extra = [key for key in tensors if key not in own]
    misshapen = [
        f"{key} {list(value.shape)}, expected {list(own[key].shape)}"
        for key, value in tensors.items()
        if key in own and value.shape != own[key].shape
    ]
    lists = {"missing": missing, "extra": extra, "misshapen": misshapen}
    parts = [f"{len(names)} {word}: {_shorten(names)}" for word, names in lists.items() if names]
    if parts:
        raise InputError(f"{name} is not the motion encoder ({'; '.join(parts)}): give the released motion_model.pth")
    network.load_state_dict(own | dict(tensors), strict=True)


def _shorten(names: list[str]) -> str:
    shown = printable(", ".join(names[:_NUM_SHOWN]))
    return f"{shown} and {len(names) - _NUM_SHOWN} more" if len(names) > _NUM_SHOWN else shown
