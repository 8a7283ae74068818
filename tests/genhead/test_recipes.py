"""Every file in `configs/` is read, makes the networks that it should, and trains."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from genhead.generator import GenHeadGenerator
from genhead.training.task import GenHeadTraining
from places import ROOT
from portrait4d.eg3d.generator import EG3DGenerator
from portrait4d.eg3d.training import EG3DTraining
from portrait4d.gan.discriminator import DualDiscriminator
from portrait4d.headparts.head import PartHead
from portrait4d.jobs.train import forecast
from portrait4d.reconstructor.training.task import ReconstructorTraining
from portrait4d.train.config_file import read_config_file
from toy_eg3d import make_discs
from toy_genhead import rewrite_faces

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIGS = ROOT / "configs"
KINDS: dict[str, type[GenHeadTraining] | type[EG3DTraining] | type[ReconstructorTraining]] = {
    "genhead": GenHeadTraining,
    "eg3d": EG3DTraining,
    "portrait4d": ReconstructorTraining,
}

# What shrinks a recipe of 512 px: pictures of 64 px by one block of super-resolution, thin networks, few samples on a
# ray, a batch of two. What stays: every loss, its weights and intervals, schedules, precision, data settings.
THIN = ("channel_base=256", "channel_max=8")
SMALL = [
    *("train.batch_size=2", "train.micro_batch=0"),
    *(f"generator.{width}" for width in THIN),
    *("generator.latent_dim=8", "generator.style_dim=16", "generator.plane_resolution=16"),
    *("generator.plane_channels=4", "generator.neural_resolution=32"),
    *("generator.superresolution.kind=2x64", "generator.render.num_coarse=4", "generator.render.num_fine=4"),
    *(f"discriminator.{width}" for width in THIN),
    *("discriminator.resolution=64", "discriminator.num_mapping_layers=2", "discriminator.group_size=2"),
]
SMALL_GENHEAD = [
    *SMALL,
    *("generator.mask_resolution=64", "generator.background.channel_base=128", "generator.background.channel_max=8"),
    *("generator.background.resolution=32", "generator.background.num_mapping_layers=2"),
    *("generator.head=open", "generator.head_origin=[0,0.1,0.045]"),  # FLAME is the user's own file
]


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*/*")), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_recipe_is_read(path: Path) -> None:
    config = read_config_file(KINDS[path.parent.name], path)
    assert path.suffix == ".yaml" and not config.inputs
    assert config.train.batch_size % (config.train.micro_batch or 1) == 0


@pytest.mark.parametrize("name", ["ffhq512", "ffhq512-24gb"])
def test_genhead_s_networks_are_the_released_ones(name: str, open_head: PartHead) -> None:
    """Of 54,985,546 parameters of the released generator nine are FLAME's."""
    config = read_config_file(GenHeadTraining, CONFIGS / "genhead" / f"{name}.yaml")
    with torch.device("meta"):
        generator = GenHeadGenerator(config.generator, open_head)
        discriminator = DualDiscriminator(config.discriminator)
    assert [_count(network) for network in (generator, discriminator)] == [54_985_546 - 9, 31_360_000]


@pytest.mark.parametrize("name", ["ffhq512-64", "ffhq512-128", "portraits64"])
def test_eg3d_s_networks_are_the_released_ones(name: str) -> None:
    config = read_config_file(EG3DTraining, CONFIGS / "eg3d" / f"{name}.yaml")
    with torch.device("meta"):
        networks = EG3DGenerator(config.generator), DualDiscriminator(config.discriminator)
    assert [_count(network) for network in networks] == [30_662_136, 31_359_744]


def _count(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["toy64", "portraits64"])
def test_a_small_genhead_is_forecast_as_it_is(name: str, toy_faces: Path) -> None:
    overrides = [f"data.paths=[{toy_faces}]"]
    config = read_config_file(GenHeadTraining, CONFIGS / "genhead" / f"{name}.yaml", overrides)
    found = forecast(config, steps=1)
    assert set(found.phases) == {"supervised", "generator", "density", "discriminator", "r1"}
    # of the end of the run, when the toy has left its supervised start behind
    assert found.phases["generator"] > 1 and found.phases["discriminator"] > 1
    assert found.parameters["generator"] < 1_000_000 and found.facts["pictures"] == 80


@pytest.mark.parametrize("name", ["ffhq512", "ffhq512-24gb"])
def test_a_large_genhead_is_forecast_when_shrunk(name: str, toy_faces: Path) -> None:
    overrides = [*SMALL_GENHEAD, f"data.paths=[{toy_faces}]"]
    config = read_config_file(GenHeadTraining, CONFIGS / "genhead" / f"{name}.yaml", overrides)
    found = forecast(config, steps=1)
    assert set(found.phases) == {"generator", "density", "discriminator", "r1"}
    assert all(value > 0 for value in found.phases.values()) and found.facts["pictures"] == 40


@pytest.mark.parametrize("name", ["ffhq512-64", "ffhq512-128", "portraits64"])
def test_eg3d_is_forecast_when_shrunk(name: str, toy_faces: Path, tmp_path: Path) -> None:
    if name == "portraits64":
        data = rewrite_faces(
            toy_faces, tmp_path / "shards", info=lambda info: replace(info, crop="portrait4d"), count=6
        )
    else:
        data = make_discs(tmp_path / "discs.zip", side=64)
    overrides = [*SMALL, f"data.paths=[{data}]"]
    if name == "ffhq512-128":
        overrides.append("loss.initial_resolution=16")
    found = forecast(read_config_file(EG3DTraining, CONFIGS / "eg3d" / f"{name}.yaml", overrides), steps=1)
    assert set(found.phases) == {"generator", "density", "discriminator", "r1"}
    assert all(value > 0 for value in found.phases.values()) and found.facts["pictures"] == 12
