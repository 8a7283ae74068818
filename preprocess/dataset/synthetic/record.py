"""What is known of a synthesised subject, and how containers keep it (docs/genhead.md)."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from flame.errors import InputError, brief
from preprocess.dataset.records.container import INFO_NAME, Container, read_container
from preprocess.dataset.records.record_codec import decode_picture, encode_picture, from_json, to_json
from preprocess.dataset.synthetic.views import VIEWS, SubjectKind

FORMAT, FORMAT_VERSION = "portrait4d-synthetic", 1
_PICTURES = tuple(f"{view}.png" for view in VIEWS)
_MEMBERS = (*_PICTURES, "safetensors", "json")
_UNITS = {
    "label, condition": "cam2world 16 row-major in OpenGL axes, intrinsics 9 over the picture's side",
    "depth, points": "world units, units_per_metre to a metre, around head_origin metres of the head model",
    "features, background": "[-1, 1]; the first three channels are the picture before super-resolution",
    "landmarks": "px of the picture, y down, from the top-left corner",
    "jaw, eyes": "axis-angle, radians, the subject's left eye first; the neck is at rest",
}

Halves = NDArray[np.float16]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class SyntheticSubject:
    """A subject in three views: how it appears, whose motion it takes, how it is to be shown (`VIEWS`).

    Attributes:
        key: unique in its folder.
        kind: see `SubjectKind`.
        image: uint8 `[3, S, S, 3]` RGB.
        features: `[3, C, h, h]` rendered, over the background, in [-1, 1].
        alpha: `[3, 1, h, h]` opacity in [0, 1].
        depth: `[3, 1, h, h]` along the rays, world units.
        background: `[C, h, h]` of all views, in [-1, 1].
        correspondence: `[3, 3, S, S]` which place of the canonical head a pixel shows; `[3, 3, 0, 0]` if left out.
        landmarks: `[3, 70, 2]` px.
        points: `[P, 3]` places of samples of the last view outside of eyes and mouth, world units.
        plane_features: `[P, C]` of the face's tri-planes there.
        label: `[3, 25]` cameras.
        condition: `[25]` camera that conditioned the mapping.
        latent: `[Z]`.
        shape: `[S]`.
        expression: `[3, E]`.
        jaw: `[3, 3]`.
        eyes: `[3, 2, 3]`.
    """

    key: str
    kind: SubjectKind
    image: NDArray[np.uint8]
    features: Halves
    alpha: Halves
    depth: Floats
    background: Halves
    correspondence: Halves
    landmarks: Floats
    points: Floats
    plane_features: Halves
    label: Floats
    condition: Floats
    latent: Floats
    shape: Floats
    expression: Floats
    jaw: Floats
    eyes: Floats

    @property
    def image_raw(self) -> Halves:
        """`[3, 3, h, h]` before super-resolution."""
        return self.features[:, :3]


_KINDS = {
    field.name: np.dtype(np.float16 if field.type in (Halves, "Halves") else np.float32)
    for field in fields(SyntheticSubject)
    if field.name not in ("key", "kind", "image")
}


@dataclass(frozen=True)
class SyntheticInfo:
    """What all subjects of a folder share; the first member of every container.

    Attributes:
        head_model: "open" or "flame".
        head_origin: the world's origin in the head model's coordinates, metres.
        image_size: S, px.
        neural_resolution: h, px.
        network_digest: of the network's tensors and configuration.
        units_per_metre: of the world.
    """

    head_model: str
    head_origin: tuple[float, float, float]
    image_size: int
    neural_resolution: int
    network_digest: str
    units_per_metre: float = 3.0


def encode_synthetic_info(info: SyntheticInfo) -> bytes:
    """The description as JSON that also states the units."""
    return to_json({"format": FORMAT, "version": FORMAT_VERSION, **vars(info), "units": _UNITS})


def encode_subject(subject: SyntheticSubject) -> dict[str, bytes]:
    """Members by the ending of their name; equal subjects give equal bytes."""
    pictures = {name: encode_picture(picture, "png") for name, picture in zip(_PICTURES, subject.image, strict=True)}
    arrays = {name: np.ascontiguousarray(getattr(subject, name)) for name in _KINDS}
    for name, kind in _KINDS.items():
        if arrays[name].dtype != kind or not np.isfinite(arrays[name]).all():
            raise ValueError(f"subject {subject.key}: expected finite {name} of {kind}, got {arrays[name].dtype}")
    return {**pictures, "safetensors": save_arrays(arrays), "json": to_json({"kind": subject.kind})}


def decode_subject(key: str, parts: dict[str, bytes], where: str) -> SyntheticSubject:
    """Inverts `encode_subject`; `where` names the container, for errors.

    Raises:
        InputError: a member is missing or damaged; the message names it.
    """
    missing = [name for name in _MEMBERS if name not in parts]
    if missing:
        raise InputError(f"{where}: expected member {key}.{missing[0]}, it is missing: synthesise it again")
    pictures = [decode_picture(parts[name], "RGB", f"{where}: {key}.{name}") for name in _PICTURES]
    try:
        arrays = load_arrays(parts["safetensors"])
        values = {name: arrays[name] for name in _KINDS}
        if any(values[name].dtype != kind for name, kind in _KINDS.items()):
            raise ValueError("another kind of numbers")
    except (SafetensorError, KeyError, ValueError) as error:
        raise InputError(f"{where}: {key}.safetensors is damaged: synthesise it again") from error
    kind = _decode_kind(parts["json"], f"{where}: {key}.json")
    return SyntheticSubject(key=key, kind=kind, image=np.stack(pictures), **values)


def _decode_kind(member: bytes, where: str) -> SubjectKind:
    kind = from_json(member, where).get("kind")
    if kind not in ("dynamic", "static"):
        raise InputError(f"{where}: expected kind dynamic or static, got {brief(kind)}")
    return kind


class SyntheticFolder(Sequence[SyntheticSubject]):
    """The subjects of a synthesised folder by number.

    Attributes:
        info: what they share, JSON's values.

    Args:
        folder: that `genhead synthesize` wrote; unfinished parts are not seen.

    Raises:
        InputError: there are no subjects, or a container is of another format.
    """

    def __init__(self, folder: str | Path) -> None:
        self._containers = [read_container(path) for path in sorted(Path(folder).glob("[!.]*.tar"))]
        if not self._containers:
            raise InputError(f"expected synthesised subjects (*.tar) in {folder}, found none: give such a folder")
        self.info = [_description(container) for container in self._containers][0]
        self._places = [(container, key) for container in self._containers for key in container.keys]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> SyntheticSubject:  # pyright: ignore[reportIncompatibleMethodOverride]
        container, key = self._places[index]
        with container.path.open("rb") as file:
            return decode_subject(key, container.members_of(key, file, _MEMBERS), str(container.path))

    def __iter__(self) -> Iterator[SyntheticSubject]:
        return (self[index] for index in range(len(self)))

    def kinds(self) -> list[SubjectKind]:
        """The kinds of all subjects; reads nothing else of them.

        Raises:
            InputError: a container is damaged.
        """
        found: list[SubjectKind] = []
        for container in self._containers:
            with container.path.open("rb") as file:
                for key in container.keys:
                    parts = container.members_of(key, file, ("json",))
                    where = f"{container.path}: {key}.json"
                    if "json" not in parts:
                        raise InputError(f"{where}: the member is missing: synthesise it again")
                    found.append(_decode_kind(parts["json"], where))
        return found

    @property
    def digest(self) -> str:
        """Identifies the network that made the subjects, and which there are."""
        keys = [key for _, key in self._places]
        return hashlib.sha256("\n".join([str(self.info.get("network_digest")), *keys]).encode()).hexdigest()


def _description(container: Container) -> dict[str, Any]:
    where = f"{container.path}: {INFO_NAME}"
    values = from_json(container.description(), where)
    if (values.get("format"), values.get("version")) != (FORMAT, FORMAT_VERSION):
        found = f"{brief(values.get('format'))} {brief(values.get('version'))}"
        raise InputError(f"{where}: expected format {FORMAT} {FORMAT_VERSION}, got {found}: give a synthesised folder")
    return values
