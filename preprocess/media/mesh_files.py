"""Triangle meshes to `.glb` (glTF 2.0), `.ply` and `.obj` files.

Units are metres, y is up and z points out of the face, which is what glTF asks for; the other two formats
get the same numbers and a comment that names the unit. Numbers are never scaled: what comes in another unit is written
as it is, and a glTF reader will take it for metres. Every file appears only when it is whole.

Written here and not by trimesh 5.2, which was compared on the open head: its `.glb` does not say that the texture is
unlit (a viewer lights the photo a second time) nor that it ends at its border, it stores sRGB vertex colours where
glTF defines linear ones, no `.ply` names the unit, and bytes may change with its version. It takes 0.4 s to import
(this file: 0.01 s), 4.8 MB on disk, and 0.14 s for a `.glb` of 5,201 vertices (0.02 s); the files' sizes are within
8 %. The tests read our files back with it.
"""

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from flame.errors import InputError
from preprocess.files.atomic import atomic_path
from preprocess.files.program import NAME
from preprocess.media.gltf import (
    CLAMP,
    FLOAT,
    INDEX_BUFFER,
    LINEAR,
    LINEAR_MIPMAP,
    UNSIGNED_INT,
    UNSIGNED_SHORT,
    VERTEX_BUFFER,
    GltfBuffer,
    pack_glb,
)
from preprocess.media.image import write_png
from preprocess.media.mark import gltf_asset, mark

SUFFIXES = (".glb", ".ply", ".obj")


@dataclass(frozen=True)
class _Mesh:
    """Checked arrays of one mesh; see `write_mesh`."""

    vertices: np.ndarray
    faces: np.ndarray
    normals: np.ndarray
    uv: np.ndarray | None
    texture: np.ndarray | None
    colours: np.ndarray | None


def write_mesh(
    path: str | Path,
    vertices: np.ndarray,
    faces: np.ndarray,
    *,
    uv: np.ndarray | None = None,
    texture: np.ndarray | None = None,
    vertex_colours: np.ndarray | None = None,
    normals: np.ndarray | None = None,
    unit: str = "metres",
) -> None:
    """Write a triangle mesh.

    `.glb` embeds the texture as PNG with an unlit material (a photo already holds its light). `.obj` comes
    with a `.mtl` and a `.png` beside it. `.ply` knows no texture: it is sampled at the vertices, unless
    `vertex_colours` are given.

    Args:
        path: ends in .glb, .ply or .obj.
        vertices: `[V, 3]`, in `unit`.
        faces: `[F, 3]` indices, counter-clockwise from outside.
        uv: `[V, 2]` in [0, 1], origin at the top left of the texture.
        texture: `uint8 [H, W, 3]` or `[H, W, 4]`, sRGB; needs `uv`.
        vertex_colours: `uint8 [V, 3]` or `[V, 4]`, sRGB.
        normals: `[V, 3]`; made from the faces when None.
        unit: of the vertices, named in `.ply` and `.obj`; glTF knows metres alone.

    Raises:
        InputError: another suffix, or a folder that cannot be written to.
        ValueError: arrays that do not fit together.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"{path}: cannot write this kind of mesh; expected a name ending in {', '.join(SUFFIXES)}")
    mesh = _check(vertices, faces, uv, texture, vertex_colours, normals)
    if suffix == ".glb":
        _write_bytes(path, _glb(mesh))
    elif suffix == ".ply":
        _write_bytes(path, _ply(mesh, unit))
    else:
        _write_obj(path, mesh, unit)


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Unit normals `[V, 3]`, the mean of the faces around each vertex weighted by area; +z where there are none."""
    corners = vertices[faces].astype(np.float64)
    face_normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros((len(vertices), 3))
    for corner in range(3):
        np.add.at(normals, faces[:, corner], face_normals)
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    normals = np.where(length > 1e-20, normals / np.maximum(length, 1e-20), [0.0, 0.0, 1.0])
    return normals.astype(np.float32)


