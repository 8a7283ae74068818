"""GenHead on the open head, which needs no licence: masks, deformation, pictures, gradients; and its two forms."""

from dataclasses import replace

import pytest
import torch

from flame.errors import InputError
from flame.geometry.camera import Camera
from flame.heads.head_model import HeadParams
from flame.landmarks.sets import IBUG_EYES_AND_INNER_LIPS
from flame.mesh.nearest_vertex import nearest_vertex
from genhead.config import Deformation, GenHeadConfig
from genhead.generator import GenHeadGenerator, condition_label
from genhead.networks import HeadBackground
from genhead.part_grids import build_parts
from genhead.parts import PartFields, exact_parts, follow
from genhead.render import choose_rows
from genhead.volume import HeadVolume, PreparedHead
from portrait4d.headparts.head import PartHead
from portrait4d.headparts.masks import HeadMasks, correspondence_map, distance_map, rasterise_masks
from portrait4d.stylegan.superresolution import SuperResolution, SuperResolutionConfig

CONFIG = GenHeadConfig.toy()
BOX_WARP = CONFIG.render.box_warp

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def head() -> PartHead:
    return PartHead.from_open_head()


@pytest.fixture(scope="module")
def params(head: PartHead) -> HeadParams:
    """A closed mouth, an open one, and a wink with the eyes turned."""
    result = HeadParams.zeros(head.model, 3)
    torch.manual_seed(0)
    result.shape.normal_(0, 0.3)
    result.jaw[1, 0] = 0.25
    result.expression[2, head.model.expression_names.index("eyeBlinkLeft")] = 1.0
    result.eyes[2, :, 1] = 0.3
    return result


def _cameras(yaws: list[float]) -> Camera:
    yaw = torch.tensor(yaws)
    return Camera.orbit(
        yaw,
        torch.zeros_like(yaw),
        radius=CONFIG.camera_radius,
        target=torch.zeros(3),
        fov_degrees=CONFIG.camera_fov_degrees,
    )


def _masks(head: PartHead, params: HeadParams, yaws: list[float]) -> HeadMasks:
    return rasterise_masks(head, head.pose(params), _cameras(yaws), size=32, mask_resolution=128)


def test_the_cube_holds_the_head(head: PartHead, params: HeadParams) -> None:
    assert head.pose(params).posed.abs().max() < BOX_WARP / 2


def test_regions_fit_together(head: PartHead) -> None:
    regions, num_vertices = head.regions, head.model.num_vertices
    assert head.canonical[regions.left_eye, 0].min() > 0 > head.canonical[regions.right_eye, 0].max()
    edges = head.model.faces[:, [0, 1]]
    neighbours = regions.rings[edges[:, 0]]
    is_full = (neighbours < num_vertices).all(1)  # a longer ring is cut
    assert ((neighbours == edges[:, 1:]).any(1) | is_full).all()
    assert (regions.rings[:, 0] == torch.arange(num_vertices)).all()
    assert len(regions.pose_mesh.faces) < len(regions.outline.faces) / 2
    coarse = regions.pose_mesh.apply(head.model.template[None])[0]
    distance = nearest_vertex(head.model.template[regions.skin], coarse).squared_distance.sqrt()
    assert distance.max() < 0.02


def test_masks_are_where_eyes_and_mouth_are(head: PartHead, params: HeadParams) -> None:
    masks = _masks(head, params, [0.0, 0.0, 0.0])
    for mask in (masks.eye, masks.mouth, masks.head, masks.eye_soft, masks.mouth_soft, masks.head_sharp):
        assert mask.min() >= 0 and mask.max() <= 1 + 1e-6
    assert masks.mouth[0].sum() < 0.5 and masks.mouth[1].sum() > 3
    landmarks = _cameras([0.0] * 3).project(
        head.place(head.model.landmarks(head.model(params), count=70)), height=32, width=32
    )[0]
    rows, columns = torch.meshgrid(torch.arange(32) + 0.5, torch.arange(32) + 0.5, indexing="ij")
    place = torch.stack([columns, rows], -1)
    mouth = (masks.mouth[1, 0, ..., None] * place).sum((0, 1)) / masks.mouth[1].sum()
    assert (mouth - landmarks[1, IBUG_EYES_AND_INNER_LIPS[2]].mean(0)).norm() < 1
    left_half = masks.eye[:, 0, :, 16:].sum((1, 2))  # the subject's left is on the picture's right
    right_half = masks.eye[:, 0, :, :16].sum((1, 2))
    assert left_half[0] == pytest.approx(float(right_half[0]), rel=0.2)
    assert left_half[2] < 0.2 * right_half[2]


