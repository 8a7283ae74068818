"""Skinning identities, and what the open head must be able to do."""

import pytest
import torch
from torch import Tensor

from flame.errors import InputError
from flame.geometry.rotation import axis_angle_to_matrix
from flame.heads.head_model import HeadModel, HeadParams, expression_index
from flame.heads.open_head import ASSET, OpenHead, load_open_head
from flame.heads.skinning import blend_skin, chain_transforms
from flame.landmarks.groups import (
    CHIN,
    EARS,
    EYE_CORNERS,
    FOREHEAD,
    INNER_LIP_MIDDLES,
    IRIS_CENTRES,
    LEFT_IRIS,
    LID_PAIRS,
    LIP_PAIRS,
    NOSE_TIP,
    RIGHT_IRIS,
)
from flame.landmarks.sets import IBUG_CONTOUR_ENDS, PUPILS_OF_478

PARENTS = (-1, 0, 1, 1)
UPPER_LID, LOWER_LID = (
    {side: tuple(pair[edge] for pair in pairs) for side, pairs in (("right", LID_PAIRS[:3]), ("left", LID_PAIRS[3:]))}
    for edge in (0, 1)
)


@pytest.fixture(scope="module")
def head() -> OpenHead:
    return load_open_head()


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def _params(model: HeadModel, batch: int, seed: int = 0) -> HeadParams:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    expression = draw(batch, model.num_expression).clamp(0, 1)
    turns = (0.3 * draw(batch, 3), 0.2 * draw(batch, 3), 0.2 * draw(batch, 2, 3))
    return HeadParams(draw(batch, model.num_shape), expression, *turns)


def _with(model: HeadModel, **values: float) -> HeadParams:
    params = HeadParams.zeros(model)
    params.expression[0, expression_index(model, list(values))] = torch.tensor(list(values.values()))
    return params


# ---- skinning


def test_chain_at_rest_is_the_identity() -> None:
    identity = torch.eye(3, dtype=torch.float64).expand(2, 4, 3, 3)
    transforms = chain_transforms(identity, _random(2, 4, 3), PARENTS)
    assert torch.allclose(transforms, torch.eye(4, dtype=torch.float64).expand(2, 4, 4, 4))


def test_turning_the_root_is_rigid_about_the_root() -> None:
    joints, points = _random(1, 4, 3), _random(1, 10, 3, seed=1)
    weights = _random(10, 4, seed=2).softmax(1)
    rotation = axis_angle_to_matrix(_random(1, 3, seed=3))
    rotations = torch.eye(3, dtype=torch.float64).repeat(1, 4, 1, 1)
    rotations[:, 0] = rotation
    posed = blend_skin(points, chain_transforms(rotations, joints, PARENTS), weights)
    expected = (points - joints[:, :1]) @ rotation.transpose(1, 2) + joints[:, :1]
    assert torch.allclose(posed, expected)


def test_children_follow_and_joints_stay_together() -> None:
    """Each joint's own transform and its parent's agree on where the joint is."""
    joints, rotations = _random(2, 4, 3), axis_angle_to_matrix(_random(2, 4, 3, seed=4))
    transforms = chain_transforms(rotations, joints, PARENTS)
    for index, parent in enumerate(PARENTS):
        own = transforms[:, index] @ torch.cat([joints[:, index], torch.ones(2, 1, dtype=torch.float64)], 1)[..., None]
        by_parent = (
            transforms[:, max(parent, 0)]
            @ torch.cat([joints[:, index], torch.ones(2, 1, dtype=torch.float64)], 1)[..., None]
        )
        assert torch.allclose(own, by_parent)


def test_skinning_gradients() -> None:
    weights = _random(5, 4).softmax(1)

    def posed(points: Tensor, vectors: Tensor, joints: Tensor) -> Tensor:
        return blend_skin(points, chain_transforms(axis_angle_to_matrix(vectors), joints, PARENTS), weights)

    inputs = [_random(1, 5, 3), 0.5 * _random(1, 4, 3, seed=1), _random(1, 4, 3, seed=2)]
    assert torch.autograd.gradcheck(posed, [value.requires_grad_() for value in inputs])


# ---- the interface, on the open head


def test_zero_parameters_give_the_template(head: OpenHead) -> None:
    params = HeadParams.zeros(head, 2)
    assert torch.allclose(head(params), head.template.expand(2, -1, -1), atol=1e-7)
    assert torch.allclose(head.joints(params)[0], head.joint_template, atol=1e-7)


