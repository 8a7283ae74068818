"""The GenHead generator, its deformation and its masks against reference tensors of the official code (fp32, CPU).

Vertices are computed in the reference's own order of operations (`reference_flame.py`): the field that takes the neck's
pose out follows the nearest triangle of a mesh, and the last bit decides between triangles that share an edge.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from flame.geometry.camera import Camera
from flame.heads.head_model import HeadParams
from flame.mesh.nearest_vertex import Backend, nearest_vertex
from flame.mesh.raster import rasterize
from genhead.config import GenHeadConfig
from genhead.generator import GenHeadGenerator
from genhead.parts import exact_parts
from golden import Fixture
from official_pickles import load_manifest
from portrait4d.headparts.head import PartHead, PosedHead
from portrait4d.headparts.masks import correspondence_map, rasterise_masks
from reference_flame import ReferenceFlame

NETWORK = 1e-4
RENDERER, RENDERER_MEAN = 5e-4, 1e-5
BOX_WARP = 1.3


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    """Sums in the order of two threads, as the tolerances were found."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    with torch.no_grad():
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def head(synthetic_flame: Path) -> PartHead:
    return PartHead.from_flame_files(synthetic_flame / "geometry" / "generic_model.pkl")


@pytest.fixture(scope="module")
def reference(shared: Path, synthetic_flame: Path) -> ReferenceFlame:
    model = ReferenceFlame(synthetic_flame / "geometry" / "generic_model.pkl")
    fixture = Fixture.load(shared, "p4d_deform_onlyhead")
    if fixture.absolute_error("posed_vertices", model(_params(fixture))[:, ::5]) > 0:
        pytest.skip("matrix products round otherwise on this machine, so ties fall otherwise")
    return model


def _params(fixture: Fixture) -> HeadParams:
    neck, jaw = fixture.input("pose").split(3, 1)
    eyes = fixture.input("eye_pose").unflatten(1, (2, 3))
    return HeadParams(fixture.input("shape"), fixture.input("exp"), neck, jaw, eyes)


def _pose(reference: ReferenceFlame, fixture: Fixture) -> PosedHead:
    params = _params(fixture)
    rested = params.replace(neck=torch.zeros_like(params.neck))
    plain = rested.replace(expression=torch.zeros_like(params.expression), eyes=torch.zeros_like(params.eyes))
    return PosedHead(reference(params), reference(rested), reference(plain))


def _camera(fixture: Fixture) -> Camera:
    return Camera.from_label25(fixture.input("c"), axes="opengl")


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_nearest_vertex(shared: Path, backend: Backend) -> None:
    fixture = Fixture.load(shared, "p4d_geom")
    vertices, queries = fixture.input("cloud"), fixture.input("query")
    found = [nearest_vertex(*pair, backend=backend) for pair in zip(queries, vertices, strict=True)]
    squared = torch.stack([entry.squared_distance for entry in found])
    assert fixture.absolute_error("knn1_d2", squared[..., None]) < 1e-8
    index = torch.stack([entry.vertex for entry in found])
    assert fixture.arrays["out.knn1_idx"][..., 0].tolist() == index.tolist()


def test_part_fields(shared: Path, head: PartHead, reference: ReferenceFlame) -> None:
    fixture = Fixture.load(shared, "p4d_deform_part")
    parts = exact_parts(head, _pose(reference, fixture), box_warp=BOX_WARP)
    rested = parts.rest(fixture.input("x_used"))
    for name in ("eye", "face", "mouth"):
        moved = getattr(parts, name).move(rested)
        assert fixture.absolute_error(f"canonical_{name}_mouth1", moved.points) < 1e-6, name
        assert fixture.absolute_error(f"dist_to_{name}_surface_mouth1", moved.distance) < 1e-6, name
    assert fixture.absolute_error("inside_bbox_eye_mouth1", parts.in_eye_boxes(rested).float()) == 0
    found = [
        nearest_vertex(*pair).vertex
        for pair in zip(rested, _pose(reference, fixture).rested[:, head.regions.skin], strict=True)
    ]
    rings = head.regions.rings[torch.stack(found)]
    assert fixture.arrays["out.closest_vts_region"].tolist() == rings.tolist()


def test_masks_and_correspondences(shared: Path, head: PartHead, reference: ReferenceFlame) -> None:
    """Every pixel as pytorch3d's."""
    fixture = Fixture.load(shared, "p4d_raster")
    posed, camera, regions = _pose(reference, fixture), _camera(fixture), head.regions
    pixels, depth = camera.project(posed.posed, height=128, width=128)
    points = torch.cat([pixels, depth[..., None]], -1)
    for name, faces in {
        "eye": regions.eye_faces,
        "face_woeye": regions.face_faces,
        "face": torch.cat([regions.face_faces, regions.eye_faces]),
        "noinmouth": regions.closed_faces,
    }.items():
        seen = rasterize(points, faces, height=128, width=128, cull_backfaces=True)
        is_hit = seen.face_id >= 0
        assert fixture.absolute_error(f"{name}_mask", is_hit[:, None].float()) == 0, name
        assert fixture.absolute_error(f"{name}_depth", torch.where(is_hit, seen.depth, 0.0)[:, None]) < 1e-4, name
    masks = rasterise_masks(head, posed, camera, size=128, mask_resolution=128)
    assert fixture.absolute_error("head_nocull_mask", masks.head_sharp) == 0
    assert fixture.absolute_error("face_uv", correspondence_map(head, posed, camera, size=128)) < 1e-4