def test_only_the_mouth_is_inside_the_mouth(head: PartHead, params: HeadParams) -> None:
    """From the side and from below, neither the open neck nor the eyes' sockets count."""
    closed = HeadParams.zeros(head.model, 4)
    camera = Camera.orbit(
        torch.tensor([60.0, -60.0, 0.0, 20.0]),
        torch.tensor([0.0, 0.0, 20.0, -15.0]),
        radius=CONFIG.camera_radius,
        target=torch.zeros(3),
        fov_degrees=CONFIG.camera_fov_degrees,
    )
    masks = rasterise_masks(head, head.pose(closed), camera, size=32, mask_resolution=128)
    assert (masks.mouth.sum((1, 2, 3)) < 1.5).all()


def test_the_map_follows_the_surface(head: PartHead, params: HeadParams) -> None:
    """The same vertex has the same colour whatever the expression and the view."""
    posed, camera = head.pose(params), _cameras([0.0, 20.0, -20.0])
    seen = correspondence_map(head, posed, camera, size=128)
    nose = int(head.canonical[:, 2].argmax())
    pixels, _ = camera.project(posed.posed[:, nose : nose + 1], height=128, width=128)
    for index, (column, row) in enumerate(pixels[:, 0].long().tolist()):
        assert (seen[index, :, row, column] - head.map_colours[nose]).abs().max() < 0.05


def test_distances_are_those_of_the_surface(head: PartHead, params: HeadParams) -> None:
    """A vertex of the face that is seen lies as far along its pixel's ray as the map says."""
    posed, camera, size = head.pose(params), _cameras([0.3] * len(params.shape)), 256
    distances = distance_map(head, posed, camera, size=size)
    pixels, _ = camera.project(posed.posed, height=size, width=size)
    away = (posed.posed - camera.cam2world[:, None, :3, 3]).norm(dim=-1)
    skin = head.regions.skin
    columns, rows = pixels[0, skin].long().unbind(-1)
    errors = distances[0, 0, rows, columns] - away[0, skin]
    seen = errors.abs() < 0.1  # others are hidden, or behind
    assert seen.float().mean() > 0.2 and errors[seen].abs().median() < 3e-3


def test_parts_move_vertices_to_the_canonical_head(head: PartHead, params: HeadParams) -> None:
    posed, regions = head.pose(params), head.regions
    parts = exact_parts(head, posed, box_warp=BOX_WARP)
    assert parts.pose is None
    for field, vertices, region in (
        (parts.face, posed.rested, regions.skin),
        (parts.eye, posed.rested, regions.left_eye),
        (parts.mouth, posed.mouth, regions.lips),
    ):
        moved = field(vertices[:, region])
        assert (moved - head.canonical[region]).abs().max() < 1e-3
    assert parts.in_eye_boxes(posed.rested[:, regions.right_eye]).all()
    assert not parts.in_eye_boxes(posed.rested[:, regions.lips]).any()
    assert float((posed.mouth - posed.rested)[2, regions.left_eye].abs().max()) > 0  # gaze does not reach the mouth


def test_a_turned_neck_is_taken_out(head: PartHead, params: HeadParams) -> None:
    turned = params.replace(neck=torch.tensor([[0.0, 0.2, 0.0]]).expand(3, 3))
    posed = head.pose(turned)
    parts = exact_parts(head, posed, box_warp=BOX_WARP)
    face = head.regions.face_faces.unique()
    before = (posed.posed - posed.rested)[:, face].norm(dim=-1)
    after = (parts.rest(posed.posed[:, face]) - posed.rested[:, face]).norm(dim=-1)
    assert after.median() < 0.1 * before.median()