def _check(vertices: Any, faces: Any, uv: Any, texture: Any, colours: Any, normals: Any) -> _Mesh:
    vertices = np.ascontiguousarray(vertices, np.float32)
    faces = np.ascontiguousarray(faces, np.int64)
    if vertices.ndim != 2 or vertices.shape[1] != 3 or not np.isfinite(vertices).all():
        raise ValueError(f"expected finite vertices [V, 3], got {list(vertices.shape)}")
    if faces.ndim != 2 or faces.shape[1] != 3 or len(faces) == 0:
        raise ValueError(f"expected faces [F, 3], got {list(faces.shape)}")
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise ValueError(f"faces point to vertices {faces.min()}..{faces.max()}, but there are {len(vertices)}")
    if texture is not None and uv is None:
        raise ValueError("a texture needs uv coordinates")
    normals = vertex_normals(vertices, faces) if normals is None else np.asarray(normals, np.float32)
    uv = None if uv is None else np.asarray(uv, np.float32)
    texture = None if texture is None else np.asarray(texture)
    colours = None if colours is None else np.asarray(colours)
    for name, array, channels in (("normals", normals, (3,)), ("uv", uv, (2,)), ("vertex colours", colours, (3, 4))):
        if array is not None and (len(array) != len(vertices) or array.shape[1:] not in [(c,) for c in channels]):
            raise ValueError(f"{name} {list(array.shape)} do not match {len(vertices)} vertices")
    for name, array in (("texture", texture), ("vertex colours", colours)):
        if array is not None and (array.dtype != np.uint8 or array.shape[-1] not in (3, 4)):
            raise ValueError(f"expected {name} as uint8 with 3 or 4 channels, got {array.dtype} {list(array.shape)}")
    return _Mesh(vertices, faces, normals, uv, texture, colours)


def _glb(mesh: _Mesh) -> bytes:
    buffer = GltfBuffer()
    attributes = {
        "POSITION": buffer.add_array(mesh.vertices, FLOAT, "VEC3", target=VERTEX_BUFFER, has_bounds=True),
        "NORMAL": buffer.add_array(mesh.normals, FLOAT, "VEC3", target=VERTEX_BUFFER),
    }
    if mesh.uv is not None:
        attributes["TEXCOORD_0"] = buffer.add_array(mesh.uv, FLOAT, "VEC2", target=VERTEX_BUFFER)
    if mesh.colours is not None and mesh.texture is None:  # together they would be multiplied
        attributes["COLOR_0"] = buffer.add_array(
            _linear_colours(mesh.colours), UNSIGNED_SHORT, "VEC4", target=VERTEX_BUFFER, is_normalised=True
        )
    indices = buffer.add_array(mesh.faces.reshape(-1), UNSIGNED_INT, "SCALAR", target=INDEX_BUFFER)
    surface: dict[str, Any] = {"metallicFactor": 0.0, "roughnessFactor": 1.0}
    material = {"pbrMetallicRoughness": surface, "extensions": {"KHR_materials_unlit": {}}}
    document: dict[str, Any] = {
        "asset": gltf_asset(),
        "extensionsUsed": ["KHR_materials_unlit"],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": "head"}],
        "meshes": [{"primitives": [{"attributes": attributes, "indices": indices, "material": 0}]}],
        "materials": [material],
    }
    if mesh.texture is not None:
        surface["baseColorTexture"] = {"index": 0}
        document["images"] = [{"bufferView": buffer.add_bytes(_png(mesh.texture)), "mimeType": "image/png"}]
        document["samplers"] = [
            {"magFilter": LINEAR, "minFilter": LINEAR_MIPMAP, "wrapS": CLAMP, "wrapT": CLAMP},
        ]
        document["textures"] = [{"source": 0, "sampler": 0}]
    transparent = mesh.texture if mesh.texture is not None else mesh.colours
    if transparent is not None and transparent.shape[-1] == 4 and transparent[..., 3].min() < 255:
        material.update({"alphaMode": "BLEND"})
    document |= {"accessors": buffer.accessors, "bufferViews": buffer.views}
    document["buffers"] = [{"byteLength": len(buffer.data)}]
    return pack_glb(json.dumps(document, separators=(",", ":")).encode(), bytes(buffer.data))


