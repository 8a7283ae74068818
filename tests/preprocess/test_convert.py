"""Datasets of others to shards and back: nothing is lost that they know, and nothing is made up."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from fakes_dataset import INFO, assert_same, make_record
from flame.errors import InputError
from portrait4d.cli.main import run
from preprocess.dataset.formats.convert import eg3d_to_shards, find_format, lmdb_to_shards, shards_to_eg3d
from preprocess.dataset.formats.eg3d_format import HEADS_IN_EG3D, eg3d_from_ours, read_eg3d, write_eg3d
from preprocess.dataset.formats.lmdb_format import record_to_vector437
from preprocess.dataset.reading.dataset import Dataset, collate
from preprocess.dataset.reading.flip import HeadMirror, flip_record
from preprocess.dataset.records.shards import verify_shard, write_shard
from toy_lmdb import CODES, FRAMES, IMAGES, LABELS, MASKS, ffhq_message, genhead_message, vfhq_message, write_lmdb

NUM = 5


def _eg3d_items() -> list[tuple[np.ndarray, np.ndarray]]:
    """Cameras around the head as EG3D has them: 2.7 from the origin, OpenCV axes, looking at it."""
    random = np.random.default_rng(2)
    items = []
    for _ in range(NUM):
        turn = Rotation.from_rotvec(random.uniform(-0.6, 0.6, 3)).as_matrix()
        cam2world = np.eye(4)
        cam2world[:3, :3] = turn @ np.diag([1, -1, -1])
        cam2world[:3, 3] = turn @ [0, 0, 2.7]
        lens = [4.2647, 0, 0.5, 0, 4.2647, 0.5, 0, 0, 1]
        image = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        items.append((image, np.concatenate([cam2world.ravel(), lens]).astype(np.float32)))
    return items


@pytest.mark.parametrize("name", ["set.zip", "set"])
@pytest.mark.parametrize("origin", ["open", "flame"])
def test_eg3d_to_shards_and_back(tmp_path: Path, name: str, origin) -> None:
    items = _eg3d_items()
    write_eg3d(tmp_path / name, items)
    told = []
    paths = eg3d_to_shards(
        tmp_path / name, tmp_path / "shards", origin=origin, items_per_shard=2,
        progress=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    assert [len(verify_shard(path)) for path in paths] == [2, 2, 1] and told[-1] == (NUM, NUM)
    dataset = Dataset(tmp_path / "shards")
    assert (dataset.info.head_model, dataset.info.landmarks, dataset.info.mask) == (origin, "0", "none")
    for index, (image, label) in enumerate(items):
        record = dataset[index]
        assert (record.image == image).all() and (record.mask == 255).all() and record.landmarks.shape == (0, 3)
        wanted = eg3d_from_ours(record.camera[None], HEADS_IN_EG3D[origin], units_per_metre=3.0)[0]
        np.testing.assert_allclose(wanted, label, atol=1e-6)
        # what the record promises: the neck repeats the turn that the camera shows
        world2cam = np.linalg.inv(record.camera[:16].reshape(4, 4))
        np.testing.assert_allclose(Rotation.from_rotvec(record.neck).as_matrix(), world2cam[:3, :3], atol=1e-6)
        assert record.shape.size == record.expression.size == 0 and not record.jaw.any() and not record.eyes.any()
    assert shards_to_eg3d(tmp_path / "shards", tmp_path / "back.zip") == NUM
    for (image, label), (wanted, wanted_label) in zip(read_eg3d(tmp_path / "back.zip"), items, strict=True):
        assert (image == wanted).all()
        np.testing.assert_allclose(label, wanted_label, atol=2e-6)


def test_eg3d_lens_and_distance_if_asked_for(tmp_path: Path) -> None:
    record = make_record("a", code_size=0, landmarks=0)
    camera = np.concatenate([np.eye(4).ravel(), [4.757, 0, 0.5, 0, 4.757, 0.5, 0, 0, 1]]).astype(np.float32)
    camera[11] = 4.2
    info = replace(INFO, landmarks="0", code_size=0)
    write_shard(tmp_path / "set" / "a.tar", info, [replace(record, camera=camera)])
    shards_to_eg3d(tmp_path / "set", tmp_path / "kept")
    shards_to_eg3d(tmp_path / "set", tmp_path / "lens", has_eg3d_lens=True)
    kept, lens = (read_eg3d(tmp_path / name).labels[0] for name in ("kept", "lens"))
    assert kept[16] == pytest.approx(4.757) and np.linalg.norm(kept[[3, 7, 11]]) != pytest.approx(2.7, abs=0.1)
    assert lens[16] == pytest.approx(2985.29 / 700) and np.linalg.norm(lens[[3, 7, 11]]) == pytest.approx(2.7)


@pytest.mark.parametrize("message", ["genhead", "ffhq", "vfhq"])
def test_lmdb_to_shards_keeps_all_it_has(tmp_path: Path, message) -> None:
    encode = {"genhead": genhead_message, "ffhq": ffhq_message}.get(message)
    write_lmdb(tmp_path / "toy", [vfhq_message()] * 2 if encode is None else [encode(frame) for frame in range(FRAMES)])
    paths = lmdb_to_shards(tmp_path / "toy", message, tmp_path / "shards", items_per_shard=4)
    records = [record for path in paths for record in verify_shard(path)]
    assert len(records) == (2 * FRAMES if encode is None else FRAMES)
    for index, record in enumerate(records):
        frame = index % FRAMES
        assert (record.image == IMAGES[frame]).all() and (record.mask == MASKS[frame]).all()
        assert (record_to_vector437(record) == LABELS[frame]).all() and (record.code == CODES[frame, :548]).all()
        assert record.source == f"toy/{index // FRAMES if encode is None else index:08d}"
        assert record.key.endswith(f"-{frame:06d}") == (encode is None)
    dataset = Dataset(tmp_path / "shards")
    assert dataset.info.head_model == "flame" and dataset.info.code_size == 548
    assert collate([dataset[0], dataset[1]]).landmarks.shape == (2, 0, 3)


def test_two_lmdbs_can_be_listed_together(tmp_path: Path) -> None:
    """Their keys are the same numbers; the records' are not."""
    for name, frame in (("a", 0), ("b", 1)):
        lmdb_to_shards(write_lmdb(tmp_path / name, [ffhq_message(frame)]), "ffhq", tmp_path / f"{name}-shards")
    assert len(Dataset([tmp_path / "a-shards", tmp_path / "b-shards"])) == 2


