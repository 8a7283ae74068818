"""EG3D's datasets and cameras: folders or stored zips of square PNGs with a `dataset.json` of camera labels.

A label is 25 numbers like ours, but with OpenCV axes and in another world: the origin is the middle of the head and one
unit is 1 / 2.7 m, because Deep3DFaceRecon counts in 0.1 m and EG3D scales that by 0.27. The worlds differ by a
similarity transform, which keeps the lens: every point stays on its pixel, and the way back is exact. `with_eg3d_lens`
then gives the one lens and distance that the released networks were trained on.
"""

import contextlib
import io
import json
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flame.errors import InputError, brief
from preprocess.files.atomic import atomic_path

EG3D_UNITS_PER_METRE = 2.7
EG3D_FOCAL = 2985.29 / 700
"""Focal length in picture sides, as EG3D's scripts write it."""
EG3D_RADIUS = 2.7

_CAMERA_AXES = np.array([1.0, -1.0, -1.0])
_LABELS_NAME = "dataset.json"
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)
_MAX_LABELS_BYTES = 1 << 30


@dataclass(frozen=True)
class HeadInEG3D:
    """The pose of a head model in EG3D's world: `x_eg3d = 2.7 R_x(pitch) (x - centre)`, x in metres from its neck.

    Attributes:
        centre: EG3D's origin, metres.
        pitch: angle in radians by which the head model at rest looks down in EG3D's world.
    """

    centre: tuple[float, float, float]
    pitch: float

    def place(self, points: NDArray) -> NDArray:
        """Maps points `[..., 3]` of the head model, in metres, to EG3D's world."""
        return EG3D_UNITS_PER_METRE * (points - np.array(self.centre)) @ self.turn.T

    @property
    def turn(self) -> NDArray:
        """`[3, 3]`, from the head model's axes to EG3D's."""
        cosine, sine = np.cos(self.pitch), np.sin(self.pitch)
        return np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])


HEADS_IN_EG3D = {
    "flame": HeadInEG3D((0.0, 0.0130, 0.0094), 0.0849),
    "open": HeadInEG3D((0.0, 0.1433, 0.0498), -0.1079),
}
"""The pose of each head model in EG3D's world.

FLAME's pitch is the one that the released preprocessing assumes between it and Deep3DFaceRecon; the open head rests
with its chin 11 degrees lower than FLAME. Deep3DFaceRecon's origin is the middle of EG3D's crop: the point that lies
there in 16 portraits with known poses (accurate to 1 mm, its depth to 3 mm). EG3D moves it by (0, 6, 161) / 1000 units.
"""


def eg3d_from_ours(labels: NDArray, head: HeadInEG3D, *, units_per_metre: float) -> NDArray:
    """Converts our labels to EG3D's `[N, 25]` float64; each camera sees the same picture.

    Args:
        labels: `[N, 25]`, OpenGL axes, our world.
        head: the head model that our world belongs to, of `HEADS_IN_EG3D`.
        units_per_metre: of our world.
    """
    converted = np.array(labels, np.float64)
    cam2world = converted[:, :16].reshape(-1, 4, 4)
    cam2world[:, :3, :3] = head.turn @ cam2world[:, :3, :3] * _CAMERA_AXES
    cam2world[:, :3, 3] = head.place(cam2world[:, :3, 3] / units_per_metre)
    return np.concatenate([cam2world.reshape(-1, 16), converted[:, 16:]], 1)


def ours_from_eg3d(labels: NDArray, head: HeadInEG3D, *, units_per_metre: float) -> NDArray:
    """Inverts `eg3d_from_ours`: converts EG3D's labels to ours `[N, 25]` float64."""
    converted = np.array(labels, np.float64)
    cam2world = converted[:, :16].reshape(-1, 4, 4)
    cam2world[:, :3, :3] = head.turn.T @ cam2world[:, :3, :3] * _CAMERA_AXES
    metres = cam2world[:, :3, 3] @ head.turn / EG3D_UNITS_PER_METRE + np.array(head.centre)
    cam2world[:, :3, 3] = metres * units_per_metre
    return np.concatenate([cam2world.reshape(-1, 16), converted[:, 16:]], 1)


def with_eg3d_lens(labels: NDArray) -> NDArray:
    """Returns EG3D's labels `[N, 25]` with its lens, moved to its distance 2.7 from the origin in the same direction.

    The released networks were trained on these. The original distance of the camera is lost.
    """
    changed = np.array(labels, np.float64)
    position = changed[:, [3, 7, 11]]
    changed[:, [3, 7, 11]] = position * (EG3D_RADIUS / np.linalg.norm(position, axis=1, keepdims=True))
    changed[:, 16:] = [EG3D_FOCAL, 0, 0.5, 0, EG3D_FOCAL, 0.5, 0, 0, 1]
    return changed


@dataclass(frozen=True)
class Eg3dDataset:
    """Pictures and labels in the order of `dataset.json`; files are opened when they are read.

    Attributes:
        path: folder or zip.
        names: of the pictures, relative to it.
        labels: `[N, 25]` float32, OpenCV axes, EG3D's world.
    """

    path: Path
    names: tuple[str, ...]
    labels: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float32]]]:
        """Yields pictures `[S, S, 3]` RGB with their labels `[25]`."""
        with self.open() as archive:
            for index, label in enumerate(self.labels):
                yield self.read(index, archive), label

    def open(self) -> contextlib.AbstractContextManager[zipfile.ZipFile | None]:
        """The open zip for `read`, whose table is then read once; None for a folder."""
        return contextlib.nullcontext() if self.path.is_dir() else zipfile.ZipFile(self.path)

    def read(self, index: int, archive: zipfile.ZipFile | None) -> NDArray[np.uint8]:
        """Reads a picture `[S, S, 3]` RGB out of what `open` gave.

        Raises:
            InputError: it is damaged.
        """
        name = self.names[index]
        content = (self.path / name).read_bytes() if archive is None else _read_member(archive, name, self.path)
        return _decode(content, f"{self.path}: {name}")


