"""GenHead's training on renders of the open head: steps, parts of a batch, resuming, weights to and from files."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor

from flame.errors import InputError
from flame.geometry.camera import Camera
from genhead.generator import GenHeadGenerator
from genhead.training.grid import GridSamples, draw_grid
from genhead.training.losses import GenHeadLossConfig
from genhead.training.supervised import SupervisedConfig
from genhead.training.task import GenHeadTask, GenHeadTraining
from genhead.training.weights import save_networks
from portrait4d.eg3d.generator import EG3DGenerator
from portrait4d.eg3d.training_weights import save_networks as save_eg3d
from portrait4d.gan.adversarial import Judge
from portrait4d.gan.discriminator import DualDiscriminator, JudgedImages
from portrait4d.gan.strength import AdaptiveStrengthConfig
from portrait4d.headparts.head import PartHead
from portrait4d.stylegan.superresolution import SuperResolutionConfig
from portrait4d.train.checkpoint import TENSORS, list_states
from portrait4d.train.config import OptimiserConfig
from portrait4d.train.config_file import plain_values
from portrait4d.train.distributed import Workers, split_batch
from portrait4d.train.run import RunReport, run_training
from portrait4d.train.run_folder import RunFolder
from portrait4d.train.task import Part, Phase, Step
from portrait4d.train.trainer import StepReport, Trainer
from portrait4d.weights.eg3d_config import EG3DConfig
from torchrun import assert_same_training, train_in_two
from toy_genhead import BATCH, DISCRIMINATOR, GENERATOR, toy_genhead, toy_trainer

pytestmark = pytest.mark.usefixtures("one_thread")

WHOLE = 8
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def trained(toy_faces: Path, open_head: PartHead) -> tuple[Trainer, list[StepReport]]:
    """After three steps."""
    trainer = toy_trainer(toy_genhead(toy_faces), open_head)
    return trainer, [trainer.step() for _ in range(3)]


def test_steps_are_finite_and_all_parameters_move(
    toy_faces: Path, open_head: PartHead, trained: tuple[Trainer, list[StepReport]]
) -> None:
    trainer, reports = trained
    names = {name for report in reports for name in report.terms if not name.startswith(("schedule/", "augment/"))}
    parts = [f"{term}_{part}" for term in ("face_in",) for part in ("eye", "mouth")]
    parts += [f"{part}_{term}" for term in ("spread", "see_through") for part in ("eye", "mouth")]
    assert names == {
        *(f"supervised/{name}" for name in ("l1", "l1_raw", "l1_mask", "depth", *parts)),
        *(f"generator/{name}" for name in ("adversarial", "l1", "l1_raw", "l1_mask", "depth", *parts)),
        *("density/variation", "discriminator/fake", "discriminator/real", "r1/penalty"),
    }
    assert all(0 <= report.terms[name] < 1e3 for report in reports for name in names & set(report.terms))
    assert [report.num_bad for report in reports] == [0, 0, 0]
    assert [report.terms["schedule/blur_sigma"] for report in reports] == [2.0, 1.0, 0.0]
    start = GenHeadTask(toy_genhead(toy_faces), head=open_head)
    unmoved = [
        name
        for network in ("generator", "discriminator")
        for (name, old), new in zip(
            start.networks[network].named_parameters(), trainer.task.networks[network].parameters(), strict=True
        )
        if torch.equal(old, new)
    ]
    # super-resolution runs without noise, and with styles of ones
    assert all(name.startswith("superresolution") and name.endswith("noise_strength") for name in unmoved), unmoved
    average = trainer.averages["generator"].network
    w_avg = trainer.task.networks["generator"].get_buffer("backbone.mapping.w_avg")
    assert w_avg.abs().sum() > 0 and torch.equal(average.get_buffer("backbone.mapping.w_avg"), w_avg)


def test_known_heads_are_those_of_the_pictures(toy_faces: Path, open_head: PartHead) -> None:
    """Without heads_from_batch, where the others are drawn anew."""
    supervised = SupervisedConfig(final_weight=0.5, final_share=0.25)
    task = GenHeadTask(toy_genhead(toy_faces, heads_from_batch=False, supervised=supervised), head=open_head)
    step = Step(index=0, images_seen=8, batch_size=WHOLE, seed=1)
    part = Part(step, tuple(range(WHOLE)), CPU)
    known = [index % 2 == 0 for index in range(WHOLE)]
    mixed, others = task.samples.wanted(part, "generator", known=known), task.samples.wanted(part, "generator")
    label = task.samples.real(part).label
    rows = [task.samples.stream.index_of(position) for position in part.positions]
    persons = task.samples.latents(rows)
    for index, is_known in enumerate(known):
        assert torch.equal(mixed.latent[index], (persons if is_known else others.latent)[index])
        assert torch.allclose(mixed.label[index], (label if is_known else others.label)[index], atol=1e-6)
        assert torch.equal(mixed.predecessor[index], (mixed.condition if is_known else others.predecessor)[index])
    assert not torch.allclose(others.label, label, atol=1e-3)
    task.samples.stream.close()


@pytest.mark.parametrize("is_shared", [True, False])
def test_the_discriminator_may_see_the_generators_own_pictures(
    toy_faces: Path, open_head: PartHead, monkeypatch: pytest.MonkeyPatch, is_shared: bool
) -> None:
    """The same pictures without a way back to the generator, for two parts of a batch; those of one step only."""
    task = GenHeadTask(toy_genhead(toy_faces, are_fakes_shared=is_shared), head=open_head)
    seen: dict[str, list[JudgedImages]] = {"generator": [], "discriminator": []}

    def judged_by(part: Part, purpose: str) -> Judge:
        def judge(images: JudgedImages, condition: Camera | Tensor) -> Tensor:
            seen[purpose].append(images)
            return task.discriminator(images, condition)

        return judge

    phases = {phase.name: phase for phase in task.phases}
    owner = phases["generator"].loss.__self__  # pyright: ignore[reportFunctionMemberAccess]
    monkeypatch.setattr(owner, "judge", judged_by)
    step = Step(index=1, images_seen=BATCH, batch_size=WHOLE, seed=1)
    parts = [Part(step, samples, CPU) for samples in (tuple(range(4)), tuple(range(4, 8)))]
    for name in ("generator", "discriminator"):
        for part in parts:
            phases[name].loss(part)
    fakes = seen["discriminator"][::2]  # each is followed by the real pictures
    for own, fake in zip(seen["generator"], fakes, strict=True):
        assert own.image.requires_grad and not fake.image.requires_grad
        assert all(torch.equal(own.parts()[name], value) == (is_shared or name == "correspondence")
                   for name, value in fake.parts().items())  # fmt: skip
    phases["discriminator"].loss(parts[0])
    assert not torch.equal(seen["discriminator"][-2].image, fakes[0].image) or not is_shared
    task.samples.stream.close()


def test_supervised_steps_lower_the_error(toy_faces: Path, open_head: PartHead) -> None:
    """Eight steps over the same four pictures, without what keeps the parts apart."""
    config = toy_genhead(
        toy_faces,
        supervised=SupervisedConfig(images=10_000),
        loss=GenHeadLossConfig(
            density_weight=0, face_in_parts_weight=0, distortion_weight=0, see_through_weight=0, blur_images=0
        ),
        generator_optimiser=OptimiserConfig(learning_rate=0.01, rates={"plane_mean": 10}),
    )
    trainer = toy_trainer(config, open_head)
    reports = []
    for _ in range(8):
        trainer.images_seen = 0
        reports.append(trainer.step())
    assert set(reports[0].gradient_norms) == {"supervised"}  # no adversary yet
    errors = [report.terms["supervised/l1"] + report.terms["supervised/l1_mask"] for report in reports]
    assert errors[-1] < 0.8 * errors[0], errors


def _gradients(task: GenHeadTask, phase: Phase, parts: list[Part]) -> dict[str, Tensor]:
    """Of all samples, summed over parts as the loop does."""
    for name, network in task.networks.items():
        network.requires_grad_(name == phase.trains)
        network.zero_grad(set_to_none=True)
    for part in parts:
        if terms := phase.loss(part):
            (torch.stack(list(terms.values())).sum() * len(part) / WHOLE).backward()
    named = task.networks[phase.trains].named_parameters()
    return {name: value.grad.clone() for name, value in named if value.grad is not None}


@pytest.mark.parametrize(("from_batch", "stage"), [(True, "supervised"), (True, "generator"), (False, "generator")])
def test_a_split_batch_gives_the_gradients_of_the_whole(
    toy_faces: Path, open_head: PartHead, from_batch: bool, stage: str
) -> None:
    """In every phase; eight samples, compared in pairs, augmented, blurred, half of them with swapped conditions."""
    start = 1000 if stage == "supervised" else 1
    supervised = SupervisedConfig(images=start, discriminator_ahead=1000, final_weight=0.5)
    config = toy_genhead(toy_faces, heads_from_batch=from_batch, supervised=supervised)
    config = replace(config, loss=replace(config.loss, swap_final=0.5, swap_images=0, blur_images=80))
    task = GenHeadTask(config, head=open_head)
    torch.nn.init.normal_(task.generator.decoder.get_parameter("out_sigma.weight"))  # flat density has no change
    step = Step(index=4, images_seen=40, batch_size=WHOLE, seed=1)
    whole = [Part(step, tuple(range(WHOLE)), CPU)]
    halves = [Part(step, samples, CPU) for samples in split_batch(WHOLE, parts=2, group_size=task.group_size)]
    found, means, reports = [], [], []
    for parts in (whole, halves):
        found.append({phase.name: _gradients(task, phase, parts) for phase in task.phases})
        reports.append(task.finish(step, Workers()))
        means.append(task.generator.backbone.mapping.w_avg.clone())
        task.generator.backbone.mapping.w_avg.zero_()
        task.strength = type(task.strength)(config.adaptive)
    assert list(found[0]) == ["supervised", "generator", "density", "discriminator", "r1"]
    idle = {"supervised": "generator", "generator": "supervised"}[stage]
    assert not found[0].pop(idle) and not found[1].pop(idle)
    for name, gradients in found[0].items():
        assert list(gradients) == list(found[1][name])
        scale = max(float(gradient.abs().max()) for gradient in gradients.values())
        assert scale > 0, name
        for key, gradient in gradients.items():
            # 1e-5 on AMD; on an Intel Xeon 1.3e-4 now and then, where rounding flips a rectifier near zero
            assert (gradient - found[1][name][key]).abs().max() < 5e-4 * scale, (name, key)
    assert means[0].abs().sum() > 0 and means[0].allclose(means[1], atol=1e-7)
    assert reports[0] == reports[1] and reports[0]["augment/strength"] != config.adaptive.initial
    task.samples.stream.close()


def _run(config: GenHeadTraining, head: PartHead, folder: Path) -> RunReport:
    trainer = toy_trainer(config, head)
    return run_training(trainer, RunFolder(folder, plain_values(config), data_digest=trainer.task.data_digest))


@pytest.mark.slow
def test_a_run_in_two_pieces_is_the_unbroken_one(
    toy_faces: Path, open_head: PartHead, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the byte, with the strength of augmentation, which moves in every step."""
    monkeypatch.setattr(GenHeadTask, "draw_grid", lambda task, averages: None)  # 64 pictures
    config = toy_genhead(toy_faces)
    config = replace(config, train=replace(config.train, total_images=2 * BATCH))
    assert _run(config, open_head, tmp_path / "whole").is_finished
    short = replace(config, train=replace(config.train, total_images=BATCH))
    _run(short, open_head, tmp_path / "pieces")
    assert _run(config, open_head, tmp_path / "pieces").resumed_at == BATCH
    whole, pieces = (list_states(tmp_path / name / "checkpoints")[-1].folder for name in ("whole", "pieces"))
    assert (whole / TENSORS).read_bytes() == (pieces / TENSORS).read_bytes()