def test_follow_in_both_forms() -> None:
    torch.manual_seed(0)
    points, vertices, offsets = torch.rand(50, 3), torch.rand(20, 3), torch.rand(20, 3)
    rings = torch.randint(20, (50, 4))
    found = [follow(points, rings, vertices, offsets, backend=backend) for backend in ("torch", "numba")]
    assert (found[0] - found[1]).abs().max() < 1e-6
    on_vertex = follow(vertices, torch.arange(20)[:, None].expand(-1, 4), vertices, offsets)
    assert (on_vertex - vertices - offsets).abs().max() < 1e-6


def test_grids_are_near_the_exact_deformation(head: PartHead, params: HeadParams) -> None:
    """Within a few thousandths near the surface; where upper and lower lip meet, the exact field jumps."""
    posed, regions = head.pose(params), head.regions
    exact, grid = (
        build_parts(head, posed, box_warp=BOX_WARP, deformation=form, grid_resolution=48) for form in ("exact", "grid")
    )
    torch.manual_seed(0)
    eyes = torch.cat([regions.left_eye, regions.right_eye])
    for name, vertices, region, bound in (
        ("face", posed.rested, regions.skin, 0.025),
        ("eye", posed.rested, eyes, 0.005),
        ("mouth", posed.mouth, regions.lips, 0.06),
    ):
        for spread in (0.0, 0.02):
            points = vertices[:, region]
            points = points + spread * torch.randn(points.shape)
            error = (getattr(exact, name)(points) - getattr(grid, name)(points)).norm(dim=-1)
            assert error.median() < 2e-3 and error.flatten().quantile(0.99) < bound, name


@pytest.fixture(scope="module")
def generator(head: PartHead) -> GenHeadGenerator:
    torch.manual_seed(0)
    return GenHeadGenerator(CONFIG, head)


def _volume(generator: GenHeadGenerator, params: HeadParams, camera: Camera):
    latent = torch.randn(len(params), CONFIG.latent_dim, generator=torch.Generator().manual_seed(3))
    return generator.sample(latent, condition_label(camera, params.shape))


def test_pictures_and_gradients(generator: GenHeadGenerator, params: HeadParams) -> None:
    camera = _cameras([0.0, 20.0, -20.0])
    posed = generator.head.pose(params)
    volume = _volume(generator, params, camera)
    noise = torch.Generator().manual_seed(0)
    seen = generator.render(volume, camera, posed, keeps_samples=True, generator=noise)
    samples = seen.samples
    assert samples is not None
    assert seen.image.shape == (3, 3, 64, 64) and seen.image_raw.shape == (3, 3, 32, 32)
    assert samples.eye_density.shape == samples.mouth_density.shape == (3, 32 * 32, 16)
    assert samples.points.shape == (3, 32 * 32 * 8, 3) and samples.face_features.shape[2] == CONFIG.plane_channels
    assert samples.eye_mask.shape == samples.mouth_mask.shape == (3, 32 * 32, 8)
    loss = seen.image.square().mean() + seen.alpha.mean() + samples.eye_density.sum() + samples.mouth_density.sum()
    loss.backward()
    without = {name for name, parameter in generator.named_parameters() if parameter.grad is None}
    assert all(name.startswith("superresolution.") and name.endswith("noise_strength") for name in without)
    torgb = generator.backbone.synthesis.get_parameter("b64.torgb.weight").grad
    assert torgb is not None
    parts, face = torgb.flatten(1).abs().sum(1).chunk(2)
    assert (parts > 0).all() and (face > 0).all()
    generator.zero_grad()


@torch.no_grad()
def test_a_batch_is_its_singles(generator: GenHeadGenerator, params: HeadParams) -> None:
    camera = _cameras([0.0, 20.0, -20.0])
    posed, volume = generator.head.pose(params), _volume(generator, params, camera)
    together = generator.render(volume, camera, posed, keeps_samples=True, max_points=5000)
    for index in range(3):
        one = slice(index, index + 1)
        alone = generator.render(volume[one], camera[one], posed[one], keeps_samples=True)
        assert (alone.image - together.image[one]).abs().max() < 1e-4
        assert alone.samples is not None and together.samples is not None
        difference = alone.samples.mouth_density - together.samples.mouth_density[one]
        assert difference.abs().max() < 1e-3


