"""EG3D's training on pictures of discs: steps, parts of a batch, resuming, weights written and started from."""

import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import portrait4d.eg3d.training
import portrait4d.gan.training
from flame.errors import InputError
from places import ROOT
from portrait4d.cli.main import run
from portrait4d.eg3d.generator import EG3DGenerator
from portrait4d.eg3d.losses import EG3DLossConfig
from portrait4d.eg3d.training import EG3DTask, EG3DTraining
from portrait4d.eg3d.training_pictures import DataConfig
from portrait4d.jobs.train import train
from portrait4d.train.average import AverageConfig
from portrait4d.train.checkpoint import TENSORS, list_states
from portrait4d.train.config_file import plain_values, read_config_file
from portrait4d.train.distributed import Workers, split_batch
from portrait4d.train.run import run_training
from portrait4d.train.run_folder import RunFolder
from portrait4d.train.task import Part, Phase, Step
from portrait4d.train.trainer import StepReport, Trainer
from torchrun import assert_same_training, train_in_two
from toy_eg3d import DISCRIMINATOR, GENERATOR, make_discs, toy_training

pytestmark = pytest.mark.usefixtures("one_thread")

WHOLE = 8
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_discs(tmp_path_factory.mktemp("discs") / "discs.zip")


@pytest.fixture(scope="module")
def trained(data: Path) -> tuple[Trainer, list[StepReport]]:
    """After three steps."""
    config = toy_training(data)
    trainer = Trainer(config.make_task(CPU), config.train, optimisers=config.optimisers())
    return trainer, [trainer.step() for _ in range(3)]


def test_steps_are_finite_and_all_parameters_move(data: Path, trained: tuple[Trainer, list[StepReport]]) -> None:
    trainer, reports = trained
    names = {name for report in reports for name in report.terms if not name.startswith("schedule/")}
    assert names == {
        *("generator/adversarial", "density/variation"),
        *("discriminator/fake", "discriminator/real", "r1/penalty"),
    }
    assert all(0 < report.terms[name] < 1e3 for report in reports for name in names & set(report.terms))
    assert [report.terms["schedule/blur_sigma"] for report in reports] == [2.0, 1.0, 0.0]
    assert [report.terms["schedule/swap_probability"] for report in reports] == pytest.approx([1.0, 0.99, 0.98])
    start = EG3DTask(toy_training(data))
    unmoved = [
        name
        for network in ("generator", "discriminator")
        for (name, old), new in zip(
            start.networks[network].named_parameters(), trainer.task.networks[network].parameters(), strict=True
        )
        if torch.equal(old, new)
    ]
    # super-resolution runs without noise, so its strength has nothing to learn
    assert unmoved == [
        f"superresolution.block{block}.conv{layer}.noise_strength" for block in (0, 1) for layer in (0, 1)
    ]
    average = trainer.averages["generator"].network
    w_avg = trainer.task.networks["generator"].get_buffer("backbone.mapping.w_avg")
    assert w_avg.abs().sum() > 0 and torch.equal(average.get_buffer("backbone.mapping.w_avg"), w_avg)


def _gradients(task: EG3DTask, phase: Phase, parts: list[Part]) -> dict[str, Tensor]:
    """Of all samples, summed over parts as the loop does."""
    for name, network in task.networks.items():
        network.requires_grad_(name == phase.trains)
        network.zero_grad(set_to_none=True)
    for part in parts:
        terms = phase.loss(part)
        (torch.stack(list(terms.values())).sum() * len(part) / WHOLE).backward()
    named = task.networks[phase.trains].named_parameters()
    return {name: value.grad.clone() for name, value in named if value.grad is not None}


