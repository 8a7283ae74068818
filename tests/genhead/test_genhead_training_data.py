"""Pictures with fitted heads for GenHead's training: mirrors, sizes, and what is refused before or during a run."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save

import genhead.training.sides
from flame.errors import InputError
from genhead.cli import main
from genhead.training.heads import HeadDataConfig, TrainingHeads
from genhead.training.sides import check_sides
from genhead.training.supervised import SupervisedConfig
from genhead.training.task import GenHeadTask
from portrait4d.headparts.head import PartHead
from portrait4d.train.checkpoint import list_states
from portrait4d.train.config_file import plain_values
from portrait4d.train.run import run_training
from portrait4d.train.run_folder import RunFolder
from preprocess.dataset.reading.flip import open_head_mirror
from preprocess.dataset.records.record import Record
from preprocess.dataset.records.shards import read_shard
from toy_genhead import BATCH, GENERATOR, Parts, rewrite_faces, toy_genhead, toy_trainer

pytestmark = pytest.mark.usefixtures("one_thread")


def _heads(folder: Path, head: PartHead, *, is_mirrored: bool = False) -> TrainingHeads:
    config = HeadDataConfig(paths=(str(folder),))
    mirror = open_head_mirror() if is_mirrored else None
    return TrainingHeads(config, generator=GENERATOR, head=head, mirror=mirror)


def _with_array(name: str, value: Callable[[np.ndarray], np.ndarray]) -> Callable[[Parts], Parts]:
    """Changes one array of the numbers of a record."""

    def change(parts: Parts) -> Parts:
        arrays = load(parts["safetensors"])
        return {**parts, "safetensors": save({**arrays, name: np.ascontiguousarray(value(arrays[name]))})}

    return change


def test_mirrored_pictures_show_mirrored_heads(toy_faces: Path, open_head: PartHead) -> None:
    """A mirrored head in front of its mirrored camera falls on the mirrored pixels."""
    heads = _heads(toy_faces, open_head, is_mirrored=True)
    assert len(heads) == 2 * heads.num_own == 80
    own, mirrored = heads[3], heads[43]
    assert np.array_equal(own.image[:, ::-1], mirrored.image) and np.array_equal(own.mask[:, ::-1], mirrored.mask)
    assert (own.row, mirrored.row) == (3, 43) and heads.name(3) == heads.name(43)
    posed = open_head.pose(heads.table.params([3, 43])).posed
    pixels, _ = heads.table.camera([3, 43]).project(posed, height=64, width=64)
    flipped = torch.tensor([64.0, 0.0]) + torch.tensor([-1.0, 1.0]) * pixels[0]
    assert (flipped[open_head.model.mirror] - pixels[1]).abs().max() < 0.02  # pyright: ignore[reportArgumentType, reportIndexIssue]
    assert heads.persons[:5] == [0, 0, 0, 0, 1] and heads.persons[40:45] == [10, 10, 10, 10, 11]
    assert np.array_equal(copy.copy(heads)[5].image, heads[5].image)


def test_heads_that_were_mirrored_alone_are_found(toy_faces: Path, open_head: PartHead, tmp_path: Path) -> None:
    check_sides(_heads(toy_faces, open_head), open_head)
    check_sides(_heads(toy_faces, open_head, is_mirrored=True), open_head)

    def flipped(record: Record) -> Record:
        image, mask = (np.ascontiguousarray(picture[:, ::-1]) for picture in (record.image, record.mask))
        return replace(record, image=image, mask=mask)

    folder = rewrite_faces(toy_faces, tmp_path / "flipped", record=flipped)
    with pytest.raises(InputError, match=r"changed\.tar: 24 of 24 turned heads .* mirrored without their cameras"):
        GenHeadTask(toy_genhead(folder), head=open_head)
    few = rewrite_faces(toy_faces, tmp_path / "few", record=flipped, count=5)
    check_sides(_heads(few, open_head), open_head)  # too few to tell


def test_what_cannot_be_learned_from_is_refused(toy_faces: Path, open_head: PartHead, tmp_path: Path) -> None:
    def refused(said: str, **changes) -> None:
        folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        with pytest.raises(InputError, match=said) as error:
            _heads(rewrite_faces(toy_faces, folder, count=3, **changes), open_head)
        assert "\n" not in str(error.value)

    def broken(values: np.ndarray) -> np.ndarray:
        values[5] = np.nan
        return values

    refused("head model open, got flame", info=lambda info: replace(info, head_model="flame"))
    refused("with masks, there are none", info=lambda info: replace(info, mask="none"))
    refused(r"64 px or more, got 32", info=lambda info: replace(info, image_size=32))
    refused("expected camera of kind float32", parts=_with_array("camera", lambda camera: camera[:16]))
    refused(r"expected 300 numbers of shape, got \[299\]", parts=_with_array("shape", lambda shape: shape[:299]))
    refused(r"numbers of expression, got \[52\]", parts=_with_array("expression", lambda values: values[:52]))
    refused("camera holds numbers that are not finite", parts=_with_array("camera", broken))
    refused("jaw holds numbers that are not finite", parts=_with_array("jaw", lambda jaw: jaw * np.nan))
    refused("the member is missing", parts=lambda parts: {name: parts[name] for name in parts if name[0] != "s"})
    with pytest.raises(InputError, match="set data.paths"):
        TrainingHeads(HeadDataConfig(), generator=GENERATOR, head=open_head, mirror=None)
    for change in ({"head_model": "flame"}, {"crop": "eg3d"}):
        mixed = tmp_path / f"mixed-{next(iter(change))}"
        rewrite_faces(toy_faces, mixed, count=2)
        rewrite_faces(toy_faces, mixed, count=2, name="other", info=lambda info, change=change: replace(info, **change))
        with pytest.raises(InputError, match=f"of one kind, .* differ in {next(iter(change))}"):
            _heads(mixed, open_head)
    few = rewrite_faces(toy_faces, tmp_path / "few", count=3)
    config = toy_genhead(few)
    config = replace(config, train=replace(config.train, batch_size=8))
    with pytest.raises(InputError, match="at least 8 pictures, one batch, got 6"):
        GenHeadTask(config, head=open_head)


def test_the_command_says_it_in_one_line(
    toy_faces: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off in the middle, as by a full disk; nothing is written."""
    shard = rewrite_faces(toy_faces, tmp_path / "cut", count=3) / "changed.tar"
    shard.write_bytes(shard.read_bytes()[:5000])
    recipe = Path(__file__).parents[2] / "configs" / "genhead" / "toy64.yaml"
    words = ["genhead", "train", "--config", str(recipe), f"data.paths=[{shard}]", "-o", str(tmp_path / "run")]
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(SystemExit) as ending:
        main()
    assert ending.value.code == 2 and not (tmp_path / "run").exists()
    said = capfd.readouterr().err.strip()
    assert "changed.tar" in said and "\n" not in said


