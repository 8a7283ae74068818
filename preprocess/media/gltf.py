"""Parts of glTF 2.0 files: the binary buffer with its views and accessors, and the packing into `.glb`."""

import struct
from typing import Any

import numpy as np

# numbers of the glTF 2.0 specification
FLOAT, BYTE, UNSIGNED_SHORT, UNSIGNED_INT = 5126, 5121, 5123, 5125
VERTEX_BUFFER, INDEX_BUFFER = 34962, 34963
LINEAR, LINEAR_MIPMAP, CLAMP = 9729, 9987, 33071
JSON_CHUNK, BINARY_CHUNK = 0x4E4F534A, 0x004E4942


class GltfBuffer:
    """The one binary buffer of a glTF file, with the views and accessors into it."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.views: list[dict[str, Any]] = []
        self.accessors: list[dict[str, Any]] = []

    def add_bytes(self, data: bytes, *, target: int | None = None) -> int:
        """Append data at a multiple of 4 bytes; returns the index of its view."""
        view = {"buffer": 0, "byteOffset": len(self.data), "byteLength": len(data)}
        self.views.append(view if target is None else view | {"target": target})
        self.data += data + b"\0" * (-len(data) % 4)
        return len(self.views) - 1

    def add_array(
        self,
        array: np.ndarray,
        component: int,
        kind: str,
        *,
        target: int | None = None,
        has_bounds: bool = False,
        is_normalised: bool = False,
    ) -> int:
        """Append an array, little endian; returns the index of its accessor."""
        dtype = {FLOAT: "<f4", BYTE: "u1", UNSIGNED_SHORT: "<u2", UNSIGNED_INT: "<u4"}[component]
        view = self.add_bytes(np.ascontiguousarray(array, dtype).tobytes(), target=target)
        accessor: dict[str, Any] = {"bufferView": view, "componentType": component, "count": len(array), "type": kind}
        if has_bounds:
            accessor |= {"min": array.min(axis=0).tolist(), "max": array.max(axis=0).tolist()}
        if is_normalised:
            accessor["normalized"] = True
        self.accessors.append(accessor)
        return len(self.accessors) - 1


def pack_glb(document: bytes, binary: bytes) -> bytes:
    """Packs the JSON document and the binary buffer of a glTF asset into one file."""
    document += b" " * (-len(document) % 4)
    length = 12 + 8 + len(document) + 8 + len(binary)
    return b"".join(
        [
            struct.pack("<4sII", b"glTF", 2, length),
            struct.pack("<II", len(document), JSON_CHUNK),
            document,
            struct.pack("<II", len(binary), BINARY_CHUNK),
            binary,
        ]
    )
