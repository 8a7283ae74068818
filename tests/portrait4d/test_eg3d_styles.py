"""Seeds, styles and the loop between them; how options are read; grey pictures of depth."""

import numpy as np
import pytest
import torch
from scipy.interpolate import interp1d

from fakes_eg3d import BallGenerator
from portrait4d.cli.spellings import parse_iso, parse_seeds
from portrait4d.eg3d.interpolation import StyleLoop, seed_latents
from portrait4d.jobs.eg3d.depth_pictures import depth_limits, depth_to_grey
from portrait4d.jobs.eg3d.options import StyleOptions
from portrait4d.jobs.eg3d.samples import map_seeds


@pytest.fixture
def generator() -> BallGenerator:
    return BallGenerator()


def test_a_seed_is_the_authors_latent_code() -> None:
    latents = seed_latents((3, 0, 3), 512)
    expected = np.random.RandomState(3).randn(1, 512).astype(np.float32)[0]
    assert torch.equal(latents[0], torch.from_numpy(expected)) and torch.equal(latents[0], latents[2])
    assert not torch.equal(latents[0], latents[1])


def _keys(count: int) -> torch.Tensor:
    return torch.randn(count, 2, 5, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_loop_passes_through_its_keys_and_returns(count: int) -> None:
    keys = _keys(count)
    loop = StyleLoop(keys)
    for index in range(count):
        assert torch.allclose(loop(index), keys[index : index + 1], atol=1e-6)
    assert torch.allclose(loop(count), keys[:1], atol=1e-6)
    with pytest.raises(ValueError, match="in the loop"):
        loop(count + 0.1)


def test_the_loop_is_the_authors_cubic_through_repeated_keys() -> None:
    keys = _keys(3)
    reference = interp1d(np.arange(-6, 9), np.tile(keys.numpy(), (5, 1, 1)), kind="cubic", axis=0)
    for place in (0.3, 1.5, 2.9):
        assert np.allclose(StyleLoop(keys)(place)[0].numpy(), reference(place), atol=1e-6)


def test_the_loop_has_no_corner_where_it_closes() -> None:
    loop = StyleLoop(_keys(4))
    step = 1e-3
    before, after = loop(4) - loop(4 - step), loop(step) - loop(0)
    assert float((before - after).norm() / after.norm()) < 0.01


def test_truncation_pulls_to_the_mean_head(generator: BallGenerator) -> None:
    full, half = (map_seeds(generator, (5,), StyleOptions(psi)) for psi in (1.0, 0.5))
    mean = generator.backbone.mapping.w_avg
    assert torch.allclose(half, mean + 0.5 * (full - mean), atol=1e-6)
    cut = map_seeds(generator, (5,), StyleOptions(0.5, 3))
    assert torch.equal(cut[:, :3], half[:, :3]) and torch.equal(cut[:, 3:], full[:, 3:])


def test_seeds_and_levels_as_text() -> None:
    assert parse_seeds("0-3, 12,5") == (0, 1, 2, 3, 12, 5)
    assert parse_seeds("7-7") == (7,)
    assert parse_iso("AUTO ") is None and parse_iso("-3.5") == -3.5


def test_depth_pictures_show_what_is_near_bright() -> None:
    depth, alpha = np.array([1.0, 2.0, 3.0, 9.0, np.inf]), np.array([1.0, 1.0, 0.9, 0.1, 0.0])
    limits = depth_limits(depth, alpha)
    assert limits == (1.0, 3.0)
    assert depth_to_grey(depth, limits).tolist() == [255, 128, 0, 0, 0]
    assert depth_limits(depth, np.zeros(5)) == (0.0, 1.0)
