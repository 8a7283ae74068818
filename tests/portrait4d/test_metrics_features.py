"""Features of pictures: reading, resizing, batches, the cache, and what a distance says about itself."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fakes_dataset import INFO, make_record
from fakes_metrics import FakeExtractor, fill, random_pictures
from flame.errors import InputError
from portrait4d.metrics.distances import measure_frechet, measure_kernel
from portrait4d.metrics.feature_names import FRECHET_TITLES, KERNEL_TITLES
from portrait4d.metrics.features import cached_features, extract_features
from portrait4d.metrics.pictures import open_pictures
from portrait4d.metrics.resize import resize_clean
from preprocess.dataset.records.shards import write_shard
from preprocess.media.image import write_png

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
