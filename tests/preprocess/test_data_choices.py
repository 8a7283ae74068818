"""Detector, mask and head model of a dataset: from the command line to the records, and what must stay the same."""

import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import preprocess.dataset.building.build
from fakes_build import FakeStages
from flame.errors import InputError
from flame.landmarks.ibug import to_68
from portrait4d.cli.main import run
from preprocess.dataset.building.build import BuildOptions, BuildResult, build_dataset
from preprocess.dataset.building.limits import Limits
from preprocess.dataset.building.plan import Item, Part
from preprocess.dataset.building.stage_options import StageOptions
from preprocess.dataset.building.stages import Stages
from preprocess.dataset.records.record_codec import check_record
from preprocess.faces.aligned_crop import portrait_crop
from preprocess.faces.backends import DetectedFace, load_detector
from preprocess.media.image import read_image

OFFSET = np.array([3.0, -2.0, 0.0], np.float32)


class Marker:
    """Another detector: the embedded faces' 68 points, moved, so that it shows whose points were taken."""

    def __init__(self) -> None:
        self._detect = load_detector()

    def __call__(self, image: np.ndarray) -> list[DetectedFace]:
        return [DetectedFace(to_68(face.points) + OFFSET, "68", face.score) for face in self._detect(image)]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[StageOptions, BuildOptions]]:
    """What the commands ask for; nothing is built."""
    calls: list[tuple[StageOptions, BuildOptions]] = []

    def record(folder: Path, output: Path, stage_options: StageOptions, *, options: BuildOptions, progress: Any):
        calls.append((stage_options, options))
        return BuildResult((), (), (), 0)

    monkeypatch.setattr(preprocess.dataset.building.build, "build_dataset", record)
    return calls


