"""Reads the datasets of the released Portrait4D code: an LMDB of messages, each of a picture or a clip.

Keys are eight digits; `num_samples` holds their number. Three kinds of message are read: `Datum_genhead` and
`Datum_ffhq` (one encoded picture) and `Datum_vfhq` (the raw frames of a clip). They hold FLAME parameters as vectors of
437 numbers and motion codes of 548 (stored ones may be longer), but no landmarks: their records have `[0, 3]`.
"""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flame.errors import InputError, brief
from flame.heads.head_model import HeadParams
from preprocess.dataset.formats.options import Message
from preprocess.dataset.formats.protobuf_wire import read_message
from preprocess.dataset.records.record import CODE_SIZE, Record

_VECTOR_SIZE = 437
_BLOB_FIELDS: dict[Message, tuple[int, int, int, int]] = {
    "genhead": (4, 5, 6, 7), "ffhq": (5, 6, 7, 8), "vfhq": (5, 6, 7, 8),
}  # fmt: skip
_HEIGHT, _WIDTH, _NUM = 2, 3, 4
_MAX_FRAMES = 10_000


class OfficialDataset:
    """Reads an LMDB by index: a list of records per message, one for a picture, all frames for a clip.

    Args:
        path: the folder of the LMDB (`..._512_50`), or its file.
        message: the kind of its messages, which the files do not state.

    Raises:
        InputError: `lmdb` is not installed, there is no LMDB, or it has no `num_samples`.
    """

    def __init__(self, path: Path | str, message: Message) -> None:
        if message not in _BLOB_FIELDS:
            raise InputError(f"expected message genhead, ffhq or vfhq, got {message!r}")
        self.path = Path(path)
        self.message: Message = message
        count = self._get(b"num_samples")
        if not count.isdigit() or len(count) > 8:
            raise InputError(f"{self.path}: expected num_samples as digits, got {brief(count.decode('latin-1'))}")
        self._count = int(count)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> list[Record]:
        if not 0 <= index < self._count:
            raise IndexError(f"message {index} of {self._count}")
        key = f"{index:08d}"
        return records_of_message(self._get(key.encode()), self.message, key=key, where=f"{self.path}: {key}")

    def __iter__(self) -> Iterator[Record]:
        for index in range(self._count):
            yield from self[index]

    def _get(self, key: bytes) -> bytes:
        # opened for each read: an environment can be opened only once per process and must not live through a fork
        with _open(self.path) as environment, environment.begin() as transaction:
            value = transaction.get(key)
        if value is None:
            raise InputError(f"{self.path}: expected an entry {key.decode()}, it is missing: copy the dataset again")
        return bytes(value)


def records_of_message(content: bytes, message: Message, *, key: str, where: str) -> list[Record]:
    """Returns the records of one message, keyed `KEY` or, of a clip, `KEY-FRAME` (6 digits).

    Raises:
        InputError: a field is missing or its size does not fit; the message names `where` and the field.
    """
    fields = read_message(content, where)
    blobs = [fields.get(field, b"") for field in _BLOB_FIELDS[message]]
    if any(not isinstance(blob, bytes) for blob in blobs):
        raise InputError(f"{where}: expected bytes in fields {_BLOB_FIELDS[message]}: is it a message {message}?")
    images, masks, labels, codes = cast(list[bytes], blobs)
    vectors = _floats(labels, f"{where}: labels")
    if not len(vectors) or len(vectors) % _VECTOR_SIZE:
        raise InputError(f"{where}: expected labels of 437 floats a picture, got {len(vectors)}: is it {message}?")
    vectors = vectors.reshape(-1, _VECTOR_SIZE)
    num_frames = len(vectors)
    motions = _codes(codes, num_frames, f"{where}: codes")
    if message == "vfhq":
        size = _number(fields, _HEIGHT, where), _number(fields, _WIDTH, where)
        if num_frames != _number(fields, _NUM, where) or num_frames > _MAX_FRAMES:
            raise InputError(f"{where}: expected num of {num_frames} frames as labels are, got {fields[_NUM]}")
        pictures = _raw(images, (num_frames, *size), f"{where}: images")
        mattes = _raw(masks, (num_frames, *size), f"{where}: segs")
        if pictures.shape[-1] != 3:
            raise InputError(f"{where}: expected images of three channels, got one: is it a message {message}?")
    else:
        if num_frames != 1:
            raise InputError(f"{where}: expected one picture, got labels of {num_frames}: is it a message vfhq?")
        pictures, mattes = (
            _encoded(images, "RGB", f"{where}: images"),
            _encoded(masks, "L", f"{where}: segs")[..., None],
        )
    names = [key] if message != "vfhq" else [f"{key}-{frame:06d}" for frame in range(num_frames)]
    return [
        _record(name, pictures[frame], mattes[frame, ..., 0], vectors[frame], motions[frame])
        for frame, name in enumerate(names)
    ]