def read_eg3d(path: Path | str) -> Eg3dDataset:
    """Returns a folder or zip of EG3D's dataset tool.

    Raises:
        InputError: there is no `dataset.json`, its labels have another form, or pictures that it names are missing.
    """
    path = Path(path)
    if path.is_dir():
        if not (path / _LABELS_NAME).is_file():
            raise InputError(f"{path}: expected a folder with {_LABELS_NAME}, it has none")
        names, labels = _parse_labels((path / _LABELS_NAME).read_bytes(), path)
        missing = [name for name in names if not (path / name).is_file()]
    else:
        try:
            with zipfile.ZipFile(path) as archive:
                members = set(archive.namelist())
                if _LABELS_NAME not in members:
                    raise InputError(f"{path}: expected a zip with {_LABELS_NAME}, it has none")
                names, labels = _parse_labels(_read_member(archive, _LABELS_NAME, path), path)
                missing = [name for name in names if name not in members]
        except (zipfile.BadZipFile, OSError) as error:
            raise InputError(f"{path}: expected a folder or zip of EG3D's dataset tool, it cannot be read") from error
    if missing:
        raise InputError(
            f"{path}: {_LABELS_NAME} names {len(missing)} pictures that are not there, first {missing[0]!r}"
        )
    return Eg3dDataset(path, names, labels)


def write_eg3d(path: Path | str, items: Iterable[tuple[NDArray[np.uint8], NDArray]]) -> int:
    """Writes pictures and labels to a stored zip or a folder; returns how many there were.

    Args:
        path: a zip if it ends in `.zip`, else a folder.
        items: pictures `[S, S, 3]` RGB, all of one size, a power of two, with EG3D's labels `[25]`. Mirror images are
            ordinary items, with labels from `preprocess.dataset.reading.flip.mirror_label`.

    Raises:
        InputError: a picture has another size, or the path cannot be written or is not empty.
    """
    path = Path(path)
    if path.suffix != ".zip":
        return _write_folder(path, items)
    if path.exists():
        raise InputError(f"{path} is there already: expected the name of a new .zip")
    labels: list = []
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for name, content, label in _encoded(items):
            archive.writestr(zipfile.ZipInfo(name, _ZIP_DATE), content)
            labels.append([name, label])
        archive.writestr(zipfile.ZipInfo(_LABELS_NAME, _ZIP_DATE), json.dumps({"labels": labels}))
    return len(labels)


def _write_folder(path: Path, items: Iterable[tuple[NDArray[np.uint8], NDArray]]) -> int:
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"{path}: expected a new or empty folder to write to, or the name of a .zip")
    labels: list = []
    for name, content, label in _encoded(items):
        with atomic_path(path / name) as temporary:
            temporary.write_bytes(content)
        labels.append([name, label])
    with atomic_path(path / _LABELS_NAME) as temporary:
        temporary.write_text(json.dumps({"labels": labels}))
    return len(labels)


def _encoded(items: Iterable[tuple[NDArray[np.uint8], NDArray]]) -> Iterator[tuple[str, bytes, list[float]]]:
    side = 0
    for number, (image, label) in enumerate(items):
        side = side or len(image)
        if image.shape != (side, side, 3) or side & (side - 1) or image.dtype != np.uint8 or np.shape(label) != (25,):
            found = f"{image.dtype} {list(image.shape)} with a label {list(np.shape(label))}"
            raise InputError(f"picture {number}: expected uint8 squares of one side, a power of two, got {found}")
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, format="PNG", compress_level=3)
        yield f"{number // 1000:05d}/img{number:08d}.png", buffer.getvalue(), [float(value) for value in label]


def _parse_labels(content: bytes, path: Path) -> tuple[tuple[str, ...], NDArray[np.float32]]:
    try:
        entries = json.loads(content)["labels"]
        names = [name for name, _ in entries]
        labels = np.array([label for _, label in entries], np.float32).reshape(-1, 25)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f'{path}: expected {_LABELS_NAME} of {{"labels": [[name, [25 numbers]], ...]}}') from error
    if len(labels) != len(names) or not np.isfinite(labels).all():
        raise InputError(f"{path}: expected 25 finite numbers per picture in {_LABELS_NAME}: write it again")
    for name in names:
        place = PurePosixPath(name) if isinstance(name, str) else PurePosixPath("/")
        if place.is_absolute() or ".." in place.parts:
            raise InputError(f"{path}: expected names inside the dataset, got {brief(name)}")
    return tuple(names), labels


def _read_member(archive: zipfile.ZipFile, name: str, path: Path) -> bytes:
    try:
        if archive.getinfo(name).file_size > _MAX_LABELS_BYTES:
            raise InputError(f"{path}: {name} claims more than {_MAX_LABELS_BYTES >> 30} GiB: give another dataset")
        return archive.read(name)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise InputError(f"{path}: {name} is damaged: copy the dataset again") from error


def _decode(content: bytes, where: str) -> NDArray[np.uint8]:
    try:
        with Image.open(io.BytesIO(content)) as picture:
            return np.array(picture.convert("RGB"))
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, zlib.error, EOFError ...
        raise InputError(f"{where} is damaged: copy the dataset again") from error