@pytest.mark.parametrize("name", [pytest.param("generator", marks=pytest.mark.slow), "density", "discriminator", "r1"])
def test_a_split_batch_gives_the_gradients_of_the_whole(data: Path, name: str) -> None:
    """Eight samples, compared in fours."""
    loss = EG3DLossConfig(swap_final=0.5, swap_images=0, blur_images=0)
    task = EG3DTask(toy_training(data, loss=loss, discriminator=replace(DISCRIMINATOR, group_size=4)))
    phase = next(phase for phase in task.phases if phase.name == name)
    step = Step(index=5, images_seen=40, batch_size=WHOLE, seed=1)
    whole = _gradients(task, phase, [Part(step, tuple(range(WHOLE)), CPU)])
    task.finish(step, Workers())
    mean = task.generator.backbone.mapping.w_avg.clone()
    task.generator.backbone.mapping.w_avg.zero_()
    parts = [Part(step, samples, CPU) for samples in split_batch(WHOLE, parts=2, group_size=task.group_size)]
    halves = _gradients(task, phase, parts)
    task.finish(step, Workers())
    assert list(whole) == list(halves)
    scale = max(float(gradient.abs().max()) for gradient in whole.values())
    assert scale > 0
    for key, gradient in whole.items():
        assert (gradient - halves[key]).abs().max() < 1e-5 * scale, key
    assert (mean.abs().sum() > 0) == (name == "discriminator")
    assert mean.allclose(task.generator.backbone.mapping.w_avg, atol=1e-7)
    task.samples.close()


def test_the_swap_of_a_part_takes_labels_of_the_whole_batch(data: Path) -> None:
    task = EG3DTask(toy_training(data))
    step = Step(index=0, images_seen=16, batch_size=WHOLE, seed=1)
    whole = task.samples.wanted(Part(step, tuple(range(WHOLE)), CPU), "generator")
    assert torch.equal(whole.predecessor, whole.label.roll(1, 0))
    part = task.samples.wanted(Part(step, (0, 5), CPU), "generator")
    assert torch.equal(part.predecessor, whole.label[[7, 4]])
    assert torch.equal(part.latent, whole.latent[[0, 5]])
    other = task.samples.wanted(Part(step, (0, 5), CPU), "density")
    assert not torch.equal(other.latent, part.latent)


@pytest.mark.slow
def test_a_run_in_two_pieces_is_the_unbroken_one(data: Path, tmp_path: Path) -> None:
    config = toy_training(data)
    assert train(config, tmp_path / "whole").is_finished
    short = replace(config, train=replace(config.train, total_images=4))
    train(short, tmp_path / "pieces")
    assert train(config, tmp_path / "pieces").resumed_at == 4
    whole, pieces = (list_states(tmp_path / name / "checkpoints")[-1].folder for name in ("whole", "pieces"))
    assert (whole / TENSORS).read_bytes() == (pieces / TENSORS).read_bytes()