@pytest.mark.parametrize("form", ["exact", "grid"])
@pytest.mark.parametrize("turn", [0.0, 0.2])
@torch.no_grad()
def test_prepared_heads_may_be_kept(
    head: PartHead, generator: GenHeadGenerator, params: HeadParams, form: Deformation, turn: float
) -> None:
    """Made one by one, joined in another order, they give the pictures of heads that are posed anew."""
    network = GenHeadGenerator(replace(CONFIG, deformation=form), head)
    network.load_state_dict(generator.state_dict())
    camera = _cameras([0.0, 20.0, -20.0])
    posed = head.pose(params.replace(neck=torch.full((3, 3), turn)))
    volume = _volume(network, params, camera)
    kept = [network.prepare(camera[index], posed[index : index + 1]) for index in range(3)]
    order = torch.tensor([2, 0, 1])
    joined = PreparedHead.concatenate([kept[index] for index in order.tolist()])
    turned = HeadVolume(
        replace(volume.parts, features=volume.parts.features[order]),
        replace(volume.face, features=volume.face.features[order]),
        volume.background[order],
        volume.w[order],
    )
    again = network.render(turned, camera[order], joined).image
    anew = network.render(volume, camera, posed).image
    assert (again - anew[order]).abs().max() < 1e-4
    alone = network.render(turned[1:2], camera[order][1:2], joined[1:2]).image
    assert (alone - anew[:1]).abs().max() < 1e-4


def test_prepared_heads_that_do_not_fit(head: PartHead, generator: GenHeadGenerator, params: HeadParams) -> None:
    camera = _cameras([0.0, 0.0, 0.0])
    posed = head.pose(params)
    prepared = generator.prepare(camera, posed)
    with pytest.raises(ValueError, match="prepared for pictures of 16, got 32"):
        generator.render(_volume(generator, params, camera), camera, prepared, neural_resolution=16)
    exact = exact_parts(head, posed, box_warp=BOX_WARP)
    with pytest.raises(ValueError, match="grids of the same nodes only"):
        PartFields.concatenate([prepared.parts, exact])
    with pytest.raises(ValueError, match="exact fields only"):
        PartFields.concatenate([exact, prepared.parts])
    turned = exact_parts(head, head.pose(params.replace(neck=torch.full((3, 3), 0.1))), box_warp=BOX_WARP)
    with pytest.raises(ValueError, match="1 turned of 2"):
        PartFields.concatenate([exact, turned])


@torch.no_grad()
def test_expression_moves_the_mouth_and_nothing_behind(generator: GenHeadGenerator, params: HeadParams) -> None:
    camera = _cameras([0.0])
    volume = _volume(generator, params[0:1], camera)
    shut = params[0:1]
    opened = shut.replace(jaw=torch.tensor([[0.3, 0.0, 0.0]]))
    first, second = (generator.render(volume, camera, generator.head.pose(pose)) for pose in (shut, opened))
    change = (first.image_raw - second.image_raw).abs().amax(1)[0]
    assert change[:8, :8].max() < 1e-3  # a corner of the background
    assert change[16:26, 12:20].max() > 1e-3
    assert second.masks.mouth.sum() > first.masks.mouth.sum()


@torch.no_grad()
def test_both_forms_give_alike_pictures(head: PartHead, params: HeadParams, generator: GenHeadGenerator) -> None:
    exact = GenHeadGenerator(replace(CONFIG, deformation="exact"), head)
    exact.load_state_dict(generator.state_dict())
    camera = _cameras([0.0, 0.0, 0.0])
    posed, volume = head.pose(params), _volume(generator, params, camera)
    pictures = [network.render(volume, camera, posed).image_raw for network in (exact, generator)]
    assert (pictures[0] - pictures[1]).abs().mean() < 0.02 * pictures[0].std()


def test_query_answers_for_each_part(generator: GenHeadGenerator, params: HeadParams) -> None:
    camera = _cameras([0.0, 0.0, 0.0])
    parts = generator.deform(generator.head.pose(params))
    found = generator.query(_volume(generator, params, camera), torch.zeros(3, 5, 3), parts)
    for samples in found:
        assert samples.density.shape == (3, 5) and samples.features.shape == (3, 5, CONFIG.plane_channels)


