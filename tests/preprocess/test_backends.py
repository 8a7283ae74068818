"""Detector and mask backends: what reaches the libraries, what comes back, and what is said when they are not there.

Stand-ins take the libraries' places: their weights are not to be had here.
"""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from urllib.error import URLError

import numpy as np
import pytest
import torch

from flame.errors import InputError
from flame.landmarks.groups import EARS, NOSE_FRONT, outer_eye_distance
from flame.landmarks.ibug import to_68, to_70
from flame.landmarks.sets import IBUG_CONTOUR_ENDS, IBUG_NOSE_TIP
from preprocess.faces.aligned_crop import five_points, portrait_crop
from preprocess.faces.backends import load_detector, load_mask
from preprocess.faces.backends.detectors import FACE_ALIGNMENT_FILES
from preprocess.faces.backends.insightface_pack import IdentityEncoder
from preprocess.faces.backends.masks import PARSING_LABELS, FaceParser
from preprocess.media.image import read_image

IMAGE = np.zeros((40, 60, 3), np.uint8)
IMAGE[..., 0] = 200  # red, so that the order of the channels shows


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins fetch nothing."""
    monkeypatch.delenv("PORTRAIT4D_OFFLINE")


def face68(center: tuple[float, float], size: float, *, nose_z: float) -> np.ndarray:
    """68 points in a square; the nose tip alone has depth."""
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (68, 3)) * [size, size, 0]
    points[list(IBUG_CONTOUR_ENDS), :2] = [[-size / 2], [size / 2]]
    points[:, :2] += center
    points[IBUG_NOSE_TIP, 2] = nose_z
    return points


def stand_in(monkeypatch: pytest.MonkeyPatch, name: str, **content: object) -> None:
    module = ModuleType(name)
    module.__dict__.update(content)
    monkeypatch.setitem(sys.modules, name, module)


def raising(error: Exception):
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


class StandInAlignment:
    """face-alignment's interface; small face first, nearer is larger."""

    def __init__(self, landmarks_type: object, *, device: str, flip_input: bool, compile: bool) -> None:
        self.asked = (landmarks_type, device, flip_input, compile)
        self.face_detector = SimpleNamespace(detect_from_image=self.detect)
        self.boxes = [np.array([5, 5, 15, 15, 0.7]), np.array([20, 5, 50, 35, 0.9])]

    def detect(self, image: np.ndarray) -> list[np.ndarray]:
        self.seen = image
        return self.boxes

    def get_landmarks_from_image(self, image: np.ndarray, *, detected_faces: list[np.ndarray]) -> list[np.ndarray]:
        assert image is IMAGE and detected_faces is self.boxes
        return [face68((10, 10), 8, nose_z=3), face68((35, 20), 24, nose_z=5)]


def test_face_alignment_gives_faces_largest_first_and_nearer_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(
        monkeypatch,
        "face_alignment",
        FaceAlignment=StandInAlignment,
        LandmarksType=SimpleNamespace(TWO_D=1, TWO_HALF_D=2, THREE_D=3),
    )
    detect = load_detector("face-alignment", "cuda:0")
    network = detect._network  # pyright: ignore[reportFunctionMemberAccess]
    assert network.asked == (3, "cuda:0", False, False)
    large, small = detect(IMAGE)
    assert (network.seen == IMAGE).all(), "face-alignment reads RGB"
    assert (large.score, small.score) == (0.9, 0.7) and large.size == pytest.approx(24)
    assert large.landmark_set == "68" and large.points.shape == (68, 3) and large.points.dtype == np.float32
    np.testing.assert_allclose(large.points[:, :2], face68((35, 20), 24, nose_z=5)[:, :2], rtol=1e-6)
    assert large.points[IBUG_NOSE_TIP, 2] == -5 and small.points[IBUG_NOSE_TIP, 2] == -3
    network.boxes = []
    assert detect(IMAGE) == []


class StandInAnalysis:
    """insightface's interface; the depth is ours already."""

    def __init__(self, *, name: str, allowed_modules: list[str], providers: list[object]) -> None:
        self.asked = (name, allowed_modules, providers)
        self.models = dict.fromkeys(allowed_modules)

    def prepare(self, ctx_id: int, det_size: tuple[int, int]) -> None:
        self.prepared = (ctx_id, det_size)

    def get(self, image: np.ndarray) -> list[dict[str, object]]:
        self.seen = image
        return [
            {"landmark_3d_68": face68((10, 10), 8, nose_z=-3), "det_score": np.float32(0.5)},
            {"landmark_3d_68": face68((35, 20), 24, nose_z=-5), "det_score": np.float32(0.75)},
        ]


