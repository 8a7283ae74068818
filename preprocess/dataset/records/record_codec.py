"""Encodes records and dataset descriptions as the bytes of a shard's members, and decodes them."""

import io
import json
from dataclasses import asdict, fields
from typing import Any

import numpy as np
from PIL import Image
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from flame.errors import InputError, brief
from flame.heads.head_model import HeadParams
from preprocess.dataset.records.record import FORMAT_VERSION, DatasetInfo, Record
from preprocess.dataset.records.shard_options import ImageFormat

_FORMAT = "portrait4d-dataset"
_UNITS = {
    "camera": "cam2world 16 row-major in OpenGL axes, intrinsics 9 over the picture's side; units_per_metre to a metre",
    "crop_matrix": "source px to picture px",
    "landmarks": "px of the picture, y down, from the top-left corner",
    "neck, jaw, eyes": "axis-angle, radians, the subject's left eye first",
    "mask": "255 is the person",
}
_ARRAYS = {
    "crop_matrix": np.float64,
    "landmarks": np.float32,
    "camera": np.float32,
    "shape": np.float32,
    "expression": np.float32,
    "neck": np.float32,
    "jaw": np.float32,
    "eyes": np.float32,
    "code": np.float32,
}
_HEAD = ("shape", "expression", "neck", "jaw", "eyes")
"""The arrays of a record's head."""

_SHAPES = {"crop_matrix": (3, 3), "camera": (25,), "neck": (3,), "jaw": (3,), "eyes": (2, 3)}
MEMBER_NAMES = ("image.png", "image.jpg", "mask.png", "safetensors", "json")
"""Endings of a member's name after the record's key; a record has one of the two pictures."""

_JPEG_QUALITY = 95
_PNG_EFFORT = 3


def encode_info(info: DatasetInfo) -> bytes:
    """Returns the description as JSON that also states the units."""
    return to_json({"format": _FORMAT, **asdict(info), "units": _UNITS})


def decode_info(content: bytes, where: str) -> DatasetInfo:
    """Inverts `encode_info`.

    Args:
        content: the encoded description.
        where: names what it was read from, for the error.

    Raises:
        InputError: it is no such description, or of another version.
    """
    values = from_json(content, where)
    if values.get("format") != _FORMAT:
        raise InputError(f"{where}: expected a description with format {_FORMAT}, got {brief(values.get('format'))}")
    if values.get("version") != FORMAT_VERSION:
        found = brief(values.get("version"))
        raise InputError(f"{where}: expected version {FORMAT_VERSION} of the format, got {found}: build it again")
    kinds = {field.name: field.type for field in fields(DatasetInfo)}
    for name, kind in kinds.items():
        value = values.get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float) if kind is float else kind):  # pyright: ignore[reportArgumentType]
            raise InputError(f"{where}: expected {name} of kind {getattr(kind, '__name__', kind)}, got {brief(value)}")
    return DatasetInfo(**{name: values[name] for name in kinds})


def check_record(record: Record, info: DatasetInfo) -> None:
    """Raises ValueError where a record does not fit the dataset's description."""
    side = info.image_size
    wanted = dict(_SHAPES)
    wanted |= {"image": (side, side, 3), "mask": (side, side), "landmarks": (int(info.landmarks), 3)}
    wanted |= {
        "code": (info.code_size,),
        "shape": (np.size(record.shape),),
        "expression": (np.size(record.expression),),
    }
    kinds = {"image": np.uint8, "mask": np.uint8, **_ARRAYS}
    for name, shape in wanted.items():
        array = getattr(record, name)
        if array.shape != shape or array.dtype != kinds[name]:
            found = f"{array.dtype} {list(array.shape)}"
            raise ValueError(f"record {record.key}: expected {name} {np.dtype(kinds[name])} {list(shape)}, got {found}")
        if not np.isfinite(array).all():
            raise ValueError(f"record {record.key}: {name} is not finite")


def encode_record(record: Record, image_format: ImageFormat = "png") -> dict[str, bytes]:
    """Returns content by the ending of the member's name, in the shard's order; equal records give equal bytes."""
    described = {"source": record.source, "source_size": list(record.source_size), "quality": record.quality}
    return {
        f"image.{image_format}": encode_picture(record.image, image_format),
        "mask.png": encode_picture(record.mask, "png"),
        "safetensors": save_arrays({name: np.ascontiguousarray(getattr(record, name)) for name in _ARRAYS}),
        "json": to_json(described),
    }


