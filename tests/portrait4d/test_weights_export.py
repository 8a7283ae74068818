"""Trained reconstructors as state dicts of the released layout: official names and arguments, and back again."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from flame.errors import InputError
from official_pickles import load_manifest
from portrait4d.cli.main import run
from portrait4d.engines.choose import load_engine
from portrait4d.engines.identity import is_static
from portrait4d.gan.discriminator import DualDiscriminator
from portrait4d.jobs import export_weights as job
from portrait4d.reconstructor.config import ReconstructorConfig
from portrait4d.reconstructor.network import Reconstructor
from portrait4d.reconstructor.official import discriminator_options, generator_options
from portrait4d.reconstructor.training.config import ReconstructorSettings
from portrait4d.reconstructor.training.weights import save_networks
from portrait4d.weights.config import CheckpointConfig
from portrait4d.weights.official.convert import convert_file
from portrait4d.weights.official.exported import (
    CONFIGS,
    DISCRIMINATOR_FILTERS,
    GENERATOR_FILTERS,
    official_state,
)
from portrait4d.weights.official.inspection import inspect_file
from portrait4d.weights.official.state import LABEL_STD, resample_filter
from portrait4d.weights.own_format import read_checkpoint, write_checkpoint
from portrait4d.weights.store import resolve_weights
from toy_reconstructor import DISCRIMINATOR, NETWORK

LARGE = ReconstructorSettings()
OPTIONS = {"class_name": "Reconstructor", "init_kwargs": {"c_dim": 25}, "rendering_kwargs": {"box_warp": 1.3}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small training's checkpoint."""
    place = tmp_path_factory.mktemp("trained")
    torch.manual_seed(0)
    save_networks(place, Reconstructor(NETWORK), DualDiscriminator(DISCRIMINATOR), is_static=True)
    return place


@pytest.fixture
def anything_is_released(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small networks count as built like the released ones, whose files have 900 MB."""
    monkeypatch.setattr(job, "generator_options", lambda config: dict(OPTIONS))
    monkeypatch.setattr(job, "discriminator_options", lambda config: {"init_kwargs": {}})


def _kinds(tensors: dict[str, torch.Tensor]) -> dict[str, tuple[str, list[int]]]:
    return {name: (str(value.dtype).removeprefix("torch."), list(value.shape)) for name, value in tensors.items()}


def _listed(manifest: dict[str, dict[str, Any]]) -> dict[str, tuple[str, list[int]]]:
    return {name: (entry["dtype"], entry["shape"]) for name, entry in manifest.items()}


def _about(network: str, config: Any) -> CheckpointConfig:
    return CheckpointConfig(
        "portrait4d",
        network,  # pyright: ignore[reportArgumentType]
        config.to_dict(),
        camera_axes="opengl",
        box_warp=1.3 if network == "generator" else None,
    )


def test_state_dicts_are_the_official_lists(shared: Path) -> None:
    """All but FLAME, which the authors' class reads from its own files, and what their training adds to the root."""
    with torch.device("meta"):
        generator, discriminator = Reconstructor(LARGE.network), DualDiscriminator(LARGE.discriminator)
    about = _about("generator", LARGE.network)
    found = _kinds(official_state(about, generator.state_dict(), GENERATOR_FILTERS))
    expected = _listed(load_manifest(shared, "portrait4d.G")[0])
    left_out = {name: kind for name, kind in expected.items() if name not in found}
    assert {name.partition(".")[0] for name in left_out} == {"deformer", LABEL_STD}
    assert {**found, **left_out} == expected
    about = _about("discriminator", LARGE.discriminator)
    found = _kinds(official_state(about, discriminator.state_dict(), DISCRIMINATOR_FILTERS))
    assert found == _listed(load_manifest(shared, "portrait4d.D")[0])


def test_arguments_are_the_released_ones_and_make_the_same_config(shared: Path) -> None:
    options = generator_options(LARGE.network)
    official = load_manifest(shared, "portrait4d.G")[1]["init_kwargs"]
    assert options["init_kwargs"] == official["kwargs"] and options["class_name"] == official["class_name"]
    assert options["neural_rendering_resolution"] == 128
    made = ReconstructorConfig.from_official(
        options["init_kwargs"],
        rendering_kwargs=options["rendering_kwargs"],
        neural_rendering_resolution=options["neural_rendering_resolution"],
    )
    assert made == LARGE.network
    official = load_manifest(shared, "portrait4d.D")[1]["init_kwargs"]
    assert discriminator_options(LARGE.discriminator) == {
        "class_name": official["class_name"],
        "init_kwargs": official["kwargs"],
    }
    assert discriminator_options(DISCRIMINATOR) is None


def test_samples_along_a_ray_may_be_others() -> None:
    """They are arguments of the authors' class, too."""
    render = replace(LARGE.network.render, num_coarse=24, num_fine=36)
    options = generator_options(replace(LARGE.network, render=render, neural_resolution=64))
    told = options["rendering_kwargs"]
    assert (told["depth_resolution"], told["depth_resolution_importance"]) == (24, 36)
    assert options["neural_rendering_resolution"] == 64


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"motion": "parameters"}, "motion: 'pd-fgc' -> 'parameters'"),
        ({"head": "open"}, "head: 'flame' -> 'open'"),
        ({"plane_channels": 8}, "plane_channels: 32 -> 8"),
        ({"camera_fov_degrees": 13.5}, "camera_fov_degrees: 12.0 -> 13.5"),
        ({"source_resolution": 512, "has_plane_mean": True}, "has_plane_mean: False -> True"),
    ],
)
def test_what_the_authors_class_cannot_make_is_refused(changed: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match="built as the released ones, got another") as error:
        generator_options(replace(LARGE.network, **changed))
    assert named in str(error.value)


