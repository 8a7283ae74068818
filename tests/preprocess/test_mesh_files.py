"""Mesh files are read back by an independent reader and say the same."""

import io
import json
import struct

import numpy as np
import pytest
from PIL import Image

from flame.errors import InputError
from preprocess.media.mesh_files import vertex_normals, write_mesh

TEXTURE = np.zeros((4, 8, 3), np.uint8)
TEXTURE[0, 0] = (255, 0, 0)  # top left
TEXTURE[-1, -1] = (0, 0, 255)  # bottom right


@pytest.fixture
def square():
    """Two triangles facing +z; uv origin at the top left."""
    vertices = np.array([[-0.1, 0.1, 0.0], [0.1, 0.1, 0.0], [-0.1, -0.1, 0.0], [0.1, -0.1, 0.0]], np.float32)
    faces = np.array([[0, 2, 1], [1, 2, 3]])
    uv = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], np.float32)
    return vertices, faces, uv


def load(path):
    trimesh = pytest.importorskip("trimesh", reason="the extra `test` brings trimesh")
    return trimesh.load(path, process=False, force="mesh")


@pytest.mark.parametrize("suffix", [".glb", ".ply", ".obj"])
def test_geometry_round_trip(tmp_path, square, suffix):
    vertices, faces, uv = square
    path = tmp_path / f"head ä{suffix}"
    write_mesh(path, vertices, faces, uv=uv, texture=TEXTURE)
    mesh = load(path)
    assert len(mesh.vertices) == len(vertices)
    assert np.abs(mesh.vertices[:, None] - vertices[None]).max(-1).min(0).max() < 1e-6  # each is there
    triangles = mesh.vertices[mesh.faces]
    normals = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    assert (normals[:, 2] > 0).all()
    assert mesh.area == pytest.approx(0.04, rel=1e-5)


@pytest.mark.parametrize("suffix", [".glb", ".obj"])
def test_texture_is_upright(tmp_path, square, suffix):
    vertices, faces, uv = square
    path = tmp_path / f"head{suffix}"
    write_mesh(path, vertices, faces, uv=uv, texture=TEXTURE)
    mesh = load(path)
    top_left = np.argmin(np.abs(mesh.vertices - vertices[0]).sum(1))
    bottom_right = np.argmin(np.abs(mesh.vertices - vertices[3]).sum(1))
    np.testing.assert_allclose(mesh.visual.uv[top_left], [0, 1], atol=1e-6)  # trimesh counts v from below
    np.testing.assert_allclose(mesh.visual.uv[bottom_right], [1, 0], atol=1e-6)
    material = mesh.visual.material
    image = material.baseColorTexture if suffix == ".glb" else material.image
    np.testing.assert_array_equal(np.asarray(image.convert("RGB")), TEXTURE)


def test_glb_follows_the_specification(tmp_path, square):
    vertices, faces, uv = square
    write_mesh(tmp_path / "head.glb", vertices, faces, uv=uv, texture=TEXTURE)
    data = (tmp_path / "head.glb").read_bytes()
    magic, version, length = struct.unpack_from("<4sII", data)
    assert (magic, version, length) == (b"glTF", 2, len(data))
    size, kind = struct.unpack_from("<I4s", data, 12)
    assert kind == b"JSON" and size % 4 == 0
    document = json.loads(data[20 : 20 + size])
    binary = data[28 + size :]
    assert document["buffers"][0]["byteLength"] == len(binary) and len(binary) % 4 == 0
    assert all(view["byteOffset"] % 4 == 0 for view in document["bufferViews"])
    attributes = document["meshes"][0]["primitives"][0]["attributes"]
    position = document["accessors"][attributes["POSITION"]]
    np.testing.assert_allclose(position["min"], vertices.min(0))
    np.testing.assert_allclose(position["max"], vertices.max(0))
    stored_uv = document["bufferViews"][document["accessors"][attributes["TEXCOORD_0"]]["bufferView"]]
    start = stored_uv["byteOffset"]
    stored = np.frombuffer(binary[start : start + stored_uv["byteLength"]], "<f4").reshape(-1, 2)
    np.testing.assert_array_equal(stored, uv)  # glTF counts v from the top, as we do
    view = document["bufferViews"][document["images"][0]["bufferView"]]
    png = binary[view["byteOffset"] : view["byteOffset"] + view["byteLength"]]
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png))), TEXTURE)


def test_ply_vertex_colours(tmp_path, square):
    vertices, faces, uv = square
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 8, 7]], np.uint8)
    write_mesh(tmp_path / "head.ply", vertices, faces, vertex_colours=colours)
    mesh = load(tmp_path / "head.ply")
    np.testing.assert_array_equal(mesh.visual.vertex_colors[:, :3], colours)
    write_mesh(tmp_path / "sampled.ply", vertices, faces, uv=uv, texture=TEXTURE)
    sampled = load(tmp_path / "sampled.ply").visual.vertex_colors[:, :3]
    np.testing.assert_array_equal(sampled[[0, 3]], [[255, 0, 0], [0, 0, 255]])


def test_glb_vertex_colours_are_linear(tmp_path, square):
    vertices, faces, _ = square
    write_mesh(tmp_path / "head.glb", vertices, faces, vertex_colours=np.full((4, 3), 188, np.uint8))
    data = (tmp_path / "head.glb").read_bytes()
    size = struct.unpack_from("<I", data, 12)[0]
    document = json.loads(data[20 : 20 + size])
    accessor = document["accessors"][document["meshes"][0]["primitives"][0]["attributes"]["COLOR_0"]]
    offset = 28 + size + document["bufferViews"][accessor["bufferView"]]["byteOffset"]
    red, alpha = np.frombuffer(data[offset : offset + 8], "<u2")[[0, 3]]
    assert red / 65535 == pytest.approx(0.503, abs=0.002)  # sRGB 188 is half the light
    assert alpha == 65535


def test_normals_point_out_of_a_sphere_like_solid():
    corners = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], np.float32)
    faces = np.array([[0, 2, 4], [2, 1, 4], [1, 3, 4], [3, 0, 4], [2, 0, 5], [1, 2, 5], [3, 1, 5], [0, 3, 5]])
    np.testing.assert_allclose(vertex_normals(corners, faces), corners, atol=1e-6)


def test_wrong_input_is_refused(tmp_path, square):
    vertices, faces, uv = square
    with pytest.raises(InputError, match=r"\.glb"):
        write_mesh(tmp_path / "head.stl", vertices, faces)
    with pytest.raises(ValueError, match="there are 4"):
        write_mesh(tmp_path / "head.glb", vertices, faces + 1)
    with pytest.raises(ValueError, match="needs uv"):
        write_mesh(tmp_path / "head.glb", vertices, faces, texture=TEXTURE)
    with pytest.raises(ValueError, match="finite"):
        write_mesh(tmp_path / "head.glb", vertices * np.nan, faces)
    assert list(tmp_path.iterdir()) == []
