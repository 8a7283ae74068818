"""The motion encoder: its crop, its network, its files."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from flame.errors import InputError
from flame.landmarks.sets import IBUG_EYES_AND_INNER_LIPS
from golden import Fixture
from preprocess.faces.alignment import warp
from preprocess.tracking.motion_code.crop import crop_faces, face_similarity
from preprocess.tracking.motion_code.encoder import MotionEncoder
from preprocess.tracking.motion_code.network import MotionEncoderNetwork

pytestmark = pytest.mark.usefixtures("one_thread")

TARGETS = torch.tensor([[87.0, 59.0], [137.0, 59.0], [112.0, 120.0]], dtype=torch.float64)


def _landmarks(points: torch.Tensor) -> torch.Tensor:
    """68 points `[1, 68, 2]` whose two eyes and inner lips scatter about three points `[3, 2]`."""
    scatter = torch.randn(68, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    landmarks = 100 + 50 * scatter
    for part, point in zip(IBUG_EYES_AND_INNER_LIPS, points, strict=True):
        landmarks[part] += point - landmarks[part].mean(0)
    return landmarks[None]


def test_a_similarity_is_recovered() -> None:
    angle, scale = torch.tensor(0.3, dtype=torch.float64), 2.5
    turn = scale * torch.stack([torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])])
    shift = torch.tensor([40.0, -7.0], dtype=torch.float64)
    matrix = face_similarity(_landmarks((TARGETS - shift) @ torch.linalg.inv(turn).T))[0]
    torch.testing.assert_close(matrix, torch.cat([turn, shift[:, None]], 1), atol=1e-9, rtol=0)


def test_the_similarity_is_the_best_one_and_no_mirror() -> None:
    points = TARGETS.flip(0) + torch.tensor([[3.0, 1.0], [-4.0, 2.0], [0.0, 9.0]], dtype=torch.float64)
    matrix = face_similarity(_landmarks(points))[0]
    assert torch.linalg.det(matrix[:, :2]) > 0

    def cost(a: float, b: float, shift: torch.Tensor) -> float:
        linear = torch.tensor([[a, -b], [b, a]], dtype=torch.float64)
        return float((points @ linear.T + shift - TARGETS).square().sum())

    a, b, shift = float(matrix[0, 0]), float(matrix[1, 0]), matrix[:, 2]
    best = cost(a, b, shift)
    for change in (1e-3, -1e-3):
        assert min(cost(a + change, b, shift), cost(a, b + change, shift), cost(a, b, shift + change)) > best


def test_one_point_for_a_face_is_refused() -> None:
    with pytest.raises(InputError, match="eyes and the mouth of a face coincide"):
        face_similarity(torch.full((1, 68, 2), 5.0))
    with pytest.raises(ValueError, match="68"):
        crop_faces(torch.zeros(1, 3, 64, 64), torch.zeros(2, 68, 2))


def test_warping_a_ramp_is_the_inverse_map() -> None:
    """Bilinear sampling is exact on a picture that is linear in its pixels' indices."""
    rows, columns = torch.meshgrid(torch.arange(80.0), torch.arange(100.0), indexing="ij")
    matrix = torch.tensor([[[1.5, -0.4, 12.0], [0.4, 1.5, -9.0]]])
    seen = warp(torch.stack([columns, rows])[None], matrix, side=32)[0]
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    inside = seen.abs().sum(0) > 0
    back = torch.einsum("ab,bhw->ahw", matrix[0, :, :2], seen) + matrix[0, :, 2, None, None]
    is_safe = inside & (seen[0] > 1) & (seen[1] > 1)
    assert is_safe.float().mean() > 0.5
    torch.testing.assert_close(back[:, is_safe], torch.stack([x, y])[:, is_safe], atol=1e-4, rtol=0)


def test_crop_equals_the_official_one(shared: Path) -> None:
    """The reference samples with a matrix rounded to float32: 7e-5 away from float64 by itself."""
    fixture = Fixture.load(shared, "p4d_motion_crop")
    landmarks = fixture.input("landmarks")
    matrix = face_similarity(landmarks)
    assert fixture.absolute_error("matrix", matrix) < 1e-5
    upside_down = landmarks * landmarks.new_tensor([1, -1]) + landmarks.new_tensor([0, 511])
    assert fixture.absolute_error("matrix_reverse_y", face_similarity(upside_down)) < 1e-5
    y, x = torch.meshgrid(torch.linspace(-1, 1, 512), torch.linspace(-1, 1, 512), indexing="ij")
    image = torch.stack([torch.sin(7 * y + 3 * x), torch.cos(15 * x * y), torch.sin(11 * x - 2 * y)])[None]
    assert fixture.error("warp", warp(image, matrix, side=224)) < 1.5e-4
    assert fixture.error("crop", crop_faces(image, landmarks)) < 1.5e-4