def test_batch_equals_singles(head: OpenHead) -> None:
    params = _params(head, 3)
    together = head(params)
    for index in range(-1, 3):
        assert torch.allclose(head(params[index])[0], together[index], atol=1e-6)
    assert torch.allclose(head.landmarks(together)[1], head.landmarks(head(params[1]))[0], atol=1e-6)


def test_forward_is_shaped_then_skinned(head: OpenHead) -> None:
    """The lift engine takes this road with its own rest vertices."""
    params = _params(head, 2)
    rest, transforms = head.shaped(params.shape, params.expression), head.joint_transforms(params)
    assert torch.allclose(head.skin(rest, transforms), head(params), atol=1e-7)
    some = torch.tensor([5, 100, 4000])
    assert torch.allclose(head.skin(rest[:, some], transforms, vertex_indices=some), head(params)[:, some], atol=1e-7)


def test_the_neck_turns_the_skull_rigidly(head: OpenHead) -> None:
    params = HeadParams.zeros(head).replace(neck=torch.tensor([[0.1, 0.5, -0.2]]))
    rotation = axis_angle_to_matrix(params.neck)[0]
    skull = head.skinning_weights[:, 2] > 0.9999
    assert skull.sum() > 500
    neck = head.joint_template[1]
    expected = (head.template[skull] - neck) @ rotation.T + neck
    assert torch.allclose(head(params)[0, skull], expected, atol=1e-4)


def test_the_head_joint_turns_on_top_of_the_neck(head: OpenHead) -> None:
    nod = torch.tensor([[0.3, 0.0, 0.0]])
    posed = head(HeadParams.zeros(head), head=nod)
    moved = (posed[0] - head.template).norm(dim=1)
    assert moved[head.regions["scalp"]].mean() > 0.02
    still = head.skinning_weights[:, 2:].sum(1) < 0.01
    assert still.any() and moved[still].max() < 1e-3
    assert (posed[0] - head.template)[head.regions["face"]][:, 1].mean() < 0  # +x nods down


def test_eyes_turn_about_their_centres(head: OpenHead) -> None:
    params = HeadParams.zeros(head)
    params.eyes[0, 0] = torch.tensor([0.0, 0.4, 0.0])  # the subject's left eye to the subject's left
    posed = head(params)[0]
    left, right = head.regions["left_eyeball"], head.regions["right_eyeball"]
    centre = head.joint_template[4]
    assert centre[0] > 0.02
    radius = (head.template[left] - centre).norm(dim=1)
    assert radius.std() < 5e-4
    assert torch.allclose((posed[left] - centre).norm(dim=1), radius, atol=1e-6)
    assert torch.allclose(posed[~left], head.template[~left], atol=1e-7)
    iris_before, iris_after = (head.landmarks(v[None])[0, IRIS_CENTRES["left"]] for v in (head.template, posed))
    assert iris_after[0] - iris_before[0] > 0.004
    assert right.sum() == left.sum()


def test_gradients_flow_to_all_parameters(head: OpenHead) -> None:
    params = _params(head, 1)
    fields = [
        value.requires_grad_() for value in (params.shape, params.expression, params.neck, params.jaw, params.eyes)
    ]
    weights = torch.randn(478, 3, generator=torch.Generator().manual_seed(5))
    (head.landmarks(head(params))[0] * weights).sum().backward()
    for field in fields:
        assert field.grad is not None and field.grad.abs().sum() > 0


def test_params_of_the_released_vector() -> None:
    vector = torch.arange(437.0)[None]
    params = HeadParams.from_vector437(vector)
    assert params.shape[0, 0] == 25 and params.expression[0, 0] == 325 and params.neck[0, 0] == 425
    assert params.jaw[0, 0] == 428 and params.eyes[0, 0, 0] == 431 and params.eyes[0, 1, 2] == 436
    with pytest.raises(InputError, match="437"):
        HeadParams.from_vector437(vector[:, 1:])


# ---- the asset


def test_asset_facts(head: OpenHead) -> None:
    assert ASSET.stat().st_size <= 8_000_000
    assert (ASSET.parent / "OPEN_HEAD_LICENSE.txt").is_file()
    assert (head.num_shape, head.num_expression, len(head.joint_names)) == (300, 86, 6)
    assert head.expression_names[:3] == ("browDownLeft", "browDownRight", "browInnerUp")
    assert head.expression_names[51] == "tongueOut"
    assert all(name.startswith("mh/") for name in head.expression_names[52:])
    assert torch.allclose(head.joint_template[1], torch.zeros(3), atol=1e-6)  # the origin is the neck joint
    assert torch.allclose(head.skinning_weights.sum(1), torch.ones(head.num_vertices), atol=1e-5)
    assert head.faces.max() == head.num_vertices - 1 and head.faces.min() == 0
    assert head.uv is not None and head.uv.shape == (head.num_vertices, 2)
    assert head.uv.min() >= 0 and head.uv.max() <= 1
    extent = head.template[head.regions["skin"] & ~head.regions["neck"]]
    height = extent[:, 1].max() - extent[:, 1].min()
    assert 0.2 < height < 0.3  # metres


