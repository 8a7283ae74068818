"""The reconstructor's training: steps, parts of a batch, whose motion moves, resuming, weights to and from files."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from flame.errors import InputError
from kept_bytes import assert_recomputed_is_the_same
from portrait4d.reconstructor.loading import build_network
from portrait4d.reconstructor.motion_codes import parameter_code
from portrait4d.reconstructor.network import Reconstructor
from portrait4d.reconstructor.training.batches import Batches
from portrait4d.reconstructor.training.config import ReconstructionDataConfig
from portrait4d.reconstructor.training.losses import WantedHeads
from portrait4d.reconstructor.training.samples import ClipSamples, SubjectSamples
from portrait4d.reconstructor.training.stream import SampleStream
from portrait4d.reconstructor.training.task import ReconstructorTask, ReconstructorTraining
from portrait4d.train.checkpoint import TENSORS, list_states
from portrait4d.train.config import OptimiserConfig
from portrait4d.train.config_file import plain_values
from portrait4d.train.run import RunReport, run_training
from portrait4d.train.run_folder import RunFolder
from portrait4d.train.task import Part, Step
from portrait4d.train.trainer import StepReport, Trainer
from portrait4d.weights.own_format import read_checkpoint
from preprocess.dataset.reading.dataset import Dataset
from preprocess.dataset.records.shards import write_shard
from preprocess.dataset.synthetic.record import SyntheticFolder
from preprocess.dataset.toy.options import ToyOptions
from preprocess.dataset.toy.records import ToyRecords, toy_info
from torchrun import assert_same_training, train_in_two
from toy_genhead import make_toy_faces, rewrite_faces
from toy_reconstructor import BATCH, NETWORK, POINTS, SIDE, make_subjects, toy_training, with_loss

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def subjects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_subjects(tmp_path_factory.mktemp("subjects"))


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """10 people in 4 pictures each, named like the frames of clips."""
    return make_toy_faces(tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="module")
def trained(subjects: Path) -> tuple[Trainer, list[StepReport]]:
    """After three steps."""
    trainer = _trainer(toy_training(subjects=subjects))
    return trainer, [trainer.step() for _ in range(3)]


def _trainer(config: ReconstructorTraining) -> Trainer:
    task = ReconstructorTask(config, CPU)
    for network in task.networks.values():
        network.train()
    return Trainer(task, config.train, optimisers=config.optimisers())


def test_steps_are_finite_and_all_parameters_move(subjects: Path, trained: tuple[Trainer, list[StepReport]]) -> None:
    trainer, reports = trained
    main = ("perceptual", "l1", "mask")
    first = {f"reconstructor/{name}" for name in (*main, "depth", "feature", "plane", "adversarial")}
    later = {f"reconstructor/{name}" for name in (*main, "identity", "adversarial")}
    judged, lazy = {"discriminator/fake", "discriminator/real"}, {"density/variation", "r1/penalty"}
    assert [set(report.terms) for report in reports] == [first | judged | lazy, later | judged, later | judged | lazy]
    assert all(0 <= value < 1e3 for report in reports for value in report.terms.values())
    start = ReconstructorTask(toy_training(subjects=subjects), CPU)
    unmoved = [
        name
        for network, module in start.networks.items()
        for (name, old), new in zip(module.named_parameters(), trainer.task.networks[network].parameters(), strict=True)
        if torch.equal(old, new)
    ]
    assert all(name.endswith("noise_strength") for name in unmoved), unmoved  # super-resolution runs without noise


def test_clips_are_learned_from(clips: Path) -> None:
    """No volume is known of them, so their motion and their pictures are all there is."""
    trainer = _trainer(toy_training(clips=clips))
    terms = set().union(*(trainer.step().terms for _ in range(2)))
    assert terms == {f"reconstructor/{name}" for name in ("perceptual", "l1", "mask", "identity")} | {
        "density/variation"
    }


def test_a_subject_is_given_as_it_was_made(subjects: Path) -> None:
    samples = SubjectSamples([str(subjects)], "dynamic", NETWORK, num_points=2 * POINTS)
    subject = SyntheticFolder(subjects)[2]
    sample = samples[2]
    assert np.array_equal(sample.source, subject.image[0]) and np.array_equal(sample.image, subject.image[2])
    batches = Batches(None, None, has_maps=False, device=CPU)
    wanted, true = batches.wanted([sample], [1.0]), batches.true([sample])
    moves = [torch.from_numpy(getattr(subject, name)) for name in ("expression", "jaw", "eyes")]
    codes = [parameter_code(*(values[view : view + 1] for values in moves)) for view in (0, 1)]
    assert torch.equal(wanted.source_motion, codes[0]) and torch.equal(wanted.driver_motion, codes[1])
    assert torch.equal(wanted.landmarks[0], torch.from_numpy(subject.landmarks[2]) - 0.5)
    assert torch.equal(wanted.label[0], torch.from_numpy(subject.label[2]))
    assert torch.equal(true.mask[0], 2 * torch.from_numpy(subject.alpha[2]).float() - 1)
    assert true.volume is not None and torch.equal(true.volume.depth[0], torch.from_numpy(subject.depth[2]))
    assert true.volume.points.shape == (1, 2 * POINTS, 3)  # repeated where there are fewer
    assert torch.equal(true.volume.points[0, POINTS:], torch.from_numpy(subject.points))
    assert true.image.min() >= -1 and true.image.max() <= 1


def test_a_pair_is_of_one_clip(clips: Path) -> None:
    samples, dataset = ClipSamples([str(clips)], NETWORK, seed=0, is_rectified=False), Dataset(clips)
    records = [dataset[index] for index in range(len(dataset))]
    by_picture = {record.image.tobytes(): record.key.split("-")[0] for record in records}
    pairs = [samples[index] for index in range(0, len(samples), 7)]
    assert all(by_picture[pair.source.tobytes()] == by_picture[pair.image.tobytes()] for pair in pairs)
    assert 0.1 < np.mean([np.array_equal(pair.source, pair.image) for pair in pairs]) < 0.4  # one in four
    frame = next(record for record in records if record.image.tobytes() == pairs[0].image.tobytes())
    assert np.array_equal(pairs[0].driver_moves.expression, frame.expression)
    assert len(samples) == 16 * len(dataset)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_every_part_has_its_share_of_static_subjects(subjects: Path, share: float) -> None:
    """In the same places for any batch, each subject once an epoch."""
    config = ReconstructionDataConfig(subjects=(str(subjects),), static_share=share, plane_points=POINTS)
    stream = SampleStream(config, NETWORK, seed=3, capacity=32)
    samples = [stream.at(position) for position in range(24)]
    assert [sum(not sample.is_moved for sample in samples[start : start + 4]) for start in range(0, 24, 4)] == [
        round(4 * share)
    ] * 6
    static = [sample.source.tobytes() for sample in samples if not sample.is_moved]
    assert len(set(static)) == min(len(static), 6)


def test_only_motion_that_changes_is_switched_on(subjects: Path) -> None:
    """Split: that of dynamic subjects; random: also of half the static ones; each sample's own, however it is split."""
    step = Step(index=0, images_seen=40, batch_size=64, seed=1)
    whole = Part(step, tuple(range(64)), CPU)
    parts = [Part(step, tuple(range(start, start + 16)), CPU) for start in (0, 16, 32, 48)]
    found = {}
    for kind in ("split", "random", "none"):
        config = toy_training(subjects=subjects)
        task = ReconstructorTask(replace(config, data=replace(config.data, disentangling=kind)), CPU)
        scale = task.motion_scale(whole)
        assert scale == [value for part in parts for value in task.motion_scale(part)]
        moved = [task.samples.at(position).is_moved for position in whole.positions]
        assert all(value == 1 for value, is_moved in zip(scale, moved, strict=True) if is_moved)
        found[kind] = np.mean([value for value, is_moved in zip(scale, moved, strict=True) if not is_moved])
    assert found["split"] == 0 and found["none"] == 1 and 0.2 < found["random"] < 0.8
    static = ReconstructorTask(replace(toy_training(subjects=subjects), is_static=True), CPU)
    assert static.motion_scale(whole) == [0.0] * 64