@pytest.fixture(scope="module")
def pdfgc(shared: Path) -> tuple[Fixture, MotionEncoderNetwork]:
    fixture = Fixture.load(shared, "p4d_pdfgc")
    network = MotionEncoderNetwork()
    fixture.fill(network)
    return fixture, network


def test_network_equals_the_official_one(pdfgc: tuple[Fixture, MotionEncoderNetwork], shared: Path) -> None:
    fixture, network = pdfgc
    names = json.loads((shared / "spec/manifests/pdfgc_fanencoder.json").read_text())
    assert {name: list(value.shape) for name, value in network.state_dict().items()} == {
        name: entry["shape"] for name, entry in names.items()
    }
    with torch.inference_mode():
        codes = network(fixture.input("img"))
    for name, value in {
        "headpose": codes.head_pose, "eye": codes.eye, "emo": codes.emotion, "mouth": codes.mouth,
        "motion": codes.motion,
    }.items():  # fmt: skip
        assert fixture.error(name, value) < 1e-4, name


def test_batch_equals_singles_and_the_parts(pdfgc: tuple[Fixture, MotionEncoderNetwork]) -> None:
    network = pdfgc[1]
    images = torch.rand(3, 3, 160, 192, generator=torch.Generator().manual_seed(1)) * 2 - 1
    landmarks = torch.cat([_landmarks(TARGETS * scale + 5) for scale in (0.7, 0.8, 0.9)])
    encoder = MotionEncoder(network)
    codes = encoder(images, landmarks, at_once=2)
    assert codes.shape == (3, 548) and encoder(images[:0], landmarks[:0]).shape == (0, 548)
    alone = torch.cat([encoder(image[None], points[None]) for image, points in zip(images, landmarks, strict=True)])
    parts = network(crop_faces(images, landmarks))
    scale = float(codes.std())
    torch.testing.assert_close(codes, alone, atol=1e-4 * scale, rtol=0)
    torch.testing.assert_close(codes[:, :6], parts.eye, atol=1e-4 * scale, rtol=0)
    torch.testing.assert_close(codes[:, 6:36], parts.emotion, atol=1e-4 * scale, rtol=0)
    assert (codes[0] - codes[1]).abs().max() > 1e-2 * scale


@pytest.fixture(scope="module")
def tensors(pdfgc: tuple[Fixture, MotionEncoderNetwork]) -> dict[str, torch.Tensor]:
    return {name: value.contiguous() for name, value in pdfgc[1].state_dict().items()}


def test_released_and_converted_files_are_read_alike(tensors: dict[str, torch.Tensor], tmp_path: Path) -> None:
    """Training heads are left out; a wrapping dictionary and the safetensors of a folder are the same tensors."""
    heads = {f"{part}.weight": torch.zeros(2, 2) for part in ("mouth_fc", "headpose_fc.0", "classifier", "to_feature")}
    torch.save({"model": tensors | heads | {"to_embed.1.bias": torch.zeros(3)}}, tmp_path / "motion_model.pth")
    torch.save(
        {name: value for name, value in tensors.items() if not name.endswith("num_batches_tracked")},
        tmp_path / "old.pth",
        _use_new_zipfile_serialization=False,
    )
    save_file(tensors, tmp_path / "model.safetensors")
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    landmarks = _landmarks(TARGETS / 4)
    codes = [
        MotionEncoder.load(path)(images, landmarks)
        for path in (tmp_path / "motion_model.pth", tmp_path / "old.pth", tmp_path, tmp_path / "model.safetensors")
    ]
    assert codes[0].abs().sum() > 0
    assert all(torch.equal(code, codes[0]) for code in codes[1:])


def test_wrong_files_get_one_line(tensors: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = tmp_path / "motion_model.pth"
    with pytest.raises(InputError, match="no such file"):
        MotionEncoder.load(path)
    name = "model.conv1.weight"
    for content, said in (
        ({key: value for key, value in tensors.items() if key != name}, f"1 missing: {name}"),
        (tensors | {"to_teeth.weight": torch.zeros(1)}, "1 extra: to_teeth.weight"),
        (tensors | {name: torch.zeros(64, 3, 7, 5)}, r"1 misshapen: model.conv1.weight \[64, 3, 7, 5\]"),
        ({"G": [1, 2]}, "does not hold named tensors only"),
        ({"network": Path("x")}, "not a file of tensors"),
    ):
        torch.save(content, path)
        with pytest.raises(InputError, match=said) as caught:
            MotionEncoder.load(path)
        assert "\n" not in str(caught.value)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(InputError, match="not a file of tensors"):
        MotionEncoder.load(path)
    (tmp_path / "model.safetensors").write_bytes(b"\0" * 9)
    with pytest.raises(InputError, match="damaged"):
        MotionEncoder.load(tmp_path)