def test_records_without_landmarks_are_written_read_and_mirrored(tmp_path: Path) -> None:
    record = make_record("a", code_size=0, landmarks=0)
    write_shard(tmp_path / "a.tar", replace(INFO, landmarks="0", code_size=0), [record])
    (found,) = verify_shard(tmp_path / "a.tar")
    assert_same(found, record)
    mirror = HeadMirror(np.eye(5, dtype=np.float32), np.eye(7, dtype=np.float32), 0.0)
    twice = flip_record(flip_record(record, mirror), mirror)
    assert twice.landmarks.shape == (0, 3) and (twice.image == record.image).all()
    with pytest.raises(ValueError, match=r"expected landmarks float32 \[68, 3\]"):
        write_shard(tmp_path / "b.tar", replace(INFO, code_size=0), [record])


def test_the_command_sees_what_lies_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_eg3d(tmp_path / "set", _eg3d_items())
    convert = ["data", "convert", "--quiet"]
    assert run([*convert, str(tmp_path / "set"), "-o", str(tmp_path / "shards"), "--origin", "open"]) == 0
    assert "5 pictures in 1 shard\n" in capsys.readouterr().out
    assert run([*convert, str(tmp_path / "shards"), "-o", str(tmp_path / "back.zip"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"output": str(tmp_path / "back.zip"), "pictures": 5, "shards": 0}
    write_lmdb(tmp_path / "toy", [ffhq_message(0)])
    assert run([*convert, str(tmp_path / "toy"), "-o", str(tmp_path / "more")]) == 2
    assert "--message" in capsys.readouterr().err
    assert run([*convert, str(tmp_path / "toy"), "-o", str(tmp_path / "more"), "--message", "ffhq"]) == 0
    assert run([*convert, str(tmp_path / "toy"), "-o", str(tmp_path / "more"), "--message", "ffhq"]) == 2
    assert "expected a new or empty folder" in capsys.readouterr().err
    assert run([*convert, str(tmp_path / "toy" / "lock.mdb"), "-o", str(tmp_path / "x")]) == 2
    (tmp_path / "empty").mkdir()
    assert run([*convert, str(tmp_path / "empty"), "-o", str(tmp_path / "x")]) == 2
    assert "it is none" in capsys.readouterr().err


def test_what_does_not_belong_together_is_refused(tmp_path: Path) -> None:
    items = _eg3d_items()
    write_eg3d(tmp_path / "set", items[:2])
    write_eg3d(tmp_path / "large", [(np.zeros((64, 64, 3), np.uint8), items[0][1])])
    (tmp_path / "set/00000/img00000001.png").write_bytes((tmp_path / "large/00000/img00000000.png").read_bytes())
    with pytest.raises(InputError, match=r"img00000001.png: expected a picture \[32, 32, 3\]"):
        eg3d_to_shards(tmp_path / "set", tmp_path / "out")
    assert not (tmp_path / "out").exists() or not any(tmp_path.glob("out/*.tar"))
    with pytest.raises(InputError, match="at least 1 record"):
        eg3d_to_shards(tmp_path / "large", tmp_path / "out", items_per_shard=0)
    with pytest.raises(InputError, match="none"):
        find_format(tmp_path / "absent")