def test_config_round_trip_and_refusals(head: PartHead) -> None:
    assert GenHeadConfig.from_dict(CONFIG.to_dict()) == CONFIG
    assert GenHeadConfig.from_dict({**CONFIG.to_dict(), "head_origin": [0.0, 0.1, 0.045]}) == CONFIG
    with pytest.raises(InputError, match="did you mean deformation"):
        GenHeadConfig.from_dict({"deformatoin": "grid"})
    with pytest.raises(InputError, match="expected 'exact' or 'grid'"):
        GenHeadConfig.from_dict({"deformation": "fast"})
    with pytest.raises(ValueError, match="condition of 25 \\+ 300"):
        GenHeadGenerator(replace(CONFIG, condition_dim=25), head)


def test_a_batch_that_does_not_match(generator: GenHeadGenerator, params: HeadParams) -> None:
    camera = _cameras([0.0, 0.0, 0.0])
    volume, posed = _volume(generator, params, camera), generator.head.pose(params)
    with pytest.raises(ValueError, match="3 volumes, 2 cameras and 3 heads"):
        generator.render(volume, camera[:2], posed)


def test_choose_rows() -> None:
    wanted = torch.tensor([[False, True, False, True], [False, False, False, True]])
    assert choose_rows(wanted).tolist() == [[1, 3], [0, 3]]
    assert choose_rows(wanted[:1]).tolist() == [[1, 3]]
    assert choose_rows(torch.zeros(2, 4, dtype=torch.bool)).shape == (2, 0)


def test_narrow_superresolution() -> None:
    """One block that doubles the picture, or none; noise stays off."""
    rgb, features, w = torch.rand(2, 3, 32, 32), torch.rand(2, 8, 32, 32), torch.rand(2, 16)
    for config, size in (
        (SuperResolutionConfig(kind="2x64", is_half=False), 64),
        (SuperResolutionConfig(kind="2x128", is_half=False), 128),
    ):
        network = SuperResolution(config, in_channels=8, style_dim=16)
        assert network(rgb, features, w).shape == (2, 3, size, size) == (2, 3, config.resolution, config.resolution)
        assert not hasattr(network, "block1")


def test_margins_keep_zeros_out_of_the_picture() -> None:
    """What is the same everywhere stays so up to the sides."""
    rgb, features, w = torch.full((1, 3, 32, 32), 0.5), torch.rand(1, 8, 1, 1).expand(1, 8, 32, 32), torch.ones(1, 16)
    torch.manual_seed(0)
    config = SuperResolutionConfig(kind="2x64", is_half=False)
    plain = SuperResolution(config, in_channels=8, style_dim=16)
    wide = SuperResolution(replace(config, margin=2), in_channels=8, style_dim=16)
    wide.load_state_dict(plain.state_dict())
    middle = plain(rgb, features, w)[:, :, 30:31, 30:31]
    assert (plain(rgb, features, w) - middle).abs().max() > 0.05
    assert wide(rgb, features, w).shape == (1, 3, 64, 64)
    assert (wide(rgb, features, w) - middle).abs().max() < 1e-5
    with pytest.raises(ValueError, match="margin has no constant noise"):
        replace(config, margin=2, noise="const")


def test_the_background_loses_its_sides() -> None:
    config = GenHeadConfig.toy()
    torch.manual_seed(0)
    whole = HeadBackground(config)
    cut = HeadBackground(replace(config, background=replace(config.background, margin=4)))
    cut.load_state_dict(whole.state_dict())
    latent = torch.randn(2, config.latent_dim)
    seen = whole(latent, noise="const", generator=None)
    assert torch.equal(cut(latent, noise="const", generator=None), seen[:, :, 4:-4, 4:-4])
    with pytest.raises(InputError, match=r"background\.margin"):
        replace(config.background, margin=16)


def test_no_superresolution() -> None:
    rgb, features, w = torch.rand(2, 3, 32, 32), torch.rand(2, 8, 32, 32), torch.rand(2, 16)
    none = SuperResolution(SuperResolutionConfig(kind="none"), in_channels=8, style_dim=16)
    assert none(rgb, features, w) is rgb and not list(none.parameters()) and none.config.resolution is None
