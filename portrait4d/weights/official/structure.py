"""Recognises a network by the names and shapes of its tensors, and compares it with the released structures."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Protocol

import torch

from flame.errors import InputError, printable
from portrait4d.weights.config import Family, Network
from portrait4d.weights.strict import CheckpointMismatch

STRUCTURES_FILE = Path(__file__).parents[2] / "assets" / "checkpoint_structures.json"

_EG3D_CHANNELS, _DEFORM_CHANNELS = 6, 10
"""Input channels of the discriminators: two pictures, or two pictures, uv map and mask."""

_SINGLE_CHANNELS = 3
"""Input channels of EG3D's discriminator without super-resolution, which sees one picture."""

_OTHER_DISCRIMINATORS = {
    "SingleDiscriminator": "which sees one picture",
    "DummyDualDiscriminator": "whose second picture fades out",
}
"""Classes of EG3D that take the arguments of its dual discriminator but give other results."""

_EG3D_512 = {
    "generator": ("superresolution.block1.conv1.weight", (128, 128)),
    "discriminator": ("b512.fromrgb.weight", (64, _EG3D_CHANNELS)),
}
"""A tensor that only the models for 512 pixels have in this shape."""


class HasShape(Protocol):
    """A tensor, or one that has not been read yet."""

    @property
    def dtype(self) -> torch.dtype: ...  # noqa: D102

    @property
    def shape(self) -> tuple[int, ...]: ...  # noqa: D102


def recognise(tensors: Mapping[str, HasShape], *, beside: Family | None = None) -> tuple[Family, Network]:
    """Finds the family and the network of a state dict.

    Args:
        tensors: by state-dict name.
        beside: the family of the generator in the same file: GenHead and Portrait4D have the same discriminator.

    Raises:
        InputError: it is none of the known networks.
    """
    names = tensors.keys()
    if "to_mouth.0.weight" in names and "model.conv1.weight" in names:
        return "motion-encoder", "encoder"
    if "encoder_global.encoder.conv1.weight" in names and "generator_triplane.conv_last.weight" in names:
        return "portrait4d", "generator"
    if "backbone.mapping.fc0.weight" in names:
        is_deformed = any(name.startswith("deformer.flame_deform.") for name in names)
        if is_deformed and "decoder.out_sigma.weight" in names:
            return "genhead", "generator"
        if not is_deformed and "decoder.net.2.weight" in names:
            return "eg3d", "generator"
    first = [name for name in names if name.endswith(".fromrgb.weight")]
    if "b4.out.weight" in names and len(first) == 1 and len(tensors[first[0]].shape) == 4:
        channels = tensors[first[0]].shape[1]
        if channels == _EG3D_CHANNELS:
            return "eg3d", "discriminator"
        if channels == _DEFORM_CHANNELS:
            return ("portrait4d" if beside == "portrait4d" else "genhead"), "discriminator"
        if channels == _SINGLE_CHANNELS:
            check_class("SingleDiscriminator")
    some = printable(", ".join(list(names)[:3])[:200]) or "none"
    raise InputError(f"not a network of EG3D, GenHead, Portrait4D or the motion encoder (tensors: {some} ...)")


def check_class(class_name: str) -> None:
    """Refuses classes that their arguments or tensors do not distinguish from a supported one.

    Raises:
        InputError: the class is one of them.
    """
    name = class_name.rpartition(".")[2]
    if name in _OTHER_DISCRIMINATORS:
        raise InputError(
            f"EG3D's {name}, {_OTHER_DISCRIMINATORS[name]}, is not supported: expected a DualDiscriminator or "
            "DualDiscriminatorDeform: take a file that holds one"
        )


def released_structure(family: Family, network: Network, tensors: Mapping[str, HasShape]) -> str | None:
    """The name of the structure that a released network of this kind has; None where several exist."""
    if family == "eg3d":
        name, channels = _EG3D_512[network]
        found = tensors.get(name)
        return f"eg3d-512.{network}" if found is not None and tuple(found.shape[:2]) == channels else None
    return "genhead.discriminator" if network == "discriminator" else f"{family}.{network}"


def check_structure(structure: str, tensors: Mapping[str, HasShape]) -> None:
    """Compares tensors with a released structure; dimensions that depend on a licensed asset may be any.

    Raises:
        CheckpointMismatch: names, types or shapes differ.
    """
    expected = _structures()[structure]
    missing = [name for name in expected if name not in tensors]
    extra = [name for name in tensors if name not in expected]
    misshapen = []
    for name, (dtype, shape) in expected.items():
        if name not in tensors:
            continue
        found = tensors[name]
        fits = len(shape) == len(found.shape) and all(
            wanted in (None, length) for wanted, length in zip(shape, found.shape, strict=True)
        )
        if not fits or str(found.dtype) != f"torch.{dtype}":
            misshapen.append(f"{name} {found.dtype} {list(found.shape)}, expected {dtype} {shape}")
    if missing or extra or misshapen:
        claim = f"the tensors are not those of the released {structure}"
        raise CheckpointMismatch(missing, extra, misshapen, claim=claim, cure="get the file again, or check its origin")


@cache
def _structures() -> dict[str, dict[str, tuple[str, list[int | None]]]]:
    return json.loads(STRUCTURES_FILE.read_text(encoding="utf-8"))