def test_every_option_of_the_command_arrives(asked: list, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = ["-o", str(tmp_path / "out"), "--quiet"]
    assert run(["data", "ffhq", "in", *output]) == 0
    assert asked.pop() == (StageOptions(), BuildOptions())
    limits = ["--min-face", "1", "--min-sharpness", "2", "--max-yaw", "3", "--max-pitch", "4", "--max-occlusion", "0.5"]
    limits += ["--max-fit-error", "0.6", "--min-eyes", "0.7", "--max-outside", "0.8"]
    work = ["--workers", "8", "--shard", "2/9", "--items-per-shard", "5", "--image-format", "jpg"]
    stages = ["--crop", "eg3d", "--head-model", "F.pkl", "--motion-codes", "m.pth", "--detector", "insightface"]
    stages += ["--mask", "segformer"]
    clip = ["--frames", "12", "--every", "3", "--min-frames", "4"]
    every = [*output, *limits, *work, *stages, "--item-timeout", "7"]
    photo = StageOptions(
        "photo", "eg3d", "F.pkl", "m.pth", "insightface", "segformer", limits=Limits(1, 2, 3, 4, 0.5, 0.6, 0.7, 0.8)
    )
    how = BuildOptions(num_workers=8, items_per_shard=5, part=Part(2, 9), image_format="jpg", item_seconds=7)
    assert run(["data", "ffhq", "in", *every]) == 0
    assert asked.pop() == (photo, how)
    assert run(["data", "video", "in", *every, *clip, "--json"]) == 0
    assert asked.pop() == (replace(photo, kind="clip", num_frames=12, every=3, min_frames=4), how)
    assert json.loads(capsys.readouterr().out.split("rejected;")[-1].partition("\n")[2])["num_records"] == 0
    assert run(["data", "ffhq", "in", *output, "--detector", "dlib"]) == 2


def test_another_detector_marks_and_crops_while_478_points_fit(shared: Path) -> None:
    path, item = shared / "data/sources/s01_astronaut.png", Item("00", "s01.png")
    options = StageOptions(detector="face-alignment", limits=Limits(max_fit_error=1))
    (record,) = Stages(options, detector=Marker())(path, item).records
    (plain,) = Stages(StageOptions())(path, item).records
    image = read_image(path)
    (face, *_) = Marker()(image)
    crop = portrait_crop(face.points, image_size=(image.shape[0], image.shape[1]))
    np.testing.assert_array_equal(record.crop_matrix, crop.matrix)
    np.testing.assert_array_equal(record.landmarks, crop.to_crop(face.points).astype(np.float32))
    assert record.landmarks.shape == (68, 3) and (options.info.landmarks, options.info.detector) == (
        "68",
        "face-alignment",
    )
    check_record(record, options.info)
    # the same head: the fit does not see the other detector's points
    assert record.quality["fit_error"] == pytest.approx(plain.quality["fit_error"], rel=0.1)
    assert record.quality["yaw_degrees"] == pytest.approx(plain.quality["yaw_degrees"], abs=0.5)


@pytest.mark.slow
def test_another_detector_in_a_clip(shared: Path) -> None:
    options = StageOptions("clip", detector="insightface", num_frames=4, every=5, min_frames=1)
    detector = Marker()
    path, item = shared / "data/drivers/d01_green_smile.mp4", Item("00", "d01.mp4")
    outcome = Stages(options, detector=detector)(path, item)
    assert [record.landmarks.shape for record in outcome.records] == [(68, 3)] * 4
    plain = Stages(replace(options, detector="embedded"))(path, item)
    for record, other in zip(outcome.records, plain.records, strict=True):

        def in_source(one) -> np.ndarray:
            return (one.landmarks[:, :2] - one.crop_matrix[:2, 2]) / one.crop_matrix[0, 0]

        moved = in_source(record) - to_68(in_source(other))
        np.testing.assert_allclose(moved.mean(0), OFFSET[:2], atol=1.5)  # three looks at a frame against one
    detector._detect = lambda image: []  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(InputError, match="no face found in any frame"):
        Stages(options, detector=detector)(path, item)


def test_the_mask_is_the_one_that_was_asked_for(shared: Path) -> None:
    def half(picture: np.ndarray) -> np.ndarray:
        return np.repeat(np.linspace(0, 1, len(picture), dtype=np.float32)[:, None], picture.shape[1], 1)

    stages = Stages(StageOptions(mask="segformer", limits=Limits(max_occlusion=1)), find_mask=half)
    (record,) = stages(shared / "data/sources/s01_astronaut.png", Item("00", "s01.png")).records
    assert (record.mask[:, 0] == np.rint(np.linspace(0, 1, 512) * 255)).all()


@pytest.mark.parametrize(
    ("options", "extra"),
    [
        (StageOptions(detector="face-alignment"), "face-alignment"),
        (StageOptions(detector="insightface"), "insightface"),
        (StageOptions(mask="segformer"), "segformer"),
    ],
)
def test_an_extra_that_is_not_installed_is_told(
    options: StageOptions, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> ModuleType:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr("preprocess.faces.backends.extras.import_module", missing)
    with pytest.raises(InputError, match=rf'pip install "portrait4d\[{extra}\]"'):
        Stages(options)


def test_what_a_library_prints_while_it_loads_is_no_result(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Talkative:
        def __init__(self, *_: object, **__: object) -> None:
            print("download_path: ...")

    library = ModuleType("face_alignment")
    library.__dict__.update(FaceAlignment=Talkative, LandmarksType=type("Kinds", (), {"THREE_D": 3}))
    monkeypatch.setattr("preprocess.faces.backends.extras.import_module", lambda name: library)
    monkeypatch.delenv("PORTRAIT4D_OFFLINE")  # the stand-in fetches nothing
    load_detector("face-alignment")
    shown = capsys.readouterr()
    assert shown.out == "" and "download_path" in shown.err


@pytest.mark.parametrize("change", [{"detector": "insightface"}, {"mask": "segformer"}])
def test_detector_and_mask_cannot_change_once_begun(change: dict, tmp_path: Path) -> None:
    folder = _photos(tmp_path)
    build_dataset(folder, tmp_path / "out", StageOptions(), make_stages=FakeStages)
    with pytest.raises(InputError, match=rf"other settings \({next(iter(change))}\)"):
        build_dataset(folder, tmp_path / "out", StageOptions(**change), make_stages=FakeStages)


@pytest.mark.parametrize("name", ["crop", "detector", "mask"])
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=rf"expected {name} to be one of .*, got 'sam'"):
        StageOptions(**{name: "sam"})  # pyright: ignore[reportArgumentType]  (refused for that)


def test_a_head_model_is_known_by_its_tables_not_by_its_file(synthetic_flame: Path, tmp_path: Path) -> None:
    first = synthetic_flame / "geometry"
    moved = shutil.copytree(synthetic_flame, tmp_path / "moved") / "geometry"  # with what lies beside it
    options = StageOptions(head_model=str(first / "generic_model.pkl"))
    settings = options.settings
    assert settings["head_model"] == options.info.head_digest and len(settings["head_model"]) == 64
    assert StageOptions(head_model=str(moved / "generic_model.pkl")).settings == settings
    name = "landmark_embedding_with_eyes.npy"
    _change(moved / name, lambda content: content["full_lmk_bary_coords"].__imul__(0.5))
    (moved / "generic_model.pkl").touch()  # as a copy would
    assert StageOptions(head_model=str(moved / "generic_model.pkl")).settings != settings
    assert StageOptions().info.head_digest == ""
    with pytest.raises(InputError, match="absent.pkl"):
        _ = StageOptions(head_model=str(tmp_path / "absent.pkl")).settings


def test_weights_are_known_by_content(tmp_path: Path) -> None:
    for name, content in (("a.pth", b"one"), ("b.pth", b"one"), ("c.pth", b"two"), ("d/model.safetensors", b"one")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    first, same, other, folder = (
        StageOptions(motion_codes=str(tmp_path / name)).settings for name in ("a.pth", "b.pth", "c.pth", "d")
    )
    assert first == same != other and folder["motion_codes"] != other["motion_codes"]
    with pytest.raises(InputError, match="expected weights"):
        _ = StageOptions(motion_codes=str(tmp_path / "e.pth")).settings


def _change(path: Path, change: Callable[[Any], Any]) -> None:
    content = np.load(path, allow_pickle=True)
    change(content[()])
    buffer = io.BytesIO()
    np.save(buffer, content, allow_pickle=True)
    path.write_bytes(buffer.getvalue())


def _photos(folder: Path) -> Path:
    (folder / "in").mkdir()
    (folder / "in" / "a.jpg").write_text("good")
    return folder / "in"
