"""The whole head as `.glb`: closed, textured by the photo, with expressions and joints that move as the model does."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh

import portrait4d.engines.lift.whole_head
from flame.errors import InputError
from flame.heads.head_model import HeadParams
from flame.heads.open_head import OpenHead
from portrait4d.engines.lift.avatar import LiftAvatar
from portrait4d.engines.lift.view import SourceView
from portrait4d.engines.lift.whole_head import whole_head
from portrait4d.jobs.demo import demo_photo
from portrait4d.jobs.views import render_avatar
from portrait4d.options import RenderOptions
from portrait4d.reenactment.models import Models, load_models
from preprocess.media.image import write_png
from preprocess.media.mark import SOURCE_TYPE
from preprocess.media.rigged_glb import RiggedMesh, write_rigged_glb

_KINDS = {5121: "u1", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_SIZES = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}


SIZE = 1024
"""Of the texture: a quarter of the usual pixels."""


@pytest.fixture(scope="module", autouse=True)
def small_texture() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(portrait4d.engines.lift.whole_head, "TEXTURE_SIZE", SIZE)
        yield


class Glb:
    """A `.glb` file, read by the words of the specification."""

    def __init__(self, path: Path) -> None:
        data = path.read_bytes()
        magic, version, length = struct.unpack_from("<4sII", data)
        assert (magic, version, length) == (b"glTF", 2, len(data))
        size, kind = struct.unpack_from("<II", data, 12)
        assert kind == 0x4E4F534A
        self.json = json.loads(data[20 : 20 + size])
        self.binary = data[28 + size :]

    def array(self, index: int) -> np.ndarray:
        accessor = self.json["accessors"][index]
        view = self.json["bufferViews"][accessor["bufferView"]]
        count = accessor["count"] * _SIZES[accessor["type"]]
        flat = np.frombuffer(self.binary, _KINDS[accessor["componentType"]], count, view["byteOffset"])
        return flat.reshape(accessor["count"], -1)

    @property
    def primitive(self) -> dict[str, Any]:
        return self.json["meshes"][0]["primitives"][0]

    def attribute(self, name: str) -> np.ndarray:
        return self.array(self.primitive["attributes"][name])

    def target(self, name: str) -> np.ndarray:
        number = self.json["meshes"][0]["extras"]["targetNames"].index(name)
        return self.array(self.primitive["targets"][number]["POSITION"])

    def skinned(self, rotations: dict[str, np.ndarray], offsets: np.ndarray) -> np.ndarray:
        """Vertices moved by the joint nodes with local rotations `[3, 3]` by name, as section 3.7.3 defines skins."""
        nodes, skin = self.json["nodes"], self.json["skins"][0]
        world: dict[int, np.ndarray] = {}

        def visit(index: int, above: np.ndarray) -> None:
            local = np.eye(4)
            local[:3, :3], local[:3, 3] = rotations.get(nodes[index]["name"], np.eye(3)), nodes[index]["translation"]
            world[index] = above @ local
            for child in nodes[index].get("children", []):
                visit(child, world[index])

        for root in self.json["scenes"][0]["nodes"]:
            if "skin" not in nodes[root]:
                visit(root, np.eye(4))
        binds = self.array(skin["inverseBindMatrices"]).reshape(-1, 4, 4).transpose(0, 2, 1)  # column-major
        moves = np.stack([world[node] @ bind for node, bind in zip(skin["joints"], binds, strict=True)])
        blended = (self.attribute("WEIGHTS_0")[..., None, None] * moves[self.attribute("JOINTS_0")]).sum(1)
        points = np.concatenate([self.attribute("POSITION") + offsets, np.ones((len(offsets), 1))], 1)
        return (blended @ points[..., None])[:, :3, 0]


@pytest.fixture(scope="module")
def models() -> Models:
    return load_models(RenderOptions(engine="lift"))


@pytest.fixture(scope="module")
def model(models: Models) -> OpenHead:
    assert isinstance(models.head_model, OpenHead)
    return models.head_model


@pytest.fixture(scope="module")
def avatar(models: Models) -> LiftAvatar:
    built = models.engine.build(models.tracker.track_images([demo_photo()]))
    assert isinstance(built, LiftAvatar)
    return built


@pytest.fixture(scope="module")
def head(avatar: LiftAvatar, model: OpenHead) -> RiggedMesh:
    return whole_head(avatar, model)


@pytest.fixture(scope="module")
def glb(head: RiggedMesh, tmp_path_factory: pytest.TempPathFactory) -> Glb:
    path = tmp_path_factory.mktemp("head") / "head.glb"
    write_rigged_glb(path, head)
    return Glb(path)


def nearest(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Distance of each of `points` from the nearest of `others`."""
    from scipy.spatial import KDTree

    return KDTree(others).query(points)[0]


def test_trimesh_opens_a_closed_head(head, tmp_path):
    write_rigged_glb(tmp_path / "head.glb", head)
    scene: Any = trimesh.load(tmp_path / "head.glb")
    (mesh,) = scene.geometry.values()
    whole = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    whole.merge_vertices(merge_tex=True, merge_norm=True)
    skin = max(whole.split(only_watertight=False), key=lambda part: len(part.faces))
    assert skin.is_watertight and skin.is_winding_consistent and skin.volume > 0.002  # cubic metres
    low, high = skin.bounds
    assert 0.2 < high[1] - low[1] < 0.45 and 0.15 < high[2] - low[2] < 0.35  # a head, front to back
    assert mesh.visual.material.baseColorTexture.size == (SIZE, SIZE)