@pytest.mark.usefixtures("anything_is_released")
def test_a_training_comes_back_as_it_went(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.pt"
    assert run(["weights", "export", str(folder), "-o", str(file)]) == 0
    assert "G_ema, D" in capsys.readouterr().out
    config, tensors = read_checkpoint(folder)
    found, taken = resolve_weights(file)  # what resume_from and teacher.weights read
    assert found == config and is_static(found)
    assert taken.keys() == tensors.keys() and all(torch.equal(taken[name], value) for name, value in tensors.items())
    for words, place in (([], folder), (["--discriminator"], folder / "discriminator")):
        assert run(["weights", "convert", str(file), "-o", str(tmp_path / "back"), *words]) == 0
        for name in ("model.safetensors", "config.json"):
            one, other = ((path / name).read_bytes() for path in (place, tmp_path / "back"))
            if name == "config.json":
                one, other = ({**json.loads(text), "source_sha256": ""} for text in (one, other))
            assert one == other


@pytest.mark.usefixtures("anything_is_released")
def test_plain_torch_reads_state_dicts_and_arguments(folder: Path, tmp_path: Path) -> None:
    report = job.export_weights(folder, tmp_path / "mine.pth")
    content = torch.load(tmp_path / "mine.pth", weights_only=True)
    assert report.networks == ("G_ema", "D") and report.notes == ()
    assert content.keys() == {"G_ema", "D", *OPTIONS, "D_options", CONFIGS}
    config, tensors = read_checkpoint(folder)
    for name, value in tensors.items():
        assert torch.equal(content["G_ema"].pop(name), value)
    assert set(content["G_ema"]) == set(GENERATOR_FILTERS)
    assert all(torch.equal(value, resample_filter()) for value in content["G_ema"].values())
    assert set(DISCRIMINATOR_FILTERS) <= set(content["D"])
    inspected = inspect_file(tmp_path / "mine.pth")
    assert [(network.key, network.network) for network in inspected.networks] == [
        ("G_ema", "generator"),
        ("D", "discriminator"),
    ]
    assert inspected.licence == config.licence and inspected.suspicious == ()


@pytest.mark.usefixtures("anything_is_released")
def test_damage_and_other_files_are_refused(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "portrait4d-mine.pt"
    job.export_weights(folder, file)
    with pytest.raises(InputError, match=r"got the exported training .*weights convert portrait4d-mine\.pt -o FOLDER"):
        load_engine(file)
    content = torch.load(file, weights_only=True)

    def refused(match: str, changed: dict[str, Any]) -> None:
        torch.save(changed, tmp_path / "changed.pt")
        with pytest.raises(InputError, match=match):
            convert_file(tmp_path / "changed.pt")

    refused("holds no G_ema: it has D", {**content, CONFIGS: {"D": content[CONFIGS]["D"]}})
    refused("G_ema is no state dict", {**content, "G_ema": [1]})
    refused("something else than tensors", {**content, "G_ema": {"a": 1}})
    refused("not JSON", {**content, CONFIGS: {"G_ema": "{"}})
    refused("G_ema is a portrait4d discriminator", {**content, "G_ema": content["D"]})
    refused("not the kernel", {**content, "G_ema": {**content["G_ema"], GENERATOR_FILTERS[0]: torch.ones(4, 4)}})


def test_what_is_no_such_training_is_refused_in_one_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(place: Path, name: str, said: str) -> None:
        assert run(["weights", "export", str(place), "-o", str(tmp_path / name)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line, line
        assert not (tmp_path / name).exists()

    refused(folder, "mine.pt", "built as the released ones, got another (")
    refused(folder, "mine.pkl", "ending in .pt, .pth")
    refused(folder / "discriminator", "mine.pt", "got portrait4d discriminator")
    refused(tmp_path, "mine.pt", "expected a checkpoint folder with config.json")
    write_checkpoint(tmp_path / "official", CheckpointConfig("portrait4d", "generator", {}, source="a.pkl"), {})
    refused(tmp_path / "official", "mine.pt", "that `portrait4d train` wrote, got portrait4d generator from a.pkl")


def test_another_discriminator_is_left_out_with_a_note(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "generator_options", lambda config: dict(OPTIONS))
    report = job.export_weights(folder, tmp_path / "mine.pt")
    assert report.networks == ("G_ema",) and "not built as the released one" in report.notes[0]
    with pytest.raises(InputError, match="holds no D: it has G_ema"):
        convert_file(tmp_path / "mine.pt", network="discriminator")
