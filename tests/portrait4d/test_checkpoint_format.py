"""Our own checkpoints: what is written is read, other programs read it too, and every mistake is named."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from flame.errors import InputError
from portrait4d.weights.config import CheckpointConfig, is_checkpoint, read_config
from portrait4d.weights.official.inspection import inspect_file
from portrait4d.weights.official.state import resample_filter, to_official
from portrait4d.weights.own_format import read_checkpoint, write_checkpoint
from portrait4d.weights.strict import CheckpointMismatch, load_strict

CONFIG = CheckpointConfig(
    "eg3d",
    "generator",
    architecture={"latent_dim": 512},
    plane_layout="eg3d",
    camera_axes="opencv",
    box_warp=1.0,
    label_std={"dtype": "float32", "shape": [3], "values": torch.tensor([0.1, -0.0, 3e-39]).tolist()},
    resample_filters=("a.resample_filter",),
    source="ffhq512-128.pkl",
    source_sha256="00",
    licence="research",
)


def some_tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "flag": torch.tensor([True, False, True]),
        "weight": torch.randn(3, 5, generator=generator),
        "transposed": torch.randn(4, 6, generator=generator).t(),
        "half": torch.randn(7, generator=generator).half(),
        "brain": torch.randn(3, generator=generator).bfloat16(),
        "double": torch.randn(2, generator=generator).double(),
        "scalar": torch.tensor(7),
        "empty": torch.zeros(0, 4),
    }


def test_what_is_written_is_read(tmp_path: Path) -> None:
    tensors, stages = some_tensors(), []
    written = write_checkpoint(tmp_path / "a", CONFIG, tensors, progress=lambda *step: stages.append(step))
    config, found = read_checkpoint(tmp_path / "a")
    assert config == written == replace(CONFIG, tensors_sha256=written.tensors_sha256)
    assert set(found) == set(tensors)
    for name, tensor in tensors.items():
        assert torch.equal(found[name], tensor) and found[name].dtype == tensor.dtype, name
    assert (
        stages[-1][0] == "write" and stages[-1][1] == stages[-1][2] == (tmp_path / "a/model.safetensors").stat().st_size
    )
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["config.json", "model.safetensors"]
    assert set(load_file(tmp_path / "a/model.safetensors")) == set(tensors)


def test_tensors_are_aligned(tmp_path: Path) -> None:
    """Readers that map the file need each number at a multiple of its size."""
    write_checkpoint(tmp_path, CONFIG, some_tensors())
    data = (tmp_path / "model.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    for name, tensor in some_tensors().items():
        assert (8 + length + header[name]["data_offsets"][0]) % tensor.dtype.itemsize == 0, name


def test_the_official_form_comes_back_bit_for_bit(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, CONFIG, some_tensors())
    config, tensors = read_checkpoint(tmp_path)
    official = to_official(config, tensors)
    assert set(official) == set(tensors) | {"a.resample_filter", "dataset_label_std"}
    assert torch.equal(official["a.resample_filter"], resample_filter())
    assert official["a.resample_filter"].sum() == 1
    expected = torch.tensor([0.1, -0.0, 3e-39])
    assert official["dataset_label_std"].numpy().tobytes() == expected.numpy().tobytes()
    with pytest.raises(InputError, match="not converted from an official one"):
        to_official(replace(config, resample_filters=None), tensors)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"box_wrap": 1.0}, "unknown key 'box_wrap': did you mean 'box_warp'?"),
        ({"format": "other"}, "not the config of a checkpoint"),
        ({"format_version": 2}, "format version 2: this program reads 1"),
        ({"family": "eg4d"}, "family is 'eg4d': expected one of 'eg3d'"),
        ({"network": None}, "network as NoneType: expected str"),
        ({"plane_layout": "xy"}, "plane_layout is 'xy'"),
        ({"architecture": {"plane_layout": "orthogonal"}}, "make them agree"),
        ({"camera_axes": 3}, "camera_axes as int"),
        ({"box_warp": -1.0}, "box_warp is -1.0: expected a length above 0"),
        ({"box_warp": True}, "box_warp as bool"),
        ({"architecture": []}, "architecture as list: expected dict"),
        ({"resample_filters": [1]}, "something other than names"),
        ({"tensors_sha256": "11"}, "sha256 differs"),
    ],
)
def test_a_wrong_config_is_named(tmp_path: Path, change: dict, said: str) -> None:
    write_checkpoint(tmp_path, CONFIG, {"a": torch.ones(2)})
    values = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(values | change))
    with pytest.raises(InputError) as refusal:
        read_checkpoint(tmp_path)
    assert said in str(refusal.value) and "\n" not in str(refusal.value)


def test_a_missing_key_and_no_json(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, CONFIG, {"a": torch.ones(2)})
    values = json.loads((tmp_path / "config.json").read_text())
    del values["family"]
    for text, said in (
        (json.dumps(values), "lacks family"),
        ("{", "is not JSON"),
        ("[]", "not the config"),
        ("\xff", "is not text"),
    ):
        (tmp_path / "config.json").write_bytes(text.encode("latin1"))
        with pytest.raises(InputError, match=said):
            read_config(tmp_path)


def test_damaged_tensors_are_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, CONFIG, {"a": torch.ones(200)})
    path = tmp_path / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-4])
    with pytest.raises(InputError, match="sha256 differs"):
        read_checkpoint(tmp_path)
    with pytest.raises(InputError, match="is damaged"):
        read_checkpoint(tmp_path, check_hash=False)
    path.write_bytes(whole[:-1] + b"\x01")
    assert "not the file that the config was written for" in inspect_file(tmp_path).suspicious[0]
    path.unlink()
    assert not is_checkpoint(tmp_path)
    with pytest.raises(InputError, match=r"no model\.safetensors"):
        read_checkpoint(tmp_path)
    with pytest.raises(InputError, match="expected a checkpoint folder"):
        read_checkpoint(tmp_path / "absent")


def test_a_failed_write_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, CONFIG, {"a": torch.ones(2)})
    with pytest.raises(InputError, match="type torch.complex64"):
        write_checkpoint(tmp_path, CONFIG, {"a": torch.ones(2, dtype=torch.complex64)})
    config = replace(CONFIG, architecture={"a": object()})
    with pytest.raises(InputError, match="cannot be written as JSON"):
        write_checkpoint(tmp_path, config, {"a": torch.zeros(3)})
    assert torch.equal(read_checkpoint(tmp_path)[1]["a"], torch.ones(2))
    assert len(list(tmp_path.iterdir())) == 2


def test_strict_loading_lists_everything() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    good = {name: torch.full_like(tensor, 2) for name, tensor in before.items()}
    bad = {**good, "extra": torch.ones(1), "0.bias": torch.ones(5), "1.num_batches_tracked": torch.tensor(1.0)}
    del bad["0.weight"]
    with pytest.raises(CheckpointMismatch) as mismatch:
        load_strict(module, bad)
    assert mismatch.value.missing == ["0.weight"] and mismatch.value.extra == ["extra"]
    assert len(mismatch.value.misshapen) == 2
    for part in ("1 missing: 0.weight", "1 extra: extra", "0.bias float32[5], expected float32[4]"):
        assert part in str(mismatch.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    load_strict(module, good)
    assert all((tensor == 2).all() for tensor in module.state_dict().values())


def test_long_lists_are_shortened_in_the_message_only() -> None:
    with pytest.raises(CheckpointMismatch) as mismatch:
        load_strict(
            torch.nn.Linear(1, 1, bias=False),
            {"weight": torch.ones(1, 1), **{f"x{i}": torch.ones(1) for i in range(90)}},
        )
    assert "90 extra: x0, x1, x2, x3, x4 and 85 more" in str(mismatch.value)
    assert len(mismatch.value.extra) == 90 and len(str(mismatch.value)) < 250
