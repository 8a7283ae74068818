"""Pictures and labels for EG3D's training: worlds, axes, mirrors, sizes, and what is refused."""

import copy
import json
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fakes_dataset import INFO, make_record
from flame.errors import InputError
from flame.geometry.camera import Camera
from portrait4d.eg3d.training_pictures import DataConfig, TrainingPictures
from preprocess.dataset.formats.convert import eg3d_to_shards
from preprocess.dataset.formats.eg3d_format import HEADS_IN_EG3D, ours_from_eg3d
from preprocess.dataset.reading.balance import replica_counts, yaw_degrees
from preprocess.dataset.records.record import DatasetInfo
from preprocess.dataset.records.record_codec import encode_record
from preprocess.dataset.records.shards import read_shard, write_encoded
from toy_eg3d import SIDE, disc_labels, discs, make_discs

COUNT = 6


@pytest.fixture(scope="module")
def zipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_discs(tmp_path_factory.mktemp("discs") / "discs.zip", COUNT)


@pytest.fixture(scope="module")
def shards(zipped: Path) -> Path:
    """The same pictures as records of the project."""
    folder = zipped.parent / "shards"
    eg3d_to_shards(zipped, folder, items_per_shard=4)
    return folder


def _config(*paths: Path, **changes: object) -> DataConfig:
    return DataConfig(**({"paths": tuple(map(str, paths))} | changes))  # pyright: ignore[reportArgumentType]


def test_a_zip_and_its_folder_give_pictures_as_they_are(zipped: Path, tmp_path: Path) -> None:
    folder = make_discs(tmp_path / "folder", COUNT)
    for path in (zipped, folder):
        pictures = TrainingPictures(_config(path, mirror=False), side=SIDE, axes="opencv")
        assert len(pictures) == COUNT and np.array_equal(pictures.labels, disc_labels(COUNT))
        for index, (image, label) in enumerate(discs(COUNT)):
            found = copy.copy(pictures)[index]
            assert np.array_equal(found.image, image) and np.array_equal(found.label, label)


def test_records_come_back_to_eg3d_s_world(zipped: Path, shards: Path) -> None:
    own = TrainingPictures(_config(shards, lens="own", crop="eg3d"), side=SIDE, axes="opencv")
    plain = TrainingPictures(_config(zipped), side=SIDE, axes="opencv")
    assert np.abs(own.labels - plain.labels).max() < 1e-5
    assert all(np.array_equal(own[index].image, plain[index].image) for index in range(len(own)))
    lens = TrainingPictures(_config(shards), side=SIDE, axes="opencv").labels
    assert np.allclose(np.linalg.norm(lens[:, [3, 7, 11]], axis=1), 2.7, atol=1e-6)
    assert np.allclose(lens[:, 16], 2985.29 / 700, atol=1e-6) and np.abs(lens[:, 16] - own.labels[:, 16]).min() > 1e-3
    assert (
        own.digest != plain.digest != TrainingPictures(_config(zipped, mirror=False), side=SIDE, axes="opencv").digest
    )


def test_labels_have_the_axes_of_the_network(zipped: Path) -> None:
    opencv = TrainingPictures(_config(zipped), side=SIDE, axes="opencv").labels
    opengl = TrainingPictures(_config(zipped), side=SIDE, axes="opengl").labels
    first = Camera.from_label25(torch.from_numpy(opencv), axes="opencv")
    second = Camera.from_label25(torch.from_numpy(opengl), axes="opengl")
    assert torch.equal(first.cam2world, second.cam2world) and not np.allclose(opencv, opengl)


def test_portrait4d_s_world_is_that_of_the_records(zipped: Path, shards: Path) -> None:
    config = _config(shards, world="portrait4d", lens="own", mirror=False)
    found = TrainingPictures(config, side=SIDE, axes="opengl").labels
    assert np.abs(found - ours_from_eg3d(disc_labels(COUNT), HEADS_IN_EG3D["flame"], units_per_metre=3.0)).max() < 1e-5


def test_mirrored_pictures_show_mirrored_points(zipped: Path) -> None:
    """A point of the head and its mirror image fall on mirrored pixels."""
    pictures = TrainingPictures(_config(zipped), side=SIDE, axes="opencv")
    assert len(pictures) == 2 * COUNT
    point = torch.tensor([[[0.1, 0.05, 0.2]]]).expand(COUNT, -1, -1)
    cameras = Camera.from_label25(torch.from_numpy(pictures.labels), axes="opencv")
    straight, _ = cameras[slice(0, COUNT)].project(point, height=SIDE, width=SIDE)
    turned, _ = cameras[slice(COUNT, 2 * COUNT)].project(point * torch.tensor([-1, 1, 1]), height=SIDE, width=SIDE)
    assert (SIDE - straight[..., 0]).allclose(turned[..., 0], atol=1e-3)
    assert straight[..., 1].allclose(turned[..., 1], atol=1e-3)
    assert np.array_equal(pictures[COUNT].image, pictures[0].image[:, ::-1])


def test_balanced_pictures_are_repeated_by_their_yaw(zipped: Path) -> None:
    opengl = TrainingPictures(_config(zipped, mirror=False), side=SIDE, axes="opengl").labels
    counts = replica_counts(yaw_degrees(opengl))
    assert set(counts) == {1, 2}
    found = TrainingPictures(_config(zipped, mirror=False, is_balanced=True), side=SIDE, axes="opengl")
    assert np.array_equal(found.labels, np.repeat(opengl, counts, axis=0))
    second = int(np.repeat(np.arange(COUNT), counts)[1])
    assert np.array_equal(found[1].image, list(discs(COUNT))[second][0])