def test_insightface_reads_bgr_and_gives_faces_largest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, "insightface")
    stand_in(monkeypatch, "insightface.app", FaceAnalysis=StandInAnalysis)
    detect = load_detector("insightface")
    network = detect._analysis._network  # pyright: ignore[reportFunctionMemberAccess]
    assert network.asked == ("buffalo_l", ["detection", "landmark_3d_68"], ["CPUExecutionProvider"])
    assert network.prepared == (-1, (640, 640))
    large, small = detect(IMAGE)
    assert (network.seen[..., 2] == 200).all() and not network.seen[..., 0].any()
    assert (large.score, small.score) == (0.75, 0.5) and large.landmark_set == "68"
    assert large.points[IBUG_NOSE_TIP, 2] == -5 and small.size < large.size


def test_identity_is_that_of_the_largest_face_as_a_unit_vector(monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = np.zeros(512, np.float32), np.zeros(512, np.float32)
    small[0], large[[1, 2]] = 1, (3, -4)
    boxes = [np.array([0, 0, 30, 10.0]), np.array([5, 5, 25, 25.0])]
    stand_in(monkeypatch, "insightface")
    stand_in(monkeypatch, "insightface.app", FaceAnalysis=StandInAnalysis)
    encoder = IdentityEncoder()
    network = encoder._analysis._network
    assert network.asked[1] == ["detection", "recognition"]
    network.get = lambda image: [
        {"bbox": box, "embedding": vector} for box, vector in zip(boxes, (small, large), strict=True)
    ]
    found = encoder(IMAGE)
    assert found is not None and np.allclose(found[:3], [0, 0.6, -0.8]) and not found[3:].any()
    network.get = lambda image: []
    assert encoder(IMAGE) is None


def test_insightface_on_a_gpu_is_on_that_gpu_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, "insightface")
    stand_in(monkeypatch, "insightface.app", FaceAnalysis=StandInAnalysis)
    available = ["CPUExecutionProvider"]
    stand_in(monkeypatch, "onnxruntime", get_available_providers=lambda: available)
    with pytest.raises(InputError, match="onnxruntime cannot use device 'cuda:1' here: install onnxruntime-gpu"):
        load_detector("insightface", "cuda:1")
    available.append("CUDAExecutionProvider")
    network = load_detector("insightface", "cuda:1")._analysis._network  # pyright: ignore[reportFunctionMemberAccess]
    assert network.asked[2] == [("CUDAExecutionProvider", {"device_id": 1})] and network.prepared[0] == 1


def test_the_embedded_detector_and_matte_see_a_photo(shared: Path) -> None:
    image = read_image(shared / "data" / "sources" / "s01_astronaut.png")
    (face, *_) = load_detector()(image)
    assert face.landmark_set == "478" and face.points.shape == (478, 3) and face.score > 0.5
    assert face.points[NOSE_FRONT, 2] < face.points[list(EARS), 2].min(), "nearer is smaller"
    mask = load_mask()(image)
    column, row = face.points[NOSE_FRONT, :2].astype(int)
    assert mask.shape == image.shape[:2] and mask.dtype == np.float32 and mask[row, column] > 0.9


def test_sixty_eight_points_place_the_crop_as_478_do(shared: Path) -> None:
    """What the other detectors give works downstream: the same face's sets agree on five points and on the crop."""
    image = read_image(shared / "data" / "sources" / "s01_astronaut.png")
    points = load_detector()(image)[0].points
    eyes = outer_eye_distance(points)
    five = five_points(points)
    assert np.abs(five_points(to_70(points)) - five).max() < 0.08 * eyes
    assert np.abs(five_points(to_68(points)) - five).max() < 0.15 * eyes
    size = image.shape[0], image.shape[1]
    crops = [portrait_crop(part, image_size=size) for part in (points, to_70(points), to_68(points))]
    corners = [crop.to_image(np.array([[0.0, 0.0], [512.0, 512.0]])) for crop in crops]
    assert max(np.abs(corner - corners[0]).max() for corner in corners) < 0.25 * eyes


def test_the_five_points_are_those_of_the_specification() -> None:
    numbers = np.arange(98.0)[:, None] * [1.0, 10.0]
    assert five_points(numbers)[:, 0].tolist() == [96, 97, 54, 76, 82]
    assert five_points(numbers[:70])[:, 0].tolist() == [68, 69, 30, 48, 54]
    assert five_points(numbers[:68])[:, 0].tolist() == [38.5, 44.5, 30, 48, 54]
    tracker = np.arange(478.0)[:, None] * [1.0, 10.0, 0.0]
    np.testing.assert_allclose(five_points(tracker), np.outer([468, 473, 2.5, 61, 291], [1, 10]))
    with pytest.raises(ValueError, match=r"478, 98, 70 or 68"):
        five_points(numbers[:50])