def test_all_regions_are_there(head: OpenHead) -> None:
    names = "face left_eyeball right_eyeball lips inner_mouth eyelids neck scalp ears skin"
    for name in (names + " teeth_upper teeth_lower tongue lashes").split():
        assert 0 < head.regions[name].sum() < head.num_vertices, name
    x = head.template[:, 0]
    assert (x[head.regions["left_eyeball"]] > 0).all() and (x[head.regions["right_eyeball"]] < 0).all()
    assert not (head.regions["skin"] & head.regions["left_eyeball"]).any()


def test_template_and_expressions_are_mirror_symmetric(head: OpenHead) -> None:
    flip = torch.tensor([-1.0, 1.0, 1.0])
    assert torch.allclose(head.template[head.mirror] * flip, head.template, atol=1e-5)
    left, right = expression_index(head, ["mouthSmileLeft", "mouthSmileRight"])
    mirrored = head.expression_basis[head.mirror, :, left] * flip
    assert (mirrored - head.expression_basis[..., right]).abs().max() < 1e-3
    faces = {tuple(sorted(face)) for face in head.faces.tolist()}
    assert sum(tuple(sorted(face)) in faces for face in head.mirror[head.faces].tolist()) > 0.99 * len(faces)


def test_eyeballs_are_closed_and_face_outwards(head: OpenHead) -> None:
    """Both of them: every edge borders two triangles, and the signed volume is that of a ball."""
    for name, joint in (("eyeball_left", 4), ("eyeball_right", 5)):
        faces = head.faces[head.faces_of(name)]
        edges = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).sort(1).values
        assert (edges.unique(dim=0, return_counts=True)[1] == 2).all()
        corners = (head.template - head.joint_template[joint])[faces].double()
        volume = torch.linalg.det(corners).sum() / 6
        radius = corners.norm(dim=2).mean()
        assert 0.8 < volume / (4 / 3 * torch.pi * radius**3) < 1.0


def test_skin_faces_outwards(head: OpenHead) -> None:
    corners = head.template[head.faces[head.faces_of("skin")]]
    normals = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    outwards = corners.mean(1) - torch.tensor([0.0, 0.14, 0.03])
    above = corners.mean(1)[:, 1] > 0.17
    assert ((normals * outwards).sum(1)[above] > 0).float().mean() > 0.99


def test_coefficients_have_unit_variance_of_human_size(head: OpenHead) -> None:
    """The face of a random identity is some millimetres off the mean, and the leading directions matter most."""
    generator = torch.Generator().manual_seed(0)
    shape = torch.randn(20, 300, generator=generator)
    offsets = head.shaped(shape, torch.zeros(20, 86)) - head.template
    spread = offsets[:, head.regions["face"]].norm(dim=2).mean()
    assert 0.003 < spread < 0.015
    size = head.shape_basis.square().sum((0, 1))
    assert size[:10].mean() > 20 * size[100:].mean()


# ---- what a face does


def _mean_gap(head: OpenHead, params: HeadParams, upper: tuple[int, ...], lower: tuple[int, ...]) -> float:
    points = head.landmarks(head(params))[0]
    return float((points[list(upper), 1] - points[list(lower), 1]).mean())


def test_blink_closes_the_eye_of_its_side_only(head: OpenHead) -> None:
    rest = HeadParams.zeros(head)
    blink = _with(head, eyeBlinkLeft=1.0)
    assert _mean_gap(head, rest, UPPER_LID["left"], LOWER_LID["left"]) > 0.006
    assert abs(_mean_gap(head, blink, UPPER_LID["left"], LOWER_LID["left"])) < 0.0008
    assert _mean_gap(head, blink, UPPER_LID["right"], LOWER_LID["right"]) > 0.006