def decode_record(key: str, parts: dict[str, bytes], where: str) -> Record:
    """Inverts `encode_record`.

    Args:
        key: of the record.
        parts: content by the ending of the member's name.
        where: names the shard, for the error.

    Raises:
        InputError: a member is missing or damaged; the message names it.
    """
    images = [name for name in ("image.png", "image.jpg") if name in parts]
    missing = [name for name in ("mask.png", "safetensors", "json") if name not in parts]
    if missing or len(images) != 1:
        lacking = ", ".join(f"{key}.{name}" for name in missing or ["image.png"])
        raise InputError(f"{where}: expected member {lacking}, it is missing: build the shard again")
    described = from_json(parts["json"], f"{where}: {key}.json")
    arrays = decode_arrays(parts["safetensors"], f"{where}: {key}.safetensors")
    image = decode_picture(parts[images[0]], "RGB", f"{where}: {key}.{images[0]}")
    mask = decode_picture(parts["mask.png"], "L", f"{where}: {key}.mask.png")
    if image.shape[:2] != mask.shape:
        sizes = f"{list(mask.shape)}, its picture {list(image.shape[:2])}"
        raise InputError(f"{where}: {key}.mask.png is {sizes}: expected the same size, build the shard again")
    try:
        height, width = described["source_size"]
        if not (isinstance(described["source"], str) and isinstance(described["quality"], dict)):
            raise ValueError("no name, or no scores")
        return Record(
            key=key,
            source=described["source"],
            image=image,
            mask=mask,
            source_size=(int(height), int(width)),
            quality=described["quality"],
            head=HeadParams(**{name: arrays[name] for name in _HEAD}),
            **{name: arrays[name] for name in _ARRAYS if name not in _HEAD},
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{where}: {key}.json is damaged: build the shard again") from error


def decode_arrays(content: bytes, where: str) -> dict[str, np.ndarray]:
    """Returns a record's arrays by name; checks that all are there, with their types and finite."""
    try:
        arrays = load_arrays(content)
    except (SafetensorError, ValueError) as error:
        raise InputError(f"{where} is damaged: build the shard again") from error
    for name, kind in _ARRAYS.items():
        if (
            name not in arrays
            or arrays[name].dtype != kind
            or arrays[name].shape != _SHAPES.get(name, arrays[name].shape)
        ):
            raise InputError(f"{where}: expected {name} of kind {np.dtype(kind)}: build the shard again")
        if not np.isfinite(arrays[name]).all():
            raise InputError(f"{where}: {name} holds numbers that are not finite: build the shard again")
    return arrays


def encode_picture(picture: np.ndarray, image_format: ImageFormat) -> bytes:
    """A picture uint8 `[H, W, 3]` or `[H, W]` as a file."""
    buffer = io.BytesIO()
    if image_format == "png":
        Image.fromarray(picture).save(buffer, format="PNG", compress_level=_PNG_EFFORT)
    elif image_format == "jpg":
        Image.fromarray(picture).save(buffer, format="JPEG", quality=_JPEG_QUALITY, subsampling=0)
    else:
        raise ValueError(f"image_format must be 'png' or 'jpg', got {image_format!r}")
    return buffer.getvalue()


def decode_picture(content: bytes, mode: str, where: str) -> np.ndarray:
    """The inverse of `encode_picture`; mode "RGB" or "L" is expected, `where` names the member for the error."""
    try:
        with Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as picture:
            if picture.mode != mode:
                raise InputError(f"{where}: expected a picture of mode {mode}, got {picture.mode}")
            return np.array(picture)
    except InputError:
        raise
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, zlib.error, EOFError ...
        raise InputError(f"{where} is damaged: build the shard again") from error


def to_json(values: dict[str, Any]) -> bytes:
    """JSON with sorted names: equal values give equal bytes."""
    return (json.dumps(values, sort_keys=True, indent=1, allow_nan=False) + "\n").encode()


def from_json(content: bytes, where: str) -> dict[str, Any]:
    """The inverse of `to_json`; `where` names the member for the error."""
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is damaged (not JSON): build the shard again") from error
    if not isinstance(values, dict):
        raise InputError(f"{where}: expected a JSON object, got {brief(values)}: build the shard again")
    return values
