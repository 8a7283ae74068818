"""Files that an earlier commit wrote are read today with the same content (made by `support/make_old_files.py`)."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch

from content_digest import describe, find, leaves
from flame.heads.open_head import load_open_head
from places import ROOT
from portrait4d.engines.lift.avatar import LiftAvatar
from portrait4d.engines.portrait4d.avatar import Portrait4DAvatar
from portrait4d.gan.discriminator import DualDiscriminator, DualDiscriminatorConfig, JudgedImages
from portrait4d.jobs.demo import MOTION_FILE
from portrait4d.reconstructor.config import ReconstructorConfig
from portrait4d.weights.eg3d_config import EG3DConfig
from portrait4d.weights.official.convert import convert_file
from portrait4d.weights.official.state import LABEL_STD, to_official
from portrait4d.weights.official.stored_tensor import read_all
from portrait4d.weights.own_format import read_checkpoint
from portrait4d.weights.strict import load_strict
from preprocess.dataset.records.shards import read_shard, verify_shard
from preprocess.tracking.motion import Motion

DATA = ROOT / "tests" / "data"
WEIGHTS = "5a" * 32
"""The hash that the avatar of the Portrait4D engines was made to name."""


@pytest.fixture(params=["8c783d8"])
def folder(request: pytest.FixtureRequest) -> Path:
    """The files of a commit."""
    return DATA / "old" / request.param


def expected_of(folder: Path) -> dict[str, Any]:
    """What the files hold, by the code that wrote them."""
    return json.loads((folder / "expected.json").read_text(encoding="utf-8"))


def assert_holds(value: Any, expected: dict[str, Any]) -> None:
    """Every field that there was is there, with the same content; fields may have been added since."""
    for path, content in expected.items():
        assert describe(find(value, path)) == content, path


@pytest.mark.parametrize("name", ["demo_motion.npz", "photo.npz", "clip.npz"])
def test_motion_files(folder: Path, name: str) -> None:
    path = MOTION_FILE if name == "demo_motion.npz" else folder / name
    motion = Motion.load(path)
    assert_holds(motion, expected_of(folder)[name])
    head = load_open_head()
    assert torch.isfinite(head(motion.params(head, 0))).all()


def test_a_motion_file_written_again_holds_the_same(folder: Path, tmp_path: Path) -> None:
    Motion.load(folder / "clip.npz").save(tmp_path / "again.npz")
    assert_holds(Motion.load(tmp_path / "again.npz"), expected_of(folder)["clip.npz"])


def test_avatar_of_lift(folder: Path) -> None:
    assert_holds(LiftAvatar.load(folder / "lift.safetensors"), expected_of(folder)["lift.safetensors"])


def test_avatar_of_the_portrait4d_engines(folder: Path) -> None:
    avatar = Portrait4DAvatar.load(folder / "portrait4d-v2.safetensors", engine="portrait4d-v2", weights=WEIGHTS)
    assert_holds(avatar, expected_of(folder)["portrait4d-v2.safetensors"])


@pytest.mark.parametrize("name", ["exact.tar", "small.tar"])
@pytest.mark.parametrize("has_index", [True, False])
def test_shards(folder: Path, name: str, has_index: bool, tmp_path: Path) -> None:
    expected = expected_of(folder)[name]
    path = folder / name
    if has_index:
        verify_shard(path)
    else:
        path = tmp_path / name
        path.write_bytes((folder / name).read_bytes())
    shard = read_shard(path)
    assert_holds(shard.info, expected["info"])
    records = {record.key: record for record in shard}
    assert list(records) == list(expected["records"])
    for key, content in expected["records"].items():
        image = content.pop("image")  # of a JPEG only the shape is known to the bit
        assert {name: value for name, value in describe(records[key].image).items() if name in image} == image
        assert_holds(records[key], content)


@pytest.mark.parametrize("name", ["discriminator", "generator", "reconstructor"])
def test_converted_weights(folder: Path, name: str) -> None:
    expected = expected_of(folder)[name]
    config, tensors = read_checkpoint(folder / name)
    assert_holds(config, expected["config"])
    assert describe(tensors) == expected["tensors"]
    kinds = {"generator": EG3DConfig, "reconstructor": ReconstructorConfig}
    if name in kinds:
        read = kinds[name].from_dict(config.architecture)
        assert read.to_dict() == kinds[name].from_dict(json.loads(json.dumps(read.to_dict()))).to_dict()
        for field in fields(kinds[name]):
            if field.name in config.architecture:
                stored, plain = config.architecture[field.name], read.to_dict()[field.name]
                kept = {key: plain[key] for key in stored} if isinstance(stored, dict) else plain
                assert describe(kept) == describe(stored), field.name


def test_a_converted_network_answers_as_it_did(folder: Path) -> None:
    """The tolerance is for other processors' and torch's order of summing."""
    config, tensors = read_checkpoint(folder / "discriminator")
    network = DualDiscriminator(DualDiscriminatorConfig.from_official(config.official["init_kwargs"])).eval()
    load_strict(network, tensors)
    image = torch.linspace(-1, 1, 2 * 3 * 16 * 16).reshape(2, 3, 16, 16)
    images = JudgedImages(image, image.flip(3)[:, :, ::2, ::2])
    with torch.no_grad():
        logits = network(images, torch.linspace(-1, 1, 50).reshape(2, 25)).flatten()
    assert logits.tolist() == pytest.approx(expected_of(folder)["discriminator"]["logits"], rel=1e-4, abs=1e-5)


def test_the_official_file_converts_to_the_same(folder: Path) -> None:
    config, tensors = read_checkpoint(folder / "discriminator")
    again = convert_file(folder / "official.pkl", network="discriminator")
    read = read_all(again.tensors)
    assert describe(dict(sorted(read.items()))) == describe(dict(sorted(tensors.items())))
    assert to_official(config, tensors)[LABEL_STD].tolist() == torch.linspace(0, 1, 25).tolist()
    assert again.config.official == config.official


def test_a_changed_number_is_seen(folder: Path) -> None:
    """The comparison must be able to fail."""
    motion = Motion.load(folder / "clip.npz")
    motion.rotation[1, 2] += 1e-6
    expected = expected_of(folder)["clip.npz"]
    different = [path for path, content in leaves(motion) if path in expected and content != expected[path]]
    assert different == ["rotation"]