def test_augmentation_adapts_and_its_strength_resumes(
    toy_faces: Path, open_head: PartHead, trained: tuple[Trainer, list[StepReport]]
) -> None:
    trainer, reports = trained
    strengths = [0.5, *(report.terms["augment/strength"] for report in reports)]
    signs = [report.terms["augment/real_sign"] for report in reports]
    moves = [after - before for before, after in zip(strengths, strengths[1:], strict=False)]
    assert moves == pytest.approx([0.04 if sign > 0.6 else -0.04 for sign in signs])
    again = GenHeadTask(toy_genhead(toy_faces), head=open_head)
    again.load_state(trainer.task.state())
    assert again.strength.value == strengths[-1] and again.strength.mean_sign == signs[-1]
    never = GenHeadTask(toy_genhead(toy_faces, adaptive=AdaptiveStrengthConfig(maximum=0.0)), head=open_head)
    assert never.strength.value == 0


def test_the_grid_shows_fixed_heads(trained: tuple[Trainer, list[StepReport]]) -> None:
    """One person in all views; the same after a checkpoint."""
    trainer, _ = trained
    average = trainer.averages["generator"].network
    assert isinstance(trainer.task, GenHeadTask) and isinstance(average, GenHeadGenerator)
    samples = GridSamples.draw(trainer.task.heads.table, GENERATOR.latent_dim, seed=5, count=1)
    again = GridSamples.from_state(samples.state())
    assert torch.equal(samples.latent, again.latent) and torch.equal(samples.params.jaw, again.params.jaw)
    picture = draw_grid(average, samples)
    assert picture.dtype == np.uint8 and picture.shape[0] < 140 and picture.shape[1] > 8 * 128
    cells = [picture[4:128, index * 130 + 4 : index * 130 + 126] for index in (1, 2, 3, 4)]
    assert all(np.abs(cells[0].astype(int) - cell).max() > 5 for cell in cells[1:])