def test_targets_are_those_of_the_model(glb, model, avatar):
    names = glb.json["meshes"][0]["extras"]["targetNames"]
    assert len(names) == 52 and {"jawOpen", "eyeBlinkLeft", "mouthSmileRight", "tongueOut"} <= set(names)
    assert glb.json["meshes"][0]["weights"] == [0.0] * 52
    shape = avatar.motion.params(model, 0).shape
    for name in ("jawOpen", "browInnerUp", "mouthSmileLeft"):
        expression = torch.zeros(1, model.num_expression)
        expression[0, model.expression_names.index(name)] = 1.0
        moved = glb.attribute("POSITION") + glb.target(name)
        away = nearest(moved, model.shaped(shape, expression)[0].numpy())
        assert away[:-1].max() < 1e-5  # the last is the middle of the cut through the neck
        assert np.abs(glb.target(name)).max() > 0.003


@pytest.mark.parametrize("joint", ["neck", "jaw", "eye_left"])
def test_joints_move_as_in_the_model(glb, model, avatar, joint):
    turn = torch.tensor([[0.2, -0.1, 0.05]])
    params = HeadParams.zeros(model).replace(shape=avatar.motion.params(model, 0).shape)
    moved = {
        "neck": params.replace(neck=turn),
        "jaw": params.replace(jaw=turn),
        "eye_left": params.replace(eyes=torch.stack([turn, 0 * turn], 1)),
    }[joint]
    from scipy.spatial.transform import Rotation

    rotation = {joint: Rotation.from_rotvec(turn[0].numpy()).as_matrix()}
    offsets = np.zeros_like(glb.attribute("POSITION"))
    posed, still = glb.skinned(rotation, offsets), glb.skinned({}, offsets)
    np.testing.assert_allclose(still, glb.attribute("POSITION"), atol=1e-6)
    assert nearest(posed[:-1], model(moved)[0].numpy()).max() < 1e-5
    assert np.abs(posed - still).max() > 0.002


def test_file_follows_the_rules(glb):
    count = len(glb.attribute("POSITION"))
    np.testing.assert_allclose(glb.attribute("WEIGHTS_0").sum(1), 1, atol=1e-6)
    assert (glb.attribute("JOINTS_0")[glb.attribute("WEIGHTS_0") == 0] == 0).all()
    assert glb.array(glb.primitive["indices"]).max() == count - 1
    uv = glb.attribute("TEXCOORD_0")
    assert uv.min() >= 0 and uv.max() <= 1
    for accessor in glb.json["accessors"]:
        view = glb.json["bufferViews"][accessor["bufferView"]]
        assert view["byteOffset"] % 4 == 0 and view["byteOffset"] + view["byteLength"] <= len(glb.binary)
    position = glb.json["accessors"][glb.primitive["attributes"]["POSITION"]]
    np.testing.assert_allclose(position["min"], glb.attribute("POSITION").min(0))
    assert glb.json["asset"]["extras"]["digitalSourceType"] == SOURCE_TYPE


def test_the_photo_is_on_the_face(head, avatar, model):
    """The texture at a face's vertices has the colours of the photo where these vertices lie in it."""
    view, params = SourceView.of(avatar.motion), avatar.motion.params(model, 0)
    region = model.regions["face"].numpy() & ~model.regions["lips"].numpy() & ~model.regions["eyelids"].numpy()
    vertices = model(params)[0]
    screen = view.to_canvas(vertices).numpy()
    person = avatar.person.float().numpy()
    neutral = model.shaped(params.shape, 0 * params.expression)[0].numpy()
    from scipy.spatial import KDTree

    own = np.asarray(KDTree(head.vertices).query(neutral)[1])
    forward = np.abs(neutral[:, 0]) < 0.035  # the middle of the face looks at the camera
    chosen = np.flatnonzero(region & forward & (neutral[:, 2] > 0.1))
    column, row = np.round(screen[chosen, :2] - 0.5).astype(int).T
    photo = 255 * person[row, column, :3]
    place = np.clip((head.uv[own[chosen]] * SIZE).astype(int), 0, SIZE - 1)
    painted = head.texture[place[:, 1], place[:, 0]].astype(float)
    assert len(chosen) > 100 and np.median(np.abs(painted - photo)) < 8
    assert np.median(np.abs(painted[::-1] - photo)) > 12  # other vertices have other colours


def test_back_of_the_head_has_the_colour_of_the_hair(head):
    back = head.vertices[:, 2] < -0.03
    high = head.vertices[:, 1] > 0.15
    place = np.clip((head.uv[back & high] * SIZE).astype(int), 0, SIZE - 1)
    colours = head.texture[place[:, 1], place[:, 0]].astype(float)
    assert colours.std(0).max() < 25 and (colours.mean(0)[0] > colours.mean(0)[2] + 20)  # a smooth brown


def test_command_and_refusals(tmp_path, models):
    write_png(tmp_path / "photo.png", demo_photo())
    options = RenderOptions(engine="lift", whole_head=True)
    report = render_avatar(tmp_path / "photo.png", tmp_path / "head.glb", options=options, models=models)
    assert report.files == (str(tmp_path / "head.glb"),) and "skins" in Glb(tmp_path / "head.glb").json
    with pytest.raises(InputError, match="--whole-head is for .glb, .* got head.ply"):
        render_avatar(tmp_path / "photo.png", tmp_path / "head.ply", options=options, models=models)
    wrong = RenderOptions(engine="portrait4d", whole_head=True)
    with pytest.raises(InputError, match="--whole-head needs the head model of engine lift, got engine portrait4d"):
        render_avatar(tmp_path / "photo.png", tmp_path / "head.glb", options=wrong, models=models)


def test_no_two_nodes_have_one_name(glb: Glb) -> None:
    """three.js would call the second one `head_1`: the joint was then not found by its name."""
    names = [node["name"] for node in glb.json["nodes"]]
    assert len(names) == len(set(names)) and "head" in names