@pytest.mark.parametrize(
    ("name", "size"), [("p4d_genhead_small", 32), pytest.param("p4d_genhead_full", 64, marks=pytest.mark.slow)]
)
def test_generator(shared: Path, head: PartHead, reference: ReferenceFlame, name: str, size: int) -> None:
    fixture = Fixture.load(shared, name)
    config = GenHeadConfig.from_official(fixture.about["kwargs"], neural_rendering_resolution=size)
    generator = GenHeadGenerator(config, head)
    fixture.fill(generator)
    latent = fixture.input("z")
    styles = generator.map(latent, fixture.input("c_cond"), psi=fixture.about["truncation_psi"])
    assert fixture.error("ws", styles[:, 0]) < NETWORK
    volume = generator.synthesise(styles, latent)
    planes = torch.cat([volume.parts.features, volume.face.features], 1).flatten(1, 2)
    assert fixture.error("planes", planes) < NETWORK
    background = generator.background(latent, noise="const", generator=None)
    assert fixture.error("background_logits", background) < NETWORK

    posed, camera = _pose(reference, fixture), _camera(fixture)
    parts = generator.deform(posed)
    query = generator.query(volume, fixture.input("points"), parts)
    for part, found in query._asdict().items():
        assert fixture.error(f"sample_{part}_sigma", found.density[..., None]) < NETWORK, part
        assert fixture.error(f"sample_{part}_rgb", found.features) < NETWORK, part

    seen = generator.render(volume, camera, posed, keeps_samples=True)
    masks, samples = seen.masks, seen.samples
    assert samples is not None
    for key, value in {
        "eye_mask": masks.eye,
        "head_mask": masks.head,
        "mouth_mask": masks.mouth,
        "mouth_mask_sr": masks.mouth_soft + masks.eye_soft,
        "eye_mask_sel": samples.eye_mask,
        "mouth_mask_sel": samples.mouth_mask,
        "coarse_sample_points": samples.points,
    }.items():
        assert fixture.absolute_error(key, value) < 1e-6, key
    assert fixture.absolute_error("uv_512", generator.correspondences(posed, camera)) < RENDERER
    assert fixture.error("coarse_triplane_features", samples.face_features) < NETWORK
    for key, value in {
        "image": seen.image_raw,
        "image_feature": seen.features,
        "image_sr": seen.image,
        "background": seen.background,
        "image_depth": seen.depth,
        "T_bg": 1 - seen.alpha,
        "seg": 2 * seen.alpha - 1,
        "interval": seen.sample_depths,
        "all_weights": seen.weights,
        "densities_face_ineye": samples.eye_density[..., None],
        "densities_face_inmouth": samples.mouth_density[..., None],
    }.items():
        _check_rendered(fixture, key, value)
    if name != "p4d_genhead_small":
        return
    seen = generator.render(volume, camera, posed, neural_resolution=72)  # blends the mouth otherwise
    for key, value in {
        "image": seen.image_raw,
        "image_feature": seen.features,
        "image_sr": seen.image,
        "image_depth": seen.depth,
        "T_bg": 1 - seen.alpha,
        "eye_mask": seen.masks.eye,
        "mouth_mask": seen.masks.mouth,
    }.items():
        _check_rendered(fixture, f"{key}_nr72", value)


def _check_rendered(fixture: Fixture, key: str, value: Tensor) -> None:
    difference = fixture.differences(key, value)
    assert difference.max() < RENDERER and difference.mean() < RENDERER_MEAN, key


def test_every_released_tensor_has_its_place(shared: Path) -> None:
    """Names and shapes of the network, the FLAME of its buffers and the constant kernels are all there is."""
    manifest, meta = load_manifest(shared, "genhead_ffhq512.G")
    config = GenHeadConfig.from_official(meta["init_kwargs"]["kwargs"])
    assert config == GenHeadConfig()
    head = PartHead.from_open_head()
    with torch.device("meta"):
        own = GenHeadGenerator(config, head).state_dict()
    expected = {
        name: entry["shape"]
        for name, entry in manifest.items()
        if not name.startswith("deformer.") and not name.endswith("resample_filter") and name != "dataset_label_std"
    }
    assert {name: list(tensor.shape) for name, tensor in own.items()} == expected