def test_damage_that_is_met_late_ends_the_run_and_loses_nothing(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A picture of the second batch; with the whole file the run goes on from the first."""
    monkeypatch.setattr(EG3DTask, "draw_grid", lambda task, averages: None)
    path = tmp_path / "discs.zip"
    shutil.copy(data, path)
    config = toy_training(path)
    config = replace(
        config,
        train=replace(config.train, total_images=4),
        data=DataConfig(paths=(str(path),), mirror=False),
    )
    task = EG3DTask(config)
    first = {task.samples.stream.index_of(position) for position in range(2)}
    with zipfile.ZipFile(data) as old, zipfile.ZipFile(path, "w") as new:
        for index, name in enumerate(old.namelist()):
            is_kept = index in first or name == "dataset.json"
            new.writestr(name, old.read(name) if is_kept else old.read(name)[:100])
    with pytest.raises(InputError, match="png is damaged"):
        train(config, tmp_path / "run")
    assert [saved.images_seen for saved in list_states(tmp_path / "run" / "checkpoints")] == [2]
    shutil.copy(data, path)
    assert train(config, tmp_path / "run").resumed_at == 2


@pytest.mark.slow
def test_two_processes_are_one_with_two_rounds(data: Path, tmp_path: Path) -> None:
    """Ten steps over batches of four, compared in pairs."""
    config = toy_training(data)
    config = replace(
        config, train=replace(config.train, batch_size=4, total_images=40, checkpoint_images=40, micro_batch=2)
    )
    said = train_in_two(["portrait4d.cli.main", "eg3d", "train"], config, tmp_path)
    assert "40 images in" in said and said.count(" images in") == 1, said
    one, other = (Trainer(config.make_task(CPU), config.train, optimisers=config.optimisers()) for _ in range(2))
    for _ in range(10):
        one.step()
    assert_same_training(one, other, tmp_path)


def _saved(trainer: Trainer, folder: Path) -> Path:
    trainer.task.save_weights(folder, {"generator": trainer.averages["generator"].network})
    return folder


def test_written_weights_are_taken_by_the_commands(
    trained: tuple[Trainer, list[StepReport]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, _ = trained
    folder = _saved(trainer, tmp_path / "weights")
    loaded = EG3DGenerator.from_pretrained(folder)
    average = trainer.averages["generator"].network
    assert loaded.config == GENERATOR
    assert all(torch.equal(value, average.state_dict()[name]) for name, value in loaded.state_dict().items())
    monkeypatch.chdir(tmp_path)
    assert run(["eg3d", "sample", "weights", "-o", "out", "--seeds", "0", "--yaw=0", "--pitch=0"]) == 0
    assert list((tmp_path / "out").glob("*.png"))


def test_a_training_starts_from_written_weights(
    data: Path, trained: tuple[Trainer, list[StepReport]], tmp_path: Path
) -> None:
    folder = _saved(trained[0], tmp_path / "weights")
    config = toy_training(data, resume_from=str(folder))
    assert config.train.average.ramp_up is None and config.inputs == (data, folder)
    schedule = config.loss.at(0, resolution=8)
    assert (schedule.blur_sigma, schedule.swap_probability) == (0.0, 0.5)
    task = EG3DTask(config)
    average, discriminator = trained[0].averages["generator"].network, trained[0].task.networks["discriminator"]
    for ours, theirs in ((task.generator, average), (task.discriminator, discriminator)):
        assert all(torch.equal(value, theirs.state_dict()[name]) for name, value in ours.state_dict().items())
    with pytest.raises(InputError, match="plane_layout orthogonal"):
        EG3DTask(toy_training(data, resume_from=str(folder), generator=replace(GENERATOR, plane_layout="eg3d")))
    with pytest.raises(InputError, match="does not fit the network"):
        EG3DTask(toy_training(data, resume_from=str(folder), generator=replace(GENERATOR, channel_max=16)))
    shutil.rmtree(folder / "discriminator")
    with pytest.raises(InputError, match="holds no discriminator"):
        EG3DTask(config)
    with pytest.raises(InputError, match="there is none"):
        EG3DTask(toy_training(data, resume_from=str(tmp_path / "absent.pkl")))


def test_the_rendered_side_grows_and_is_written(data: Path, tmp_path: Path) -> None:
    loss = EG3DLossConfig(initial_resolution=4, resolution_images=16)
    task = EG3DTask(toy_training(data, loss=loss))
    folder, sides = tmp_path / "weights", []
    for images in (0, 8, 16):
        task.finish(Step(index=0, images_seen=images, batch_size=WHOLE, seed=0), Workers())
        task.save_weights(folder, {"generator": task.generator})
        sides.append(json.loads((folder / "config.json").read_text())["architecture"]["neural_resolution"])
    assert sides == [4, 6, 8]
    again = EG3DTask(toy_training(data, loss=loss))
    again.load_state(task.state())
    assert again.resolution == 8


def test_the_grid_shows_fixed_heads(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portrait4d.eg3d.training, "_GRID_ROWS", 2)
    monkeypatch.setattr(portrait4d.eg3d.training, "_GRID_COLUMNS", 2)
    task, again = EG3DTask(toy_training(data)), EG3DTask(toy_training(data))
    averages: dict[str, nn.Module] = {"generator": task.generator.eval()}
    grid = task.draw_grid(averages)
    assert grid.dtype == np.uint8 and grid.shape == (2 * 128 + 4, 2 * 128 + 4, 3)
    again.load_state({**task.state(), "grid_latents": task.grid_latents.flip(0)})
    flipped = again.draw_grid(averages)
    assert not np.array_equal(grid, flipped)
    again.load_state(task.state())
    assert np.array_equal(grid, again.draw_grid(averages))
    assert task.describe()["pictures"] == 12


def test_one_picture_for_all_codes_raises_an_alarm_and_keeps_the_checkpoint_before(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows of grids tell it, and a resumed run still knows."""

    def finish(task: EG3DTask, step: Step, workers: Workers) -> dict[str, float]:
        if step.images_seen >= 4:  # the third step
            mapping = task.generator.backbone.mapping
            torch.nn.init.zeros_(mapping.get_parameter(f"fc{mapping.num_layers - 1}.weight"))
        return {}

    monkeypatch.setattr(EG3DTask, "finish", finish)
    monkeypatch.setattr(EG3DTask, "draw_grid", lambda task, averages: None)  # 18 pictures
    monkeypatch.setattr(portrait4d.gan.training, "_NUM_CODES", 2)
    config = toy_training(data)
    average = AverageConfig(half_life_images=0)  # none: the grid shows the network itself
    config = replace(
        config, train=replace(config.train, grid_images=2, keep_last=1, keep_every_images=0, average=average)
    )
    for total in (6, 10):
        task, run_config = EG3DTask(config), replace(config.train, total_images=total)
        task.phases = [phase for phase in task.phases if phase.name == "density"]  # the quickest
        trainer = Trainer(task, run_config, optimisers=config.optimisers())
        run_training(trainer, RunFolder(tmp_path / "run", plain_values(config), data_digest=task.data_digest))
    rows = [json.loads(line) for line in (tmp_path / "run" / "stats.jsonl").read_text().splitlines()]
    distances = [row["grid_distance"] for row in rows]
    assert min(distances[:2]) > 0.001 and max(distances[2:]) < 1e-3 * min(distances[:2])
    assert [row["images"] for row in rows if "one picture for all" in str(row.get("alarms"))] == [6]
    assert [saved.images_seen for saved in list_states(tmp_path / "run" / "checkpoints")] == [4, 10]


def test_what_does_not_fit_is_refused(data: Path) -> None:
    config = toy_training(data)
    with pytest.raises(InputError, match="at least 32 pictures"):
        EG3DTask(replace(config, train=replace(config.train, batch_size=32)))
    discriminator = config.discriminator
    for change, said in (
        ({"discriminator": replace(discriminator, resolution=256)}, "discriminator.resolution 128"),
        ({"discriminator": replace(discriminator, camera_axes="opengl")}, "camera_axes opencv"),
        ({"discriminator": replace(discriminator, has_mask=True)}, "without correspondence"),
        ({"discriminator": replace(discriminator, group_size=None)}, "group_size"),
        ({"train": replace(config.train, batch_size=12, micro_batch=8)}, "0 or one of 2, 4, 6, 12, got 8"),
    ):
        with pytest.raises(InputError, match=said):
            replace(config, **change)
    with pytest.raises(InputError, match="density_kind"):
        EG3DLossConfig(density_kind="l1-alt")  # type: ignore[arg-type]


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "eg3d").glob("*.yaml")), ids=lambda path: path.stem)
def test_recipes_are_read_and_their_networks_fit(path: Path) -> None:
    config = read_config_file(EG3DTraining, path)
    assert config.train.batch_size == 32
    with torch.device("meta"):
        generator = EG3DGenerator(config.generator)
    assert generator.config.superresolution.resolution == config.discriminator.resolution == 512