def _linear_colours(colours: np.ndarray) -> np.ndarray:
    """From sRGB bytes to the linear 16-bit RGBA that glTF vertex colours are defined in."""
    value = colours[:, :3].astype(np.float64) / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)  # IEC 61966-2-1
    alpha = colours[:, 3:4] / 255 if colours.shape[1] == 4 else np.ones((len(colours), 1))
    return np.rint(np.concatenate([linear, alpha], axis=1) * 65535).astype(np.uint16)


def _ply(mesh: _Mesh, unit: str) -> bytes:
    colours = mesh.colours if mesh.colours is not None else _sample_texture(mesh)
    fields = [(name, "<f4") for name in ("x", "y", "z", "nx", "ny", "nz")]
    columns = [mesh.vertices, mesh.normals]
    if colours is not None:
        fields += [(name, "u1") for name in ("red", "green", "blue", "alpha")[: colours.shape[1]]]
        columns.append(colours)
    table = np.empty(len(mesh.vertices), np.dtype(fields))
    names = iter(table.dtype.names or ())
    for column in columns:
        for channel in range(column.shape[1]):
            table[next(names)] = column[:, channel]
    polygons = np.empty(len(mesh.faces), np.dtype([("count", "u1"), ("corners", "<i4", 3)]))
    polygons["count"], polygons["corners"] = 3, mesh.faces
    properties = [f"property {'uchar' if kind == 'u1' else 'float'} {name}" for name, kind in fields]
    header = [
        "ply",
        "format binary_little_endian 1.0",
        f"comment {NAME}, {unit}, y up",
        f"comment {mark()}",
        f"element vertex {len(table)}",
        *properties,
        f"element face {len(polygons)}",
        "property list uchar int vertex_indices",
        "end_header",
    ]
    return ("\n".join(header) + "\n").encode() + table.tobytes() + polygons.tobytes()


def _sample_texture(mesh: _Mesh) -> np.ndarray | None:
    if mesh.texture is None or mesh.uv is None:
        return None
    height, width = mesh.texture.shape[:2]
    column = np.clip((mesh.uv[:, 0] * width).astype(np.int64), 0, width - 1)
    row = np.clip((mesh.uv[:, 1] * height).astype(np.int64), 0, height - 1)
    return mesh.texture[row, column]


def _write_obj(path: Path, mesh: _Mesh, unit: str) -> None:
    companion = path.with_suffix("").name.replace(" ", "_")  # names with spaces break many readers
    text = io.StringIO()
    text.write(f"# {NAME}, {unit}, y up\n# {mark()}\n")
    if mesh.texture is not None:
        write_png(path.with_name(companion + ".png"), mesh.texture)
        material = f"newmtl head\nKa 0 0 0\nKd 1 1 1\nKs 0 0 0\nillum 1\nmap_Kd {companion}.png\n"
        _write_bytes(path.with_name(companion + ".mtl"), material.encode())
        text.write(f"mtllib {companion}.mtl\n")
    vertices = mesh.vertices
    if mesh.colours is not None:  # an extension most readers know: colours after the coordinates
        vertices = np.concatenate([vertices, mesh.colours[:, :3] / 255], axis=1)
    np.savetxt(text, vertices, fmt="v" + " %.7g" * vertices.shape[1])
    if mesh.uv is not None:
        np.savetxt(text, np.stack([mesh.uv[:, 0], 1 - mesh.uv[:, 1]], axis=1), fmt="vt %.7g %.7g")  # origin below
    np.savetxt(text, mesh.normals, fmt="vn %.5f %.5f %.5f")
    if mesh.texture is not None:
        text.write("usemtl head\n")
    corner = "%d/%d/%d" if mesh.uv is not None else "%d//%d"
    corners = np.repeat(mesh.faces + 1, 3 if mesh.uv is not None else 2, axis=1)
    np.savetxt(text, corners, fmt=f"f {corner} {corner} {corner}")
    _write_bytes(path, text.getvalue().encode())


def _png(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, format="PNG", compress_level=3)
    return stream.getvalue()


def _write_bytes(path: Path, data: bytes) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)
