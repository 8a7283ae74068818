"""A textured head with morph targets and joints, as `.glb` (glTF 2.0, sections 3.7.2.2 and 3.7.3).

Metres, y up, z out of the face. The material is unlit: the texture is a photo, which holds its light.
"""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flame.errors import InputError
from preprocess.files.atomic import atomic_path
from preprocess.media.gltf import (
    BYTE,
    CLAMP,
    FLOAT,
    INDEX_BUFFER,
    LINEAR,
    LINEAR_MIPMAP,
    UNSIGNED_INT,
    VERTEX_BUFFER,
    GltfBuffer,
    pack_glb,
)
from preprocess.media.mark import gltf_asset

INFLUENCES = 4
"""Joints that may move one vertex."""


@dataclass(frozen=True)
class RiggedMesh:
    """A surface at rest that expressions and joints move.

    Attributes:
        vertices: `[V, 3]` metres.
        normals: `[V, 3]` unit vectors.
        faces: `[F, 3]`, counter-clockwise from outside.
        uv: `[V, 2]` in [0, 1], origin at the top left of the texture.
        texture: `uint8 [H, W, 3]`.
        targets: by name, `[V, 3]` how far a full expression moves each vertex, metres.
        joint_names: length J.
        parents: length J, a parent before its children, -1 for the root.
        joints: `[J, 3]` places at rest, metres.
        weights: `[V, J]`, rows sum to one; at most four of a row are above 0.
    """

    vertices: NDArray[np.float32]
    normals: NDArray[np.float32]
    faces: NDArray[np.int64]
    uv: NDArray[np.float32]
    texture: NDArray[np.uint8]
    targets: Mapping[str, NDArray[np.float32]]
    joint_names: Sequence[str]
    parents: Sequence[int]
    joints: NDArray[np.float32]
    weights: NDArray[np.float32]


def write_rigged_glb(path: Path, mesh: RiggedMesh) -> None:
    """Writes the mesh; the file appears whole or not at all.

    Raises:
        InputError: the name does not end in .glb.
    """
    if path.suffix.lower() != ".glb":
        raise InputError(f"expected a name ending in .glb for a mesh with expressions, got {path.name}: rename it")
    data = _glb(mesh)
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def _glb(mesh: RiggedMesh) -> bytes:
    buffer = GltfBuffer()
    primitive = {
        "attributes": _attributes(buffer, mesh),
        "indices": buffer.add_array(mesh.faces.reshape(-1), UNSIGNED_INT, "SCALAR", target=INDEX_BUFFER),
        "material": 0,
        "targets": [
            {"POSITION": buffer.add_array(offsets, FLOAT, "VEC3", target=VERTEX_BUFFER, has_bounds=True)}
            for offsets in mesh.targets.values()
        ],
    }
    first_joint = 1  # node 0 is the mesh
    document: dict[str, Any] = {
        "asset": gltf_asset(),
        "extensionsUsed": ["KHR_materials_unlit"],
        "scene": 0,
        "scenes": [{"nodes": [0, first_joint + list(mesh.parents).index(-1)]}],
        "nodes": [{"mesh": 0, "skin": 0, "name": "whole_head"}, *_joint_nodes(mesh, first_joint)],
        "meshes": [
            {
                "primitives": [primitive],
                "weights": [0.0] * len(mesh.targets),
                "extras": {"targetNames": list(mesh.targets)},  # as Blender and three.js read names
            }
        ],
        "skins": [
            {
                "joints": [first_joint + index for index in range(len(mesh.joints))],
                "inverseBindMatrices": _inverse_binds(buffer, mesh.joints),
            }
        ],
        "materials": [
            {
                "pbrMetallicRoughness": {
                    "metallicFactor": 0.0,
                    "roughnessFactor": 1.0,
                    "baseColorTexture": {"index": 0},
                },
                "extensions": {"KHR_materials_unlit": {}},
            }
        ],
        "images": [{"bufferView": buffer.add_bytes(_png(mesh.texture)), "mimeType": "image/png"}],
        "samplers": [{"magFilter": LINEAR, "minFilter": LINEAR_MIPMAP, "wrapS": CLAMP, "wrapT": CLAMP}],
        "textures": [{"source": 0, "sampler": 0}],
    }
    document |= {"accessors": buffer.accessors, "bufferViews": buffer.views}
    document["buffers"] = [{"byteLength": len(buffer.data)}]
    return pack_glb(json.dumps(document, separators=(",", ":")).encode(), bytes(buffer.data))


def _attributes(buffer: GltfBuffer, mesh: RiggedMesh) -> dict[str, int]:
    strongest = np.argsort(-mesh.weights, axis=1, kind="stable")[:, :INFLUENCES]
    weights = np.take_along_axis(mesh.weights, strongest, axis=1)
    weights = weights / weights.sum(axis=1, keepdims=True)
    joints = np.where(weights > 0, strongest, 0)  # glTF asks for 0 where the weight is 0
    return {
        "POSITION": buffer.add_array(mesh.vertices, FLOAT, "VEC3", target=VERTEX_BUFFER, has_bounds=True),
        "NORMAL": buffer.add_array(mesh.normals, FLOAT, "VEC3", target=VERTEX_BUFFER),
        "TEXCOORD_0": buffer.add_array(mesh.uv, FLOAT, "VEC2", target=VERTEX_BUFFER),
        "JOINTS_0": buffer.add_array(joints, BYTE, "VEC4", target=VERTEX_BUFFER),
        "WEIGHTS_0": buffer.add_array(weights, FLOAT, "VEC4", target=VERTEX_BUFFER),
    }


def _joint_nodes(mesh: RiggedMesh, first: int) -> list[dict[str, Any]]:
    nodes = []
    for index, (name, parent) in enumerate(zip(mesh.joint_names, mesh.parents, strict=True)):
        place = mesh.joints[index] - (mesh.joints[parent] if parent >= 0 else 0)
        children = [first + child for child, above in enumerate(mesh.parents) if above == index]
        node: dict[str, Any] = {"name": name, "translation": [float(value) for value in place]}
        nodes.append(node | {"children": children} if children else node)
    return nodes


def _inverse_binds(buffer: GltfBuffer, joints: NDArray[np.float32]) -> int:
    matrices = np.tile(np.eye(4, dtype=np.float32), (len(joints), 1, 1))
    matrices[:, 3, :3] = -joints  # column-major: the last column of each matrix is stored last
    return buffer.add_array(matrices.reshape(-1, 16), FLOAT, "MAT4")


def _png(image: NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, format="PNG", compress_level=6)
    return stream.getvalue()
