"""Distances and face recognisers by name: stand-ins by their mathematics, files of the user, what is missing."""

import math
import sys
import types
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from flame.errors import InputError
from flame.landmarks.sets import IBUG_LEFT_EYE, IBUG_MOUTH, IBUG_RIGHT_EYE
from portrait4d.losses.embedders import load_embedder, thumbnail
from portrait4d.losses.perceptual import load_perceptual, pyramid_distance
from portrait4d.losses.pictures import region_map


def test_the_pyramid_is_a_distance() -> None:
    torch.manual_seed(0)
    first, second, third = (torch.rand(2, 3, 64, 64) for _ in range(3))
    assert torch.equal(pyramid_distance(first, first), torch.zeros(2))
    assert torch.allclose(pyramid_distance(first, second), pyramid_distance(second, first))
    assert (pyramid_distance(first, third) <= pyramid_distance(first, second) + pyramid_distance(second, third)).all()
    assert torch.allclose(pyramid_distance(2 * first, 2 * second), 2 * pyramid_distance(first, second))


def test_the_pyramid_counts_each_scale_alike() -> None:
    """A constant is in its coarsest level alone; fine stripes in its finest; 64 px have four levels."""
    flat = torch.full((1, 1, 64, 64), 0.5)
    assert pyramid_distance(flat, torch.zeros_like(flat)).item() == pytest.approx(0.5 / 4)
    stripes = torch.zeros(1, 1, 64, 64)
    stripes[..., ::2], stripes[..., 1::2] = 1, -1
    assert pyramid_distance(stripes, torch.zeros_like(stripes)).item() == pytest.approx(1 / 4)
    assert pyramid_distance(flat[..., :8, :8], torch.zeros(1, 1, 8, 8)).item() == pytest.approx(0.5)


def test_blur_costs_more_than_its_share_of_pixels() -> None:
    """Unlike the absolute difference, it is about detail as well."""
    torch.manual_seed(0)
    sharp = torch.rand(1, 1, 64, 64)
    blurred = nn.functional.avg_pool2d(sharp, 3, 1, 1)
    shifted = sharp + (sharp - blurred).abs().mean()
    same_l1 = (sharp - blurred).abs().mean() == pytest.approx((sharp - shifted).abs().mean())
    assert same_l1 and pyramid_distance(sharp, blurred) > 1.2 * pyramid_distance(sharp, shifted)
    assert load_perceptual("pyramid") is pyramid_distance


def _landmarks() -> Tensor:
    points = torch.full((1, 70, 2), 32.0)
    places = {IBUG_RIGHT_EYE: [22.0, 28.0], IBUG_LEFT_EYE: [42.0, 28.0], IBUG_MOUTH: [32.0, 46.0]}
    for feature, place in places.items():
        points[:, list(feature)] = torch.tensor(place)
    return points - 0.5


def test_eyes_and_mouth_are_where_the_landmarks_say() -> None:
    found = region_map(_landmarks(), size=64, side=64)
    assert found.shape == (1, 1, 64, 64) and found.min() >= 0 and found.max() <= 1
    peaks = {(28, 22), (28, 42), (46, 32)}  # rows, columns; a corner between four pixels
    for row, column in peaks:
        assert found[0, 0, row - 1 : row + 1, column - 1 : column + 1].min() > 0.98
    width = 0.3 * 20
    assert found[0, 0, 28, 22 - 7].item() == pytest.approx(math.exp(-(6.5**2 + 0.5**2) / (2 * width**2)), rel=1e-4)
    assert found[0, 0, 2, 2] < 1e-3
    small = region_map(_landmarks(), size=32, side=64)
    assert torch.allclose(small, nn.functional.avg_pool2d(found, 2), atol=0.05)


def test_thumbnails_ignore_light_and_see_faces() -> None:
    torch.manual_seed(0)
    faces = nn.functional.interpolate(torch.rand(2, 3, 14, 14), size=112, mode="bilinear")
    vectors = thumbnail(faces)
    assert vectors.shape == (2, 196) and vectors.mean(1).abs().max() < 1e-6
    brighter = torch.cosine_similarity(thumbnail(faces + 0.2), vectors)
    assert brighter.min() > 0.999 and torch.cosine_similarity(vectors[:1], vectors[1:]).item() < 0.5
    assert load_embedder("thumbnail") is thumbnail


class _Recogniser(nn.Module):
    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.layer = nn.Linear(channels, 5)

    def forward(self, faces: Tensor) -> Tensor:
        return self.layer(faces.mean((2, 3)))


def test_a_recogniser_of_a_torchscript_file_is_differentiable(tmp_path: Path) -> None:
    network = _Recogniser()
    torch.jit.script(network).save(str(tmp_path / "face.pt"))
    embed = load_embedder(str(tmp_path / "face.pt"))
    faces = torch.rand(2, 3, 112, 112, requires_grad=True)
    assert torch.allclose(embed(faces), network(faces))
    embed(faces).sum().backward()
    assert faces.grad is not None and faces.grad.abs().sum() > 0


def test_recognisers_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    torch.jit.script(_Recogniser(channels=1)).save(str(tmp_path / "grey.pt"))
    (tmp_path / "broken.pt").write_bytes(b"nothing")
    (tmp_path / "face.onnx").write_bytes(b"nothing")
    (tmp_path / "weights.bin").write_bytes(b"nothing")
    for name, match in (
        ("grey.pt", "RGB of 112"),
        ("broken.pt", "torch.jit.save"),
        ("face.onnx", "onnx2torch|another file"),
        ("weights.bin", "ending in"),
        ("missing.pt", "thumbnail"),
    ):
        with pytest.raises(InputError, match=match):
            load_embedder(str(tmp_path / name))


def test_a_distance_of_a_package_is_frozen_and_differentiable(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a stand-in for the package; the real one is tried where it is installed."""

    class LPIPS(nn.Module):
        def __init__(self, **options: object) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.tensor(2.0))
            assert options == {"net": "vgg", "variant": "shift_tolerant", "verbose": False}

        def forward(self, first: Tensor, second: Tensor) -> Tensor:
            return self.weight * (first - second).square().mean((1, 2, 3), keepdim=True)

    module = types.ModuleType("stlpips_pytorch.stlpips")
    module.LPIPS = LPIPS  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "stlpips_pytorch", types.ModuleType("stlpips_pytorch"))
    monkeypatch.setitem(sys.modules, "stlpips_pytorch.stlpips", module)
    distance = load_perceptual("st-lpips-vgg")
    first, second = torch.rand(3, 3, 8, 8, requires_grad=True), torch.rand(3, 3, 8, 8)
    found = distance(first, second)
    assert found.shape == (3,)
    found.sum().backward()
    assert first.grad is not None and first.grad.abs().sum() > 0
