"""Mapping, synthesis, super-resolution and the assembled generator by their mathematics."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from flame.errors import InputError
from flame.geometry.camera import Camera
from portrait4d.eg3d.generator import EG3DGenerator
from portrait4d.render.renderer import RenderConfig
from portrait4d.stylegan.channels import block_resolutions, is_half_block, num_channels
from portrait4d.stylegan.layers import FullyConnected
from portrait4d.stylegan.mapping import MappingNetwork
from portrait4d.stylegan.superresolution import SuperResolution, SuperResolutionConfig
from portrait4d.stylegan.synthesis import SynthesisLayer, SynthesisNetwork
from portrait4d.weights.eg3d_config import EG3DConfig

SMALL = EG3DConfig(
    latent_dim=16,
    style_dim=24,
    plane_resolution=32,
    channel_base=256,
    channel_max=16,
    neural_resolution=16,
    render=RenderConfig(num_coarse=6, num_fine=6),
    superresolution=SuperResolutionConfig(kind="2X"),
)


def _randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def generator() -> EG3DGenerator:
    torch.manual_seed(0)
    return EG3DGenerator(SMALL).eval()


@pytest.fixture(scope="module")
def cameras() -> Camera:
    angles = torch.tensor([0.0, 20.0, -35.0])
    return Camera.orbit(angles, angles / 2, radius=2.7, target=torch.zeros(3))


def test_channels_and_resolutions() -> None:
    assert [num_channels(size) for size in block_resolutions(512)] == [512, 512, 512, 512, 512, 256, 128, 64]
    assert [size for size in block_resolutions(512) if is_half_block(size, resolution=512, num_half_resolutions=4)] == [
        64,
        128,
        256,
        512,
    ]
    assert not is_half_block(4, resolution=64, num_half_resolutions=9)
    assert not any(is_half_block(size, resolution=256, num_half_resolutions=0) for size in block_resolutions(256))
    with pytest.raises(ValueError, match="power of two"):
        block_resolutions(48)


@pytest.mark.parametrize("lr_multiplier", [1.0, 0.01])
def test_equalised_weights_keep_the_variance_whatever_the_learning_rate(lr_multiplier: float) -> None:
    torch.manual_seed(0)
    layer = FullyConnected(256, 256, lr_multiplier=lr_multiplier)
    with torch.no_grad():
        assert float(layer(_randn(512, 256, seed=9)).std()) == pytest.approx(1.0, abs=0.05)


def test_mapping_ignores_the_size_of_latent_and_condition() -> None:
    torch.manual_seed(0)
    mapping = MappingNetwork(8, 5, 12, num_layers=2)
    mapping.embed.bias.data.zero_()
    latent, condition = _randn(3, 8), _randn(3, 5, seed=1)
    assert torch.allclose(mapping(latent * 10, condition * 3), mapping(latent, condition), atol=1e-5)
    assert not torch.allclose(mapping(latent, -condition), mapping(latent, condition))
    with pytest.raises(ValueError, match=r"latent must be \[B, 8\], got \(3, 5\)"):
        mapping(condition, condition)
    with pytest.raises(ValueError, match=r"condition must be \[B, 5\], got None"):
        mapping(latent)


def test_truncation_goes_from_the_mean_to_the_style() -> None:
    mapping = MappingNetwork(8, 0, 12, num_layers=1)
    mapping.w_avg.copy_(_randn(12, seed=3))
    w = _randn(2, 12)
    assert torch.equal(mapping.truncate(w, 1.0, num_layers=4), w[:, None].expand(-1, 4, -1))
    assert torch.allclose(mapping.truncate(w, 0.0, num_layers=4), mapping.w_avg.expand(2, 4, -1))
    half = mapping.truncate(w, 0.5, cutoff=3, num_layers=4)
    assert torch.allclose(half[:, :3], ((w + mapping.w_avg) / 2)[:, None].expand(-1, 3, -1))
    assert torch.equal(half[:, 3], w)


def test_the_mean_style_follows_with_its_decay() -> None:
    mapping = MappingNetwork(8, 0, 12, num_layers=1)
    w = _randn(4, 12)
    mapping.update_average(w, decay=0.75)
    assert torch.allclose(mapping.w_avg, 0.25 * w.mean(0), atol=1e-6)


def test_noise_of_a_layer() -> None:
    torch.manual_seed(0)
    layer = SynthesisLayer(4, 4, style_dim=8, resolution=8)
    layer.noise_strength.data.fill_(0.5)
    x, w = _randn(2, 4, 8, 8), _randn(2, 8, seed=1)
    without = layer(x, w, noise="none")
    assert torch.equal(layer(x, w, noise="const"), layer(x, w, noise="const"))
    assert not torch.equal(layer(x, w, noise="const"), without)
    drawn = [layer(x, w, noise="random", generator=torch.Generator().manual_seed(seed)) for seed in (5, 5, 6)]
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
    layer.noise_strength.data.zero_()
    assert torch.equal(layer(x, w, noise="const"), without)
    with pytest.raises(ValueError, match="noise must be"):
        layer(x, w, noise="some")  # pyright: ignore[reportArgumentType]


def test_each_style_drives_its_own_layers() -> None:
    """The last two styles reach the picture only through the last ToRGB; the one before is shared with it below."""
    torch.manual_seed(0)
    network = SynthesisNetwork(style_dim=8, resolution=16, picture_channels=3, channel_base=128, channel_max=8)
    assert network.num_styles == 6
    styles = _randn(1, 6, 8)

    def moves(index: int) -> bool:
        changed = styles.clone()
        changed[:, index] += 1
        return not torch.equal(network(changed), network(styles))

    assert all(moves(index) for index in range(6))
    network.get_parameter(
        "b16.torgb.weight"
    ).data.zero_()  # what the last resolution draws is gone: its own two styles with it
    assert [moves(index) for index in range(6)] == [True, True, True, True, False, False]
    with pytest.raises(ValueError, match=r"styles must be \[B, 6, 8\]"):
        network(styles[:, :5])


def test_superresolution_style_of_ones_does_not_see_the_style() -> None:
    torch.manual_seed(0)
    network = SuperResolution(SuperResolutionConfig(kind="2X", style_source="ones"), in_channels=4, style_dim=8)
    given = SuperResolution(SuperResolutionConfig(kind="2X"), in_channels=4, style_dim=8)
    given.load_state_dict(network.state_dict())
    rgb, features = _randn(1, 3, 64, 64), _randn(1, 4, 64, 64)
    assert torch.equal(network(rgb, features, _randn(8)), network(rgb, features, _randn(8, seed=1)))
    assert torch.equal(network(rgb, features, _randn(8)), given(rgb, features, torch.ones(1, 8)))
    assert not torch.equal(given(rgb, features, _randn(8)), given(rgb, features, _randn(8, seed=1)))
    with pytest.raises(ValueError, match="super-resolution must be one of"):
        SuperResolution(SuperResolutionConfig(kind="3X"))  # pyright: ignore[reportArgumentType]


def test_generator_has_exactly_the_released_tensors(shared: Path) -> None:
    """The FIR filters are constants of ours; `dataset_label_std` is the training set's, not the network's."""
    manifest = json.loads((shared / "spec" / "manifests" / "eg3d_ffhq512.G.json").read_text(encoding="utf-8"))
    official = {name: entry["shape"] for name, entry in manifest.items()}
    foreign = {name for name in official if name.endswith("resample_filter")} | {"dataset_label_std"}
    with torch.device("meta"):
        ours = {name: list(value.shape) for name, value in EG3DGenerator(EG3DConfig()).state_dict().items()}
    assert ours == {name: shape for name, shape in official.items() if name not in foreign}


@torch.no_grad()
def test_a_batch_is_its_singles(generator: EG3DGenerator, cameras: Camera) -> None:
    latent = _randn(3, 16)
    batch = generator.render(generator.sample(latent, cameras), cameras)
    for index in range(3):
        one = slice(index, index + 1)
        single = generator.render(generator.sample(latent[one], cameras[one]), cameras[one])
        assert torch.allclose(batch.image[one], single.image, atol=1e-4)
        assert torch.allclose(batch.depth[one], single.depth, atol=1e-4)
        assert torch.allclose(batch.alpha[one], single.alpha, atol=1e-5)


@pytest.mark.slow
@torch.no_grad()
def test_kept_planes_give_the_same_picture_and_one_volume_serves_many_cameras(
    generator: EG3DGenerator, cameras: Camera
) -> None:
    latent = _randn(1, 16)
    volume = generator.sample(latent, cameras[0])
    views = generator.render(volume, cameras)
    for index in range(3):
        anew = generator.render(generator.sample(latent, cameras[0]), cameras[index])
        assert torch.allclose(views.image[index : index + 1], anew.image, atol=1e-4)
    assert not torch.allclose(views.image[0], views.image[1], atol=1e-2)
    with pytest.raises(ValueError, match="expected one camera, or 2"):
        generator.render(generator.sample(_randn(2, 16), cameras[:2]), cameras)


@pytest.mark.slow
@torch.no_grad()
def test_chunks_do_not_change_the_picture(generator: EG3DGenerator, cameras: Camera) -> None:
    volume = generator.sample(_randn(1, 16), cameras[0])
    whole = generator.render(volume, cameras[0], max_points=10**9)
    for max_points in (1, 500, 16 * 16 * 6):
        part = generator.render(volume, cameras[0], max_points=max_points)
        assert torch.allclose(part.image, whole.image, atol=1e-5)
        assert torch.equal(part.alpha, whole.alpha) or torch.allclose(part.alpha, whole.alpha, atol=1e-6)


@torch.no_grad()
def test_pictures_follow_the_generator(generator: EG3DGenerator, cameras: Camera) -> None:
    volume = generator.sample(_randn(1, 16), cameras[0])

    def picture(seed: int | None) -> Tensor:
        source = None if seed is None else torch.Generator().manual_seed(seed)
        return generator.render(volume, cameras[0], generator=source).image

    assert torch.equal(picture(None), picture(None)) and torch.equal(picture(7), picture(7))
    assert not torch.equal(picture(7), picture(8)) and not torch.equal(picture(7), picture(None))


@torch.no_grad()
def test_noise_of_superresolution_follows_the_generator_too() -> None:
    torch.manual_seed(0)
    config = replace(SMALL, superresolution=replace(SMALL.superresolution, noise="random"))
    generator = EG3DGenerator(config).eval()
    generator.superresolution.block1.conv1.noise_strength.fill_(1.0)
    camera = Camera.orbit(torch.zeros(1), torch.zeros(1), radius=2.7, target=torch.zeros(3))
    volume = generator.sample(_randn(1, 16), camera)
    first, same, other = (
        generator.render(volume, camera, generator=torch.Generator().manual_seed(seed)).image for seed in (1, 1, 2)
    )
    assert torch.equal(first, same) and not torch.equal(first, other)
    with pytest.raises(ValueError, match="needs a generator"):
        generator.render(volume, camera)


@torch.no_grad()
def test_one_camera_conditions_many_latents(generator: EG3DGenerator, cameras: Camera) -> None:
    repeated = Camera(cameras.cam2world[:1].repeat(3, 1, 1), cameras.intrinsics[:1].repeat(3, 1, 1))
    assert torch.equal(generator.map(_randn(3, 16), cameras[0]), generator.map(_randn(3, 16), repeated))
    with pytest.raises(ValueError, match="expected 1 or 2 conditions"):
        generator.map(_randn(2, 16), cameras)


@torch.no_grad()
def test_the_condition_can_be_a_camera_or_its_label(generator: EG3DGenerator, cameras: Camera) -> None:
    label = cameras.to_label25(axes="opencv")
    assert torch.equal(generator.map(_randn(3, 16), cameras), generator.map(_randn(3, 16), label))
    assert not torch.equal(
        generator.map(_randn(3, 16), cameras.to_label25(axes="opengl")), generator.map(_randn(3, 16), label)
    )


def test_float64_throughout(cameras: Camera) -> None:
    torch.manual_seed(0)
    generator = EG3DGenerator(SMALL).double()
    seen = generator.render(generator.sample(_randn(1, 16).double(), cameras[0].to(torch.float64)), cameras[0])
    assert seen.image.dtype == seen.depth.dtype == torch.float64


def test_config_goes_to_plain_values_and_back() -> None:
    assert EG3DConfig.from_dict(json.loads(json.dumps(SMALL.to_dict()))) == SMALL
    with pytest.raises(InputError, match=r"unknown setting render\.num_corse; did you mean render\.num_coarse\?"):
        EG3DConfig.from_dict({"render": {"num_corse": 3}})
    with pytest.raises(InputError, match="unknown setting planes"):
        EG3DConfig.from_dict({"planes": 3})


def test_config_of_the_released_file_is_the_default(shared: Path) -> None:
    path = shared / "spec" / "manifests" / "eg3d_ffhq512.G.meta.json"
    kwargs = json.loads(path.read_text(encoding="utf-8"))["init_kwargs"]["kwargs"]
    assert EG3DConfig.from_official(kwargs, neural_rendering_resolution=128) == EG3DConfig()
    assert math.isclose(EG3DConfig().render.far, 3.3)
    for key, value, message in (
        ("clamp_mode", "relu", "clamp_mode"),
        ("superresolution_module", "x.Other", "super-resolution module"),
        ("ray_start", "auto", "ray_start and ray_end"),
    ):
        bad = {**kwargs, "rendering_kwargs": {**kwargs["rendering_kwargs"], key: value}}
        with pytest.raises(InputError, match=message):
            EG3DConfig.from_official(bad)
