"""Identity and perceptual distance: how faces reach the network, and what is said where there is none."""

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from flame.errors import InputError
from flame.landmarks.sets import FIVE_POINTS
from portrait4d.evaluation.identity import ArcFaceFile, align_face, load_face_vectors
from portrait4d.evaluation.perceptual import PerceptualDistance
from preprocess.faces.alignment import ARCFACE_PLACES
from preprocess.media.image import read_image
from preprocess.tracking.tracker import Tracker


def landmarks_at(places: np.ndarray) -> np.ndarray:
    """478 landmarks whose five points are at places `[5, 2]`."""
    points = np.zeros((478, 3))
    for averaged, place in zip(FIVE_POINTS[478], places, strict=True):
        points[list(averaged), :2] = place
    return points


@pytest.mark.parametrize(("width", "shift"), [(112, 0), (96, 8)])
def test_a_face_at_the_places_is_cut_out_as_it_is(width: int, shift: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (112, 112, 3), np.uint8)
    face = align_face(image, landmarks_at(ARCFACE_PLACES + 0.5), width=width)
    assert np.array_equal(face, image[:, shift : shift + width])


def test_a_larger_face_elsewhere_lands_on_the_places() -> None:
    places = (ARCFACE_PLACES + 0.5) * 2 + [40, 60]
    image = np.zeros((400, 400, 3), np.uint8)
    nose = places[2].astype(int)
    image[nose[1] - 4 : nose[1] + 5, nose[0] - 4 : nose[0] + 5] = 255
    bright = np.argwhere(align_face(image, landmarks_at(places))[..., 0] > 128)
    assert bright.mean(0)[::-1] == pytest.approx(ARCFACE_PLACES[2], abs=0.6)


def test_files_that_are_no_face_network_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is none"):
        load_face_vectors(str(tmp_path / "absent.onnx"))
    (tmp_path / "text.onnx").write_text("no network")
    with pytest.raises(InputError, match="cannot be read"):
        load_face_vectors(str(tmp_path / "text.onnx"))


def test_a_true_network_knows_a_person_again(shared: Path, one_thread: None) -> None:
    file = shared / "tools" / "weights" / "mobilefacenet_068.onnx"
    if not file.is_file():
        pytest.skip("the reference material holds no face network")
    network, tracker = ArcFaceFile(file), Tracker()
    vectors = []
    for name in ("A1", "A2", "B1"):
        image = read_image(shared / "data" / "pairs" / f"{name}.jpg")
        vectors.append(network(image, tracker.track_image(image).landmarks.points))
    assert np.linalg.norm(vectors[0]) == pytest.approx(1) and len(network.digest) == 64
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2


def test_perceptual_distance_gives_pictures_in_the_networks_range(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    class Network(torch.nn.Module):
        def __init__(self, **options: object) -> None:
            super().__init__()
            seen.append(options)

        def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
            seen.append((first.shape, float(first.min()), float(first.max())))
            return (first - second).abs().mean()

    package, module = ModuleType("stlpips_pytorch"), ModuleType("stlpips_pytorch.stlpips")
    monkeypatch.setattr(module, "LPIPS", Network, raising=False)
    monkeypatch.setitem(sys.modules, "stlpips_pytorch", package)
    monkeypatch.setitem(sys.modules, "stlpips_pytorch.stlpips", module)
    distance = PerceptualDistance("st-lpips-alex")
    black, white = np.zeros((8, 6, 3), np.uint8), np.full((8, 6, 3), 255, np.uint8)
    assert distance(white, white) == 0 and distance(black, white) == 2
    assert seen[0]["net"] == "alex" and seen[0]["variant"] == "shift_tolerant"
    assert seen[1] == ((1, 3, 8, 6), 1.0, 1.0)


@pytest.mark.parametrize(("name", "extra"), [("lpips-squeeze", "lpips"), ("st-lpips-vgg", "st-lpips")])
def test_a_missing_package_is_named_with_its_command(name: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lpips", None)
    monkeypatch.setitem(sys.modules, "stlpips_pytorch", None)
    with pytest.raises(InputError, match=rf"portrait4d\[{extra}\]"):
        PerceptualDistance(name)  # pyright: ignore[reportArgumentType]
