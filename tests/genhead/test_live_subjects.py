"""The reconstructor learns from subjects that GenHead makes while the training runs."""

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from flame.errors import InputError
from genhead.synthesis.config import SynthesisConfig
from genhead.synthesis.live import make_subjects
from genhead.synthesis.subjects import SyntheticHeads
from motions import make_motion
from places import ROOT
from portrait4d.cli.main import run
from portrait4d.jobs.train import train
from portrait4d.reconstructor.training import live
from portrait4d.reconstructor.training.config import ReconstructionDataConfig
from portrait4d.reconstructor.training.live import GROUP, MAKER, load_maker
from portrait4d.reconstructor.training.samples import HeadSample
from portrait4d.reconstructor.training.stream import SampleStream
from portrait4d.reconstructor.training.task import ReconstructorTask, ReconstructorTraining
from portrait4d.train.checkpoint import TENSORS, list_states
from portrait4d.train.trainer import Trainer
from tiny_genhead import random_generator, write_generator
from toy_genhead import GENERATOR
from toy_reconstructor import BATCH, NETWORK, POINTS, SIDE, toy_training
from toy_reconstructor import make_subjects as make_random_subjects

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> ReconstructionDataConfig:
    """A GenHead whose pictures are of the toy's size, and a motion file."""
    folder, generator = tmp_path_factory.mktemp("live"), random_generator(GENERATOR)
    model = generator.head.model
    motion = make_motion(6, num_shape=model.num_shape, num_expression=model.num_expression, head_model=model.name)
    motion.save(folder / "clip.npz")
    network = write_generator(folder / "network", generator)
    return ReconstructionDataConfig(
        network=str(network), motions=(str(folder / "clip.npz"),), live_seed=3, plane_points=POINTS
    )


def _config(data: ReconstructionDataConfig, **changes: object) -> ReconstructorTraining:
    return toy_training(**{"data": data, **changes})  # pyright: ignore[reportArgumentType]


def _task(data: ReconstructionDataConfig, **changes: object) -> ReconstructorTask:
    return ReconstructorTask(_config(data, **changes), CPU, make=make_subjects)