def test_static_training_needs_no_codes(subjects: Path) -> None:
    """Nor the encoder that reads them; layers that only motion uses stay as they are."""
    config = replace(toy_training(subjects=subjects), is_static=True)
    canonicaliser = replace(NETWORK.canonicaliser, motion_dim=548)
    network = replace(NETWORK, motion="pd-fgc", canonicaliser=canonicaliser, motion_basis=2)
    config = replace(config, network=network)
    trainer = _trainer(config)
    before = {name: value.clone() for name, value in trainer.task.networks["reconstructor"].state_dict().items()}
    trainer.step()
    after = trainer.task.networks["reconstructor"].state_dict()
    still = {name for name, value in before.items() if torch.equal(value, after[name])}
    of_motion = {name for name in before if any(word in name for word in ("attn2", "norm2", "maps", "proj_y"))}
    assert of_motion - {name for name in of_motion if "plane" in name or "generator" in name} <= still
    assert not any(name.startswith("encoder_global") for name in still)


def test_a_mean_head_moves_with_the_code_as_far_as_motion_is_on() -> None:
    """Planes are the network's plus the blended basis; a scale of 0 leaves it out."""
    network = Reconstructor(replace(NETWORK, motion_basis=3)).eval()
    torch.nn.init.normal_(network.motion_basis)
    source = torch.rand(2, 3, SIDE, SIDE) * 2 - 1
    code = torch.rand(2, NETWORK.canonicaliser.motion_dim)
    scale = torch.tensor([1.0, 0.0])[:, None, None]
    with torch.no_grad():
        features = network.encode(source, code, motion_scale=scale)
        moved = network.animate(features, code, motion_scale=scale).features
        basis = network.motion_basis.clone()
        network.motion_basis.zero_()
        plain = network.animate(features, code, motion_scale=scale).features
        added = torch.einsum("r,rchw->chw", network.motion_weights(code[0]), basis)
    change = (moved - plain).unflatten(1, (3, -1)) if moved.ndim == 4 else moved - plain
    assert torch.allclose(change[0].reshape(-1).sort().values, added.reshape(-1).sort().values, atol=1e-4)
    assert torch.equal(moved[1], plain[1])