def record_to_vector437(record: Record) -> NDArray[np.float32]:
    """The released code's vector `[437]` of a FLAME record, as `HeadParams.from_vector437` lays it out."""
    head = record.head.map(lambda array: array[None])
    try:
        return head.to_vector437(record.camera[None])[0].astype(np.float32)
    except InputError as error:
        raise InputError(f"{record.key}: {error}") from error


def _record(
    key: str, image: NDArray[np.uint8], mask: NDArray[np.uint8], vector: NDArray[np.float32], code: NDArray[np.float32]
) -> Record:
    if image.shape[:2] != mask.shape:
        raise InputError(f"{key}: expected a mask of the picture's size {image.shape[:2]}, got {mask.shape}")
    return Record(
        key=key,
        source=key,
        image=image,
        mask=mask,
        crop_matrix=np.eye(3),
        source_size=(image.shape[0], image.shape[1]),
        landmarks=np.zeros((0, 3), np.float32),
        camera=vector[:25],
        head=HeadParams.from_vector437(vector[None]).row(0),
        code=code,
    )


def _open(path: Path) -> Any:
    try:
        import lmdb  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise InputError("reading Portrait4D's datasets needs lmdb: pip install 'portrait4d[data]'") from error
    file = path / "data.mdb" if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"{path}: expected the folder of an LMDB with data.mdb, it is not there")
    try:
        opened = lmdb.open(str(path), subdir=path.is_dir(), readonly=True, lock=False, readahead=False, meminit=False)
    except lmdb.Error as error:
        raise InputError(f"{path}: not an LMDB ({str(error).splitlines()[0]}): copy the dataset again") from error
    wanted, size = (opened.info()["last_pgno"] + 1) * opened.stat()["psize"], file.stat().st_size
    if size < wanted:  # reading beyond the end of a mapped file would kill the process
        opened.close()
        raise InputError(f"{path}: expected {wanted} bytes in {file.name}, it is cut off at {size}: copy it again")
    return opened


def _number(fields: dict[int, int | bytes], field: int, where: str) -> int:
    value = fields.get(field)
    if not isinstance(value, int):
        raise InputError(f"{where}: expected a number in field {field}, it is missing: copy the dataset again")
    return value


def _floats(content: bytes, where: str) -> NDArray[np.float32]:
    if len(content) % 4:
        raise InputError(f"{where}: expected float32 numbers, got {len(content)} bytes: copy the dataset again")
    values = np.frombuffer(content, "<f4").astype(np.float32)
    if not np.isfinite(values).all():
        raise InputError(f"{where}: expected finite numbers: copy the dataset again")
    return values


def _codes(content: bytes, num_frames: int, where: str) -> NDArray[np.float32]:
    """Returns motion codes `[num_frames, 548]`, or `[num_frames, 0]` where the message has none."""
    values = _floats(content, where)
    if not len(values):
        return np.zeros((num_frames, 0), np.float32)
    if len(values) % num_frames or len(values) // num_frames < CODE_SIZE:
        raise InputError(f"{where}: expected at least 548 numbers a picture, got {len(values)} for {num_frames}")
    return values.reshape(num_frames, -1)[:, :CODE_SIZE].copy()


def _raw(content: bytes, size: tuple[int, int, int], where: str) -> NDArray[np.uint8]:
    """Returns raw frames `[T, H, W, 1 or 3]`."""
    pixels = size[0] * size[1] * size[2]
    if pixels == 0 or len(content) not in (pixels, 3 * pixels):
        raise InputError(f"{where}: expected {list(size)} bytes or three times as many, got {len(content)}")
    return np.frombuffer(content, np.uint8).reshape(*size, -1)


def _encoded(content: bytes, mode: str, where: str) -> NDArray[np.uint8]:
    """Decodes a PNG or JPEG to `[1, H, W(, 3)]`."""
    try:
        with Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as picture:
            return np.array(picture.convert(mode))[None]
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, zlib.error, EOFError ...
        raise InputError(
            f"{where}: expected a PNG or JPEG, it is damaged or missing: copy the dataset again"
        ) from error