def _stream(data: ReconstructionDataConfig, *, capacity: int = 32) -> SampleStream:
    return _task(data, train=replace(_config(data).train, batch_size=-(-capacity // 3))).samples


def _same(one: HeadSample, other: HeadSample) -> bool:
    flat = [_arrays(sample) for sample in (one, other)]
    return flat[0].keys() == flat[1].keys() and all(np.array_equal(flat[0][name], flat[1][name]) for name in flat[0])


def _arrays(sample: HeadSample) -> dict[str, np.ndarray]:
    parts = {"": sample, "source.": sample.source_moves, "driver.": sample.driver_moves, "volume.": sample.volume}
    values = {f"{prefix}{name}": value for prefix, part in parts.items() for name, value in vars(part).items()}
    return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}


def test_a_training_takes_steps(data: ReconstructionDataConfig) -> None:
    task = _task(data)
    for network in task.networks.values():
        network.train()
    trainer = Trainer(task, task.config.train, optimisers=task.config.optimisers())
    terms = {name: value for _ in range(2) for name, value in trainer.step().terms.items()}
    assert {"reconstructor/l1", "reconstructor/depth", "reconstructor/plane", "discriminator/real"} <= set(terms)
    assert all(0 <= value < 1e3 for value in terms.values())
    assert task.describe()["samples"] == "without end"
    assert task.samples.at(0).image.shape == (SIDE, SIDE, 3)


def test_a_position_holds_the_same_subject_after_a_restart(data: ReconstructionDataConfig) -> None:
    """Whatever was read before it, and however many threads made subjects at once."""
    first, again = _stream(data), _stream(replace(data, threads=4))
    again.prefetch(range(8, 24))
    ahead = [again.at(position) for position in range(8, 24)]
    assert all(_same(first.at(position), ahead[position - 8]) for position in range(8, 24))
    assert first.digest == again.digest
    other = _stream(replace(data, live_seed=4))
    assert other.digest != first.digest and not _same(other.at(8), first.at(8))


def test_subjects_are_those_that_would_be_written(data: ReconstructionDataConfig) -> None:
    assert data.network
    config = SynthesisConfig(num_dynamic=1, num_static=1, num_points=POINTS, motions=data.motions)
    heads, stream = SyntheticHeads(data.network, config, seed=3), _stream(data)
    for position in range(4):
        subject, sample = heads[position], stream.at(position)
        assert sample.is_moved == (subject.kind == "dynamic")
        assert np.array_equal(sample.source, subject.image[0]) and np.array_equal(sample.image, subject.image[2])
        assert sample.volume is not None and np.array_equal(sample.volume.points, subject.points)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_every_part_has_its_share_of_static_subjects_and_nobody_comes_twice(
    data: ReconstructionDataConfig, share: float
) -> None:
    stream = _stream(replace(data, static_share=share))
    samples = [stream.at(position) for position in range(12)]
    moved = [sample.is_moved for sample in samples]
    assert [moved[start : start + 4].count(False) for start in range(0, 12, 4)] == [round(4 * share)] * 3
    assert len({sample.source.tobytes() for sample in samples}) == 12
    assert stream.num_samples is None


def test_a_run_in_two_pieces_is_the_unbroken_one(
    data: ReconstructionDataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(_declare(tmp_path / "installed", "genhead.synthesis.live:make_subjects"))
    config = _config(data)
    assert train(config, tmp_path / "whole").is_finished
    train(replace(config, train=replace(config.train, total_images=BATCH)), tmp_path / "pieces")
    assert train(config, tmp_path / "pieces").resumed_at == BATCH
    whole, pieces = (list_states(tmp_path / name / "checkpoints")[-1].folder for name in ("whole", "pieces"))
    assert (whole / TENSORS).read_bytes() == (pieces / TENSORS).read_bytes()
    other = random_generator(GENERATOR)
    torch.nn.init.constant_(other.decoder.out_sigma.bias, 34)
    assert data.network
    network = Path(data.network)
    kept = {path: path.read_bytes() for path in network.iterdir()}
    write_generator(network, other)
    try:
        with pytest.raises(InputError, match=r"another configuration \(data: "):
            train(config, tmp_path / "pieces")
    finally:
        for path, content in kept.items():
            path.write_bytes(content)


def test_what_does_not_fit_is_refused_before_the_first_step(
    data: ReconstructionDataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(match: str, *, of: ReconstructionDataConfig = data, **changes: object) -> None:
        with pytest.raises(InputError, match=match):
            _task(of, **changes)

    refused("head model open around", network=replace(NETWORK, head_origin=(0.0, 0.0, 0.0)))
    refused("of 64 px and 8 features", network=replace(NETWORK, plane_channels=8))
    refused("there is none", of=replace(data, network=str(tmp_path / "nothing")))
    refused("clip.npz", of=replace(data, motions=(str(tmp_path / "clip.npz"),)))
    refused(
        "weights of a GenHead generator, got genhead discriminator",
        of=replace(data, network=str(_discriminator(data, tmp_path))),
    )
    with pytest.raises(InputError, match=r"got both data\.subjects and data\.network"):
        replace(data, subjects=(str(tmp_path),))
    with pytest.raises(InputError, match=r"got data\.motions alone"):
        replace(data, network=None)
    monkeypatch.syspath_prepend(_declare(tmp_path / "installed", "genhead.synthesis.live:make_subjects"))
    settings = [f"data.network={data.network}", f"data.motions=[{data.motions[0]}]", "train.batch_size=4"]
    command = ["train", "--config", "portrait4d/toy64", *settings, "-o", str(tmp_path / "run"), "--quiet"]
    assert run(command) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert "expected subjects of 64 px and 8 features" in said and "got 64 px and 4" in said
    assert not (tmp_path / "run").exists()


def test_a_training_without_dynamic_subjects_needs_no_clips(
    data: ReconstructionDataConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = []
    monkeypatch.setattr("genhead.synthesis.pools.Pools.check", lambda self, num_dynamic: wanted.append(num_dynamic))
    for share in (0.0, 0.5, 1.0):
        _task(replace(data, static_share=share))
    assert wanted == [1, 1, 0]


def test_the_project_declares_who_makes_subjects() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (section,) = re.findall(rf'^\[project\.entry-points\."{re.escape(GROUP)}"\].*\n(.*\n)', text, flags=re.MULTILINE)
    name, value = section.replace('"', "").strip().split(" = ")
    assert name == MAKER and value == f"{make_subjects.__module__}:{make_subjects.__name__}"


def test_what_is_declared_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.syspath_prepend(_declare(tmp_path / "whole", "genhead.synthesis.live:make_subjects"))
        assert load_maker() is make_subjects
    with monkeypatch.context() as patch:
        patch.syspath_prepend(_declare(tmp_path / "broken", "genhead.synthesis.live:make_nothing"))
        with pytest.raises(InputError, match=r"make_nothing, which makes subjects, cannot be imported .*install"):
            load_maker()
    for count in (0, 2):
        monkeypatch.setattr(live, "entry_points", lambda number=count, **_: [SimpleNamespace()] * number)
        with pytest.raises(InputError, match=rf"got {count}: install this version of portrait4d again"):
            load_maker()


def test_a_training_on_folders_asks_for_no_maker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "entry_points", lambda **_: [])
    config = toy_training(subjects=make_random_subjects(tmp_path))
    assert ReconstructorTask(config, CPU).samples.num_samples == 12


def _declare(folder: Path, value: str) -> str:
    """A folder of installed metadata that shadows that of the project."""
    place = folder / "portrait4d-0.1.0.dist-info"
    place.mkdir(parents=True)
    (place / "METADATA").write_text("Metadata-Version: 2.1\nName: portrait4d\nVersion: 0.1.0\n")
    (place / "entry_points.txt").write_text(f"[{GROUP}]\n{MAKER} = {value}\n")
    return str(folder)


def _discriminator(data: ReconstructionDataConfig, folder: Path) -> Path:
    """The generator's folder that says it is a discriminator."""
    place = folder / "discriminator"
    place.mkdir()
    for path in Path(str(data.network)).iterdir():
        (place / path.name).write_bytes(
            path.read_bytes().replace(b'"network": "generator"', b'"network": "discriminator"')
        )
    return place