def test_motion_of_a_static_reconstructor_changes_nothing(subjects: Path) -> None:
    network = ReconstructorTask(replace(toy_training(subjects=subjects), is_static=True), CPU).network.eval()
    source = torch.rand(1, 3, SIDE, SIDE) * 2 - 1
    motion = torch.rand(2, 1, NETWORK.canonicaliser.motion_dim)
    scale = torch.zeros(1, 1, 1)
    planes = [network.animate(network.encode(source, m, motion_scale=scale), m, motion_scale=scale) for m in motion]
    assert torch.equal(planes[0].features, planes[1].features)


def test_a_batch_may_be_split(subjects: Path) -> None:
    """Rounds of two samples give the step of one round of four."""
    config = toy_training(subjects=subjects)
    trainers = [_trainer(replace(config, train=replace(config.train, micro_batch=size))) for size in (0, 2)]
    reports = [trainer.step() for trainer in trainers]
    for name, value in reports[0].terms.items():
        assert reports[1].terms[name] == pytest.approx(value, rel=1e-5, abs=1e-6), name
    for network, norm in reports[0].gradient_norms.items():
        assert reports[1].gradient_norms[network] == pytest.approx(norm, rel=1e-4), network


@pytest.mark.parametrize(("phase", "share"), [("reconstructor", 0.5), ("density", 0.5)])
def test_recomputing_gives_the_same_gradient(subjects: Path, phase: str, share: float) -> None:
    """To the bit; what the losses and the discriminator keep is left."""
    config = toy_training(subjects=subjects)
    recomputing = replace(config, train=replace(config.train, recompute=True))
    part = Part(Step(index=0, images_seen=BATCH, batch_size=BATCH, seed=1), (0, 1), CPU)
    plain, other = (ReconstructorTask(each, CPU) for each in (config, recomputing))
    assert not plain.network.recomputes and other.network.recomputes
    for task in (plain, other):
        torch.manual_seed(0)
        nn.init.normal_(task.network.decoder.get_parameter("out_sigma.weight"))  # flat density has no change
    assert_recomputed_is_the_same(plain, other, phase, part, share=share)


def _run(config: ReconstructorTraining, folder: Path) -> RunReport:
    trainer = _trainer(config)
    return run_training(trainer, RunFolder(folder, plain_values(config), data_digest=trainer.task.data_digest))


def test_a_run_in_two_pieces_is_the_unbroken_one(subjects: Path, tmp_path: Path) -> None:
    config = toy_training(subjects=subjects)
    assert _run(config, tmp_path / "whole").is_finished
    _run(replace(config, train=replace(config.train, total_images=BATCH)), tmp_path / "pieces")
    assert _run(config, tmp_path / "pieces").resumed_at == BATCH
    whole, pieces = (list_states(tmp_path / name / "checkpoints")[-1].folder for name in ("whole", "pieces"))
    assert (whole / TENSORS).read_bytes() == (pieces / TENSORS).read_bytes()


@pytest.mark.slow
def test_two_processes_train_as_one(subjects: Path, tmp_path: Path) -> None:
    """With a large epsilon: else Adam's first steps have the sign of gradients that are nothing but rounding."""
    smooth = OptimiserConfig(learning_rate=1e-3, epsilon=1e-2)
    config = toy_training(subjects=subjects, optimiser=smooth, discriminator_optimiser=smooth)
    said = train_in_two(["portrait4d.cli.main", "train"], config, tmp_path)
    assert "finished" in said, said
    one = _trainer(config)
    for _ in range(3):
        one.step()
    assert_same_training(one, _trainer(config), tmp_path)