class StandInSegformer:
    """Knows by the red channel: left half background, then a strip of hair, then cloth; half the input's side."""

    num_labels = 19

    @classmethod
    def from_pretrained(cls, name: str) -> "StandInSegformer":
        assert name == "jonathandinu/face-parsing"
        return cls()

    def __init__(self) -> None:
        self.config = SimpleNamespace(num_labels=self.num_labels)

    def to(self, device: torch.device) -> "StandInSegformer":
        return self

    def eval(self) -> "StandInSegformer":
        return self

    def __call__(self, *, pixel_values: torch.Tensor) -> SimpleNamespace:
        assert pixel_values.shape == (1, 3, 512, 512) and pixel_values.dtype == torch.float32
        red = torch.round((pixel_values[:, 0] * 0.229 + 0.485) * 255)[:, ::4, ::4]
        logits = torch.zeros(1, 19, 128, 128)
        for label in (0, PARSING_LABELS.index("hair"), PARSING_LABELS.index("cloth")):
            logits[:, label] = 40.0 * (red == label * 10)
        return SimpleNamespace(logits=logits)


def test_segformer_labels_become_the_mask_of_the_person(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, "transformers", SegformerForSemanticSegmentation=StandInSegformer)
    image = np.zeros((64, 128, 3), np.uint8)
    image[:, 64:96, 0], image[:, 96:, 0] = 130, 180
    parser = load_mask("segformer")
    assert isinstance(parser, FaceParser)
    labels, mask = parser.parse(image), parser(image)
    assert labels.shape == mask.shape == (64, 128) and labels.dtype == np.uint8 and mask.dtype == np.float32
    assert (labels[:, :60] == 0).all() and (labels[:, 70:90] == 13).all() and (labels[:, 100:] == 18).all()
    assert mask[:, :60].max() < 1e-6 and mask[:, 70:90].min() > 1 - 1e-6 and mask[:, 100:].min() > 1 - 1e-6
    monkeypatch.setattr(StandInSegformer, "num_labels", 150)
    with pytest.raises(InputError, match="expected 19 classes of jonathandinu/face-parsing, got 150"):
        load_mask("segformer")


@pytest.mark.parametrize(
    ("load", "name", "module"),
    [
        (load_detector, "face-alignment", "face_alignment"),
        (load_detector, "insightface", "insightface.app"),
        (load_mask, "segformer", "transformers"),
    ],
)
def test_a_missing_package_names_its_extra(load, name: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    package = module.split(".")[0]

    def find(asked: str, *_: object):
        if asked.split(".")[0] == package:
            raise ModuleNotFoundError(f"No module named {package!r}", name=package)
        raise AssertionError(asked)

    monkeypatch.setattr("preprocess.faces.backends.extras.import_module", find)
    with pytest.raises(InputError) as caught:
        load(name)
    assert f'needs the package {package}: pip install "portrait4d[{name}]"' in str(caught.value)


def test_a_package_that_does_not_load_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "preprocess.faces.backends.extras.import_module", raising(ImportError("libx.so: not found\nmore"))
    )
    with pytest.raises(InputError, match=r"face_alignment does not load \(libx.so: not found\): pip install --force"):
        load_detector("face-alignment")


def test_face_alignment_weights_that_cannot_be_fetched_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    kinds = SimpleNamespace(THREE_D=3)
    stand_in(monkeypatch, "face_alignment", FaceAlignment=raising(URLError("no route")), LandmarksType=kinds)
    first, *others = FACE_ALIGNMENT_FILES
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / first).touch()
    with pytest.raises(InputError) as caught:
        load_detector("face-alignment")
    message = str(caught.value)
    assert message.startswith("cannot load the weights of face-alignment (URLError: <urlopen error no route>): ")
    assert f"download {', '.join(others)} from https://www.adrianbulat.com" in message and first not in message
    assert str(tmp_path / "checkpoints") in message and "\n" not in message
    for name in others:
        (tmp_path / "checkpoints" / name).touch()
    with pytest.raises(InputError, match="delete s3fd.* if they are damaged"):
        load_detector("face-alignment")
    stand_in(monkeypatch, "face_alignment", FaceAlignment=raising(torch.OutOfMemoryError("full")), LandmarksType=kinds)
    with pytest.raises(torch.OutOfMemoryError):
        load_detector("face-alignment")


