"""Every configuration of the reconstructor makes the networks that it should, and trains when it is made small."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from places import ROOT
from portrait4d.cli.main import run
from portrait4d.gan.discriminator import DualDiscriminator
from portrait4d.jobs.train import forecast
from portrait4d.reconstructor.network import Reconstructor
from portrait4d.reconstructor.training.task import ReconstructorTask, ReconstructorTraining
from portrait4d.reconstructor.training.weights import save_networks
from portrait4d.train.config_file import read_config_file
from portrait4d.train.trainer import Trainer
from toy_genhead import make_toy_faces
from toy_reconstructor import DISCRIMINATOR, NETWORK, POINTS, make_subjects

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIGS = ROOT / "configs" / "portrait4d"
NAMES = sorted(path.stem for path in CONFIGS.glob("*.yaml"))
NUM_RELEASED = 224_766_132 - 9
"""Parameters of the released reconstructor ; nine are FLAME's."""


def _read(name: str) -> ReconstructorTraining:
    return read_config_file(ReconstructorTraining, CONFIGS / f"{name}.yaml")


def _small(config: ReconstructorTraining) -> ReconstructorTraining:
    """Tiny networks and stand-ins for weights; every other setting of a recipe stays."""
    loss = replace(config.loss, perceptual="pyramid", density_points=50, resolution_initial=32)
    if loss.identity_weight:
        loss = replace(loss, identity="thumbnail")
    data = replace(config.data, plane_points=POINTS)
    train = replace(config.train, batch_size=4, micro_batch=min(config.train.micro_batch, 2))
    return replace(config, network=NETWORK, discriminator=DISCRIMINATOR, loss=loss, data=data, train=train)


def test_there_are_the_recipes_of_the_documentation() -> None:
    assert NAMES == ["portrait4d", "portrait4d-24gb", "static", "toy64", "v2"]


@pytest.mark.parametrize("name", ["portrait4d", "portrait4d-24gb", "static", "v2"])
def test_the_networks_are_the_released_ones(name: str) -> None:
    config = _read(name)
    with torch.device("meta"):
        networks = Reconstructor(config.network), DualDiscriminator(config.discriminator)
    counts = [sum(parameter.numel() for parameter in network.parameters()) for network in networks]
    assert counts == [NUM_RELEASED, 31_360_000]


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_trains(name: str, tmp_path: Path) -> None:
    config = _small(_read(name))
    if name == "v2":
        weights = tmp_path / "static"
        save_networks(weights, Reconstructor(NETWORK), DualDiscriminator(DISCRIMINATOR), is_static=True)
        data = replace(config.data, clips=(str(make_toy_faces(tmp_path / "clips")),))
        teacher = replace(config.teacher, weights=str(weights))
        config = replace(config, data=data, teacher=teacher, resume_from=str(weights))
    else:
        data = replace(config.data, subjects=(str(make_subjects(tmp_path)),))
        config = replace(config, data=data)
    found = forecast(config, steps=1)
    assert found.parameters["reconstructor"] > 0 and all(value > 0 for value in found.phases.values())
    wanted = {"reconstructor"} | ({"cross_view"} if name == "v2" else {"density"})
    assert set(found.phases) == wanted | (set() if name == "toy64" else {"discriminator", "r1"})


def test_the_recipe_for_24_gb_tells_its_needs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--dry-run` with settings that make it small; nothing is written."""
    subjects = make_subjects(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    changes = {
        "data": {"subjects": [str(subjects)], "plane_points": POINTS},
        "train": {"batch_size": 4},
        "loss": {"perceptual": "pyramid", "identity": "thumbnail", "resolution_initial": 32},
        "network": NETWORK.to_dict(),
        "discriminator": DISCRIMINATOR.to_dict(),
    }
    words = ["train", "--config", "portrait4d/portrait4d-24gb", "--dry-run", "--json", *_settings(changes)]
    assert run(words) == 0
    said = json.loads(capsys.readouterr().out)
    assert set(said["forecast"]["phases"]) == {"reconstructor", "density", "discriminator", "r1"}
    assert said["settings"]["train"]["micro_batch"] == _read("portrait4d-24gb").train.micro_batch
    assert sorted(tmp_path.rglob("*")) == before


def _settings(changes: dict[str, Any], path: str = "") -> list[str]:
    """Words such as `train.batch_size=4`."""
    words = []
    for name, value in changes.items():
        if isinstance(value, dict):
            words += _settings(value, f"{path}{name}.")
        else:
            words.append(f"{path}{name}={json.dumps(value)}")
    return words


def test_motion_layers_of_v2_learn_faster(tmp_path: Path) -> None:
    """2.5 times: maps and projections of codes, and what attends to them; nothing else."""
    config = _small(_read("v2"))
    network = Reconstructor(NETWORK)
    task = ReconstructorTask.__new__(ReconstructorTask)
    task.networks, task.phases = {"reconstructor": network}, []
    trainer = Trainer(task, replace(config.train, micro_batch=0), optimisers={"reconstructor": config.optimiser})
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    fast = {
        names[id(parameter)]
        for group in trainer.optimisers["reconstructor"].param_groups
        if group["lr"] == pytest.approx(2.5 * config.optimiser.learning_rate)
        for parameter in group["params"]
    }
    layers = ("maps", "maps_neutral", "proj_y", "proj_y_neutral")
    expected = {name for name in names.values() if name.startswith("encoder_canonical.") and (
        name.split(".")[1] in layers or {"norm2", "attn2"} & set(name.split("."))
    )}  # fmt: skip
    assert fast == expected and expected