def test_written_weights_give_the_pictures_of_the_average(
    subjects: Path, trained: tuple[Trainer, list[StepReport]], tmp_path: Path
) -> None:
    trainer, _ = trained
    average = trainer.averages["reconstructor"].network
    assert isinstance(average, Reconstructor)
    trainer.task.save_weights(tmp_path, {"reconstructor": average})
    config, tensors = read_checkpoint(tmp_path)
    loaded = build_network(config, tensors).eval()
    assert loaded.config == NETWORK and config.source == "portrait4d, trained"
    sample = SubjectSamples([str(subjects)], "dynamic", NETWORK, num_points=POINTS)[0]
    wanted = Batches(None, None, has_maps=False, device=CPU).wanted([sample], [1.0])
    pictures = [_picture(network, wanted) for network in (loaded, average)]
    assert torch.equal(*pictures) and pictures[0].std() > 0
    again = ReconstructorTask(toy_training(subjects=subjects, resume_from=str(tmp_path)), CPU)
    assert _same(again.network, average)
    assert again.discriminator is not None and _same(again.discriminator, trainer.task.networks["discriminator"])
    other = replace(NETWORK, plane_decoder_dim=32)
    with pytest.raises(InputError, match="does not fit the network"):
        ReconstructorTask(toy_training(subjects=subjects, resume_from=str(tmp_path), network=other), CPU)


@torch.no_grad()
def _picture(network: Reconstructor, wanted: WantedHeads) -> Tensor:
    source = network.encode(wanted.source, wanted.source_motion)
    planes = network.animate(source, wanted.driver_motion)
    return network.render(planes, source, wanted.camera).image


def _same(first: nn.Module, second: nn.Module) -> bool:
    return all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())


def test_the_grid_shows_fixed_samples(trained: tuple[Trainer, list[StepReport]]) -> None:
    trainer, _ = trained
    average = {"reconstructor": trainer.averages["reconstructor"].network}
    picture = trainer.task.draw_grid(average)
    assert picture is not None and picture.dtype == np.uint8 and picture.shape[1] > 8 * 128
    again = trainer.task.draw_grid(average)
    assert again is not None and np.array_equal(picture, again)


def test_data_that_do_not_fit_are_refused(subjects: Path, clips: Path, tmp_path: Path) -> None:
    config = toy_training(subjects=subjects)

    def refused(match: str, **changes: object) -> None:
        with pytest.raises(InputError, match=match):
            ReconstructorTask(replace(config, **changes), CPU)  # pyright: ignore[reportArgumentType]

    with pytest.raises(InputError, match="expected training data"):
        ReconstructorTask(toy_training(), CPU)
    with pytest.raises(InputError, match="got both"):
        toy_training(subjects=subjects, clips=clips)
    refused("head model open around", network=replace(NETWORK, head_origin=(0.0, 0.0, 0.0)))
    refused("8 features", network=replace(NETWORK, plane_channels=8))
    only = make_subjects(tmp_path / "dynamic", num_static=0)
    refused("static subjects", data=replace(config.data, subjects=(str(only),)))
    plain = make_subjects(tmp_path / "plain", has_correspondence=False)
    refused("correspondence maps", data=replace(config.data, subjects=(str(plain),)))
    refused("none", data=replace(config.data, subjects=(str(tmp_path / "nothing"),)))
    options = ToyOptions(num_identities=4, pictures_per_identity=1, oversampling=1)
    make_records = ToyRecords(options)
    photos = tmp_path / "photos"
    write_shard(photos / "toy.tar", toy_info(options), [each for person in range(4) for each in make_records(person)])
    with pytest.raises(InputError, match="clips of several frames"):
        ReconstructorTask(toy_training(clips=photos), CPU)
    damaged = rewrite_faces(clips, tmp_path / "unmasked", info=lambda info: replace(info, mask="none"))
    with pytest.raises(InputError, match="masks"):
        ReconstructorTask(toy_training(clips=damaged), CPU)


def test_missing_weights_stop_before_the_first_step(
    subjects: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = toy_training(subjects=subjects)
    monkeypatch.setenv("HOME", str(tmp_path))
    for changed, match in (
        (with_loss(config, perceptual="lpips-vgg"), "lpips"),
        (with_loss(config, identity="insightface"), "face recogniser.*thumbnail"),
        (with_loss(config, identity=str(tmp_path / "no.onnx")), "no.onnx"),
        (replace(config, resume_from=str(tmp_path / "nothing")), "there is none"),
    ):
        with pytest.raises(InputError, match=match):
            ReconstructorTask(changed, CPU)
    with pytest.raises(InputError, match="discriminator.resolution"):
        replace(config, discriminator=replace(config.discriminator, resolution=128))