def test_heads_of_one_style_have_no_distance(trained: tuple[Trainer, list[StepReport]]) -> None:
    """Whatever is behind them, which takes the codes themselves."""
    trainer = trained[0]
    task, average = trainer.task, copy.deepcopy(trainer.averages["generator"].network)
    different = task.grid_distance({"generator": average})
    assert different is not None and different > 1e-4
    torch.nn.init.normal_(average.get_parameter("background.mapping.fc0.bias"))
    assert task.grid_distance({"generator": average}) == pytest.approx(different)
    mapping = cast(GenHeadGenerator, average).backbone.mapping
    torch.nn.init.zeros_(mapping.get_parameter(f"fc{mapping.num_layers - 1}.weight"))
    assert task.grid_distance({"generator": average}) == pytest.approx(0, abs=1e-6)


def _saved(trainer: Trainer, folder: Path) -> Path:
    trainer.task.save_weights(folder, {"generator": trainer.averages["generator"].network})
    return folder


def test_written_weights_give_the_pictures_of_the_average(
    trained: tuple[Trainer, list[StepReport]], open_head: PartHead, tmp_path: Path
) -> None:
    trainer, _ = trained
    loaded = GenHeadGenerator.from_pretrained(_saved(trainer, tmp_path))
    average = trainer.averages["generator"].network
    assert isinstance(average, GenHeadGenerator) and loaded.config == average.config == GENERATOR
    assert isinstance(trainer.task, GenHeadTask)
    table = trainer.task.heads.table
    latent = torch.randn(1, GENERATOR.latent_dim, generator=torch.Generator().manual_seed(0))
    pictures = [
        network.render(
            network.sample(latent, table.condition([3])), table.camera([3]), network.head.pose(table.params([3]))
        ).image
        for network in (loaded, average)
    ]
    assert torch.equal(*pictures) and pictures[0].std() > 0