def test_mouth_opens_by_expression_and_by_joint(head: OpenHead) -> None:
    upper, lower = zip(*LIP_PAIRS[:3], strict=True)
    assert abs(_mean_gap(head, HeadParams.zeros(head), upper, lower)) < 0.002
    assert _mean_gap(head, _with(head, jawOpen=1.0), upper, lower) > 0.02
    jaw = HeadParams.zeros(head).replace(jaw=torch.tensor([[0.3, 0.0, 0.0]]))
    assert _mean_gap(head, jaw, upper, lower) > 0.01
    assert abs(_mean_gap(head, _with(head, jawOpen=1.0, mouthClose=1.0), upper, lower)) < 0.004


def test_loops_are_closed_borders_of_skin_and_cavity(head: OpenHead) -> None:
    names = {"lip_inner_loop": "mouth_cavity", "eye_left_loop": "eye_cavity_left", "eye_right_loop": "eye_cavity_right"}
    for loop_name, cavity in names.items():
        loop = head.loops[loop_name]
        assert len(loop.unique()) == len(loop) > 20
        edges = torch.stack([loop, loop.roll(-1)], 1).sort(1).values.tolist()
        for part in ("skin", cavity):
            faces = head.faces[head.faces_of(part)]
            own = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).sort(1).values
            known = set(map(tuple, own.tolist()))
            assert all(tuple(edge) in known for edge in edges), (loop_name, part)


def test_lower_teeth_and_tongue_follow_the_jaw(head: OpenHead) -> None:
    jaw = HeadParams.zeros(head).replace(jaw=torch.tensor([[0.3, 0.0, 0.0]]))
    for params in (jaw, _with(head, jawOpen=1.0)):
        moved = (head(params)[0] - head.template)[:, 1]
        assert moved[head.regions["teeth_lower"]].mean() < -0.008
        assert moved[head.regions["tongue"]].mean() < -0.004
        assert moved[head.regions["teeth_upper"]].abs().max() < 1e-3


def test_lashes_ride_on_the_lid(head: OpenHead) -> None:
    moved = (head(_with(head, eyeBlinkLeft=1.0))[0] - head.template).norm(dim=1)
    upper = head.faces[head.faces_of("lashes_upper")].unique()
    left = upper[head.template[upper, 0] > 0]
    assert moved[left].mean() > 0.004
    assert moved[upper[head.template[upper, 0] < 0]].max() < 1e-6


# ---- landmarks


@pytest.mark.parametrize("count", [478, 68, 70])
def test_embeddings_are_points_on_triangles(head: OpenHead, count: int) -> None:
    embedding = head.landmark_embedding(count)
    assert len(embedding.faces) == count and embedding.valid.all()
    assert (embedding.barycentric >= 0).all()
    assert torch.allclose(embedding.barycentric.sum(1), torch.ones(count), atol=1e-5)


def test_landmarks_sit_where_they_are_called(head: OpenHead) -> None:
    points = head.landmarks(head.template[None])[0]
    corners = points[[*EYE_CORNERS["right"], *EYE_CORNERS["left"][::-1]], 0]
    assert (corners.diff() > 0).all() and corners[1] < 0 < corners[2]  # the subject's right eye first
    upper, lower = points[list(INNER_LIP_MIDDLES), 1]
    assert (
        points[CHIN, 1]
        < lower
        <= upper + 1e-3
        < points[NOSE_TIP, 1]
        < points[EYE_CORNERS["right"][0], 1]
        < points[FOREHEAD, 1]
    )
    assert (points[NOSE_TIP, 2] > points[list(EARS), 2] + 0.05).all()  # the nose stands out of the face
    assert torch.allclose(points[IRIS_CENTRES["right"], :2], head.joint_template[5, :2], atol=1e-3)
    assert torch.allclose(points[IRIS_CENTRES["left"], :2], head.joint_template[4, :2], atol=1e-3)
    for side, ring in (("right", RIGHT_IRIS), ("left", LEFT_IRIS)):
        assert (points[list(ring)] - points[IRIS_CENTRES[side]]).norm(dim=1).max() < 0.0075
    seventy, sixty_eight = (head.landmarks(head.template[None], count=count)[0] for count in (70, 68))
    assert torch.equal(seventy[:68], sixty_eight)
    assert torch.equal(seventy[68:], points[list(PUPILS_OF_478)])
    first, last = sixty_eight[list(IBUG_CONTOUR_ENDS), 0]
    assert first < 0 < last  # iBUG starts at the subject's right


def test_an_unknown_landmark_set_is_named(head: OpenHead) -> None:
    with pytest.raises(InputError, match="98"):
        head.landmark_embedding(98)
    with pytest.raises(InputError, match="eyeBlink"):
        expression_index(head, ["eyeBlink"])