def test_insightface_weights_that_cannot_be_fetched_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    stand_in(monkeypatch, "insightface")
    stand_in(monkeypatch, "insightface.app", FaceAnalysis=raising(ConnectionError("no route")))
    folder = tmp_path / ".insightface" / "models" / "buffalo_l"
    with pytest.raises(InputError) as caught:
        load_detector("insightface")
    message = str(caught.value)
    assert message.startswith("cannot load the pack buffalo_l of insightface (ConnectionError: no route): unpack http")
    assert f"into {folder}" in message and "\n" not in message
    folder.mkdir(parents=True)
    stand_in(monkeypatch, "insightface.app", FaceAnalysis=raising(AssertionError()))
    with pytest.raises(InputError, match=r"\(AssertionError: no message\): delete .*buffalo_l, then unpack"):
        load_detector("insightface")

    class WithoutLandmarks(StandInAnalysis):
        def __init__(self, **asked) -> None:
            super().__init__(**asked)
            del self.models["landmark_3d_68"]

    stand_in(monkeypatch, "insightface.app", FaceAnalysis=WithoutLandmarks)
    with pytest.raises(InputError, match="it holds no network 1k3d68.onnx"):
        load_detector("insightface")


def test_nothing_is_fetched_where_the_user_forbids_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One line names the variable; weights that are here are used."""
    monkeypatch.setenv("PORTRAIT4D_OFFLINE", "1")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    stand_in(monkeypatch, "insightface")
    stand_in(monkeypatch, "insightface.app", FaceAnalysis=StandInAnalysis)
    kinds = SimpleNamespace(THREE_D=3)
    stand_in(monkeypatch, "face_alignment", FaceAlignment=StandInAlignment, LandmarksType=kinds)
    for name, what in (("insightface", "the pack buffalo_l of insightface"), ("face-alignment", "the weights of face")):
        with pytest.raises(InputError, match=f"^PORTRAIT4D_OFFLINE is set, so {what}.* cannot be fetched: ") as caught:
            load_detector(name)  # pyright: ignore[reportArgumentType]
        assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)
    (tmp_path / ".insightface" / "models" / "buffalo_l").mkdir(parents=True)
    (tmp_path / "checkpoints").mkdir()
    for name in FACE_ALIGNMENT_FILES:
        (tmp_path / "checkpoints" / name).touch()
    load_detector("insightface")
    load_detector("face-alignment")
    asked = []
    pretrained = SimpleNamespace(from_pretrained=lambda name, **options: asked.append(options) or raising(OSError())())
    stand_in(monkeypatch, "transformers", SegformerForSemanticSegmentation=pretrained)
    stand_in(monkeypatch, "huggingface_hub")
    stand_in(monkeypatch, "huggingface_hub.constants", HF_HUB_CACHE="/cache/hub")
    for value in ("1", "0"):
        monkeypatch.setenv("PORTRAIT4D_OFFLINE", value)
        with pytest.raises(InputError, match="face-parsing"):
            load_mask("segformer")
    assert asked == [{"local_files_only": True}, {}]


def test_segformer_weights_that_cannot_be_fetched_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    offline = SimpleNamespace(from_pretrained=raising(OSError("We couldn't connect\nto the hub")))
    stand_in(monkeypatch, "transformers", SegformerForSemanticSegmentation=offline)
    stand_in(monkeypatch, "huggingface_hub")
    stand_in(monkeypatch, "huggingface_hub.constants", HF_HUB_CACHE="/cache/hub")
    with pytest.raises(InputError) as caught:
        load_mask("segformer")
    assert str(caught.value) == (
        "cannot load the weights jonathandinu/face-parsing of SegFormer (OSError: We couldn't connect): they are "
        "looked for in /cache/hub and on huggingface.co: run `hf download jonathandinu/face-parsing` with a network, "
        "or copy that folder from a machine that has them"
    )


def test_unknown_names_and_landmarks_of_another_kind_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="one of embedded, face-alignment, insightface, got 'dlib'"):
        load_detector("dlib")  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="one of matte, segformer, got 'sam'"):
        load_mask("sam")  # pyright: ignore[reportArgumentType]
    stand_in(monkeypatch, "insightface")
    stand_in(monkeypatch, "insightface.app", FaceAnalysis=StandInAnalysis)
    detect = load_detector("insightface")
    network = detect._analysis._network  # pyright: ignore[reportFunctionMemberAccess]
    network.get = lambda image: [{"landmark_3d_68": np.zeros((106, 2)), "det_score": 1.0}]
    with pytest.raises(InputError, match=r"expected landmarks \[68, 3\] of the detector, got \[106, 2\]"):
        detect(IMAGE)