def test_a_training_starts_from_written_weights(
    toy_faces: Path, open_head: PartHead, trained: tuple[Trainer, list[StepReport]], tmp_path: Path
) -> None:
    folder = _saved(trained[0], tmp_path / "weights")
    config = toy_genhead(toy_faces, resume_from=str(folder))
    assert config.train.average.ramp_up is None and folder in config.inputs
    schedule = config.loss.fades_at(0)
    assert (schedule.blur_sigma, schedule.swap_probability) == (0.0, 0.5)
    task = GenHeadTask(config, head=open_head)
    average, discriminator = trained[0].averages["generator"].network, trained[0].task.networks["discriminator"]
    for ours, theirs in ((task.generator, average), (task.discriminator, discriminator)):
        assert all(torch.equal(value, theirs.state_dict()[name]) for name, value in ours.state_dict().items())
    assert task.describe()["not_in_it"] == "nothing"
    (folder / "discriminator").rename(tmp_path / "elsewhere")
    assert GenHeadTask(config, head=open_head).describe()["not_in_it"] == ["discriminator.*"]
    other = replace(config, generator=replace(GENERATOR, channel_max=16))
    with pytest.raises(InputError, match="does not fit the network"):
        GenHeadTask(other, head=open_head)


def test_a_training_starts_from_what_fits_of_an_eg3d(toy_faces: Path, open_head: PartHead, tmp_path: Path) -> None:
    """Decoder and super-resolution; the backbone makes half as many channels, of another condition."""
    eg3d = EG3DGenerator(
        EG3DConfig(
            latent_dim=GENERATOR.latent_dim,
            style_dim=GENERATOR.style_dim,
            plane_resolution=GENERATOR.plane_resolution,
            plane_channels=GENERATOR.plane_channels,
            channel_base=GENERATOR.channel_base,
            channel_max=GENERATOR.channel_max,
            plane_layout="orthogonal",
            neural_resolution=GENERATOR.neural_resolution,
            superresolution=SuperResolutionConfig(kind="2x64", is_half=False),
        )
    )
    save_eg3d(tmp_path, eg3d, DualDiscriminator(DISCRIMINATOR), resolution=32)
    task = GenHeadTask(
        toy_genhead(toy_faces, resume_from=str(tmp_path), generator=replace(GENERATOR, decoder_channels=64)),
        head=open_head,
    )
    own, theirs = task.generator.state_dict(), eg3d.state_dict()
    conv = "backbone.synthesis.b32.conv1.weight"
    assert torch.equal(own[conv], theirs[conv])
    assert torch.equal(own["decoder.out_sigma.weight"], theirs["decoder.net.2.weight"][:1])
    assert torch.equal(own["decoder.out_rgb.bias"], theirs["decoder.net.2.bias"][1:])
    kept = task.describe()["not_in_it"]
    assert {"discriminator.*", "generator.background.*", "generator.plane_mean"} <= set(kept)
    assert {"generator.backbone.mapping.embed.weight", "generator.backbone.synthesis.b32.torgb.weight"} <= set(kept)
    assert not any(name.startswith(("generator.decoder", "generator.superresolution")) for name in kept)
    save_networks(tmp_path / "discriminated", task.generator, task.discriminator)
    with pytest.raises(InputError, match="expected a GenHead or EG3D generator"):
        GenHeadTask(
            toy_genhead(toy_faces, resume_from=str(tmp_path / "discriminated" / "discriminator")), head=open_head
        )


@pytest.mark.slow
def test_two_processes_are_one_with_two_rounds(toy_faces: Path, open_head: PartHead, tmp_path: Path) -> None:
    """Ten steps, the command of the documentation."""
    config = toy_genhead(toy_faces)
    config = replace(config, train=replace(config.train, total_images=10 * BATCH, checkpoint_images=10 * BATCH))
    said = train_in_two(["genhead.cli", "train"], config, tmp_path)
    assert f"{10 * BATCH} images in" in said and said.count(" images in") == 1, said
    one = toy_trainer(replace(config, train=replace(config.train, micro_batch=BATCH // 2)), open_head)
    for _ in range(10):
        one.step()
    assert_same_training(one, toy_trainer(config, open_head), tmp_path)