def test_damage_that_is_met_late_ends_the_run_and_loses_nothing(
    toy_faces: Path, open_head: PartHead, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A picture of the second batch; once the shard is whole again, the run goes on from the first."""
    monkeypatch.setattr(GenHeadTask, "draw_grid", lambda task, averages: None)
    monkeypatch.setattr(genhead.training.sides, "_FEWEST_PICTURES", 99)  # it would meet the damage before
    folder = rewrite_faces(toy_faces, tmp_path / "faces", count=12)
    data, only_adversarial = HeadDataConfig(paths=(str(folder),), mirror=False), SupervisedConfig()
    config = toy_genhead(folder, data=data, supervised=only_adversarial)  # codes of persons read all pictures first
    config = replace(config, train=replace(config.train, total_images=2 * BATCH))
    trainer = toy_trainer(config, open_head)
    assert isinstance(trainer.task, GenHeadTask)
    victim = trainer.task.samples.stream.index_of(BATCH)
    shard = read_shard(folder / "changed.tar")
    member = shard.members[f"{shard.keys[victim]}.image.png"]
    whole = shard.path.read_bytes()
    shard.path.write_bytes(whole[: member.offset + 50] + bytes(20) + whole[member.offset + 70 :])

    def go() -> int:
        trainer = toy_trainer(config, open_head)
        run = RunFolder(tmp_path / "run", plain_values(config), data_digest=trainer.task.data_digest)
        return run_training(trainer, run).resumed_at

    with pytest.raises(InputError, match=f"{shard.keys[victim]}.image.png"):
        go()
    assert [saved.images_seen for saved in list_states(tmp_path / "run" / "checkpoints")] == [BATCH]
    shard.path.write_bytes(whole)
    assert go() == BATCH