def test_larger_pictures_are_shrunk_by_area(tmp_path: Path) -> None:
    path = make_discs(tmp_path / "large.zip", 2, side=2 * SIDE)
    found = TrainingPictures(_config(path), side=SIDE, axes="opencv")[0].image
    large = next(discs(2, 2 * SIDE))[0].reshape(SIDE, 2, SIDE, 2, 3).mean((1, 3))
    assert found.shape == (SIDE, SIDE, 3) and np.abs(found - large).max() <= 1


def _shard(folder: Path, info: DatasetInfo, *, is_broken: bool = False) -> Path:
    record = make_record("0" * 32, side=info.image_size)
    camera = record.camera.copy()
    camera[5] = np.nan if is_broken else camera[5]
    parts = encode_record(replace(record, camera=camera))  # `write_shard` would refuse it
    write_encoded(folder / "a.tar", info, [(record.key, parts)])
    return folder


def test_what_cannot_be_learned_from_is_refused(zipped: Path, shards: Path, tmp_path: Path) -> None:
    def refused(*paths: Path, said: str, side: int = SIDE, **changes: object) -> None:
        with pytest.raises(InputError, match=said):
            TrainingPictures(_config(*paths, **changes), side=side, axes="opencv")[0]

    refused(said="set data.paths")
    refused(tmp_path / "absent.zip", said=r"absent\.zip")
    refused(zipped, shards, said="eg3d and shards in 2 paths")
    refused(zipped, zipped, said="in 2 paths")
    refused(zipped, said="square of 256 px or more, got 128 x 128", side=256)
    refused(shards, said="square of 256 px or more", side=256)
    refused(shards, said="crop portrait4d, got eg3d", crop="portrait4d", lens="own")
    refused(zipped, said="its own crop and world", world="portrait4d", lens="own")
    for name, info, said, is_broken in (
        ("unknown", replace(INFO, head_model="other", crop="eg3d"), "head model other", False),
        ("broken", replace(INFO, crop="eg3d"), "a.tar: 0000.*finite", True),
    ):
        (tmp_path / name).mkdir()
        refused(_shard(tmp_path / name, info, is_broken=is_broken), said=said, side=32)
    with pytest.raises(InputError, match="data.lens own"):
        DataConfig(crop="portrait4d")
    labels = json.dumps({"labels": [["a.png", [float("inf")] * 25]]})
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "dataset.json").write_text(labels)
    refused(tmp_path / "folder", said="finite")


def _rewritten(zipped: Path, path: Path, change: Callable[[str, bytes], bytes]) -> Path:
    """A zip with other contents of its members."""
    with zipfile.ZipFile(zipped) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return path


def _with_label(label: Callable[[list[float]], list]) -> Callable[[str, bytes], bytes]:
    """Changes the label of the third picture."""

    def change(name: str, content: bytes) -> bytes:
        if name != "dataset.json":
            return content
        listed = json.loads(content)
        listed["labels"][2][1] = label(listed["labels"][2][1])
        return json.dumps(listed).encode()

    return change


def test_damaged_zips_are_refused_in_one_line(zipped: Path, tmp_path: Path) -> None:
    """A picture's damage is met when it is read."""
    cut = tmp_path / "cut.zip"
    cut.write_bytes(zipped.read_bytes()[:3000])

    def short(name: str, content: bytes) -> bytes:
        return content[:100] if name.endswith("3.png") else content

    for path, said in (
        (_rewritten(zipped, tmp_path / "short.zip", _with_label(lambda label: label[:24])), "25 numbers"),
        (_rewritten(zipped, tmp_path / "words.zip", _with_label(lambda label: [*label[:24], "x"])), "25 numbers"),
        (_rewritten(zipped, tmp_path / "nan.zip", _with_label(lambda label: [*label[:24], np.nan])), "25 finite"),
        (cut, "cut.zip"),
    ):
        with pytest.raises(InputError, match=said) as error:
            TrainingPictures(_config(path), side=SIDE, axes="opencv")
        assert "\n" not in str(error.value)
    pictures = TrainingPictures(_config(_rewritten(zipped, tmp_path / "late.zip", short)), side=SIDE, axes="opencv")
    with pytest.raises(InputError, match="3.png is damaged: copy the dataset again"):
        pictures[3]


def test_damaged_and_mixed_shards_are_refused_in_one_line(shards: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    shutil.copytree(shards, folder)
    first = sorted(folder.glob("*.tar"))[0]
    shard, whole = read_shard(first), first.read_bytes()
    member = shard.members[f"{shard.keys[1]}.image.png"]
    first.write_bytes(whole[: member.offset + 50] + bytes(20) + whole[member.offset + 70 :])
    pictures = TrainingPictures(_config(folder), side=SIDE, axes="opencv")
    assert pictures[0].image.any()
    with pytest.raises(InputError, match=f"{shard.keys[1]}.image.png") as error:
        pictures[1]
    assert "\n" not in str(error.value)
    first.write_bytes(whole[:3000])
    with pytest.raises(InputError, match=first.name):
        TrainingPictures(_config(folder), side=SIDE, axes="opencv")
    first.write_bytes(whole)
    for change in ({"crop": "portrait4d"}, {"head_model": "open"}):
        info = replace(shard.info, **change)
        with first.open("rb") as file:
            record = encode_record(shard.read(shard.keys[0], file))
        write_encoded(folder / "other.tar", info, [("0" * 32, record)])
        with pytest.raises(InputError, match=f"of one kind, .* differ in {next(iter(change))}"):
            TrainingPictures(_config(folder), side=SIDE, axes="opencv")
