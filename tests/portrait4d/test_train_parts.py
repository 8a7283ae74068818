"""Pieces of the training loop: batches in parts, gradients of several processes, configurations."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from torch import nn

from flame.errors import InputError
from places import ROOT
from portrait4d.runtime.random import PerSample, derive_seed
from portrait4d.train.config import RunConfig
from portrait4d.train.config_file import differing_lines, plain_values, read_config_file
from portrait4d.train.distributed import Workers, reduce_gradients, split_batch
from portrait4d.train.recipes import find_config, own_configs


@dataclass(frozen=True, kw_only=True)
class _Loss:
    gamma: float = 1.0
    fades: tuple[float, ...] = (1.0, 2.0)


@dataclass(frozen=True, kw_only=True)
class _Config:
    train: RunConfig = field(default_factory=lambda: RunConfig(batch_size=16))
    loss: _Loss = field(default_factory=_Loss)


@pytest.mark.parametrize(("parts", "group"), [(1, 4), (2, 4), (4, 2), (8, 1)])
def test_parts_hold_whole_groups_in_their_order(parts: int, group: int) -> None:
    batch = 16
    groups = {frozenset(range(first, batch, batch // group)) for first in range(batch // group)}
    found = split_batch(batch, parts=parts, group_size=group)
    assert sorted(sample for part in found for sample in part) == list(range(batch))
    for part in found:
        stride = len(part) // group
        assert {frozenset(part[first::stride]) for first in range(stride)} <= groups


def test_groups_that_cannot_be_shared_out_are_refused() -> None:
    with pytest.raises(InputError, match=r"a multiple of 8 samples for 2 parts of whole groups of 4, got 12: change"):
        split_batch(12, parts=2, group_size=4)


@pytest.mark.parametrize(
    ("micro", "workers", "group", "rounds"), [(0, 2, 4, 1), (24, 1, 1, 1), (8, 1, 4, 3), (4, 2, 2, 3), (1, 4, 1, 6)]
)
def test_rounds_are_as_large_as_asked(micro: int, workers: int, group: int, rounds: int) -> None:
    config = RunConfig(batch_size=24, micro_batch=micro)
    assert config.num_rounds(num_workers=workers, group_size=group) == rounds
    parts = split_batch(24, parts=rounds * workers, group_size=group)
    assert {len(part) for part in parts} == {micro or 24 // workers}


@pytest.mark.parametrize(
    ("micro", "workers", "group", "message"),
    [
        (5, 1, 1, "to divide 24, .* into groups of 1: 0 or one of 1, 2, 3, 4, 6, 8, 12, 24, got 5"),
        (8, 2, 1, "to divide 12, .*: 0 or one of 1, 2, 3, 4, 6, 12, got 8"),
        (6, 1, 4, "to divide 24, .* into groups of 4: 0 or one of 4, 8, 12, 24, got 6"),
        (48, 1, 4, "to divide 24, .*: 0 or one of 4, 8, 12, 24, got 48"),
    ],
)
def test_a_round_that_does_not_divide_the_share_is_refused(micro: int, workers: int, group: int, message: str) -> None:
    with pytest.raises(InputError, match=f"expected train.micro_batch {message}"):
        RunConfig(batch_size=24, micro_batch=micro).num_rounds(num_workers=workers, group_size=group)


def test_gradients_are_counted_and_made_finite() -> None:
    network = nn.Linear(2, 2)
    network.weight.grad = torch.tensor([[1.0, torch.nan], [torch.inf, -torch.inf]])
    assert reduce_gradients(list(network.parameters()), Workers()) == 3
    assert network.weight.grad.tolist() == [[1.0, 0.0], [1e5, -1e5]] and network.bias.grad is None
    assert reduce_gradients(list(network.parameters()), Workers()) == 0


def test_samples_draw_the_same_numbers_in_every_part() -> None:
    seeds = [derive_seed(0, position, "noise") for position in range(4)]
    like = torch.zeros(())
    whole = PerSample(seeds).normal((4, 3), like)
    assert torch.equal(
        torch.cat([PerSample(seeds[:1]).normal((1, 3), like), PerSample(seeds[1:]).normal((3, 3), like)]), whole
    )
    assert len(whole.unique()) == 12 and derive_seed(0, 1, "noise") != derive_seed(0, 1, "other")
    with pytest.raises(ValueError, match="starts with 4 samples"):
        PerSample(seeds).uniform((3, 2), like)


def test_a_file_holds_differences(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("train: {seed: 3, total_images: 100}\nloss:\n  gamma: 2\n")
    config = read_config_file(_Config, file, ["loss.gamma=1e-3", "train.average.ramp_up=null", "loss.fades=[3, 4, 5]"])
    assert (config.train.seed, config.train.batch_size, config.train.total_images) == (3, 16, 100)
    assert config.loss.gamma == 1e-3 and config.loss.fades == (3, 4, 5) and config.train.average.ramp_up is None
    assert read_config_file(_Config, None) == _Config()
    lines = differing_lines(plain_values(_Config()), plain_values(config))
    assert "loss.gamma: 1.0 -> 0.001" in lines and "train.seed: 0 -> 3" in lines and len(lines) == 5


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ("loss: {gama: 2}", [], r"run.yaml: unknown setting loss.gama; did you mean loss.gamma\?"),
        ("loss: 3", [], r"expected settings by name under loss, got 3"),
        ("- 1", [], r"run.yaml: expected settings by name, got"),
        ("loss: {gamma: [}", [], r"run.yaml: not YAML"),
        ("", ["loss.gamma=high"], r"setting loss.gamma is 'high': expected a number"),
        ("", ["loss.gamma"], r"expected an override like loss.gamma=2, got 'loss.gamma'"),
        ("loss: {gamma: 1}", ["loss.gamma.x=1"], r"gamma is one value, not a group"),
        ("", ["train.batch_size=0"], r"expected train.batch_size to be at least 1, got 0"),
        ("", ["train.precision=fp8"], r"setting train.precision is 'fp8': expected 'fp32' or 'tf32'"),
    ],
)
def test_wrong_settings_get_one_line(tmp_path: Path, text: str, overrides: list[str], message: str) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_config_file(_Config, file, overrides)
    assert "\n" not in str(caught.value)


def test_own_configurations_have_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_config("genhead/toy64") == ROOT / "configs" / "genhead" / "toy64.yaml"
    assert set(own_configs()) == {
        path.relative_to(ROOT / "configs").with_suffix("").as_posix() for path in ROOT.glob("configs/*/*")
    }
    (tmp_path / "genhead").mkdir()
    (tmp_path / "genhead" / "toy64").write_text("train: {seed: 7}")  # a file goes first
    assert read_config_file(_Config, Path("genhead/toy64")).train.seed == 7


@pytest.mark.parametrize(
    ("name", "near"), [("toy64", "genhead/toy64"), ("genhead/toy46", "genhead/toy64"), ("eg3d/ffhq", "eg3d/ffhq512-64")]
)
def test_an_unknown_name_is_answered_with_the_nearest(name: str, near: str) -> None:
    with pytest.raises(InputError, match=rf"YAML at {name}, there is no such file .*nearest: {near}"):
        find_config(name)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected a configuration in YAML at .*none.yaml"):
        read_config_file(_Config, tmp_path / "none.yaml")
